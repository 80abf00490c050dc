package holdfast_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A replica must not answer for its master: neither "free" nor "taken" is its to say.
func TestHazardReplica(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	replica := redistest.Start(t, "--replicaof", "127.0.0.1", strconv.Itoa(z.server.Port))
	c := z.newClient(z.dial(replica.Addr()))
	held := z.mustLock(z.client.RLock("busy orders"))
	redistest.Eventually(z, patience, "the replica follows", func() bool {
		return replica.Do(z.ctx(), "EXISTS", "busy orders").Val() == int64(1)
	})
	for _, name := range []string{"free orders", "busy orders"} {
		l := c.RLock(name)
		for _, limit := range []time.Duration{0, 300 * time.Millisecond} {
			start := time.Now()
			_, err := l.TryLock(z.ctx(), limit, 0)
			z.wantSaid(fmt.Sprintf("TryLock(%v) of %s", limit, name), err, "READONLY")
			z.wantWithin(limit, "TryLock", start)
		}
		ctx, cancel := context.WithTimeout(z.ctx(), 200*time.Millisecond)
		_, err := l.Lock(ctx)
		cancel()
		z.wantSaid("Lock of "+name, err, "READONLY")
		z.want("Lock of "+name, err, context.DeadlineExceeded)
		_, err = l.ForceUnlock(z.ctx())
		z.wantSaid("ForceUnlock of "+name, err, "READONLY")
	}
	z.want("the hold at the master", held.Err(), nil)
	z.mustUnlock(held)
}

// A master that becomes a replica while it is waited for and held at.
func TestHazardMasterIsDemoted(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	z := newHazard(t, holdfast.WithWatchdogTimeout(lease))
	master := redistest.Start(t)
	h := z.mustLock(z.lock)
	w := z.waits(z.other)
	z.redis("REPLICAOF", "127.0.0.1", strconv.Itoa(master.Port))
	z.waitFor(lease, "the hold is lost", h.Done())
	z.want("the hold", h.Err(), holdfast.ErrLost)
	select {
	case <-w.done:
		z.Errorf("a replica let a waiter in: %v", w.err)
	default:
	}
	z.redis("REPLICAOF", "NO", "ONE")
	z.gets(6*time.Second, w)
}

// Failover by sentinels: a hold survives it or ends as lost, never a third thing.
func TestHazardSentinelFailover(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	sentinel := redistest.StartSentinel(t, 1)
	z := &hazard{T: t, server: sentinel.Nodes[1]}
	client := func() *holdfast.Client {
		return z.newClient(sentinel.Client(t), holdfast.WithWatchdogTimeout(lease))
	}
	lock, other := client().RLock("orders"), client().RLock("orders")
	h := z.mustLock(lock)
	w := wait(z.ctx(), other, holdfast.WithLease(time.Minute))
	old := sentinel.Master()
	old.Kill()
	sentinel.WaitNewMaster(t, old)
	select {
	case <-h.Done():
		z.want("the hold", h.Err(), holdfast.ErrLost)
	case <-time.After(lease + lease/3): // by then it was renewed at the new master, or is lost
		z.wantCount(h, "1")
		z.want("the hold", h.Err(), nil)
		z.mustUnlock(h)
	}
	z.gets(lease+6*time.Second, w)
	z.freeWithin(slack)
}
