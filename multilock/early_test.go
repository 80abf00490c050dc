package multilock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// held gates the answers of members to the next acquire, which they execute.
func (p *parliament) held(members ...int) (open func()) {
	gate := make(chan struct{})
	for _, i := range members {
		p.slowed(i, "rlock.acquire", faultproxy.Gate(gate))
	}
	return func() {
		for _, i := range members {
			p.proxies[i].Decide(nil)
		}
		close(gate)
	}
}

// executed waits until the acquire that held gates was answered by the server of a member.
func (p *parliament) executed(i int) {
	p.Helper()
	redistest.Eventually(p.T, 20*time.Second, "the server has answered", func() bool { return len(p.proxies[i].Log()) > 0 })
}

// locking locks a member inside of a hold.
func (p *parliament) locking(i int, h holdfast.Hold) <-chan holdfast.Hold {
	got := make(chan holdfast.Hold, 1)
	go func() {
		inner, err := p.members[i].Lock(h.Context(within(p.T)))
		if err != nil {
			p.Error(err)
		}
		got <- inner
	}()
	return got
}

// ends looks at the count of an inner hold and unlocks both.
func (p *parliament) ends(h, inner holdfast.Hold, count int) {
	p.Helper()
	if inner == nil {
		p.FailNow()
	}
	if inner.Count() != count {
		p.Errorf("it has %d holds, want %d", inner.Count(), count)
	}
	unlock(p.T, inner)
	unlock(p.T, h)
	redistest.Eventually(p.T, 5*time.Second, "nothing is left", func() bool { return p.keys() == 0 })
}

// A hold begins with a majority. Those who answer later join it: with them it stands the loss of as many others,
// also if the ctx of the call has ended meanwhile.
func TestAMajorityIsEnoughToBegin(t *testing.T) {
	p := newParliament(t, 5)
	open := p.held(1, 3)
	ctx, cancel := context.WithCancel(within(t))
	h := lockIn(t, ctx, p.lock)
	cancel()
	work := h.Context(within(t)) // made while they are on their way
	open()
	for _, i := range []int{1, 3} {
		redistest.Eventually(t, 5*time.Second, "a late member is carried", func() bool {
			n, err := p.members[i].HoldCount(work)
			return n == 1 && err == nil
		})
	}
	for _, i := range []int{0, 2} {
		if _, err := p.direct[i].ForceUnlock(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Extend(within(t), time.Minute); err != nil {
		t.Errorf("Extend with three of five, two of which came late: %v", err)
	}
	want(t, "the hold", h.Err(), nil)
	unlock(t, h)
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return p.keys() == 0 })
}

// Who locks a member inside of the hold, while that is on its way, waits for its answer and re-enters. As a new
// owner it would wait for itself.
func TestAMemberOnItsWayIsReentered(t *testing.T) {
	p := newParliament(t, 3)
	open := p.held(1)
	h := lock(t, p.lock)
	got := p.locking(1, h)
	select {
	case inner := <-got:
		t.Errorf("the member was locked before it had answered: %v", inner)
	case <-time.After(100 * time.Millisecond): // that it waits is seen by waiting
	}
	open()
	inner := <-got
	p.ends(h, inner, 2)
}

// If the member on its way turns out to be somebody else's, it is locked anew when that one has gone.
func TestAMemberOnItsWayMayBeTaken(t *testing.T) {
	p := newParliament(t, 3)
	other := lock(t, p.direct[1])
	open := p.held(1)
	h := lock(t, p.lock)
	p.executed(1) // a majority was enough to begin: its acquire might come when the other one has gone
	got := p.locking(1, h)
	open()
	unlock(t, other)
	inner := <-got
	p.ends(h, inner, 1)
}

// A hold that has ended gives back who answers later.
func TestALateMemberOfAHoldThatHasEnded(t *testing.T) {
	p := newParliament(t, 5)
	open := p.held(1, 3)
	h := lock(t, p.lock)
	unlock(t, h)
	if n := keysOf(t, p.servers[0], "orders") + keysOf(t, p.servers[2], "orders") + keysOf(t, p.servers[4], "orders"); n != 0 {
		t.Errorf("%d of the majority are locked after Unlock", n)
	}
	open()
	redistest.Eventually(t, 400*time.Millisecond, "the late ones are given back at once", func() bool { return p.keys() == 0 })
}

