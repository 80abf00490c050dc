package holdfast_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A federation is the scene of a test with several servers: a lock of which each has a
// member, "orders", behind a proxy, and the same lock of clients that meet no faults.
type federation struct {
	*hazard // helpers only: it has no server of its own
	servers []*redistest.Server
	proxies []*faultproxy.Proxy
	clients []*holdfast.Client
	lock    holdfast.Lock
	other   holdfast.Lock
}

// groupOf makes a multi or a quorum lock.
type groupOf func(c *holdfast.Client, locks ...holdfast.Lock) holdfast.Lock

var groupKinds = map[string]groupOf{
	"multi": (*holdfast.Client).MultiLock,
	"red":   (*holdfast.Client).RedLock,
}

func newFederation(t *testing.T, group groupOf, opts ...holdfast.Option) *federation {
	t.Helper()
	f := &federation{hazard: &hazard{T: t}}
	var members, others []holdfast.Lock
	var direct *holdfast.Client
	for range 3 {
		s := redistest.Start(t)
		proxy := faultproxy.New(t, s.Addr(), 1)
		c := f.newClient(f.dial(proxy.Addr()), opts...)
		direct = f.newClient(f.dial(s.Addr()), opts...)
		f.servers, f.proxies, f.clients = append(f.servers, s), append(f.proxies, proxy), append(f.clients, c)
		members, others = append(members, c.RLock("orders")), append(others, direct.RLock("orders"))
		t.Cleanup(func() { proxy.BlackHole(false) })
	}
	f.lock, f.other = group(f.clients[0], members...), group(direct, others...)
	for _, l := range slices.Concat(members, others) { // the servers learn the scripts; a majority would be enough for a group
		f.mustUnlock(f.mustLock(l))
	}
	f.clean()
	return f
}

// clean fails the test unless nothing is left on any server that runs: no key, no
// subscription. That no goroutine is left, TestMain looks.
func (f *federation) clean() {
	f.Helper()
	for _, s := range f.servers {
		if !s.Running() {
			continue
		}
		redistest.Eventually(f, patience, "nothing is left", func() bool {
			channels, err := s.Do(f.ctx(), "PUBSUB", "CHANNELS").StringSlice()
			return err == nil && len(channels) == 0 && s.Do(f.ctx(), "DBSIZE").Val() == int64(0)
		})
	}
}

func (f *federation) keys() (n int) {
	f.Helper()
	for _, s := range f.servers {
		if s.Running() {
			n += int(s.Do(f.ctx(), "EXISTS", "orders").Val().(int64))
		}
	}
	return n
}

func (f *federation) listeners() (n int) {
	for _, s := range f.servers {
		channels, _ := s.Do(f.ctx(), "PUBSUB", "CHANNELS").StringSlice()
		n += len(channels)
	}
	return n
}

// waits starts a waiter of a lock that is held, and returns once it is subscribed.
func (f *federation) waits(ctx context.Context, l holdfast.Lock) *waiter {
	f.Helper()
	before := f.listeners()
	w := wait(ctx, l)
	redistest.Eventually(f, patience, "the waiter is subscribed", func() bool { return f.listeners() > before })
	return w
}

func onEachGroup(t *testing.T, test func(t *testing.T, name string, group groupOf)) {
	t.Parallel()
	for name, group := range groupKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, name, group)
		})
	}
}

// One server of three dies in the middle of an acquisition: the others have their members
// by then. A multi lock has not all, says so and gives back what it has; a quorum lock
// has two. When the server is back, both go on.
func TestHazardGroupServerIsKilledInTheMiddle(t *testing.T) {
	onEachGroup(t, func(t *testing.T, name string, group groupOf) {
		f := newFederation(t, group)
		gate := make(chan struct{})
		f.proxies[0].OnNext("EVALSHA", faultproxy.GateRequest(gate))
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		w := wait(ctx, f.lock)
		redistest.Eventually(t, patience, "it has the others", func() bool { return f.keys() == 2 })
		f.servers[0].Kill()
		close(gate)
		f.waitFor(3*time.Second, "Lock", w.done)
		if name == "red" {
			if w.err != nil {
				t.Fatalf("Lock with two of three: %v", w.err)
			}
			f.mustUnlock(w.hold)
		} else {
			f.wantSaid("Lock", w.err, "orders")
			f.want("Lock", w.err, context.DeadlineExceeded)
		}
		redistest.Eventually(t, patience, "the others are free", func() bool { return f.keys() == 0 })
		if err := f.servers[0].Spawn(); err != nil {
			t.Fatal(err)
		}
		f.mustUnlock(f.mustLock(f.lock))
		f.clean()
	})
}

