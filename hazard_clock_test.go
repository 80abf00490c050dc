package holdfast_test

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// jump is how far a server's clock is set forward or back: longer than any lease here.
const jump = 40 * time.Second

// set sets the server's clock.
func (z *hazard) set(clock *redistest.Clock, offset time.Duration) {
	z.Helper()
	if err := clock.Set(z.ctx(), offset); err != nil {
		z.Fatal(err)
	}
}

// The server's clock jumps forward over the end of a lease: somebody else gets the lock
// early, and the holder is told at its next renewal. One with a lease of its own is told
// when it asks, or at the end of its window. Nobody takes the new owner's lock away.
func TestHazardServerClockJumpsForward(t *testing.T) {
	t.Parallel()
	const lease = 1500 * time.Millisecond
	for _, row := range []struct {
		name  string
		opts  []holdfast.AcquireOption
		bound time.Duration
	}{
		{"watchdog", nil, lease / 3},
		{"a lease of its own", []holdfast.AcquireOption{holdfast.WithLease(lease)}, lease},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server, clock := redistest.StartWithClock(t)
			z := newHazardOn(t, server, holdfast.WithWatchdogTimeout(lease))
			h := z.mustLock(z.lock, row.opts...)
			z.set(clock, jump)
			jumped := time.Now()
			theirs, err := z.other.TryLock(z.ctx(), 0, 10*time.Second)
			if err != nil {
				z.Fatalf("TryLock after the jump: %v", err)
			}
			z.waitFor(row.bound, "the hold is lost", h.Done())
			z.wantWithin(row.bound, "to learn of it", jumped)
			z.want("the hold", h.Err(), holdfast.ErrLost)
			z.want("Unlock", h.Unlock(z.ctx()), holdfast.ErrLost)
			z.wantCount(theirs, "1")
			z.mustUnlock(theirs)
		})
	}
}

// A jump forward by less than what is left of the lease is made good by the next renewal.
func TestHazardServerClockJumpsForwardALittle(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	server, clock := redistest.StartWithClock(t)
	z := newHazardOn(t, server, holdfast.WithWatchdogTimeout(lease))
	h := z.mustLock(z.lock)
	z.set(clock, lease/2) // renewed at a third
	_, err := z.other.TryLock(z.ctx(), lease*2/3, 0)
	z.want("another client's TryLock", err, holdfast.ErrNotAcquired)
	z.want("the hold", h.Err(), nil)
	z.mustUnlock(h)
	z.freeWithin(slack)
}

// The server's clock jumps back: who holds goes on holding, and who waits is told by
// the message as ever.
func TestHazardServerClockJumpsBack(t *testing.T) {
	t.Parallel()
	server, clock := redistest.StartWithClock(t)
	z := newHazardOn(t, server, holdfast.WithWatchdogTimeout(shortLease))
	h := z.mustLock(z.lock)
	w := z.waits(z.other)
	z.set(clock, -jump)
	select {
	case <-h.Done():
		z.Errorf("the hold ended: %v", h.Err())
	case <-time.After(2 * shortLease): // it is renewed meanwhile
	}
	z.wantCount(h, "1")
	z.mustUnlock(h)
	z.gets(slack, w)
	z.freeWithin(slack)
}

// A lock that nobody releases stays for as long as the clock jumped back, and its lease,
// unless somebody ends it by force.
func TestHazardHolderIsKilledAndServerClockJumpsBack(t *testing.T) {
	t.Parallel()
	server, clock := redistest.StartWithClock(t)
	z := newHazardOn(t, server, holdfast.WithWatchdogTimeout(shortLease))
	p := startProcess(t, server.Addr(), shortLease, ends)
	w := z.waits(z.lock)
	z.set(clock, -jump)
	p.signal(syscall.SIGKILL)
	<-p.dead
	select {
	case <-w.done:
		z.Errorf("the waiter came before the lease was over: %v", w.err)
	case <-time.After(2 * shortLease): // how long it would have been without the jump
	}
	ttl, err := z.other.RemainingTTL(z.ctx())
	if err != nil || ttl <= jump-3*time.Second || ttl > jump+shortLease {
		z.Errorf("RemainingTTL: got %v %v, want what is left of %v", ttl, err, jump+shortLease)
	}
	if freed, err := z.other.ForceUnlock(z.ctx()); err != nil || !freed {
		z.Errorf("ForceUnlock: got %v %v, want true", freed, err)
	}
	z.gets(slack, w)
}

