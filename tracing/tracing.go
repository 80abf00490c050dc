package tracing

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// A Tracer emits spans and metrics. A nil one emits nothing. All its methods may be
// called at once.
type Tracer struct {
	tracer trace.Tracer

	acquireDuration metric.Float64Histogram
	holdDuration    metric.Float64Histogram
	held            metric.Int64UpDownCounter
	waiting         metric.Int64UpDownCounter
	renewals        metric.Int64Counter
	lost            metric.Int64Counter
	subscriptions   metric.Int64UpDownCounter
}

// New makes a tracer; a nil provider means that its signal is not emitted, and
// without any provider there is no tracer: nil, which is fine to use.
func New(tp trace.TracerProvider, mp metric.MeterProvider) (*Tracer, error) {
	if tp == nil && mp == nil {
		return nil, nil
	}
	if tp == nil {
		tp = tracenoop.NewTracerProvider()
	}
	if mp == nil {
		mp = metricnoop.NewMeterProvider()
	}
	t := &Tracer{tracer: tp.Tracer(Scope)}
	return t, t.instruments(mp.Meter(Scope))
}

func (t *Tracer) instruments(m metric.Meter) error {
	var errs [7]error
	buckets := metric.WithExplicitBucketBoundaries(.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 1800)
	t.acquireDuration, errs[0] = m.Float64Histogram(MetricAcquireDuration, metric.WithUnit("s"), buckets,
		metric.WithDescription("From the call of Lock to its return, by outcome."))
	t.holdDuration, errs[1] = m.Float64Histogram(MetricHoldDuration, metric.WithUnit("s"), buckets,
		metric.WithDescription("From acquired to ended, by outcome."))
	t.held, errs[2] = m.Int64UpDownCounter(MetricHeld, metric.WithUnit("{hold}"),
		metric.WithDescription("Holds that have not ended."))
	t.waiting, errs[3] = m.Int64UpDownCounter(MetricWaiting, metric.WithUnit("{waiter}"),
		metric.WithDescription("Calls of Lock that wait for another owner."))
	t.renewals, errs[4] = m.Int64Counter(MetricRenewals, metric.WithUnit("{renewal}"),
		metric.WithDescription("Renewals by outcome: renewed, lost, unknown."))
	t.lost, errs[5] = m.Int64Counter(MetricLost, metric.WithUnit("{hold}"),
		metric.WithDescription("Holds that ended as lost."))
	t.subscriptions, errs[6] = m.Int64UpDownCounter(MetricSubscriptions, metric.WithUnit("{channel}"),
		metric.WithDescription("Channels that are subscribed."))
	return errors.Join(errs[:]...)
}

// Enabled tells whether anything is emitted, so that costly attributes need not be
// made for nobody.
func (t *Tracer) Enabled() bool { return t != nil }

// labels are the attributes of every metric of one lock.
func labels(kind, name string, more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(more, AttrKind.String(kind), AttrName.String(name))...)
}

// Renewal counts the answer to one renewal: "renewed", "lost" or "unknown".
func (t *Tracer) Renewal(outcome string) {
	if t != nil {
		t.renewals.Add(context.Background(), 1, metric.WithAttributes(AttrOutcome.String(outcome)))
	}
}

// Subscriptions counts channels that were subscribed, or unsubscribed (negative).
func (t *Tracer) Subscriptions(delta int) {
	if t != nil {
		t.subscriptions.Add(context.Background(), int64(delta))
	}
}

// An Acquire is the span of one acquisition. The zero value does nothing. It is
// used by one goroutine.
type Acquire struct {
	s *acquireSpan
}

type acquireSpan struct {
	tracer     *Tracer
	parent     context.Context // ctx as the caller gave it
	span       trace.Span
	kind, name string
	start      time.Time
	attempts   int
	waiting    bool
}

// Acquire starts the span of an acquisition, a child of ctx's span.
func (t *Tracer) Acquire(ctx context.Context, kind, name string) Acquire {
	if t == nil {
		return Acquire{}
	}
	_, span := t.tracer.Start(ctx, SpanAcquire, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(AttrKind.String(kind), AttrName.String(name)))
	return Acquire{&acquireSpan{tracer: t, parent: ctx, span: span, kind: kind, name: name, start: time.Now()}}
}

