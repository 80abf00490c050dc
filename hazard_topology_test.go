package holdfast_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
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

// A question ends with what a server said, also if it falls silent in the end.
func TestHazardReplicaThatFallsSilent(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.redis("REPLICAOF", "127.0.0.1", "1")
	z.mustRefuse(z.lock)
	open := make(chan struct{})
	defer close(open)
	var asked atomic.Int32
	z.proxy.Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if cmd.Name == "EVALSHA" && asked.Add(1) > 1 {
			return faultproxy.GateRequest(open)
		}
		return faultproxy.Pass
	})
	_, err := z.lock.ForceUnlock(z.ctx())
	z.wantSaid("ForceUnlock", err, "READONLY")
	if n := asked.Load(); n < 2 {
		t.Errorf("asked %d times: this shows nothing", n)
	}
}

// mustRefuse has the server know the script by now, and refuse it.
func (z *hazard) mustRefuse(l holdfast.Lock) {
	z.Helper()
	_, err := l.TryLock(z.ctx(), 0, 0)
	z.wantSaid("TryLock", err, "READONLY")
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

// A service is an address that leads to another server after a failover.
type service struct {
	*hazard
	master  atomic.Pointer[string]
	link    *faultproxy.Proxy // between the master and its replica
	replica *redistest.Server
}

// newService sets the scene: a master and a replica that follows it. z.server is the master.
func newService(t *testing.T) *service {
	t.Helper()
	master := redistest.Start(t)
	z := &service{hazard: &hazard{T: t, server: master}, link: faultproxy.New(t, master.Addr(), 1)}
	_, port, err := net.SplitHostPort(z.link.Addr())
	if err != nil {
		t.Fatal(err)
	}
	z.replica = redistest.Start(t, "--replicaof", "127.0.0.1", port)
	z.leadTo(master)
	z.redis("SET", "seed", "1")
	redistest.Eventually(t, patience, "the replica follows", func() bool {
		return z.replica.Do(z.ctx(), "EXISTS", "seed").Val() == int64(1)
	})
	return z
}

func (z *service) leadTo(server *redistest.Server) {
	addr := server.Addr()
	z.master.Store(&addr)
}

// client makes a client that dials wherever the address leads to.
func (z *service) client(opts ...holdfast.Option) *holdfast.Client {
	z.Helper()
	return z.newClient(z.dial("service", func(o *redis.Options) {
		o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, *z.master.Load())
		}
	}), opts...)
}

// promote makes the replica a master.
func (z *service) promote() {
	z.Helper()
	if err := z.replica.Do(z.ctx(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		z.Fatal(err)
	}
}

// The master dies before the replica has the lock. Nothing can keep a new owner out, but
// the old hold is lost soon: at the next renewal where the new master can be reached,
// otherwise, or with a lease of its own, at the end of its window.
func TestHazardReplicaLacksTheLock(t *testing.T) {
	t.Parallel()
	const lease = 1500 * time.Millisecond
	for _, row := range []struct {
		name  string
		opts  []holdfast.AcquireOption
		bound time.Duration // from the moment when the new master can be reached
		stays bool          // the old holder goes on dialing the old master
	}{
		{name: "watchdog", bound: lease / 3},
		{name: "a lease of its own", opts: []holdfast.AcquireOption{holdfast.WithLease(lease)}, bound: lease},
		{name: "no way to the new master", bound: lease, stays: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			z := newService(t)
			other := z.client(holdfast.WithWatchdogTimeout(lease)).RLock("orders")
			mine := z.client(holdfast.WithWatchdogTimeout(lease))
			if row.stays {
				mine = z.direct(holdfast.WithWatchdogTimeout(lease))
			}
			z.link.BlackHole(true)
			h := z.mustLock(mine.RLock("orders"), row.opts...)
			old := z.server
			z.server = z.replica
			if z.exists("orders") {
				z.Fatal("the replica has the lock")
			}
			old.Kill()
			z.promote()
			z.leadTo(z.replica)
			promoted := time.Now()
			theirs, err := other.TryLock(z.ctx(), lease/3, 10*time.Second)
			if err != nil {
				z.Fatalf("TryLock at the new master: %v", err)
			}
			t.Logf("a new owner came in after %v; the old hold: %v", time.Since(promoted).Round(time.Millisecond), h.Err())
			z.waitFor(row.bound, "the old hold is lost", h.Done())
			z.wantWithin(row.bound, "to lose the old hold", promoted)
			z.want("the old hold", h.Err(), holdfast.ErrLost)
			z.want("Unlock", h.Unlock(z.ctx()), holdfast.ErrLost)
			z.wantCount(theirs, "1")
			z.want("the new hold", theirs.Err(), nil)
			z.mustUnlock(theirs)
		})
	}
}

