package multilock_test

import (
	"context"
	"testing"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A cluster behind a proxy looks like one server, so all members are asked for in one script.
// It refuses that, whereupon they are asked slot by slot: at once, also by those who do not wait.
func TestACrossSlotRefusalIsAskedAgainInParts(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"TryLock", "Lock"} {
		node := redistest.StartCluster(t, 1, 0).Nodes[0]
		c := client(t, node.Addr())
		l := c.MultiLock(c.RLock("a"), c.FairLock("b"), c.RLock("c"))
		made := c.MultiLock(c.RLock("c"), c.RLock("a"))
		if first == "Lock" {
			unlock(t, lock(t, l))
		}
		for range 2 {
			h, err := l.TryLock(within(t), 0, 0)
			if err != nil {
				t.Fatalf("%s first: TryLock: %v", first, err)
			}
			unlock(t, h)
		}
		if err := made.Do(within(t), func(context.Context) error { return nil }); err != nil {
			t.Errorf("a lock that was made before: %v", err)
		}
		empty(t, node)
	}
}
