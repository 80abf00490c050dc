// Package tracing is all that the library tells OpenTelemetry: spans and metrics of
// a lock's life. It uses the API only; the program brings the SDK.
//
//	lock.acquire   from the call of Lock to its return; a child of ctx's span
//	lock.hold      from acquired to ended; beside lock.acquire, and linked to it
//	lock.release   from the call of Unlock to its return
//
// Lock names are attributes, never names of spans or metrics.
//
// Without a provider there is no Tracer: all methods work on a nil *Tracer and on
// zero values, do nothing and allocate nothing. docs/observability.md lists every
// span, attribute, event and metric.
package tracing
