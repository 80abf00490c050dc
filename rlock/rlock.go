package rlock

import (
	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
)

// Lock is a plain reentrant lock: RLock is Redisson's name, not Go's read lock.
// All its methods may be called at once.
type Lock = engine.Lock

// New makes the lock of that name, which Redis knows as key.
func New(e *engine.Engine, name, key string, opts ...locking.LockOption) *Lock {
	options := locking.NewLockOptions("a plain lock", []string{"WithPolling"}, opts...)
	return e.NewLock(Driver{}, name, key, options)
}