// Event adds one of the events of lock.acquire.
func (a Acquire) Event(name string) {
	if a.s != nil {
		a.s.span.AddEvent(name)
	}
}

// Attempt counts one acquire that is sent.
func (a Acquire) Attempt() {
	if a.s != nil {
		a.s.attempts++
	}
}

// Waiting counts the caller among those that wait, from now until End.
func (a Acquire) Waiting() {
	if a.s != nil && !a.s.waiting {
		a.s.waiting = true
		a.s.tracer.waiting.Add(a.s.parent, 1, labels(a.s.kind, a.s.name))
	}
}

// Set adds attributes that only one lock kind has.
func (a Acquire) Set(attributes ...attribute.KeyValue) {
	if a.s != nil {
		a.s.span.SetAttributes(attributes...)
	}
}

// End ends the span and records its duration. owner is empty unless the lock was
// acquired.
func (a Acquire) End(outcome Outcome, owner string, reentrant bool, lease time.Duration, err error) {
	s := a.s
	if s == nil {
		return
	}
	took := time.Since(s.start)
	if s.waiting {
		s.tracer.waiting.Add(s.parent, -1, labels(s.kind, s.name))
	}
	s.tracer.acquireDuration.Record(s.parent, took.Seconds(), labels(s.kind, s.name, AttrOutcome.String(string(outcome))))
	if s.span.IsRecording() {
		s.span.SetAttributes(AttrOutcome.String(string(outcome)), AttrAttempts.Int(s.attempts), AttrReentrant.Bool(reentrant),
			AttrWait.Int64(took.Milliseconds()), AttrLease.Int64(lease.Milliseconds()))
		if owner != "" {
			s.span.SetAttributes(AttrOwner.String(owner))
		}
	}
	if outcome == Error {
		s.span.RecordError(err)
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// A Hold is the span of one hold. The zero value does nothing.
type Hold struct {
	s *holdSpan
}

type holdSpan struct {
	tracer     *Tracer
	span       trace.Span
	kind, name string
	start      time.Time
	ended      atomic.Bool
}

// Hold starts the span of the hold that an acquisition made: beside it under the
// caller's span, and linked to it.
func (a Acquire) Hold(owner string) Hold {
	if a.s == nil {
		return Hold{}
	}
	t := a.s.tracer
	_, span := t.tracer.Start(a.s.parent, SpanHold,
		trace.WithLinks(trace.Link{SpanContext: a.s.span.SpanContext()}),
		trace.WithAttributes(AttrKind.String(a.s.kind), AttrName.String(a.s.name), AttrOwner.String(owner)))
	t.held.Add(context.Background(), 1, labels(a.s.kind, a.s.name))
	return Hold{&holdSpan{tracer: t, span: span, kind: a.s.kind, name: a.s.name, start: time.Now()}}
}

// End ends the span and records its duration: "unlocked", "lost" or "closed". Only
// the first call counts; it may be called at once from many goroutines.
func (h Hold) End(outcome string) {
	s := h.s
	if s == nil || s.ended.Swap(true) {
		return
	}
	ctx := context.Background()
	s.tracer.held.Add(ctx, -1, labels(s.kind, s.name))
	s.tracer.holdDuration.Record(ctx, time.Since(s.start).Seconds(), labels(s.kind, s.name, AttrOutcome.String(outcome)))
	s.span.SetAttributes(AttrOutcome.String(outcome))
	if outcome == "lost" {
		s.tracer.lost.Add(ctx, 1, labels(s.kind, s.name))
		s.span.SetStatus(codes.Error, "hold lost")
	}
	s.span.End()
}

// A Release is the span of one Unlock. The zero value does nothing.
type Release struct {
	span trace.Span
}

// Release starts the span of an Unlock, a child of ctx's span.
func (t *Tracer) Release(ctx context.Context, kind, name, owner string) Release {
	if t == nil {
		return Release{}
	}
	_, span := t.tracer.Start(ctx, SpanRelease, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(AttrKind.String(kind), AttrName.String(name), AttrOwner.String(owner)))
	return Release{span}
}

// End ends the span.
func (r Release) End(err error) {
	if r.span == nil {
		return
	}
	if err != nil {
		r.span.RecordError(err)
		r.span.SetStatus(codes.Error, err.Error())
	}
	r.span.End()
}
