package holdfast

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/holdfast-go/holdfast/locking"
)

// An Option changes a Client. The zero configuration works.
type Option func(*options)

type options struct {
	watchdog   time.Duration
	tracer     trace.TracerProvider
	meter      metric.MeterProvider
	logger     *slog.Logger
	retry      func() backoff.BackOff
	mapper     func(string) string
	id         string
	idWasGiven bool
}

// WithWatchdogTimeout sets the lease of holds that have none of their own. The
// watchdog renews them at a third of it; a process that dies frees its locks after
// at most this long. It need not be the same on all clients, nor that of
// Redisson's lockWatchdogTimeout. At least 100ms. Defaults to 30 seconds.
func WithWatchdogTimeout(lease time.Duration) Option {
	return func(o *options) { o.watchdog = lease }
}

// WithTracerProvider emits the spans lock.acquire, lock.hold and lock.release.
// Defaults to none; pass otel.GetTracerProvider() for the global one.
func WithTracerProvider(provider trace.TracerProvider) Option {
	return func(o *options) { o.tracer = provider }
}

// WithMeterProvider records the metrics that docs/observability.md lists. Defaults
// to none; pass otel.GetMeterProvider() for the global one.
func WithMeterProvider(provider metric.MeterProvider) Option {
	return func(o *options) { o.meter = provider }
}

// WithLogger logs what no caller is told: renewals without an answer, locks that
// were freed without a message, a Close with open holds. Defaults to slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) { o.logger = logger }
}

// WithRetry sets the pauses before sending again what Redis certainly did not
// execute (it was down, loading, busy, failing over) and before a waiter asks
// again after an answer was lost. policy is called for every operation anew, because
// a BackOff has state; where it returns backoff.Stop the operation ends with the
// last error. A single attempt (wait 0) is not sent again. Defaults to exponential pauses from 10 milliseconds to 1 second, with
// jitter, until ctx or wait ends.
func WithRetry(policy func() backoff.BackOff) Option {
	return func(o *options) { o.retry = policy }
}

// WithNameMapper changes every lock's name into its key in Redis, as Redisson's
// NameMapper does: a prefix for an environment, say. It is called at once from
// many goroutines, and must return the same key for the same name. Defaults to the
// name itself.
func WithNameMapper(mapper func(name string) string) Option {
	return func(o *options) { o.mapper = mapper }
}

// WithClientID sets the first part of each owner, which is seen in Redis. It must
// belong to this client alone, or two clients would take each other's locks for
// their own: at most 64 letters, digits, "-", "_" and ".", and no version-4 UUID,
// because by that a Redisson client is told apart. Owners are then numbered from a random
// number on, because an earlier process of that id may have left a lock. Defaults to a new version-7 UUID.
func WithClientID(id string) Option {
	return func(o *options) { o.id, o.idWasGiven = id, true }
}

// WithLease makes Redis free the lock after this long unless it is unlocked
// or extended before; such a hold is not renewed, and so learns of a
// force-unlock only from Unlock, Extend or the end of its lease. From one
// millisecond to ten years, rounded up to milliseconds; 0 is the watchdog.
// Defaults to the watchdog.
func WithLease(lease time.Duration) AcquireOption { return locking.WithLease(lease) }

// WithWait bounds the waiting for another owner; when it runs out, the call
// returns ErrNotAcquired. 0 is a single attempt. Defaults to waiting until ctx
// ends.
func WithWait(wait time.Duration) AcquireOption { return locking.WithWait(wait) }

// WithMaxHold stops the watchdog's renewal this long after the acquisition;
// the hold then ends, lost, with its trust window. For work that must not hold
// a lock for ever when it hangs. No effect on a hold with WithLease. Defaults to no
// limit.
func WithMaxHold(limit time.Duration) AcquireOption { return locking.WithMaxHold(limit) }

// WithPolling makes the lock wait by trying again after the pauses of a policy,
// and never subscribe: Redisson's spin lock. policy is called for every waiter
// anew, because a BackOff has state. The pauses are the policy's own, from the
// first failed attempt on; ctx and wait bound them, and a policy that returns
// backoff.Stop ends the waiting with ErrNotAcquired. Defaults to waiting for
// messages.
func WithPolling(policy func() backoff.BackOff) LockOption { return locking.WithPolling(policy) }

// WithWaiterLease sets how long a fair lock's waiter that died keeps its place
// in the queue. While it lives its place is renewed, at a third of this or every 5 seconds,
// whichever is shorter. Use the same for all clients of a lock. Only a fair lock has a
// queue: with any other kind it is an error of the lock's first call. Defaults to 15 seconds.
func WithWaiterLease(lease time.Duration) LockOption { return locking.WithWaiterLease(lease) }

func newOptions(opts []Option) (*options, error) {
	o := &options{
		watchdog: 30 * time.Second,
		logger:   slog.Default(),
		retry:    defaultRetry,
		mapper:   func(name string) string { return name },
	}
	for i, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("holdfast: option %d of %d is nil", i+1, len(opts))
		}
		opt(o)
	}
	if !o.idWasGiven {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("holdfast: no randomness for a client id: %w", err)
		}
		o.id = id.String()
	}
	return o, o.validate()
}

// validate refuses nonsense by name.
func (o *options) validate() error {
	const least = 100 * time.Millisecond
	switch {
	case o.watchdog < least:
		return fmt.Errorf("%w: WatchdogTimeout must be at least %v, got %v", ErrInvalidDuration, least, o.watchdog)
	case o.watchdog > locking.MaxDuration:
		return fmt.Errorf("%w: WatchdogTimeout must be at most ten years, got %v", ErrInvalidDuration, o.watchdog)
	case o.logger == nil:
		return errors.New("holdfast: WithLogger needs a logger, got nil")
	case o.retry == nil:
		return errors.New("holdfast: WithRetry needs a function that makes a BackOff, got nil")
	case o.retry() == nil:
		return errors.New("holdfast: WithRetry's function made no BackOff, got nil")
	case o.mapper == nil:
		return errors.New("holdfast: WithNameMapper needs a function, got nil")
	}
	return validateID(o.id)
}

func validateID(id string) error {
	if id == "" || len(id) > 64 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return fmt.Errorf(`holdfast: WithClientID needs 1 to 64 letters, digits, "-", "_" or ".", got %q`, id)
	}
	if u, err := uuid.Parse(id); err == nil && u.Version() == 4 {
		return fmt.Errorf("holdfast: WithClientID must not be a version-4 UUID, those are Redisson's, got %s", id)
	}
	return nil
}

func defaultRetry() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(10*time.Millisecond),
		backoff.WithMaxInterval(time.Second),
		backoff.WithMultiplier(2),
		backoff.WithMaxElapsedTime(0),
	)
}
