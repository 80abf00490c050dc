package multilock_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A hold of a bare majority, because somebody had a member: it has nothing of that one, so
// when one of its own dies, what is left is enough for Unlock.
func TestUnlockOfABareMajority(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	other := lock(t, p.direct[0])
	h := lock(t, p.lock)
	unlock(t, other)
	p.servers[2].Kill()
	unlock(t, h)
	want(t, "a second Unlock", h.Unlock(within(t)), nil)
	empty(t, p.servers[:2]...)
}

// Questions wait for a silent minority once and shortly, not for as long as each of them is
// asked.
func TestQuestionsDoNotWaitForAMinority(t *testing.T) {
	p := newParliament(t, 3)
	h := p.whole()
	p.dark(true, 2)
	start := time.Now()
	for range 3 {
		if locked, err := p.lock.IsLocked(within(t)); !locked || err != nil {
			t.Errorf("IsLocked: got %v %v, want true", locked, err)
		}
		if n, err := p.lock.HoldCount(h.Context(within(t))); n != 1 || err != nil {
			t.Errorf("HoldCount: got %d %v, want 1", n, err)
		}
		if ttl, err := p.lock.RemainingTTL(within(t)); ttl <= 0 || err != nil {
			t.Errorf("RemainingTTL: got %v %v, want what is left", ttl, err)
		}
	}
	if freed, err := p.lock.ForceUnlock(within(t)); !freed || err != nil {
		t.Errorf("ForceUnlock: got %v %v, want true", freed, err)
	}
	if took := time.Since(start); took > 6*time.Second { // each would take three, were it to wait
		t.Errorf("ten questions took %v", took)
	}
	p.dark(false, 2)
	_ = h.Unlock(within(t)) // lost by force, or released
	empty(t, p.servers...)
}

// Of a bare majority no member can be spared: one that is gone is a loss, however well the
// other one is released.
func TestUnlockOfABareMajorityThatIsLost(t *testing.T) {
	for range 3 {
		p := newParliament(t, 3)
		other := lock(t, p.direct[0])
		h := lock(t, p.lock)
		p.servers[2].Do(within(t), "FLUSHALL")
		want(t, "Unlock", h.Unlock(within(t)), holdfast.ErrLost)
		want(t, "Err", h.Err(), holdfast.ErrLost)
		unlock(t, other)
		empty(t, p.servers...)
	}
}

// One of a bare majority hangs. The others, and those that somebody else had, make a majority that is free of
// the hold: the silent one is not waited for until Unlock's limit.
func TestUnlockOfABareMajorityThatHangs(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 5)
	others := []holdfast.Hold{lock(t, p.direct[0]), lock(t, p.direct[1])}
	p.patient(4)
	h := lock(t, p.lock)
	hangs := make(chan struct{})
	p.slowed(4, "rlock.release", faultproxy.Gate(hangs))
	unlocked := unlocking(h)
	endsSoon(t, unlocked)
	close(hangs)
	for _, other := range others {
		unlock(t, other)
	}
	redistest.Eventually(t, 5*time.Second, "that one is released, too", func() bool { return p.keys() == 0 })
}

// endsSoon waits for an Unlock that does not wait for the one that hangs.
func endsSoon(t *testing.T, unlocked <-chan error) {
	t.Helper()
	select {
	case err := <-unlocked:
		want(t, "Unlock", err, nil)
	case <-time.After(2 * time.Second): // its limit is 3 s
		t.Error("Unlock waits for the one that hangs")
	}
}

// patient gives a member a client that waits for answers.
func (p *parliament) patient(i int) {
	rdb := redis.NewClient(&redis.Options{Addr: p.proxies[i].Addr(), ReadTimeout: 10 * time.Second})
	c, err := holdfast.New(rdb)
	want(p.T, "New", err, nil)
	p.Cleanup(func() { _ = c.Close(); _ = rdb.Close() })
	p.members[i] = c.RLock("orders")
	p.lock = p.clients[0].RedLock(p.members...)
}

// One member has another hold of its own, so its release frees nothing; a second one is freed, the third one hangs.
// That is a majority: Unlock does not wait until the limit is over.
func TestUnlockOfAMemberThatIsHeldOnceMore(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	p.patient(2)
	h := p.whole()
	inner := lockIn(t, h.Context(within(t)), p.members[0])
	hangs, second := make(chan struct{}), make(chan struct{})
	p.slowed(1, "rlock.release", faultproxy.Gate(second))
	p.slowed(2, "rlock.release", faultproxy.Gate(hangs))
	unlocked := unlocking(h)
	redistest.Eventually(t, 5*time.Second, "the first one has answered", func() bool {
		return inner.Count() == 2 && p.servers[0].Do(within(t), "HGET", "orders", inner.Owner()).Val() == "1"
	})
	time.AfterFunc(50*time.Millisecond, func() { close(second) })
	endsSoon(t, unlocked)
	close(hangs)
	unlock(t, inner)
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return p.keys() == 0 })
}
