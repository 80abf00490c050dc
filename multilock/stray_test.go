package multilock_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// executedOnce has a server execute the first command about the lock, without an answer, and no other one.
func (p *parliament) executedOnce(i int, open <-chan struct{}) {
	var n atomic.Int32
	p.proxies[i].Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		switch {
		case !slices.Contains(cmd.Args, "orders"):
			return faultproxy.Pass
		case n.Add(1) == 1:
			return faultproxy.Gate(open)
		default:
			return faultproxy.GateRequest(open)
		}
	})
}

// unlockIsNotNil fails the test if Unlock says that the lock is free, of which all three servers have
// something and only one can be asked.
func (p *parliament) unlockIsNotNil(h holdfast.Hold, open <-chan struct{}) {
	p.Helper()
	p.slowed(2, "rlock.release", faultproxy.GateRequest(open))
	if n := p.keys(); n != 3 {
		p.Errorf("%d servers have the lock, want 3: otherwise this shows nothing", n)
	}
	says(p.T, "Unlock", h.Unlock(within(p.T)), `member "orders" on 127.0.0.1:`)
}

// longestLimit is more than a try gives a member.
const longestLimit = 600 * time.Millisecond

// A member that was acquired without an answer is not free of the hold: with it and one that cannot be released
// a majority may have the lock.
func TestUnlockWhileAMajorityMayHaveIt(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	hangs := make(chan struct{})
	p.slowed(0, "orders", faultproxy.Gate(hangs)) // executed, no answer
	h := lock(t, p.lock)                          // two are enough, so the third may not have come to it yet
	redistest.Eventually(t, 5*time.Second, "executed", func() bool { return keysOf(t, p.servers[0], "orders") == 1 })
	p.dark(true, 0)
	p.unlockIsNotNil(h, hangs)
	close(hangs)
	p.dark(false, 0)
	redistest.Eventually(t, 5*time.Second, "they are released in the background", func() bool { return p.keys() == 0 })
}

// What an earlier try acquired without an answer may be there still, though the last one could not even dial.
func TestUnlockKnowsOfAnEarlierTry(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	other := lock(t, p.direct[1])
	hangs := make(chan struct{})
	p.executedOnce(0, hangs)
	type res struct {
		h   holdfast.Hold
		err error
	}
	got := make(chan res, 1)
	go func() {
		h, err := p.lock.TryLock(within(t), 15*time.Second, 0)
		got <- res{h, err}
	}()
	redistest.Eventually(t, 5*time.Second, "executed", func() bool { return keysOf(t, p.servers[0], "orders") == 1 })
	time.Sleep(longestLimit) // that try is over without an answer
	if err := p.proxies[0].Refuse(true); err != nil {
		t.Fatal(err)
	}
	p.proxies[0].KillAll()
	time.Sleep(longestLimit) // and another one, which cannot dial
	unlock(t, other)
	r := <-got
	want(t, "TryLock", r.err, nil)
	p.unlockIsNotNil(r.h, hangs)
	close(hangs)
	_ = p.proxies[0].Refuse(false)
}

// The same of what the keeper asked for.
func TestUnlockKnowsWhatTheKeeperAskedFor(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(3*time.Second))
	other := lock(t, p.direct[0])
	h := lock(t, p.lock)
	hangs := make(chan struct{})
	p.executedOnce(0, hangs)
	unlock(t, other)
	redistest.Eventually(t, 5*time.Second, "the keeper's is executed", func() bool { return keysOf(t, p.servers[0], "orders") == 1 })
	time.Sleep(longestLimit) // and over without an answer
	p.unlockIsNotNil(h, hangs)
	close(hangs)
}

// A member whose renewals are executed without an answer has lapsed, and is still there.
func TestUnlockKnowsThatALapsedMemberIsThere(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(3*time.Second))
	h := p.whole(holdfast.WithMaxHold(time.Minute)) // renewed, but without a keeper, who would ask for that member
	hangs := make(chan struct{})
	p.proxies[0].Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		switch {
		case slices.Contains(cmd.Args, "rlock.renew"):
			return faultproxy.Gate(hangs)
		case slices.Contains(cmd.Args, "orders"):
			return faultproxy.GateRequest(hangs)
		}
		return faultproxy.Pass
	})
	time.Sleep(3200 * time.Millisecond) // the window of its last answer is over
	want(t, "Err", h.Err(), nil)
	p.unlockIsNotNil(h, hangs)
	close(hangs)
}