// newFairClock sets the scene for a fair lock whose places are kept for a second.
func newFairClock(t *testing.T) (*fair, *redistest.Clock) {
	t.Helper()
	server, clock := redistest.StartWithClock(t)
	z := &fair{newHazardOn(t, server)}
	z.lock = z.client.FairLock("orders", holdfast.WithWaiterLease(waiterLease))
	z.other = z.direct().FairLock("orders", holdfast.WithWaiterLease(waiterLease))
	return z, clock
}

// The places of a queue are judged by the server's clock. If it jumps forward over them
// all, the order may be lost, but nobody is: everybody gets the lock.
func TestHazardFairServerClockJumpsForward(t *testing.T) {
	t.Parallel()
	z, clock := newFairClock(t)
	held := z.mustLock(z.lock, holdfast.WithLease(2*jump))
	waiters := []*waiter{z.queues(z.ctx(), z.other), z.queues(z.ctx(), z.lock), z.queues(z.ctx(), z.other)}
	z.set(clock, jump)
	_, err := z.other.TryLock(z.ctx(), 0, 0) // looks at the queue, and drops whose time is over
	z.want("TryLock", err, holdfast.ErrNotAcquired)
	z.gone(waiterLease, len(waiters)) // all have a place again
	z.mustUnlock(held)
	got := make(chan *waiter, len(waiters))
	for _, w := range waiters {
		go func() { <-w.done; got <- w }() // ends with the waiter
	}
	for range waiters {
		select {
		case w := <-got:
			z.gets(0, w)
		case <-time.After(waiterLease + slack):
			z.Fatalf("after %v nobody has the lock", waiterLease)
		}
	}
	z.clean()
}

// If the clock jumps back, those who wait keep their order, and their next renewals put
// their places right.
func TestHazardFairServerClockJumpsBack(t *testing.T) {
	t.Parallel()
	z, clock := newFairClock(t)
	held := z.mustLock(z.lock)
	waiters := []*waiter{z.queues(z.ctx(), z.other), z.queues(z.ctx(), z.lock), z.queues(z.ctx(), z.other)}
	z.set(clock, -jump)
	redistest.Eventually(z, waiterLease, "the places end a waiter lease from now", func() bool {
		return z.lastPlace() <= waiterLease
	})
	z.mustUnlock(held)
	for _, w := range waiters {
		z.gets(slack, w) // it would take the next one longer, if it were another one's turn
	}
	z.clean()
}

// A dead waiter's place stays for as long as the clock jumped back; whoever enters the
// queue next cuts it to fifteen seconds.
func TestHazardFairDeadWaiterAndServerClockJumpsBack(t *testing.T) {
	t.Parallel()
	z, clock := newFairClock(t)
	held := z.mustLock(z.other)
	p := startFair(t, z.server.Addr(), 1, waiterLease, 0)
	z.gone(patience, 1)
	p.signal(syscall.SIGKILL)
	<-p.dead
	z.set(clock, -jump)
	if left := z.lastPlace(); left < jump-waiterLease {
		z.Errorf("the dead one's place: got %v left, want about %v", left, jump)
	}
	w := z.queues(z.ctx(), z.lock)
	if left := z.lastPlace(); left > 15*time.Second {
		z.Errorf("the dead one's place: got %v left, want at most 15s", left)
	}
	z.mustUnlock(held)
	z.waits(w)
	z.set(clock, -jump+15*time.Second) // so long later
	z.gets(waiterLease/3, w)
	z.clean()
}

// lastPlace tells how much longer the last of the places is kept.
func (z *fair) lastPlace() time.Duration {
	z.Helper()
	last := z.members("ZRANGE", keys.Timeout("orders"), -1, -1, "WITHSCORES")
	score, err := strconv.ParseFloat(last[1], 64)
	if err != nil {
		z.Fatal(err)
	}
	now, err := z.rdb.Time(z.ctx()).Result()
	if err != nil {
		z.Fatal(err)
	}
	return time.UnixMilli(int64(score)).Sub(now)
}
