package locking

import "errors"

// The errors of this library. Test for them with errors.Is: they come wrapped
// with the deed and the lock's name.
var (
	// ErrNotAcquired: the wait ran out while somebody else had the lock. Never
	// used for a Redis that did not answer or refused.
	ErrNotAcquired = errors.New("holdfast: not acquired")

	// ErrLost: the hold can no longer be trusted. Its lease ran out without a
	// confirmed renewal, or its key was deleted, force-unlocked or taken.
	ErrLost = errors.New("holdfast: hold lost")

	// ErrNotHeld: nobody holds the lock, so RemainingTTL has nothing to tell.
	ErrNotHeld = errors.New("holdfast: not held")

	// ErrUnlocked: the hold has ended by Unlock.
	ErrUnlocked = errors.New("holdfast: hold unlocked")

	// ErrClosed: the client is closed.
	ErrClosed = errors.New("holdfast: client closed")

	// ErrInvalidName: the lock's name is empty, too long, or cannot be kept in
	// one slot of a Redis Cluster.
	ErrInvalidName = errors.New("holdfast: invalid name")

	// ErrInvalidDuration: a wait, lease or limit is negative, below a
	// millisecond (a watchdog timeout: below 100) or over ten years.
	ErrInvalidDuration = errors.New("holdfast: invalid duration")
)
