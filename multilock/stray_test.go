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

// A member that was acquired without an answer is not free of the hold: with it and one that cannot be released
// a majority may have the lock.
func TestUnlockWhileAMajorityMayHaveIt(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	hangs := make(chan struct{})
	p.slowed(0, "orders", faultproxy.Gate(hangs)) // executed, no answer
	h := lock(t, p.lock)
	p.dark(true, 0)
	p.slowed(2, "rlock.release", faultproxy.GateRequest(hangs))
	err := h.Unlock(within(t))
	says(t, "Unlock", err, `unlock "orders"`)
	if n := p.keys(); n != 2 {
		t.Errorf("%d servers have the lock, want two: otherwise this shows nothing", n)
	}
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
	var n atomic.Int32
	p.proxies[0].Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if !slices.Contains(cmd.Args, "orders") {
			return faultproxy.Pass
		}
		if n.Add(1) == 1 {
			return faultproxy.Gate(hangs)
		}
		return faultproxy.GateRequest(hangs)
	})
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
	time.Sleep(600 * time.Millisecond)
	if err := p.proxies[0].Refuse(true); err != nil {
		t.Fatal(err)
	}
	p.proxies[0].KillAll()
	time.Sleep(600 * time.Millisecond)
	unlock(t, other)
	r := <-got
	want(t, "TryLock", r.err, nil)
	p.slowed(2, "rlock.release", faultproxy.GateRequest(hangs))
	err := r.h.Unlock(within(t))
	if err == nil && p.keys() >= 2 {
		t.Error("Unlock is nil, and two of three servers have the lock")
	}
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
	var n atomic.Int32
	p.proxies[0].Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if !slices.Contains(cmd.Args, "orders") {
			return faultproxy.Pass
		}
		if n.Add(1) == 1 {
			return faultproxy.Gate(hangs)
		}
		return faultproxy.GateRequest(hangs)
	})
	unlock(t, other)
	redistest.Eventually(t, 5*time.Second, "the keeper's is executed", func() bool { return keysOf(t, p.servers[0], "orders") == 1 })
	time.Sleep(350 * time.Millisecond)
	p.slowed(2, "rlock.release", faultproxy.GateRequest(hangs))
	err := h.Unlock(within(t))
	if err == nil && p.keys() >= 2 {
		t.Error("Unlock is nil, and two of three servers have the lock")
	}
	close(hangs)
}

// A member whose renewals are executed without an answer has lapsed, and is still there.
func TestUnlockKnowsThatALapsedMemberIsThere(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(3*time.Second))
	h := lock(t, p.lock)
	redistest.Eventually(t, time.Second, "all have joined", func() bool { return p.keys() == 3 })
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
	time.Sleep(3200 * time.Millisecond)
	p.slowed(2, "rlock.release", faultproxy.GateRequest(hangs))
	want(t, "Err", h.Err(), nil)
	err := h.Unlock(within(t))
	if err == nil && p.keys() >= 2 {
		t.Error("Unlock is nil, and two of three servers have the lock")
	}
	close(hangs)
}
