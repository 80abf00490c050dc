package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// An Acquire is the span of one acquisition. The zero value does nothing. It is
// used by one goroutine; copies are the same acquisition.
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

// Acquire starts the span lock.acquire, a child of ctx's span. End must follow.
func (t *Tracer) Acquire(ctx context.Context, kind, name string) Acquire {
	if t == nil {
		return Acquire{}
	}
	span := t.start(ctx, SpanAcquire, kind, name, "")
	return Acquire{&acquireSpan{tracer: t, parent: ctx, span: span, kind: kind, name: name, start: time.Now()}}
}

// Context returns ctx with the span lock.acquire, for commands that shall be its
// children; ctx itself where there is none.
func (a Acquire) Context(ctx context.Context) context.Context {
	if a.s == nil || a.s.tracer.spans == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, a.s.span)
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

// Waiting counts the caller among those that wait, from now until End. Only the
// first call counts.
func (a Acquire) Waiting() {
	if a.s != nil && !a.s.waiting {
		a.s.waiting = true
		a.s.waiters(1)
	}
}

// Queued tells the place that the call took in a queue, 1 is the next one, and how many
// stood there then.
func (a Acquire) Queued(position, length int64) {
	if a.recording() {
		a.s.span.SetAttributes(AttrQueuePosition.Int64(position), AttrQueueLength.Int64(length))
	}
}

// recording tells whether anybody sees attributes: their list is paid for otherwise too.
func (a Acquire) recording() bool { return a.s != nil && a.s.span.IsRecording() }

// End ends the span and records its duration. owner is empty unless the lock was
// acquired; err is recorded where the outcome is Error.
func (a Acquire) End(outcome Outcome, owner string, reentrant bool, lease time.Duration, err error) {
	s := a.s
	if s == nil {
		return
	}
	took := time.Since(s.start)
	if s.waiting {
		s.waiting = false
		s.waiters(-1)
	}
	if m := s.tracer.metrics; m != nil {
		m.acquireDuration.Record(s.context(), took.Seconds(), m.end(s.kind, s.name, string(outcome)))
	}
	if a.recording() {
		s.span.SetAttributes(AttrOutcome.String(string(outcome)), AttrAttempts.Int(s.attempts), AttrReentrant.Bool(reentrant),
			AttrWait.Int64(took.Milliseconds()), AttrLease.Int64(lease.Milliseconds()))
		if owner != "" {
			s.span.SetAttributes(AttrOwner.String(owner))
		}
	}
	if outcome == Error {
		fail(s.span, err)
	}
	s.span.End()
}

func (s *acquireSpan) waiters(delta int64) {
	if m := s.tracer.metrics; m != nil {
		m.waiting.Add(s.context(), delta, m.lock(s.kind, s.name))
	}
}

// context is the one to measure in: it carries the span for exemplars and the
// baggage of the caller, but not its end. A provider may drop what is measured in a
// context that is over, and a waiter that gave up would be counted for ever.
func (s *acquireSpan) context() context.Context {
	return Acquire{s}.Context(context.WithoutCancel(s.parent))
}
