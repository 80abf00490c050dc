package multilock_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// withPlain is a multi lock of the quorum lock and of "plain" on the first server.
func (p *parliament) withPlain() holdfast.Lock {
	return p.clients[0].MultiLock(p.lock, p.clients[0].RLock("plain"))
}

// A quorum lock as a member: the hold has a majority and the others, re-enters all, and goes with all.
func TestAQuorumLockIsAMember(t *testing.T) {
	p := newParliament(t, 3)
	l := p.withPlain()
	h := lock(t, l)
	if h.Name() != "multi(red(orders, orders, orders), plain)" || h.Count() != 1 {
		t.Errorf("got %q, %d holds", h.Name(), h.Count())
	}
	ctx := h.Context(within(t))
	for _, inner := range []holdfast.Lock{l, p.lock, p.clients[0].RLock("plain"), p.members[1]} {
		again := lockIn(t, ctx, inner)
		if again.Count() != 2 {
			t.Errorf("%s inside of the hold has %d holds, want 2", inner.Name(), again.Count())
		}
		unlock(t, again)
	}
	for _, outside := range []holdfast.Lock{l, p.lock, p.clients[0].RLock("plain")} {
		_, err := outside.TryLock(within(t), 0, 0)
		want(t, "TryLock of "+outside.Name(), err, holdfast.ErrNotAcquired)
	}
	if n, err := l.HoldCount(ctx); n != 1 || err != nil {
		t.Errorf("HoldCount: got %d, %v", n, err)
	}
	if is, err := l.IsLocked(within(t)); !is || err != nil {
		t.Errorf("IsLocked: got %v, %v", is, err)
	}
	unlock(t, h)
	want(t, "Err", h.Err(), holdfast.ErrUnlocked)
	empty(t, p.servers...)

	outer := lock(t, p.lock)
	inner := lockIn(t, outer.Context(within(t)), l)
	unlock(t, outer)
	if n := p.keys(); n != 3 {
		t.Errorf("%d servers have the quorum lock that is held inside, want 3", n)
	}
	want(t, "the inner hold", inner.Err(), nil)
	unlock(t, inner)
	empty(t, p.servers...)
	if was, err := l.ForceUnlock(within(t)); was || err != nil {
		t.Errorf("ForceUnlock of a free lock: got %v, %v", was, err)
	}
}

// A lease of the caller's is as long for the members that came first.
func TestALeaseOfAMultiLockWithAQuorumLock(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	const lease = 2 * time.Second
	h, err := p.withPlain().TryLock(within(t), time.Second, lease)
	want(t, "TryLock", err, nil)
	left, err := p.withPlain().RemainingTTL(within(t))
	if err != nil || left < lease/2 || left > lease {
		t.Errorf("RemainingTTL: got %v, %v", left, err)
	}
	signalled(t, 2*lease, "Done", h.Done())
	want(t, "Err", h.Err(), holdfast.ErrLost)
	redistest.Eventually(t, lease, "nothing is left", func() bool { return p.keys() == 0 && keysOf(t, p.servers[0], "plain") == 0 })
}

// While the quorum lock is somebody else's, the other members are free.
func TestNothingIsHeldWhileAQuorumLockIsBusy(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	other := lock(t, p.clients[1].RedLock(p.direct...))
	redistest.Eventually(t, 5*time.Second, "it has all", func() bool { return p.keys() == 3 }) // for messages nobody waits who can get one
	ctx := within(t)
	got := make(chan holdfast.Hold, 1)
	go func() {
		h, err := p.withPlain().Lock(ctx)
		if err != nil {
			t.Error(err)
		}
		got <- h
	}()
	redistest.Eventually(t, 5*time.Second, "it waits for a message", func() bool { return p.listened(1) || p.listened(2) }) // of two that said no
	plain := client(t, p.servers[0].Addr()).RLock("plain")
	h := lock(t, plain)
	unlock(t, other)
	redistest.Eventually(t, 5*time.Second, "it waits for the plain lock", func() bool {
		channels, _ := p.servers[0].Do(ctx, "PUBSUB", "CHANNELS", "redisson_lock__channel:{plain}").Val().([]any)
		return len(channels) > 0
	})
	redistest.Eventually(t, 5*time.Second, "no server has the quorum lock while the plain lock is waited for", func() bool { return p.keys() == 0 }) // the last release may be late
	unlock(t, h)
	if h := <-got; h != nil {
		unlock(t, h)
	}
	empty(t, p.servers...)
}

// Without a majority everything is given back, and the error says what did not answer.
func TestAMultiLockWithoutAMajority(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(3*time.Second))
	taken := []holdfast.Hold{lock(t, p.direct[1]), lock(t, p.direct[2])}
	_, err := p.withPlain().TryLock(within(t), 0, 0)
	want(t, "TryLock of what is taken", err, holdfast.ErrNotAcquired)
	_, err = p.withPlain().TryLock(within(t), 300*time.Millisecond, 0)
	want(t, "TryLock with a wait", err, holdfast.ErrNotAcquired)
	for _, h := range taken {
		unlock(t, h)
	}
	redistest.Eventually(t, 5*time.Second, "everything is given back", func() bool { return p.keys() == 0 && keysOf(t, p.servers[0], "plain") == 0 })
	p.dark(true, 1, 2)
	for _, wait := range []time.Duration{0, 300 * time.Millisecond} {
		_, err := p.withPlain().TryLock(within(t), wait, 0)
		p.unavailable(err, 1, 2)
		says(t, "TryLock", err, `member "red(orders, orders, orders)"`)
		redistest.Eventually(t, time.Second, "the other member is given back", func() bool { return keysOf(t, p.servers[0], "plain") == 0 })
	}
	p.dark(false, 1, 2)
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return p.keys() == 0 && keysOf(t, p.servers[0], "plain") == 0 })
}

