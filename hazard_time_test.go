package holdfast_test

import (
	"math"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/locking"
)

// A process that was stopped for longer than its lease may be in the middle of a write
// when it goes on, and no lock can prevent that write. But it is told at once, so the
// write can be seen as what it is, and there is no second one.
func TestHazardProcessIsStopped(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	z := newHazard(t)
	p := startProcess(t, z.server.Addr(), lease, ends)
	redistest.Eventually(z, patience, "it works", func() bool { return p.said("wrote") > 5 })
	p.signal(syscall.SIGSTOP)
	stopped := time.Now()
	h := z.mustLock(z.other)
	if waited := time.Since(stopped); waited < lease/2 || waited > lease+2*slack {
		t.Errorf("the next one came %v after the stop, want the rest of a lease of %v", waited, lease)
	}
	writes := func() int64 { return z.server.Do(z.ctx(), "LLEN", "resource").Val().(int64) }
	before, said := writes(), int64(p.said("wrote"))
	time.Sleep(time.Until(stopped.Add(lease * 3 / 2))) // how long it stands still
	p.signal(syscall.SIGCONT)
	start := time.Now()
	redistest.Eventually(z, 300*time.Millisecond+slack, "it knows that the hold is lost", func() bool { return p.said("lost") == 1 })
	z.wantWithin(300*time.Millisecond, "to learn of it", start)

	// Of writes that were executed before the stop the word may have come after it.
	late := writes() - before
	if late > 1 || late > int64(p.said("late")) {
		t.Errorf("%d late writes, of which it noticed %d", late, p.said("late"))
	}
	if more := int64(p.said("wrote")) - said; more > 1 || said+more > before {
		t.Errorf("it took %d writes for its own after the stop", more)
	}
	z.wantCount(h, "1")
	z.mustUnlock(h)
}

// An answer never comes, and the Redis client has no limit for it. After 3 s it counts as unknown, the waiter asks anew on
// another connection, and what the first acquire has taken is taken back.
func TestHazardAnAnswerNeverComes(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.rdb = z.dial(z.proxy.Addr(), func(o *redis.Options) { o.ReadTimeout = -1 })
	z.client = z.newClient(z.rdb)
	z.lock = z.client.RLock("orders")
	z.warm()
	never := make(chan struct{})
	defer close(never)
	z.spoil(faultproxy.Gate(never))
	w := wait(z.ctx(), z.lock)
	redistest.Eventually(z, patience, "the first acquire is executed", func() bool { return len(z.fields()) > 0 })
	first := z.fields()
	z.waitFor(10*time.Second, "the waiter has the lock", w.done)
	if w.err != nil {
		z.Fatal(w.err)
	}
	if _, stays := first[w.hold.Owner()]; stays {
		z.Errorf("the hold's owner is %s, whose acquire was not answered", w.hold.Owner())
	}
	z.wantCount(w.hold, "1")
	z.mustUnlock(w.hold)
	z.freeWithin(time.Second)
}

// A server that stands still expires nothing, and then everything at once.
func TestHazardServerIsStopped(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	z := newHazard(t, holdfast.WithWatchdogTimeout(lease))
	h := z.mustLock(z.lock)
	start := time.Now()
	if err := z.server.Pause(); err != nil {
		z.Fatal(err)
	}
	z.waitFor(lease, "the hold is lost", h.Done())
	if lasted := time.Since(start); lasted < lease/2 {
		z.Errorf("the hold ended after %v of a lease of %v: silence alone is no loss", lasted, lease)
	}
	z.want("Err", h.Err(), holdfast.ErrLost)
	w := wait(z.ctx(), z.other)
	time.Sleep(time.Until(start.Add(lease + time.Second))) // how long the server stands still
	if err := z.server.Resume(); err != nil {
		z.Fatal(err)
	}
	z.gets(4*time.Second, w)
	z.want("Unlock", h.Unlock(z.ctx()), holdfast.ErrLost)
	z.freeWithin(slack)
}

// An explicit lease counts from the sending of the acquire, however late the answer.
func TestHazardAnswerComesLate(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	for _, delay := range []time.Duration{lease * 9 / 10, lease * 11 / 10} {
		t.Run(delay.String(), func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			lock := z.patient().RLock("orders")
			z.spoil(faultproxy.DelayReply(delay))
			start := time.Now()
			h, err := lock.TryLock(z.ctx(), 0, lease)
			if delay > lease {
				z.wantSaid("TryLock", err, "after the lease")
				z.freeWithin(slack)
				return
			}
			if err != nil {
				z.Fatal(err)
			}
			<-h.Done()
			if held := time.Since(start); held > lease {
				z.Errorf("trusted until %v after the sending, of a lease of %v", held, lease)
			}
			z.want("Unlock", h.Unlock(z.ctx()), holdfast.ErrLost)
		})
	}
}

// patient makes a client behind the proxy whose sockets wait for long.
func (z *hazard) patient(opts ...holdfast.Option) *holdfast.Client {
	z.Helper()
	c := z.newClient(z.dial(z.proxy.Addr(), func(o *redis.Options) { o.ReadTimeout = 5 * time.Second }), opts...)
	if _, err := c.RLock("warm-up").IsLocked(z.ctx()); err != nil {
		z.Fatal(err)
	}
	return c
}

