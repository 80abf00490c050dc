package holdfast_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// Every way to lose a command: executed or not, with a reset or in silence.
var losses = []struct {
	name     string
	decision faultproxy.Decision
	executed bool
}{
	{"reply lost", faultproxy.DropReply, true},
	{"connection reset after it", faultproxy.ResetAfter, true},
	{"request lost", faultproxy.DropRequest, false},
	{"connection reset before it", faultproxy.ResetBefore, false},
}

// onEachLoss runs a test for each way to lose a command.
func onEachLoss(t *testing.T, test func(z *hazard, d faultproxy.Decision, executed bool)) {
	t.Parallel()
	for _, loss := range losses {
		t.Run(loss.name, func(t *testing.T) {
			t.Parallel()
			test(newHazard(t), loss.decision, loss.executed)
		})
	}
}

func TestHazardAcquireIsLost(t *testing.T) {
	onEachLoss(t, func(z *hazard, d faultproxy.Decision, _ bool) {
		z.spoil(d)
		start := time.Now()
		h := z.mustLock(z.lock)
		z.wantWithin(2*readTimeout, "Lock", start)
		if h.Count() != 1 {
			z.Errorf("Count: got %d, want 1", h.Count())
		}
		// What takes the lost attempt back must leave this one alone.
		_, err := z.other.TryLock(z.ctx(), 300*time.Millisecond, 0)
		z.want("another client's TryLock", err, holdfast.ErrNotAcquired)
		z.wantCount(h, "1")
		z.mustUnlock(h)
		if z.exists("orders") {
			z.Errorf("after one Unlock: got %v, want nothing", z.fields())
		}
		z.gets(slack, wait(z.ctx(), z.other))
	})
}

func TestHazardTryLockIsLost(t *testing.T) {
	onEachLoss(t, func(z *hazard, d faultproxy.Decision, _ bool) {
		z.spoil(d)
		_, err := z.lock.TryLock(z.ctx(), 0, 0)
		z.wantSaid("TryLock", err)
		z.freeWithin(time.Second)
		z.gets(slack, wait(z.ctx(), z.other))
	})
}

func TestHazardUnlockIsLost(t *testing.T) {
	onEachLoss(t, func(z *hazard, d faultproxy.Decision, _ bool) {
		h := z.mustLock(z.lock)
		z.spoil(d)
		z.mustUnlock(h)
		z.want("Err", h.Err(), holdfast.ErrUnlocked)
		if z.exists("orders") {
			z.Errorf("after Unlock: got %v, want nothing", z.fields())
		}
		z.want("a second Unlock", h.Unlock(z.ctx()), nil)
	})
}

// An inner Unlock that is executed twice must not free what the outer hold keeps.
func TestHazardInnerUnlockIsLost(t *testing.T) {
	onEachLoss(t, func(z *hazard, d faultproxy.Decision, _ bool) {
		outer := z.mustLock(z.lock)
		inner, err := z.lock.Lock(outer.Context(z.ctx()))
		z.want("re-entry", err, nil)
		z.wantCount(outer, "2")
		z.spoil(d)
		z.mustUnlock(inner)
		for stay := time.Now().Add(50 * time.Millisecond); time.Now().Before(stay); {
			_, err := z.other.TryLock(z.ctx(), 0, 0)
			z.want("another client's TryLock", err, holdfast.ErrNotAcquired)
		}
		z.want("the outer hold", outer.Err(), nil)
		z.wantCount(outer, "1")
		z.mustUnlock(outer)
		z.gets(slack, wait(z.ctx(), z.other))
	})
}

func TestHazardReentryIsLost(t *testing.T) {
	onEachLoss(t, func(z *hazard, d faultproxy.Decision, _ bool) {
		outer := z.mustLock(z.lock)
		z.spoil(d)
		inner, err := z.lock.Lock(outer.Context(z.ctx()))
		if err != nil {
			z.Fatalf("re-entry: %v", err)
		}
		if inner.Count() != 2 {
			z.Errorf("Count: got %d, want 2", inner.Count())
		}
		z.wantCount(outer, "2")
		z.mustUnlock(inner)
		z.wantCount(outer, "1")
		z.mustUnlock(outer)
		z.gets(slack, wait(z.ctx(), z.other))
	})
}

// A re-entry that gives up is taken back to the holds that there are.
func TestHazardReentryOfOneAttemptIsLost(t *testing.T) {
	onEachLoss(t, func(z *hazard, d faultproxy.Decision, _ bool) {
		outer := z.mustLock(z.lock)
		z.spoil(d)
		_, err := z.lock.TryLock(outer.Context(z.ctx()), 0, 0)
		z.wantSaid("re-entry", err)
		redistest.Eventually(z, time.Second, "the count is 1 again", func() bool { return z.fields()[outer.Owner()] == "1" })
		z.want("the outer hold", outer.Err(), nil)
		z.mustUnlock(outer)
		z.freeWithin(slack)
	})
}

