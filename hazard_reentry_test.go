package holdfast_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

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
