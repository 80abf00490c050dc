// Package tracing is all that the library tells OpenTelemetry: spans and metrics of
// a lock's life. It uses the API only; the program brings the SDK.
//
// # Spans
//
//	caller's span
//	├─ lock.acquire   from the call of Lock to its return
//	│    · subscribe, wake-up, retry
//	├─ lock.hold      from acquired to ended; linked to its lock.acquire
//	└─ lock.release   from the call of Unlock to its return
//
// A hold is no child of its acquisition: that is over before the hold begins, and a
// child that starts after its parent's end reads like a mistake. It is not a root
// either, because then the caller's trace would not show what the work inside waited
// for. So it stands beside the acquisition, and a link says which one made it.
//
// A hold that is never unlocked is never exported as a span, since OpenTelemetry
// exports what has ended. The metric holdfast.held sees it.
//
// # Metrics
//
// Lock names are attributes, never names of spans or metrics. Each name is then a
// series of its own in every metric of locks; a program that makes names from its
// data (an order's number) has New leave them out. Spans keep them: a span is one
// event, and costs the same whatever is written on it.
//
// Attribute sets without a lock's name are few, and are kept. Sets with a name are
// made when they are needed: a cache of them would have to forget, or grow for ever.
//
// Gauges are sums of +1 and -1, and each +1 must find its -1 or they drift for as
// long as the process lives. A provider may ignore what is measured in a context that
// is over, and the context of a waiter that gave up is over; therefore nothing is
// measured in a context that can end.
//
// What goes wrong seldom is counted from 0: a series that appears with its first
// lost hold begins at 1, and an alert on its increase would sleep through it.
//
// # Cost
//
// Without a provider there is no Tracer: all methods work on a nil *Tracer and on
// zero values, do nothing and allocate nothing. An Acquire and a Hold are one pointer
// each, so 100,000 holds carry 800 kB of nil pointers and no more. With one provider,
// the other signal is not prepared either. docs/observability.md has the figures, and
// lists every span, attribute, event and metric; a test compares it with this package.
package tracing
