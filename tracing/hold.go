package tracing

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// A Hold is the span of one hold. The zero value does nothing. A pointer and no
// more, because a program may have a hundred thousand of them.
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
	return a.s.tracer.Hold(a.s.parent, &a, a.s.kind, a.s.name, owner)
}

// Hold starts the span lock.hold and counts a hold until its End. It is linked to a,
// which may be nil, and a child of ctx's span; give ctx as it was before the
// acquisition, because a hold outlives that.
func (t *Tracer) Hold(ctx context.Context, a *Acquire, kind, name, owner string) Hold {
	if t == nil {
		return Hold{}
	}
	var linked []trace.SpanStartOption
	if a != nil && a.s != nil && a.s.span.SpanContext().IsValid() {
		linked = append(linked, trace.WithLinks(trace.Link{SpanContext: a.s.span.SpanContext()}))
	}
	s := &holdSpan{tracer: t, span: t.start(ctx, SpanHold, kind, name, owner, linked...), kind: kind, name: name, start: time.Now()}
	if m := t.metrics; m != nil {
		lock := m.lock(kind, name)
		m.held.Add(s.context(), 1, lock)
		m.lost.Add(context.Background(), 0, lock) // a series that begins at 1 has never increased, for Prometheus
	}
	return Hold{s}
}

// End ends the span and records its duration: "unlocked", "lost" or "closed". Only
// the first call counts; it may be called at once from many goroutines.
func (h Hold) End(outcome string) {
	s := h.s
	if s == nil || s.ended.Swap(true) {
		return
	}
	s.measure(outcome, time.Since(s.start))
	s.span.SetAttributes(AttrOutcome.String(outcome))
	if outcome == Lost {
		s.span.SetStatus(codes.Error, "hold lost")
	}
	s.span.End()
}

func (s *holdSpan) measure(outcome string, held time.Duration) {
	m := s.tracer.metrics
	if m == nil {
		return
	}
	ctx := s.context()
	m.held.Add(ctx, -1, m.lock(s.kind, s.name))
	m.holdDuration.Record(ctx, held.Seconds(), m.end(s.kind, s.name, outcome))
	if outcome == Lost {
		m.lost.Add(ctx, 1, m.lock(s.kind, s.name))
	}
}

// context carries the span, for exemplars, and nothing of the caller's: a hold
// would keep that alive for as long as it lives.
func (s *holdSpan) context() context.Context {
	if s.tracer.spans == nil {
		return context.Background()
	}
	return trace.ContextWithSpan(context.Background(), s.span)
}
