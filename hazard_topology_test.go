package holdfast_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/keys"
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

// A clustered is a cluster with workers that lock and unlock in one slot.
type clustered struct {
	*hazard
	cluster *redistest.Cluster
	client  *holdfast.Client
}

func newClustered(t *testing.T, masters, replicas int) *clustered {
	t.Helper()
	z := &clustered{hazard: &hazard{T: t}, cluster: redistest.StartCluster(t, masters, replicas)}
	z.client = z.connect()
	return z
}

func (z *clustered) connect(opts ...holdfast.Option) *holdfast.Client {
	z.Helper()
	return z.newClient(z.cluster.Client(z, func(o *redis.ClusterOptions) { o.ReadTimeout = readTimeout }), opts...)
}

// A slot moves back and forth under eight workers.
func TestHazardSlotMoves(t *testing.T) {
	t.Parallel()
	z := newClustered(t, 2, 0)
	const moves = 10
	ctx, cancel := context.WithCancel(context.Background())
	patient := z.ctx()
	var inside [2]register
	var slowest atomic.Int64
	var workers sync.WaitGroup
	for i := range 8 {
		which := i % len(inside)
		l := z.connect().RLock(fmt.Sprintf("{orders}:%d", which))
		workers.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				h, err := l.Lock(patient)
				if err != nil {
					z.Errorf("Lock: %v", err)
					return
				}
				inside[which].enter()
				slowest.Store(max(slowest.Load(), int64(time.Since(start))))
				inside[which].leave()
				if err := h.Unlock(patient); err != nil {
					z.Errorf("Unlock: %v", err)
				}
			}
		})
	}
	from, to := z.cluster.Nodes[0], z.cluster.Nodes[1]
	if z.cluster.MasterOf("{orders}") == to {
		from, to = to, from
	}
	turns := func() int64 { return inside[0].turns.Load() + inside[1].turns.Load() }
	for range moves {
		before := turns()
		z.cluster.MoveSlot(t, keys.Slot("{orders}"), from, to)
		from, to = to, from
		redistest.Eventually(t, patience, "the workers have gone on", func() bool { return turns() > before+20 })
	}
	cancel()
	workers.Wait()
	if n := inside[0].overlaps.Load() + inside[1].overlaps.Load(); n > 0 {
		z.Errorf("%d overlaps", n)
	}
	if d := time.Duration(slowest.Load()); d > 5*time.Second {
		z.Errorf("the slowest Lock took %v: a message was lost, and the safety poll had to help", d)
	}
	t.Logf("%d turns, the slowest Lock took %v", turns(), time.Duration(slowest.Load()).Round(time.Millisecond))
}

// A waiter whose slot has moved away hears of the release at the new place.
func TestHazardSlotMovesWhileWaiting(t *testing.T) {
	t.Parallel()
	z := newClustered(t, 2, 0)
	held := z.mustLock(z.connect().RLock("orders"))
	w := wait(z.ctx(), z.client.RLock("orders"))
	from := z.cluster.MasterOf("orders")
	to := z.cluster.Nodes[1-slices.Index(z.cluster.Nodes, from)]
	channel := "redisson_lock__channel:{orders}"
	subscribed := func(node *redistest.Server) func() bool {
		return func() bool {
			for _, question := range []string{"SHARDNUMSUB", "NUMSUB"} {
				if reply, err := node.Do(z.ctx(), "PUBSUB", question, channel).Slice(); err == nil && reply[1] != int64(0) {
					return true
				}
			}
			return false
		}
	}
	redistest.Eventually(t, patience, "it is subscribed", func() bool { return subscribed(from)() || subscribed(to)() })
	z.cluster.MoveSlot(t, keys.Slot("orders"), from, to)
	redistest.Eventually(t, 3*time.Second, "it is subscribed at the new place", func() bool { return subscribed(to)() || subscribed(from)() })
	z.mustUnlock(held)
	z.gets(2*time.Second, w)
}

// A master dies, then its replica as well.
func TestHazardClusterLosesAMaster(t *testing.T) {
	t.Parallel()
	const lease = 4 * time.Second
	z := newClustered(t, 3, 1)
	l := z.connect(holdfast.WithWatchdogTimeout(lease)).RLock("orders")
	h := z.mustLock(l)
	master := z.cluster.MasterOf("orders")
	z.server = z.cluster.ReplicasOf(master)[0]
	w := wait(z.ctx(), z.client.RLock("orders"), holdfast.WithLease(time.Minute))
	master.Kill()
	redistest.Eventually(t, patience, "the replica has taken over", func() bool { return z.cluster.MasterOf("orders") == z.server })
	select {
	case <-h.Done():
		z.want("the hold", h.Err(), holdfast.ErrLost)
	case <-time.After(lease * 4 / 3): // by then it was renewed at the new master, or is lost
		z.wantCount(h, "1")
		z.mustUnlock(h)
	}
	z.gets(lease+6*time.Second, w)

	elsewhere := "orders elsewhere"
	for i := 0; z.cluster.MasterOf(elsewhere) == z.server; i++ {
		elsewhere = fmt.Sprint("orders elsewhere ", i)
	}
	z.server.Kill() // nobody has the slot now, and a cluster serves all slots or none
	for name, says := range map[string]string{"orders": "connection refused", elsewhere: "CLUSTERDOWN"} {
		lock := z.client.RLock(name)
		redistest.Eventually(t, patience, "the cluster is down", func() bool {
			h, err := lock.TryLock(z.ctx(), 200*time.Millisecond, 0)
			if err == nil {
				_ = h.Unlock(z.ctx()) // may be too late already
			}
			return err != nil && strings.Contains(err.Error(), says)
		})
		_, err := lock.TryLock(z.ctx(), 300*time.Millisecond, 0)
		z.wantSaid("TryLock", err, says)
	}
	w = wait(z.ctx(), z.client.RLock("orders"))
	if err := z.server.Restart(); err != nil {
		z.Fatal(err)
	}
	z.gets(patience, w)
}
