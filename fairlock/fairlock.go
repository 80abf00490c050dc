package fairlock

import (
	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
)

// Lock is a fair lock: whoever asked first gets it first, in whichever process. All its
// methods may be called at once.
type Lock = engine.Lock

// New makes the lock of that name, which Redis knows as key.
//
// It honours WithWaiterLease, and refuses WithPolling: the one whose turn it is has to
// come at once, or everybody behind waits for its pause as well.
func New(e *engine.Engine, name, key string, opts ...locking.LockOption) *Lock {
	options := locking.NewLockOptions("a fair lock", []string{"WithWaiterLease"}, opts...)
	return e.NewLock(driver{}, name, key, options)
}