// A server dies that a hold has a member on, and stays dead for the lease: the multi hold is
// lost and the others are free, the quorum's goes on.
func TestHazardGroupServerIsKilledWhileHeld(t *testing.T) {
	const lease = 2 * time.Second
	onEachGroup(t, func(t *testing.T, name string, group groupOf) {
		f := newFederation(t, group, holdfast.WithWatchdogTimeout(lease))
		h := f.mustLock(f.lock)
		f.servers[1].Kill()
		if name == "red" {
			select {
			case <-h.Done():
				t.Fatalf("the hold of two of three: %v", h.Err())
			case <-time.After(2 * lease):
			}
			f.mustUnlock(h)
		} else {
			f.waitFor(lease, "Done", h.Done())
			f.want("Err", h.Err(), holdfast.ErrLost)
			f.want("Unlock", h.Unlock(f.ctx()), holdfast.ErrLost)
		}
		redistest.Eventually(t, patience, "the others are free", func() bool { return f.keys() == 0 })
		if err := f.servers[1].Spawn(); err != nil {
			t.Fatal(err)
		}
		f.mustUnlock(f.mustLock(f.other))
		f.clean()
	})
}

func TestHazardGroupAcquireAndReleaseAreLost(t *testing.T) {
	onEachGroup(t, func(t *testing.T, name string, group groupOf) {
		for _, loss := range losses {
			t.Run(loss.name, func(t *testing.T) {
				f := newFederation(t, group)
				for i, proxy := range f.proxies {
					proxy.OnNext("EVALSHA", loss.decision)
					h := f.mustLock(f.lock)
					f.proxies[(i+1)%3].OnNext("EVALSHA", loss.decision)
					f.mustUnlock(h)
					f.clean()
				}
			})
		}
	})
}

// The same for three names on one server, which are one script.
func TestHazardGroupAllOrNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, loss := range losses {
		t.Run(loss.name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			l := z.client.MultiLock(z.lock, z.client.RLock("b"), z.client.FairLock("f"))
			left := func() int64 {
				return z.server.Do(z.ctx(), "EXISTS", "orders", "b", "f", keys.Queue("f"), keys.Timeout("f")).Val().(int64)
			}
			z.mustUnlock(z.mustLock(l))
			z.spoil(loss.decision)
			_, err := l.TryLock(z.ctx(), 0, 0)
			z.wantSaid("TryLock", err)
			redistest.Eventually(t, 2*time.Second, "nothing is left", func() bool { return left() == 0 })
			z.spoil(loss.decision)
			h := z.mustLock(l)
			if got := z.fields(); len(got) != 1 || got[h.Owner()] != "1" {
				t.Errorf("got %v, want one hold", got)
			}
			z.spoil(loss.decision)
			z.mustUnlock(h)
			redistest.Eventually(t, 2*time.Second, "nothing is left", func() bool { return left() == 0 })
		})
	}
}

// A member's slot moves back and forth under workers whose locks have members in two slots.
func TestHazardGroupSlotMoves(t *testing.T) {
	t.Parallel()
	z := newClustered(t, 2, 0)
	ctx, cancel := context.WithCancel(context.Background())
	patient, end := context.WithTimeout(context.Background(), 4*patience)
	defer end()
	var inside register
	var workers sync.WaitGroup
	for i := range 4 {
		c := z.connect()
		members := []holdfast.Lock{c.RLock("orders"), c.RLock("{orders}:2"), c.RLock("elsewhere")}
		if i%2 == 1 {
			slices.Reverse(members)
		}
		l := c.MultiLock(members...)
		workers.Go(func() {
			for ctx.Err() == nil {
				h, err := l.Lock(patient)
				if err != nil {
					z.Errorf("Lock: %v", err)
					return
				}
				inside.enter()
				inside.leave()
				if err := h.Unlock(patient); err != nil {
					z.Errorf("Unlock: %v", err)
				}
			}
		})
	}
	from := z.cluster.MasterOf("orders")
	to := z.cluster.Nodes[1-slices.Index(z.cluster.Nodes, from)]
	for range 3 {
		before := inside.turns.Load()
		z.cluster.MoveSlot(t, keys.Slot("orders"), from, to)
		from, to = to, from
		redistest.Eventually(t, 2*patience, "the workers have gone on", func() bool { return inside.turns.Load() > before+10 })
		redistest.Eventually(t, patience, "the masters agree", func() bool { return z.epoch(from) == z.epoch(to) })
	}
	cancel()
	workers.Wait()
	if n := inside.overlaps.Load(); n > 0 {
		z.Errorf("%d overlaps", n)
	}
	for _, node := range z.cluster.Nodes {
		redistest.Eventually(t, patience, "nothing is left", func() bool {
			return strings.HasSuffix(node.Do(z.ctx(), "KEYS", "*").String(), "[]")
		})
	}
}

