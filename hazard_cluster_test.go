package holdfast_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

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
	const moves = 6
	ctx, cancel := context.WithCancel(context.Background())
	patient := z.ctx()
	var inside [2]register
	var slowest [len(inside)]time.Duration // not atomic: the race detector watches the locks
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
				slowest[which] = max(slowest[which], time.Since(start))
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
		// A master that does not know the other's epoch yet would claim the slot with too low
		// a one, and then each would send clients to the other.
		redistest.Eventually(t, patience, "the masters agree", func() bool { return z.epoch(from) == z.epoch(to) })
	}
	cancel()
	workers.Wait()
	if n := inside[0].overlaps.Load() + inside[1].overlaps.Load(); n > 0 {
		z.Errorf("%d overlaps", n)
	}
	if d := max(slowest[0], slowest[1]); d > 5*time.Second {
		z.Errorf("the slowest Lock took %v: a message was lost, and the safety poll had to help", d)
	}
	t.Logf("%d turns, the slowest Lock took %v", turns(), max(slowest[0], slowest[1]).Round(time.Millisecond))
}

// epoch is the latest one that a node knows of.
func (z *clustered) epoch(node *redistest.Server) string {
	z.Helper()
	info := node.Do(z.ctx(), "CLUSTER", "INFO").String()
	_, epoch, _ := strings.Cut(info, "cluster_current_epoch:")
	return strings.Fields(epoch)[0]
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
	// From 7.0 on a channel belongs to its slot's node; before, every node has every message.
	major, _ := from.Version()
	sharded := major >= 7
	question := map[bool]string{true: "SHARDNUMSUB", false: "NUMSUB"}[sharded]
	subscribed := func(node *redistest.Server) bool {
		reply, err := node.Do(z.ctx(), "PUBSUB", question, channel).Slice()
		return err == nil && reply[1] != int64(0)
	}
	redistest.Eventually(t, patience, "it is subscribed", func() bool { return subscribed(from) || !sharded && subscribed(to) })
	z.cluster.MoveSlot(t, keys.Slot("orders"), from, to)
	redistest.Eventually(t, 3*time.Second, "it is subscribed at the new place", func() bool { return subscribed(to) || !sharded && subscribed(from) })
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

// A cluster client has retries of its own; no script may get into them.
func TestHazardClusterCommandIsLost(t *testing.T) {
	t.Parallel()
	z := newClustered(t, 1, 0)
	z.server = z.cluster.Nodes[0]
	z.proxy = faultproxy.New(t, z.server.Addr(), 1)
	rdb := z.cluster.Client(t, func(o *redis.ClusterOptions) {
		o.ReadTimeout = readTimeout
		o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, z.proxy.Addr())
		}
	})
	behind := z.newClient(rdb)
	lock, other := behind.RLock("orders"), z.client.RLock("orders")
	if _, err := lock.IsLocked(z.ctx()); err != nil {
		z.Fatal(err)
	}
	for _, loss := range losses {
		z.spoilVerb("rlock.acquire", "", loss.decision)
		outer := z.mustLock(lock)
		z.wantCount(outer, "1")
		z.spoilVerb("rlock.acquire", "", loss.decision)
		inner, err := lock.Lock(outer.Context(z.ctx()))
		if err != nil {
			z.Fatal(err)
		}
		z.wantCount(outer, "2")
		z.spoilVerb("rlock.release", outer.Owner(), loss.decision)
		z.mustUnlock(inner)
		z.wantCount(outer, "1")
		z.spoilVerb("rlock.release", outer.Owner(), loss.decision)
		z.mustUnlock(outer)
		z.freeWithin(slack)

		held := z.mustLock(other)
		sent := z.spoilVerb("rlock.force", "", loss.decision)
		_, err = lock.ForceUnlock(z.ctx())
		z.wantSaid("ForceUnlock", err)
		if n := sent.Load(); n != 1 {
			z.Errorf("%s: ForceUnlock was sent %d times, want once", loss.name, n)
		}
		_ = held.Unlock(z.ctx()) // ErrLost where it was executed
		z.freeWithin(slack)

		z.spoilVerb("rlock.acquire", "", loss.decision)
		_, err = lock.TryLock(z.ctx(), 0, 0)
		z.wantSaid("TryLock", err)
		z.freeWithin(time.Second)
	}
}

// spoilVerb decides about the next script with this verb, for this owner if not "", and
// counts those that come from now on. What is released in the background, for losses
// before, goes its way.
func (z *clustered) spoilVerb(verb, owner string, d faultproxy.Decision) *atomic.Int64 {
	var seen atomic.Int64
	z.proxy.Decide(func(c faultproxy.Command) faultproxy.Decision {
		if c.Name == "EVALSHA" && slices.Contains(c.Args, verb) &&
			(owner == "" || slices.Contains(c.Args, owner)) && seen.Add(1) == 1 {
			return d
		}
		return faultproxy.Pass
	})
	return &seen
}