// A master is cut off from its replica, which becomes a master too, and goes on serving
// those on its side. Told to want a replica, it refuses their renewals soon after: the
// hold there is lost, and nobody gets a new one. Not told so, it goes on for ever.
func TestHazardOldMasterServesAMinority(t *testing.T) {
	t.Parallel()
	const (
		lease  = 1200 * time.Millisecond
		maxLag = time.Second
		bound  = maxLag + 2*time.Second + lease // as docs/guarantees.md says
	)
	for _, row := range []struct {
		name  string
		wants int
	}{{"min-replicas-to-write 1", 1}, {"min-replicas-to-write 0", 0}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			z := newService(t)
			z.redis("CONFIG", "SET", "min-replicas-max-lag", int(maxLag.Seconds()))
			z.redis("CONFIG", "SET", "min-replicas-to-write", row.wants)
			minority := z.direct(holdfast.WithWatchdogTimeout(lease))
			h := z.mustLock(minority.RLock("orders"))
			z.cutOff()
			cut := time.Now()
			z.promote()
			z.leadTo(z.replica)
			theirs := z.mustLock(z.client().RLock("orders")) // when the lease is over there
			t.Logf("a new owner came in %v after the cut; the old hold: %v", time.Since(cut).Round(time.Millisecond), h.Err())
			if row.wants == 0 {
				select {
				case <-h.Done():
					z.Errorf("the old hold ended: %v; then the page can promise more", h.Err())
				case <-time.After(time.Until(cut.Add(bound + slack))): // as long as it may take in the other case
				}
				z.mustUnlock(h)
				return
			}
			z.waitFor(bound, "the old hold is lost", h.Done())
			z.wantWithin(bound, "to lose the old hold", cut)
			t.Logf("the old hold was lost %v after the cut", time.Since(cut).Round(time.Millisecond))
			z.want("the old hold", h.Err(), holdfast.ErrLost)
			_, err := minority.RLock("more orders").TryLock(z.ctx(), 0, 0)
			z.wantSaid("TryLock of a free one at the old master", err, "NOREPLICAS")
			_, err = minority.RLock("orders").TryLock(z.ctx(), lease, 0)
			z.wantSaid("TryLock at the old master", err, "NOREPLICAS")
			z.want("the new hold", theirs.Err(), nil)
			z.mustUnlock(theirs)
		})
	}
}

// cutOff keeps what the replica says from its master, also that it leaves. The other way
// is no matter once the replica is a master.
func (z *service) cutOff() {
	z.Helper()
	never := make(chan struct{})
	z.link.Decide(func(c faultproxy.Command) faultproxy.Decision {
		if c.Name == "REPLCONF" {
			return faultproxy.GateRequest(never)
		}
		return faultproxy.Pass
	})
	redistest.Eventually(z, patience, "the replica is not heard", func() bool { return len(z.link.Log()) > 0 })
}

// Failover by sentinels: with a replica that has the lock the hold survives, with one
// that lacks it the hold is lost; and whoever waits gets the lock in the end.
func TestHazardSentinelFailover(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	for _, row := range []struct {
		name  string
		lacks bool
	}{{"the replica has the lock", false}, {"the replica lacks the lock", true}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			sentinel := redistest.StartSentinel(t, 1)
			z := &hazard{T: t, server: sentinel.Nodes[1]}
			client := func() *holdfast.Client {
				return z.newClient(sentinel.Client(t), holdfast.WithWatchdogTimeout(lease))
			}
			lock, other := client().RLock("orders"), client().RLock("orders")
			h := z.mustLock(lock)
			redistest.Eventually(z, patience, "the replica has the lock", func() bool { return z.exists("orders") })
			if row.lacks { // as if it had never come
				z.redis("CONFIG", "SET", "replica-read-only", "no")
				z.redis("DEL", "orders")
			}
			w := wait(z.ctx(), other, holdfast.WithLease(time.Minute))
			old := sentinel.Master()
			old.Kill()
			sentinel.WaitNewMaster(t, old)
			// By then it was renewed at the new master, or is lost.
			select {
			case <-h.Done():
				z.want("the hold", h.Err(), holdfast.ErrLost)
			case <-time.After(lease + lease/3):
				z.want("the hold", h.Err(), nil)
			}
			switch survived := h.Err() == nil; {
			case row.lacks && survived:
				z.Error("the hold survived without its key")
			case survived:
				z.wantCount(h, "1")
				z.mustUnlock(h)
			}
			z.gets(lease+6*time.Second, w)
			z.freeWithin(slack)
		})
	}
}