// A client that closes while its member is on its way gets it back; the others go on.
func TestAClientClosesWhileItsMemberIsOnItsWay(t *testing.T) {
	p := newParliament(t, 5)
	open := p.held(3)
	h := lock(t, p.lock)
	closed := make(chan error, 1)
	go func() { closed <- p.clients[3].Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Close hangs")
	}
	want(t, "the hold", h.Err(), nil)
	open()
	if _, err := p.lock.TryLock(within(t), 0, 0); !errors.Is(err, holdfast.ErrClosed) {
		t.Errorf("with a closed member: got %v, want ErrClosed", err)
	}
	unlock(t, h)
}

// One of the majority is lost before the others have joined, and with it the hold: who re-enters is told so, though a
// majority of the servers would be free for a new owner.
func TestReentryIntoAHoldThatWasLostEarly(t *testing.T) {
	p := newParliament(t, 5)
	open := p.held(1, 3)
	h := lock(t, p.lock)
	ctx := context.WithoutCancel(h.Context(within(t)))
	if _, err := p.direct[0].ForceUnlock(within(t)); err != nil {
		t.Fatal(err)
	}
	want(t, "Extend", h.Extend(within(t), time.Minute), holdfast.ErrLost)
	open()
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return p.keys() == 0 })
	_, err := p.lock.TryLock(ctx, 0, 0)
	want(t, "TryLock inside", err, holdfast.ErrLost)
	_, err = p.withPlain().TryLock(ctx, 0, 0)
	want(t, "TryLock of a multi lock inside", err, holdfast.ErrLost)
	want(t, "Unlock", h.Unlock(within(t)), holdfast.ErrLost)
	unlock(t, lock(t, p.lock))
}

// Extend is for those who join later, too.
func TestALateMemberOfAHoldThatWasExtended(t *testing.T) {
	p := newParliament(t, 5)
	const lease = 10 * time.Second
	open := p.held(1, 3)
	h := lock(t, p.lock, holdfast.WithLease(lease))
	if err := h.Extend(within(t), time.Minute); err != nil {
		t.Fatal(err)
	}
	open()
	for i, s := range p.servers {
		redistest.Eventually(t, 5*time.Second, fmt.Sprintf("member %d has the longer lease", i), func() bool {
			ms, _ := s.Do(within(t), "PTTL", "orders").Int64()
			return time.Duration(ms)*time.Millisecond > lease
		})
	}
	unlock(t, h)
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return p.keys() == 0 })
}

// A member that is lost while the hold lives is nobody's: a re-entry begins it anew.
func TestReentryBeginsALostMemberAnew(t *testing.T) {
	p := newParliament(t, 3)
	h := p.whole()
	work := h.Context(within(t))
	p.servers[0].Do(within(t), "FLUSHALL")
	_, err := p.members[0].TryLock(work, 0, 0)
	want(t, "re-entry of the member", err, holdfast.ErrLost) // by now that is known
	p.dark(true, 1)
	again := lockIn(t, work, p.lock)
	want(t, "the hold", h.Err(), nil)
	p.dark(false, 1)
	unlock(t, again)
	unlock(t, h)
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return p.keys() == 0 })
}

// A re-entry has the owner of the hold, also if the first member was not the first to answer.
func TestReentryHasTheOwnerOfTheHold(t *testing.T) {
	p := newParliament(t, 3)
	open := p.held(0)
	h := lock(t, p.lock)
	open()
	again := lockIn(t, h.Context(within(t)), p.lock)
	if again.Owner() != h.Owner() || again.Count() != 2 {
		t.Errorf("got owner %s, %d holds, want %s, 2", again.Owner(), again.Count(), h.Owner())
	}
	unlock(t, again)
	unlock(t, h)
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return p.keys() == 0 })
}