// A majority that is lost ends the hold and frees the others, a minority does not.
func TestALossOfAQuorumLockThatIsAMember(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(3*time.Second))
	h := lock(t, p.withPlain())
	forget := func(i int) { p.servers[i].Do(within(t), "DEL", "orders") }
	forget(1)
	redistest.Eventually(t, 5*time.Second, "the member is got back", func() bool { return p.keys() == 3 })
	want(t, "Err", h.Err(), nil)
	p.dark(true, 0) // nobody gets that one back
	forget(1)
	forget(2)
	signalled(t, 5*time.Second, "Done", h.Done())
	want(t, "Err", h.Err(), holdfast.ErrLost)
	says(t, "Err", h.Err(), `"red(orders, orders, orders)"`)
	p.dark(false, 0)
	want(t, "Unlock", h.Unlock(within(t)), holdfast.ErrLost)
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return p.keys() == 0 && keysOf(t, p.servers[0], "plain") == 0 })
}

// The end of a client of the quorum lock's majority ends the hold, but the work may go on.
func TestAClientThatClosesUnderAQuorumLockThatIsAMember(t *testing.T) {
	p := newParliament(t, 3)
	h := lock(t, p.withPlain())
	for _, c := range p.clients[1:] {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	signalled(t, time.Second, "Done", h.Done())
	want(t, "Err", h.Err(), holdfast.ErrClosed)
	if n := p.keys() + keysOf(t, p.servers[0], "plain"); n != 4 {
		t.Errorf("got %d keys, want all: the work may be running", n)
	}
	unlock(t, h)
	empty(t, p.servers...)
}

// The end of another member's client ends the renewal of the quorum lock's members, which run out.
func TestAClientThatClosesBesideAQuorumLock(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(closingLease))
	c := client(t, p.servers[0].Addr(), holdfast.WithWatchdogTimeout(closingLease))
	h := lock(t, p.clients[0].MultiLock(c.RLock("plain"), p.lock))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	signalled(t, time.Second, "Done", h.Done())
	want(t, "Err", h.Err(), holdfast.ErrClosed)
	if n := p.keys(); n != 3 {
		t.Errorf("got %d keys of the quorum lock, want 3: the work may be running", n)
	}
	redistest.Eventually(t, 3*closingLease, "they have run out", func() bool { return p.keys() == 0 })
	want(t, "Unlock", h.Unlock(within(t)), holdfast.ErrLost)
}

// A quorum lock that is re-entered inside of a multi lock's hold has the same owners, and both are kept together.
func TestAQuorumLockInsideOfAMultiLockIsKeptTogether(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(1500*time.Millisecond))
	plain := client(t, redistest.Start(t).Addr()).RLock("plain")
	outer := lock(t, p.clients[0].MultiLock(p.lock, plain))
	time.Sleep(250 * time.Millisecond) // the keepers look every 500 ms: now at different times
	inner := lockIn(t, outer.Context(within(t)), p.lock)
	for _, pause := range []time.Duration{0, 300 * time.Millisecond} { // whichever comes first
		for _, s := range p.servers {
			time.Sleep(pause)
			s.Do(within(t), "FLUSHALL")
			redistest.Eventually(t, 5*time.Second, "it is acquired again, by both", func() bool {
				return strings.HasSuffix(s.Do(within(t), "HVALS", "orders").String(), "[2]")
			})
			want(t, "the outer hold", outer.Err(), nil)
			want(t, "the inner hold", inner.Err(), nil)
		}
	}
	unlock(t, inner)
	unlock(t, outer)
	empty(t, p.servers...)
}

// Sets of plain and quorum locks that overlap, in any order: everybody makes progress, nobody overlaps.
func TestOverlappingSetsWithQuorumLocksMakeProgress(t *testing.T) {
	t.Parallel()
	servers := []*redistest.Server{redistest.Start(t), redistest.Start(t), redistest.Start(t)}
	ctx := within(t)
	inside := make([]atomic.Int32, 4)
	var wg sync.WaitGroup
	for range 5 {
		var c []*holdfast.Client
		for _, s := range servers {
			c = append(c, client(t, s.Addr()))
		}
		red := func(name string) holdfast.Lock {
			return c[0].RedLock(c[0].RLock(name), c[1].RLock(name), c[2].RLock(name))
		}
		locks := []holdfast.Lock{c[0].RLock("a"), c[1].RLock("b"), red("c"), red("d")}
		wg.Go(func() {
			for range 6 {
				set := rand.Perm(len(locks))[:2+rand.IntN(2)]
				var members []holdfast.Lock
				for _, n := range set {
					members = append(members, locks[n])
				}
				err := c[0].MultiLock(members...).Do(ctx, func(context.Context) error {
					for _, n := range set {
						if inside[n].Add(1) > 1 {
							t.Errorf("two are inside of %s", locks[n].Name())
						}
					}
					time.Sleep(time.Millisecond) // its work
					for _, n := range set {
						inside[n].Add(-1)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool {
		n := 0
		for _, s := range servers {
			n += keysOf(t, s, "a", "b", "c", "d")
		}
		return n == 0
	})
}