func TestHazardExtendIsLost(t *testing.T) {
	onEachLoss(t, func(z *hazard, d faultproxy.Decision, _ bool) {
		h, err := z.lock.TryLock(z.ctx(), 0, 5*time.Second)
		if err != nil {
			z.Fatal(err)
		}
		z.spoil(d)
		z.want("Extend", h.Extend(z.ctx(), time.Minute), nil)
		if ttl, err := z.other.RemainingTTL(z.ctx()); err != nil || ttl < 50*time.Second {
			z.Errorf("RemainingTTL: got %v %v, want nearly a minute", ttl, err)
		}
		z.mustUnlock(h)
	})
}

// A second copy of a force-unlock could free the lock under its next owner.
func TestHazardForceUnlockIsSentOnce(t *testing.T) {
	onEachLoss(t, func(z *hazard, d faultproxy.Decision, executed bool) {
		held := z.mustLock(z.other)
		next := z.waits(z.direct().RLock("orders"))
		sent := z.proxy.Seen()["EVALSHA"]
		z.spoil(d)
		_, err := z.lock.ForceUnlock(z.ctx())
		z.wantSaid("ForceUnlock", err)
		if n := z.proxy.Seen()["EVALSHA"] - sent; n != 1 {
			z.Errorf("ForceUnlock was sent %d times, want once", n)
		}
		if !executed {
			z.wantCount(held, "1")
			z.mustUnlock(held)
			z.gets(time.Second, next)
			return
		}
		z.waitFor(time.Second, "the next owner", next.done)
		z.want("the next owner's Lock", next.err, nil)
		z.wantCount(next.hold, "1")
		z.mustUnlock(next.hold)
	})
}

// Close waits for what it has to take back.
func TestHazardCloseTakesBackALostAcquire(t *testing.T) {
	onEachLoss(t, func(z *hazard, d faultproxy.Decision, _ bool) {
		z.spoil(d)
		_, err := z.lock.TryLock(z.ctx(), 0, 0)
		z.wantSaid("TryLock", err)
		start := time.Now()
		z.want("Close", z.client.Close(), nil)
		z.wantWithin(3*time.Second, "Close", start)
		if z.exists("orders") {
			z.Errorf("after Close: got %v, want nothing", z.fields())
		}
	})
}

// What cannot be taken back ends with its lease.
func TestHazardAcquireIsLostAndTheServerWithIt(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	z := newHazard(t)
	z.spoil(faultproxy.DropReply)
	ctx, cancel := context.WithCancel(z.ctx())
	lost := make(chan error)
	start := time.Now()
	go func() { // ends with ctx
		_, err := z.lock.Lock(ctx, holdfast.WithLease(lease))
		lost <- err
	}()
	redistest.Eventually(z, patience, "the lock is taken", func() bool { return z.exists("orders") })
	z.proxy.BlackHole(true)
	cancel()
	z.want("Lock", <-lost, context.Canceled)
	z.freeWithin(lease + slack)
	if took := time.Since(start); took < lease/2 {
		z.Errorf("free after %v: the scene was to last a lease of %v", took, lease)
	}
}

// The scripts may be forgotten at any moment.
func TestHazardScriptFlush(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	patient := z.ctx()
	ctx, cancel := context.WithCancel(patient) // ends when there was enough
	defer cancel()
	var workers sync.WaitGroup
	var inside register
	for range 4 {
		l := z.direct().RLock("orders")
		for range 2 {
			workers.Go(func() {
				for ctx.Err() == nil {
					err := l.Do(patient, func(ctx context.Context) error {
						inside.enter()
						defer inside.leave()
						return l.Do(ctx, func(context.Context) error { return nil })
					})
					z.want("Do within Do", err, nil)
				}
			})
		}
	}
	flushes := int64(0)
	for every := time.NewTicker(3 * time.Millisecond); inside.turns.Load() < 500 || flushes < 200; <-every.C {
		if patient.Err() != nil {
			z.Fatalf("only %d turns and %d flushes", inside.turns.Load(), flushes)
		}
		if 2*flushes <= inside.turns.Load() { // on a slow machine they would do nothing but learn the scripts
			z.redis("SCRIPT", "FLUSH")
			flushes++
		}
	}
	cancel()
	workers.Wait()
	if n := inside.overlaps.Load(); n > 0 {
		z.Errorf("%d overlaps", n)
	}
}

// A script's first answer of NOSCRIPT is no lost command: the same acquire goes out
// again, and counts once.
func TestHazardUnknownScriptIsSentInFull(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.redis("SCRIPT", "FLUSH")
	monitor := z.server.Monitor(t)
	h := z.mustLock(z.lock)
	z.wantCount(h, "1")
	evals := 0
	for _, line := range monitor() {
		if strings.HasPrefix(line, `"eval" `) {
			evals++
		}
	}
	if evals != 1 {
		z.Errorf("got %d EVALs, want 1", evals)
	}
	z.mustUnlock(h)
}
