// Package locking is the contract of all locks of this library: what a lock
// and a hold can do, the errors they return, and the options of a call.
//
// Users read and import it through the root package, which re-exports what they
// need: [Lock], [Hold], the errors, the With… options and their types. The rest is
// for the packages that make locks: [NewAcquire] and [NewLockOptions] apply a call's and
// a lock's options, [CheckDuration] is the one bound of all durations. It imports
// nothing else of this library, so every other package may build on it.
package locking

import (
	"context"
	"time"
)

// A Lock is a named lock in Redis, or several of them as one. It is stateless and
// cheap: it may be kept or made anew for each use, and shared between goroutines.
type Lock interface {
	// Name tells the name as the caller gave it; a name mapper changes only
	// the keys in Redis. A multi or quorum lock's name lists its members:
	// "multi(a, b)", "red(a, a, a)".
	Name() string

	// Lock waits until the lock is acquired or ctx ends. ctx bounds the
	// waiting alone: its later end neither releases the lock nor stops the
	// renewal. Without WithLease the watchdog renews the hold until it is
	// unlocked.
	//
	// Called with a context of a hold of this lock (Hold.Context), Lock
	// re-enters: the new hold has the same owner and a count one higher.
	//
	// Errors: ErrNotAcquired when WithWait ran out and somebody else has the
	// lock; ctx's error when ctx ended; ErrLost when ctx's own hold of this lock
	// is lost; ErrClosed, ErrInvalidName, ErrInvalidDuration; or what Redis
	// said, or that it did not answer. An error leaves nothing locked:
	// whatever may have reached Redis is undone in the background.
	Lock(ctx context.Context, opts ...AcquireOption) (Hold, error)

	// TryLock is Lock with a wait and a lease, in Redisson's order. Wait 0 is
	// one attempt, lease 0 the watchdog.
	TryLock(ctx context.Context, wait, lease time.Duration) (Hold, error)

	// Do acquires the lock, runs fn with the hold's context and releases it,
	// also when fn panics. It joins what fn returned, what Unlock returned,
	// and ErrLost if the hold was lost meanwhile, even where fn returned nil.
	Do(ctx context.Context, fn func(context.Context) error, opts ...AcquireOption) error

	// ForceUnlock frees the lock whoever holds it, wakes the waiters and tells
	// whether anybody held it. It is sent once. The holder learns of it at its next
	// renewal, and one with WithLease from Unlock, Extend or the end of its lease.
	// Of a multi or quorum lock it frees all members that it can, and tells whether
	// any was held; those of a multi lock that are on one server in one step.
	ForceUnlock(ctx context.Context) (bool, error)

	// IsLocked tells whether anybody holds the lock: all members of a multi lock, a
	// majority of a quorum lock's, though not necessarily one owner all of them.
	IsLocked(ctx context.Context) (bool, error)

	// IsHeld tells whether the owner that ctx carries (Hold.Context) holds it.
	// False for a context that carries none. Of a multi lock that is each member's
	// owner, of a quorum lock the owners of a majority.
	IsHeld(ctx context.Context) (bool, error)

	// HoldCount tells how many holds the owner that ctx carries still owes an
	// Unlock; 0 if ctx carries none. Of a multi lock it is the smallest of the members'
	// counts, of a quorum lock the count that a majority reaches.
	HoldCount(ctx context.Context) (int, error)

	// RemainingTTL tells how long Redis keeps the lock unless it is renewed,
	// whoever holds it; 0 for a key that has no TTL, which none of ours is.
	// ErrNotHeld when it is free. Of a multi lock it is the smallest of the members', of a
	// quorum lock the one that a majority reaches.
	RemainingTTL(ctx context.Context) (time.Duration, error)
}

// A Hold is one successful acquisition: the thing that is unlocked. All its
// methods may be called at once and after its end, and none panics.
type Hold interface {
	// Name tells the lock's name, as Lock.Name does.
	Name() string

	// Owner tells who holds: "<client uuid>:<number>", the hash field in Redis. Callers of one
	// client that hand a plain lock over have the same one, one after the other. Each
	// member of a multi or quorum lock has an owner of its own; this is the one of the
	// first member that is held.
	Owner() string

	// Count tells which acquisition of its owner this was: 1 for the first,
	// 2 when re-entered, and so on. Of a multi lock it is the smallest of the members',
	// of a quorum lock the one that a majority reaches.
	Count() int

	// Context returns a context with parent's values and cancellation that
	// also ends with the hold, with the cause ErrLost, ErrUnlocked or
	// ErrClosed. It carries the owner, or those of all members: a Lock of the same
	// client and name called with it re-enters. All goroutines that are given it are
	// that one owner. It is kept until its parent or the hold ends.
	Context(parent context.Context) context.Context

	// Done is closed once the hold has ended.
	Done() <-chan struct{}

	// Err is nil while the lock is held, then ErrLost, ErrUnlocked or ErrClosed; of
	// a multi or quorum lock it wraps that and names the member: use errors.Is.
	Err() error

	// Extend makes the lease at least that long from now on; it never shortens
	// it. ErrLost if the hold is no longer ours, and what Redis said or that it
	// did not answer in ctx's time: then the old lease still counts, of a multi or
	// quorum lock for some members at least.
	Extend(ctx context.Context, lease time.Duration) error

	// Unlock releases the hold. It works with a ctx that has ended: it has a
	// time limit of its own, 3 seconds. The first call decides, each further one returns
	// nil without asking Redis.
	//
	// ErrLost if the hold was no longer ours. When Redis does not answer,
	// Unlock returns that error and goes on trying in the background until the
	// lease would have run out. It tries all members of a multi or quorum lock; the
	// error joins what went wrong, unless a majority of a quorum lock is released.
	Unlock(ctx context.Context) error
}
