package tracing

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// A Release is the span of one Unlock. The zero value does nothing.
type Release struct {
	span trace.Span
}

// Release starts the span lock.release, a child of ctx's span. End must follow.
func (t *Tracer) Release(ctx context.Context, kind, name, owner string) Release {
	if t == nil || t.spans == nil {
		return Release{}
	}
	return Release{t.start(ctx, SpanRelease, kind, name, owner)}
}

// Context returns ctx with the span lock.release, for commands that shall be its
// children; ctx itself where there is none.
func (r Release) Context(ctx context.Context) context.Context {
	if r.span == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, r.span)
}

// End ends the span, and records err unless it is nil.
func (r Release) End(err error) {
	if r.span == nil {
		return
	}
	if err != nil {
		fail(r.span, err)
	}
	r.span.End()
}
