package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/locking"
)

// A Lock is a lock of one target: what all kinds that are one key in Redis have in
// common. It is stateless; all its methods may be called at once.
type Lock struct {
	engine *Engine
	target *Target
}

var _ locking.Lock = (*Lock)(nil)

// NewLock makes the lock of that name, which Redis knows as key. What is not possible
// is told by its first call.
func (e *Engine) NewLock(d Driver, name, key string, options locking.LockOptions) *Lock {
	return &Lock{engine: e, target: e.newTarget(d, name, key, options)}
}

// Name tells the name as the caller gave it.
func (l *Lock) Name() string { return l.target.Name }

// Lock waits until the lock is acquired or ctx ends.
func (l *Lock) Lock(ctx context.Context, opts ...locking.AcquireOption) (locking.Hold, error) {
	return l.engine.Acquire(ctx, l.target, opts...)
}

// TryLock waits at most that long for another owner.
func (l *Lock) TryLock(ctx context.Context, wait, lease time.Duration) (locking.Hold, error) {
	return l.engine.Acquire(ctx, l.target, locking.WithWait(wait), locking.WithLease(lease))
}

// Do acquires the lock, runs fn with the hold's context and releases it.
func (l *Lock) Do(ctx context.Context, fn func(context.Context) error, opts ...locking.AcquireOption) error {
	if fn == nil {
		return NoFunc(l.Name())
	}
	h, err := l.Lock(ctx, opts...)
	if err != nil {
		return err
	}
	return During(ctx, h, fn)
}

// ForceUnlock frees the lock whoever holds it, and tells whether anybody did.
func (l *Lock) ForceUnlock(ctx context.Context) (bool, error) {
	freed, errs := ForceUnlock(ctx, l)
	if errs[0] != nil {
		return freed[0], fmt.Errorf("force-unlock %q: %w", l.Name(), errs[0])
	}
	return freed[0], nil
}

// IsLocked tells whether anybody holds the lock.
func (l *Lock) IsLocked(ctx context.Context) (bool, error) {
	i, err := l.engine.Inspect(ctx, l.target, "look at")
	return i.Held, err
}

// IsHeld tells whether the owner that ctx carries holds the lock.
func (l *Lock) IsHeld(ctx context.Context) (bool, error) {
	count, err := l.HoldCount(ctx)
	return count > 0, err
}

// HoldCount tells how many holds the owner that ctx carries still owes an Unlock.
func (l *Lock) HoldCount(ctx context.Context) (int, error) {
	i, err := l.engine.Inspect(ctx, l.target, "count holds of")
	return i.Count, err
}

// RemainingTTL tells how long Redis keeps the lock unless it is renewed.
func (l *Lock) RemainingTTL(ctx context.Context) (time.Duration, error) {
	i, err := l.engine.Inspect(ctx, l.target, "look at")
	if err != nil {
		return 0, err
	}
	if !i.Held {
		return 0, fmt.Errorf("look at %q: %w", l.Name(), locking.ErrNotHeld)
	}
	return max(i.TTL, 0), nil
}

// Check runs the life of this lock once, for Client.Check.
func (l *Lock) Check(ctx context.Context) error { return l.engine.check(ctx, l.target) }