// One renewal is answered half a lease late, and no other one arrives: the hold goes on
// for the lease that was confirmed, which counts from the sending.
func TestHazardRenewalIsSlow(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	z := newHazard(t)
	start := time.Now()
	h := z.mustLock(z.patient(holdfast.WithWatchdogTimeout(lease)).RLock("orders"))
	first := true
	z.proxy.Decide(func(c faultproxy.Command) faultproxy.Decision {
		switch {
		case c.Name != "EVALSHA":
			return faultproxy.Pass
		case first:
			first = false
			return faultproxy.DelayReply(lease / 2)
		default:
			return faultproxy.DropRequest
		}
	})
	z.waitFor(2*lease, "the hold is lost", h.Done())
	lost := time.Now()
	renewed := z.proxy.Log()[0].At // when it was executed, a moment after its sending
	if trusted := lost.Sub(renewed); trusted > lease {
		z.Errorf("trusted for %v after the renewal, of a lease of %v", trusted, lease)
	}
	if held := lost.Sub(start); held < lease+lease/10 {
		z.Errorf("held for %v: the renewal, slow as it was, did not count", held)
	}
	z.want("Err", h.Err(), holdfast.ErrLost)
}

func TestHazardDurationsOutOfBounds(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	h := z.mustLock(z.other)
	sent := z.proxy.Seen()["EVALSHA"]
	for _, d := range []time.Duration{
		math.MinInt64, -1, 1, 999 * time.Microsecond, locking.MaxDuration + 1, math.MaxInt64,
	} {
		for deed, call := range map[string]func() error{
			"TryLock with this lease": func() error { _, err := z.lock.TryLock(z.ctx(), 0, d); return err },
			"TryLock with this wait":  func() error { _, err := z.lock.TryLock(z.ctx(), d, 0); return err },
			"WithLease":               func() error { _, err := z.lock.Lock(z.ctx(), holdfast.WithLease(d)); return err },
			"WithWait":                func() error { _, err := z.lock.Lock(z.ctx(), holdfast.WithWait(d)); return err },
			"WithMaxHold":             func() error { _, err := z.lock.Lock(z.ctx(), holdfast.WithMaxHold(d)); return err },
			"Extend":                  func() error { return h.Extend(z.ctx(), d) },
		} {
			if err := call(); err == nil {
				z.Errorf("%s of %v: no error", deed, d)
			} else {
				z.want(deed, err, holdfast.ErrInvalidDuration)
			}
		}
	}
	if n := z.proxy.Seen()["EVALSHA"] - sent; n != 0 {
		z.Errorf("%d scripts were sent with durations out of bounds", n)
	}
	z.want("Extend by 0", h.Extend(z.ctx(), 0), holdfast.ErrInvalidDuration)
	z.want("the hold", h.Err(), nil)
	z.mustUnlock(h)
}

// Whatever the lease, the key has an end, and it is not before the lease's.
func TestHazardLeasesAtTheirBounds(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	for _, lease := range []time.Duration{
		time.Millisecond, 1500 * time.Microsecond, 2*time.Second + 1, time.Hour, locking.MaxDuration,
	} {
		start := time.Now()
		h, err := z.lock.TryLock(z.ctx(), 0, lease)
		ttl := time.Duration(z.server.Do(z.ctx(), "PTTL", "orders").Val().(int64)) * time.Millisecond
		passed := time.Since(start)
		switch {
		case err != nil && lease > 5*time.Millisecond:
			z.Errorf("lease %v: %v", lease, err)
		case ttl == -1*time.Millisecond:
			z.Errorf("lease %v: the key has no end", lease)
		case ttl > lease+time.Millisecond:
			z.Errorf("lease %v: got TTL %v", lease, ttl)
		case err == nil && ttl < lease-passed-time.Millisecond && ttl > 0:
			z.Errorf("lease %v: got TTL %v after %v", lease, ttl, passed)
		}
		if err == nil {
			_ = h.Unlock(z.ctx()) // of a lease of a millisecond: most likely too late
		}
		z.freeWithin(time.Second)
	}
}

// Neither clock's time of day is on the wire, so it may jump on both sides: all that
// is sent and answered are durations.
func TestHazardNoTimeOfDayIsSent(t *testing.T) {
	t.Parallel()
	z := newHazard(t, holdfast.WithWatchdogTimeout(shortLease))
	monitor := z.server.Monitor(t)
	h := z.mustLock(z.lock)
	w := z.waits(z.other)
	z.want("Extend", h.Extend(z.ctx(), time.Hour), nil)
	redistest.Eventually(z, patience, "it is renewed", func() bool {
		n := 0
		for _, line := range monitor() {
			if regexp.MustCompile(`^lua "PEXPIRE" "orders"`).MatchString(line) {
				n++
			}
		}
		return n > 2
	})
	z.mustUnlock(h)
	z.gets(time.Second, w)
	number := regexp.MustCompile(`"(\d{10,19})"`)
	for _, line := range monitor() {
		for _, match := range number.FindAllStringSubmatch(line, -1) {
			if n, err := strconv.ParseInt(match[1], 10, 64); err == nil && n > time.Hour.Milliseconds() {
				z.Errorf("sent %d, which looks like a time: %s", n, line)
			}
		}
		if regexp.MustCompile(`(?i)"(pexpireat|expireat|time)"`).MatchString(line) {
			z.Errorf("sent a time of day: %s", line)
		}
	}
}