// One server of three stands still: a quorum lock does without it. A multi lock that
// waits for it has nothing of the others when it gives up.
func TestHazardGroupServerIsStopped(t *testing.T) {
	onEachGroup(t, func(t *testing.T, name string, group groupOf) {
		f := newFederation(t, group)
		stopped := f.servers[1]
		if err := syscall.Kill(stopped.PID(), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		goOn := sync.OnceFunc(func() { _ = syscall.Kill(stopped.PID(), syscall.SIGCONT) })
		defer goOn()
		if name == "red" {
			h := f.mustLock(f.lock)
			start := time.Now()
			f.mustUnlock(h)
			f.wantWithin(time.Second, "Unlock", start)
		} else {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err := f.lock.Lock(ctx)
			f.want("Lock", err, context.DeadlineExceeded)
		}
		for _, s := range []*redistest.Server{f.servers[0], f.servers[2]} {
			redistest.Eventually(t, patience, "the others are free", func() bool { return s.Do(f.ctx(), "EXISTS", "orders").Val() == int64(0) })
		}
		goOn()
		f.mustUnlock(f.mustLock(f.lock))
		f.clean()
	})
}

// A holder that is stopped for longer than its lease has lost it, and knows at once.
func TestHazardGroupHolderIsCutOffFromAll(t *testing.T) {
	onEachGroup(t, func(t *testing.T, name string, group groupOf) {
		f := newFederation(t, group, holdfast.WithWatchdogTimeout(2*time.Second))
		h := f.mustLock(f.lock)
		w := f.waits(f.ctx(), f.other)
		for _, proxy := range f.proxies {
			proxy.BlackHole(true)
		}
		f.waitFor(2*time.Second, "Done", h.Done())
		f.want("Err", h.Err(), holdfast.ErrLost)
		f.waitFor(3*time.Second, "the next one", w.done)
		if w.err != nil {
			t.Fatal(w.err)
		}
		for _, proxy := range f.proxies {
			proxy.BlackHole(false)
		}
		f.want("Unlock", h.Unlock(f.ctx()), holdfast.ErrLost)
		f.want("the next one's hold", w.hold.Err(), nil)
		f.mustUnlock(w.hold)
		f.clean()
	})
}

func TestHazardGroupCloseWhileWaitingAndHolding(t *testing.T) {
	onEachGroup(t, func(t *testing.T, name string, group groupOf) {
		f := newFederation(t, group, holdfast.WithWatchdogTimeout(2*time.Second))
		held := f.mustLock(f.other)
		w := f.waits(f.ctx(), f.lock)
		for _, c := range f.clients {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		f.waitFor(prompt, "the waiter", w.done)
		f.want("Lock", w.err, holdfast.ErrClosed)
		if n := f.keys(); n != 3 {
			t.Errorf("got %d keys, want the holder's 3", n)
		}
		f.mustUnlock(held)
		f.clean()

		f = newFederation(t, group, holdfast.WithWatchdogTimeout(2*time.Second))
		h := f.mustLock(f.lock)
		for _, c := range f.clients {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		f.waitFor(prompt, "Done", h.Done())
		f.want("Err", h.Err(), holdfast.ErrClosed)
		f.mustUnlock(h)
		f.clean()
	})
}

// Cancelled anywhere on its way, an acquisition leaves nothing.
func TestHazardGroupCancelledAnywhere(t *testing.T) {
	onEachGroup(t, func(t *testing.T, name string, group groupOf) {
		f := newFederation(t, group)
		for i := range 40 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i*50)*time.Microsecond)
			h, err := f.lock.Lock(ctx)
			cancel()
			switch {
			case err == nil:
				f.mustUnlock(h)
			case !errors.Is(err, context.DeadlineExceeded):
				t.Errorf("Lock: %v", err)
			}
		}
		f.clean()
		f.mustUnlock(f.mustLock(f.other))
		f.clean()
	})
}
