package holdfast

import "github.com/holdfast-go/holdfast/locking"

// Errors come wrapped with the deed and the lock's name; test for them with
// errors.Is. What Redis said keeps its own words.
var (
	// ErrNotAcquired: the wait ran out while somebody else had the lock. Never
	// used for a Redis that did not answer or refused.
	ErrNotAcquired = locking.ErrNotAcquired

	// ErrLost: the hold can no longer be trusted. Its lease ran out without a
	// confirmed renewal, or its key was deleted, force-unlocked or taken.
	ErrLost = locking.ErrLost

	// ErrNotHeld: nobody holds the lock, so RemainingTTL has nothing to tell.
	ErrNotHeld = locking.ErrNotHeld

	// ErrUnlocked: the hold has ended by Unlock. Hold.Err returns it, and the
	// hold's contexts end with it as their cause.
	ErrUnlocked = locking.ErrUnlocked

	// ErrClosed: the client is closed.
	ErrClosed = locking.ErrClosed

	// ErrInvalidName: the lock's name is empty, longer than 512 bytes, or cannot
	// be kept in one slot of a Redis Cluster ("a}b", "a{b", "a{}b").
	ErrInvalidName = locking.ErrInvalidName

	// ErrInvalidDuration: a wait, lease or limit is negative, below a
	// millisecond (a watchdog timeout: below 100) or over ten years.
	ErrInvalidDuration = locking.ErrInvalidDuration
)
