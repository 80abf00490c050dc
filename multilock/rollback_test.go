package multilock_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A waiter that gave back what it had waits until that is confirmed: it would find the lock
// taken by itself, wait for that one instead, be woken by its own release, and so on.
func TestAWaiterDoesNotMeetWhatItGaveBack(t *testing.T) {
	for range 2 {
		p := newPair(t)
		holder := lock(t, p.otherB.FairLock("b"))
		monitor := p.first.Monitor(t)
		waiter := make(chan error, 1)
		go func() { // ends with the lock
			waiter <- p.a.MultiLock(p.a.RLock("a"), p.b.FairLock("b")).Do(within(t), func(context.Context) error { return nil })
		}()
		redistest.Eventually(t, 5*time.Second, "it stands in the queue", func() bool {
			n, err := p.second.Do(t.Context(), "LLEN", keys.Queue("b")).Int()
			return err == nil && n == 1
		})
		time.Sleep(300 * time.Millisecond) // in which it asks for nothing
		taken := 0
		for _, line := range monitor() {
			if strings.Contains(line, `"HSET" "a"`) {
				taken++
			}
		}
		if taken > 3 {
			t.Errorf("it acquired the other member %d times while it waited for this one, want 3 at most", taken)
		}
		unlock(t, holder)
		if err := <-waiter; err != nil {
			t.Error(err)
		}
		empty(t, p.first, p.second)
	}
}

// A batch that has to be split does not cost a caller without patience what it has won before.
func TestASplitKeepsWhatWasWonBefore(t *testing.T) {
	t.Parallel()
	for range 2 {
		single := redistest.Start(t)
		node := redistest.StartCluster(t, 1, 0).Nodes[0]
		for node.Addr() < single.Addr() {
			single = redistest.Start(t)
		}
		a, b := client(t, single.Addr()), client(t, node.Addr())
		h, err := a.MultiLock(a.RLock("x"), b.RLock("a"), b.RLock("c")).TryLock(within(t), 0, 0)
		if err != nil {
			t.Fatalf("TryLock: %v", err)
		}
		unlock(t, h)
		empty(t, single, node)
	}
}

// The end of ctx is told once, whether it comes while the waiter waits or while it asks.
func TestAnEndedContextIsToldOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := client(t, server.Addr())
	held := lock(t, client(t, server.Addr()).RLock("b"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := c.MultiLock(c.RLock("a"), c.RLock("b")).Lock(ctx)
	want(t, "Lock", err, context.DeadlineExceeded)
	if n := strings.Count(err.Error(), context.DeadlineExceeded.Error()); n != 1 {
		t.Errorf("got %q, which says %d times that ctx has ended", err, n)
	}
	unlock(t, held)
	empty(t, server)
}
