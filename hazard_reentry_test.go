package holdfast_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A re-entry is executed after its caller gave up and after the undo has lowered the
// count: the undo must come again, or the owner's count stays too high.
func TestHazardReentryIsExecutedLate(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	outer := z.mustLock(z.lock)
	monitor := z.server.Monitor(t)
	gate := make(chan struct{})
	z.spoil(faultproxy.GateRequest(gate))
	_, err := z.lock.TryLock(outer.Context(z.ctx()), 0, 0)
	z.wantSaid("re-entry", err)
	undone := fmt.Sprintf(`lua "HGET" "orders" %q`, outer.Owner())
	redistest.Eventually(z, patience, "the undo is executed", func() bool { return slices.Contains(monitor(), undone) })
	close(gate)
	taken := fmt.Sprintf(`lua "HSET" "orders" %q "2"`, outer.Owner())
	redistest.Eventually(z, patience, "the re-entry is executed", func() bool { return slices.Contains(monitor(), taken) })
	redistest.Eventually(z, 2*time.Second, "the count is 1 again", func() bool { return z.fields()[outer.Owner()] == "1" })
	z.mustUnlock(outer)
	z.freeWithin(slack)
}

// Somebody else writes to the owner's count. Another number changes nothing, and the next
// Unlock sets it right; what is no number is refused. Unlock frees the lock in any case.
func TestHazardForeignCount(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	outer := z.mustLock(z.lock)
	inner, err := z.lock.Lock(outer.Context(z.ctx()))
	z.want("re-entry", err, nil)
	z.redis("HSET", "orders", outer.Owner(), "7")
	if n, err := z.lock.HoldCount(outer.Context(z.ctx())); n != 2 || err != nil {
		t.Errorf("HoldCount: got %d, %v, want 2", n, err)
	}
	z.mustUnlock(inner)
	z.wantCount(outer, "1")
	z.redis("HSET", "orders", outer.Owner(), "x")
	_, err = z.lock.Lock(outer.Context(z.ctx()))
	z.wantSaid("re-entry", err, "ERR hash value is not an integer")
	z.want("the hold", outer.Err(), nil)
	z.mustUnlock(outer)
	z.freeWithin(0)
	z.redis("HSET", "orders", "somebody", "x")
	_, err = z.lock.TryLock(z.ctx(), 0, 0)
	z.want("TryLock", err, holdfast.ErrNotAcquired)
}
