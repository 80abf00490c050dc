package locking

import (
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// MaxDuration is the longest wait, lease or limit that is accepted: ten years.
const MaxDuration = 10 * 365 * 24 * time.Hour

// An AcquireOption changes one call of Lock or Do.
type AcquireOption func(*Acquire)

// Acquire is what one call asks for, once its options are applied.
type Acquire struct {
	Wait    time.Duration // how long to wait for another owner; meaningful only with Bounded
	Bounded bool          // Wait was given; otherwise only ctx bounds the waiting
	Lease   time.Duration // 0: the watchdog renews
	MaxHold time.Duration // 0: renewed until unlocked
}

// WithLease makes Redis free the lock after this long unless it is unlocked
// or extended before; such a hold is not renewed, and so learns of a
// force-unlock only from Unlock, Extend or the end of its lease. From one
// millisecond to ten years, rounded up to milliseconds; 0 is the watchdog.
// Defaults to the watchdog.
func WithLease(lease time.Duration) AcquireOption {
	return func(a *Acquire) { a.Lease = lease }
}

// WithWait bounds the waiting for another owner; when it runs out, the call
// returns ErrNotAcquired. 0 is a single attempt. Defaults to waiting until ctx
// ends.
func WithWait(wait time.Duration) AcquireOption {
	return func(a *Acquire) { a.Wait, a.Bounded = wait, true }
}

// WithMaxHold stops the watchdog's renewal this long after the acquisition;
// the hold then ends, lost, with its trust window. For work that must not hold
// a lock for ever when it hangs. No effect on a hold with WithLease. Defaults to no
// limit.
func WithMaxHold(limit time.Duration) AcquireOption {
	return func(a *Acquire) { a.MaxHold = limit }
}

// NewAcquire applies opts and refuses nonsense by name, with
// ErrInvalidDuration for every duration out of bounds.
func NewAcquire(opts ...AcquireOption) (Acquire, error) {
	if len(opts) == 0 {
		return Acquire{}, nil // mostly; nothing has to be made for it
	}
	var a Acquire
	for i, opt := range opts {
		if opt == nil {
			return a, fmt.Errorf("holdfast: acquire option %d of %d is nil", i+1, len(opts))
		}
		opt(&a)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"wait", a.Wait}, {"lease", a.Lease}, {"max hold", a.MaxHold}} {
		if d.value == 0 {
			continue
		}
		if err := CheckDuration(d.name, d.value); err != nil {
			return a, err
		}
	}
	return a, nil
}

// CheckDuration returns ErrInvalidDuration, naming the duration, unless it is
// between a millisecond and ten years.
func CheckDuration(name string, d time.Duration) error {
	switch {
	case d < 0:
		return fmt.Errorf("%w: %s must not be negative, got %v", ErrInvalidDuration, name, d)
	case d < time.Millisecond:
		return fmt.Errorf("%w: %s must be at least 1ms, got %v", ErrInvalidDuration, name, d)
	case d > MaxDuration:
		return fmt.Errorf("%w: %s must be at most ten years, got %v", ErrInvalidDuration, name, d)
	}
	return nil
}

// A LockOption changes one lock. An option that the lock's kind cannot honour
// is an error of the lock's first call, which names both.
type LockOption func(*LockOptions)

// LockOptions is what a lock was made with, once its options are applied.
type LockOptions struct {
	Polling     func() backoff.BackOff // nil: wait for messages
	WaiterLease time.Duration          // 0: the default of the kind
	Given       []string               // the names of the options that were given
	Err         error                  // the first option that made no sense
}

// WithPolling makes the lock wait by trying again after the pauses of a policy,
// and never subscribe: Redisson's spin lock. policy is called for every waiter
// anew, because a BackOff has state. The pauses are the policy's own, from the
// first failed attempt on; ctx and wait bound them, and a policy that returns
// backoff.Stop ends the waiting with ErrNotAcquired. Defaults to waiting for
// messages.
func WithPolling(policy func() backoff.BackOff) LockOption {
	return func(o *LockOptions) {
		o.Given = append(o.Given, "WithPolling")
		if policy == nil {
			o.fail(fmt.Errorf("holdfast: WithPolling needs a function that makes a BackOff, got nil"))
		}
		o.Polling = policy
	}
}

// WithWaiterLease sets how long a fair lock's waiter that died keeps its place
// in the queue. While it lives its place is renewed, at a third of this or every 5 seconds,
// whichever is shorter. Use the same for all clients of a lock. Only a fair lock has a
// queue: with any other kind it is an error of the lock's first call. Defaults to 15 seconds.
func WithWaiterLease(lease time.Duration) LockOption {
	return func(o *LockOptions) {
		o.Given = append(o.Given, "WithWaiterLease")
		if err := CheckDuration("waiter lease", lease); err != nil {
			o.fail(err)
		}
		o.WaiterLease = lease
	}
}

func (o *LockOptions) fail(err error) {
	if o.Err == nil {
		o.Err = err
	}
}

// NewLockOptions applies opts for a lock of this kind, which honours only the
// options named in honoured. What does not make sense is told by Err.
func NewLockOptions(kind string, honoured []string, opts ...LockOption) LockOptions {
	var o LockOptions
	for i, opt := range opts {
		if opt == nil {
			o.fail(fmt.Errorf("holdfast: lock option %d of %d is nil", i+1, len(opts)))
			continue
		}
		opt(&o)
	}
given:
	for _, given := range o.Given {
		for _, name := range honoured {
			if given == name {
				continue given
			}
		}
		o.fail(fmt.Errorf("holdfast: %s cannot honour %s", kind, given))
	}
	return o
}
