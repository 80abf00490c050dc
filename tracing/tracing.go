package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// A Tracer emits spans and metrics. A nil one emits nothing. All its methods may be
// called at once.
type Tracer struct {
	spans   trace.Tracer // nil: no spans
	metrics *instruments // nil: no metrics
}

// New makes a tracer. A nil provider means that its signal is not emitted, never
// that the global one is used; without any provider there is no tracer: nil, which
// is fine to use. metricNames tells whether lock.name is an attribute of metrics (it
// always is one of spans); for programs with so many names that their series would
// be too many. Defaults to true; only the first counts.
// The error is that of the meter provider, for an instrument it refuses.
func New(tp trace.TracerProvider, mp metric.MeterProvider, metricNames ...bool) (*Tracer, error) {
	if tp == nil && mp == nil {
		return nil, nil
	}
	t := &Tracer{}
	if tp != nil {
		t.spans = tp.Tracer(Scope)
	}
	if mp == nil {
		return t, nil
	}
	named := len(metricNames) == 0 || metricNames[0]
	var err error
	if t.metrics, err = newInstruments(mp.Meter(Scope), named); err != nil {
		return nil, err
	}
	for _, outcome := range []string{Renewed, Lost, Unknown} {
		t.Renewals(outcome, 0) // the series begin before the first one goes wrong
	}
	return t, nil
}

// Enabled tells whether anything is emitted, so that costly attributes need not be
// made for nobody.
func (t *Tracer) Enabled() bool { return t != nil }

// Renewal counts the answer to one renewal: "renewed", "lost" or "unknown".
func (t *Tracer) Renewal(outcome string) { t.Renewals(outcome, 1) }

// Renewals counts the answers to n renewals that went out together.
func (t *Tracer) Renewals(outcome string, n int64) {
	if t != nil && t.metrics != nil {
		t.metrics.renewals.Add(context.Background(), n, t.metrics.renewal(outcome))
	}
}

// Subscriptions counts channels that were subscribed, or unsubscribed (negative).
func (t *Tracer) Subscriptions(delta int) {
	if t != nil && t.metrics != nil {
		t.metrics.subscriptions.Add(context.Background(), int64(delta))
	}
}

// start starts a span, or returns one that records nothing. The options are made
// here so that without spans nobody pays for them.
func (t *Tracer) start(ctx context.Context, span, kind, name, owner string, opts ...trace.SpanStartOption) trace.Span {
	if t.spans == nil {
		return trace.SpanFromContext(context.Background())
	}
	attributes := []attribute.KeyValue{AttrKind.String(kind), AttrName.String(name)}
	if owner != "" {
		attributes = append(attributes, AttrOwner.String(owner))
	}
	_, s := t.spans.Start(ctx, span, append(opts, trace.WithAttributes(attributes...))...)
	return s
}

// fail tells a span's reader what went wrong.
func fail(span trace.Span, err error) {
	if err == nil {
		span.SetStatus(codes.Error, "")
		return
	}
	span.RecordError(err)
	span.SetStatus(codes.Error, err.Error())
}
