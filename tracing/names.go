package tracing

import "go.opentelemetry.io/otel/attribute"

// Scope is the instrumentation scope of all spans and metrics.
const Scope = "github.com/holdfast-go/holdfast"

// Spans.
const (
	SpanAcquire = "lock.acquire"
	SpanHold    = "lock.hold"
	SpanRelease = "lock.release"
)

// Attributes.
const (
	AttrName      = attribute.Key("lock.name")
	AttrKind      = attribute.Key("lock.kind")
	AttrOwner     = attribute.Key("lock.owner")
	AttrReentrant = attribute.Key("lock.reentrant")
	AttrAttempts  = attribute.Key("lock.attempts")
	AttrWait      = attribute.Key("lock.wait_ms")
	AttrLease     = attribute.Key("lock.lease_ms")
	AttrOutcome   = attribute.Key("lock.outcome")

	// Of a waiter that entered a queue: its place, 1 is the next one, and how many
	// stood there then.
	AttrQueuePosition = attribute.Key("lock.queue.position")
	AttrQueueLength   = attribute.Key("lock.queue.length")
)

// Events of lock.acquire.
const (
	EventSubscribe = "subscribe" // the lock was taken; messages are awaited
	EventWakeUp    = "wake-up"   // a message came, or the subscription was confirmed
	EventHandOver  = "hand-over" // a caller of the same client has handed the lock over
	EventRetry     = "retry"     // an attempt failed or its answer was lost; the next one follows
)

// An Outcome is how an acquisition ended.
type Outcome string

// The outcomes of lock.acquire.
const (
	Acquired    Outcome = "acquired"
	NotAcquired Outcome = "not_acquired"
	Cancelled   Outcome = "cancelled"
	Error       Outcome = "error"
)

// The outcomes of lock.hold.
const (
	Unlocked = "unlocked" // by Unlock
	Lost     = "lost"     // it can no longer be trusted, whoever found out
	Closed   = "closed"   // by the Close of the client
)

// The outcomes of a renewal, beside Lost.
const (
	Renewed = "renewed" // the lease runs anew
	Unknown = "unknown" // no answer came, or none that tells
)

// Metrics.
const (
	MetricAcquireDuration = "holdfast.acquire.duration"
	MetricHoldDuration    = "holdfast.hold.duration"
	MetricHeld            = "holdfast.held"
	MetricWaiting         = "holdfast.waiting"
	MetricRenewals        = "holdfast.renewals"
	MetricLost            = "holdfast.lost"
	MetricSubscriptions   = "holdfast.subscriptions"
)
