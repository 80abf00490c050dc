package multilock_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A parliament is a quorum lock of servers, each behind a proxy.
type parliament struct {
	*testing.T
	servers []*redistest.Server
	proxies []*faultproxy.Proxy
	clients []*holdfast.Client // through the proxies
	lock    holdfast.Lock      // through the proxies
	members []holdfast.Lock    // of that one
	direct  []holdfast.Lock    // each server's, of a client that meets no faults
}

func newParliament(t *testing.T, n int, opts ...holdfast.Option) *parliament {
	t.Helper()
	p := &parliament{T: t}
	var members []holdfast.Lock
	var first *holdfast.Client
	for range n {
		s := redistest.Start(t)
		proxy := faultproxy.New(t, s.Addr(), 1)
		c := client(t, proxy.Addr(), opts...)
		t.Cleanup(func() { proxy.BlackHole(false) }) // before the clients close, who else would wait in vain
		if first == nil {
			first = c
		}
		p.servers, p.proxies, p.clients = append(p.servers, s), append(p.proxies, proxy), append(p.clients, c)
		members = append(members, c.RLock("orders"))
		p.direct = append(p.direct, client(t, s.Addr()).RLock("orders"))
	}
	p.lock, p.members = first.RedLock(members...), members
	unlock(t, p.whole()) // all servers learn the scripts
	empty(t, p.servers...)
	return p
}

func (p *parliament) dark(on bool, members ...int) {
	for _, i := range members {
		p.proxies[i].BlackHole(on)
	}
}

// whole locks until all servers have the lock and said so: a majority is enough to begin with, and what is late is
// given back.
func (p *parliament) whole(opts ...holdfast.AcquireOption) (h holdfast.Hold) {
	p.Helper()
	redistest.Eventually(p.T, 20*time.Second, "all members are held", func() bool {
		h = lock(p.T, p.lock, opts...)
		for until := time.Now().Add(time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
			if p.complete(h, 1) {
				return true
			}
		}
		unlock(p.T, h)
		return false
	})
	return h
}

// complete tells whether a hold has all members, each with that count. That they are in Redis is not enough: who
// answers late may be given back.
func (p *parliament) complete(h holdfast.Hold, count int) bool {
	for _, m := range p.members {
		if n, err := m.HoldCount(h.Context(within(p.T))); n != count || err != nil {
			return false
		}
	}
	return true
}

// keys counts the servers that have the lock.
func (p *parliament) keys() (n int) {
	for _, s := range p.servers {
		if s.Running() {
			n += keysOf(p.T, s, "orders")
		}
	}
	return n
}

// unavailable fails the test unless err says that there is no majority to ask, and names the members that do not answer.
func (p *parliament) unavailable(err error, members ...int) {
	p.Helper()
	if errors.Is(err, holdfast.ErrNotAcquired) {
		p.Errorf("got %v, want an error that is not ErrNotAcquired", err)
	}
	says(p.T, "TryLock", err, "majority", "orders")
	p.names("TryLock", err, members...)
}

// names wants an error that names the members' servers: they all have one name.
func (p *parliament) names(deed string, err error, members ...int) {
	p.Helper()
	for _, i := range members {
		says(p.T, deed, err, fmt.Sprintf(`member "orders" on %s/0`, p.proxies[i].Addr()))
	}
}

func TestAMinorityIsNoLock(t *testing.T) {
	p := newParliament(t, 5)
	for _, taken := range [][]int{{0, 1, 2}, {0, 2, 4}, {1, 2, 3, 4}} { // by somebody else
		var others []holdfast.Hold
		for _, i := range taken {
			others = append(others, lock(t, p.direct[i]))
		}
		for range 3 {
			_, err := p.lock.TryLock(within(t), 0, 0)
			want(t, "TryLock", err, holdfast.ErrNotAcquired)
		}
		if locked, err := p.lock.IsLocked(within(t)); !locked || err != nil {
			t.Errorf("IsLocked: got %v %v, want true", locked, err)
		}
		redistest.Eventually(t, 2*time.Second, "what it had is free", func() bool { return p.keys() == len(taken) })
		for _, h := range others {
			unlock(t, h)
		}
	}
	others := []holdfast.Hold{lock(t, p.direct[1]), lock(t, p.direct[3])}
	h := lock(t, p.lock)
	if locked, err := p.lock.IsHeld(h.Context(within(t))); !locked || err != nil {
		t.Errorf("IsHeld of three of five: got %v %v, want true", locked, err)
	}
	unlock(t, h)
	for _, other := range others {
		unlock(t, other)
	}
	empty(t, p.servers...)
}

// No majority answers: that is not "somebody else has it", and leaves nothing.
func TestAMinorityThatAnswersIsNoLock(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(3*time.Second))
	p.servers[0].Kill()
	p.servers[1].Kill()
	_, err := p.lock.TryLock(within(t), 0, 0)
	p.unavailable(err, 0, 1)
	_, err = p.lock.TryLock(within(t), 500*time.Millisecond, 0)
	p.unavailable(err, 0, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err = p.lock.Lock(ctx)
	want(t, "Lock", err, context.DeadlineExceeded)
	p.unavailable(err, 0, 1)
	_, err = p.lock.IsLocked(within(t))
	p.names("IsLocked", err, 0, 1)
	redistest.Eventually(t, 2*time.Second, "nothing is left", func() bool { return p.keys() == 0 })
}

// A lease that is shorter than what clocks may run apart leaves no validity.
func TestValidity(t *testing.T) {
	p := newParliament(t, 3)
	for range 300 {
		h, err := p.lock.TryLock(within(t), 0, 2*time.Millisecond)
		if err == nil {
			t.Fatalf("a lease of 2ms is held, though clocks may differ by that: %v", h.Err())
		}
	}
	empty(t, p.servers...)
}

// A dark minority costs nothing: neither to a first Lock, for which a majority is enough, nor to a re-entry, which
// waits for those that it takes for alive but knows by then who is dark. Of several tries the fastest
// counts: this machine has its own pauses.
func TestADarkMinorityCostsNothing(t *testing.T) {
	const limit = readTimeout // a member's own is longer, 500 ms for a lease of 30 s
	p := newParliament(t, 5)
	p.dark(true, 1, 3)
	fastest, again := time.Hour, time.Hour
	for range 5 {
		start := time.Now()
		h := lock(t, p.lock)
		fastest = min(fastest, time.Since(start))
		start = time.Now()
		inner := lockIn(t, h.Context(within(t)), p.lock)
		again = min(again, time.Since(start))
		unlock(t, inner)
		want(t, "the hold", h.Err(), nil)
		start = time.Now()
		unlock(t, h)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("Unlock with a dark minority took %v", took)
		}
	}
	if fastest > limit/2 {
		t.Errorf("the fastest of five took %v, though a majority answers", fastest)
	}
	if again > limit/2 {
		t.Errorf("the fastest of five re-entries took %v, though two were known to be dark", again)
	}
	p.dark(false, 1, 3)
	redistest.Eventually(t, 15*time.Second, "all are asked again, and answer", func() bool {
		h := lock(t, p.lock)
		defer unlock(t, h)
		return p.keys() == 5
	})
	empty(t, p.servers...)
}

func TestTwoOfFiveAreKilled(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 5, holdfast.WithWatchdogTimeout(3*time.Second))
	h := lock(t, p.lock)
	p.servers[0].Kill()
	p.servers[3].Kill()
	select {
	case <-h.Done():
		t.Fatalf("with three of five: got %v", h.Err())
	case <-time.After(5 * time.Second): // beyond the lease
	}
	if _, err := p.direct[1].TryLock(within(t), 0, 0); !errors.Is(err, holdfast.ErrNotAcquired) {
		t.Errorf("a member that lives: got %v, want ErrNotAcquired", err)
	}
	unlock(t, h)
	h = lock(t, p.lock)
	unlock(t, h)
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return p.keys() == 0 })
}

// A hold ends when no majority can be trusted any more, at that moment, not at the next
// renewal, and not before.
func TestThreeOfFiveAreGone(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	for name, strike := range map[string]func(p *parliament, i int){
		"killed":      func(p *parliament, i int) { p.servers[i].Kill() },
		"black-holed": func(p *parliament, i int) { p.dark(true, i) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newParliament(t, 5, holdfast.WithWatchdogTimeout(lease))
			start := time.Now()
			h := lock(t, p.lock)
			for _, i := range []int{0, 2, 4} {
				strike(p, i)
			}
			signalled(t, 2*lease, "Done", h.Done())
			took := time.Since(start)
			if took > lease+lease/10 {
				t.Errorf("lost after %v, though nobody is bound longer than %v", took, lease)
			}
			if took < lease/2 {
				t.Errorf("lost after %v, though a majority was bound for %v", took, lease)
			}
			want(t, "Err", h.Err(), holdfast.ErrLost)
			says(t, "Err", h.Err(), `member "orders" on 127.0.0.1:`)
			want(t, "Unlock", h.Unlock(within(t)), holdfast.ErrLost)
			_, err := p.lock.TryLock(within(t), 0, 0)
			p.unavailable(err)
			redistest.Eventually(t, 3*lease, "the others are free", func() bool { return p.keys() == 0 })
		})
	}
}

// A member that comes back empty is acquired again for the hold that runs: however many
// restart, as long as it is one after the other, nobody else can have a majority.
func TestRestartedEmptyOneAfterTheOther(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(1500*time.Millisecond))
	h := p.whole()
	for _, s := range p.servers {
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		if n := keysOf(t, s, "orders"); n != 0 {
			t.Log("it was acquired again at once")
		}
		redistest.Eventually(t, 10*time.Second, "it is acquired again", func() bool { return p.complete(h, 1) })
		want(t, "the hold", h.Err(), nil)
	}
	unlock(t, h)
	empty(t, p.servers...)
}

// A hold's context names its owners of now, not those of when it was made.
func TestReentryAfterAllWereFlushed(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(1500*time.Millisecond))
	h := p.whole()
	ctx := h.Context(within(t))
	for _, s := range p.servers {
		s.Do(within(t), "FLUSHALL")
		redistest.Eventually(t, 5*time.Second, "it is acquired again", func() bool { return p.complete(h, 1) })
	}
	if held, err := p.lock.IsHeld(ctx); !held || err != nil {
		t.Errorf("IsHeld: got %v %v, want true", held, err)
	}
	inner, err := p.lock.TryLock(ctx, 0, 0)
	if err != nil {
		t.Fatalf("re-entry into a hold that lives: %v", err)
	}
	if inner.Count() != 2 {
		t.Errorf("count: got %d, want 2", inner.Count())
	}
	unlock(t, h)
	want(t, "the inner hold", inner.Err(), nil)
	unlock(t, inner)
	empty(t, p.servers...)
}

// Also for a hold that was re-entered, which has the same owners as the outer one.
func TestReenteredHoldsAreKeptTogether(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(1500*time.Millisecond))
	outer := p.whole()
	time.Sleep(250 * time.Millisecond) // the keepers look every 500 ms: now at different times
	inner := lockIn(t, outer.Context(within(t)), p.lock)
	for _, pause := range []time.Duration{0, 300 * time.Millisecond} { // whichever comes first
		for _, s := range p.servers {
			time.Sleep(pause)
			s.Do(within(t), "FLUSHALL")
			redistest.Eventually(t, 5*time.Second, "it is acquired again, by both", func() bool { return p.complete(inner, 2) })
			want(t, "the outer hold", outer.Err(), nil)
			want(t, "the inner hold", inner.Err(), nil)
		}
	}
	unlock(t, outer)
	want(t, "the inner hold", inner.Err(), nil)
	unlock(t, inner)
	empty(t, p.servers...)
}

// What a member had forgotten is acquired again, and nothing after Unlock.
func TestFlushedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(1500*time.Millisecond))
	h := p.whole()
	for _, s := range p.servers {
		s.Do(within(t), "FLUSHALL")
		redistest.Eventually(t, 5*time.Second, "it is acquired again", func() bool { return p.complete(h, 1) })
		want(t, "the hold", h.Err(), nil)
	}
	unlock(t, h)
	empty(t, p.servers...)
	time.Sleep(time.Second) // two rounds of the keeper's
	if n := p.keys(); n != 0 {
		t.Errorf("a second after Unlock: got %d keys, want none", n)
	}
}

func TestAMajorityIsFlushed(t *testing.T) {
	p := newParliament(t, 3, holdfast.WithWatchdogTimeout(1500*time.Millisecond))
	h := p.whole()
	for _, s := range p.servers[:2] {
		s.Do(within(t), "DEL", "orders")
	}
	signalled(t, 5*time.Second, "Done", h.Done())
	want(t, "Err", h.Err(), holdfast.ErrLost)
	want(t, "Unlock", h.Unlock(within(t)), holdfast.ErrLost)
	empty(t, p.servers...)
}

// A lost reply of one member is no loss of the lock, and nothing is left of it.
func TestALostReplyOfAMember(t *testing.T) {
	t.Parallel()
	for _, d := range []faultproxy.Decision{faultproxy.DropReply, faultproxy.DropRequest} {
		p := newParliament(t, 3)
		p.proxies[1].OnNext("EVALSHA", d)
		h := lock(t, p.lock)
		p.proxies[0].OnNext("EVALSHA", d)
		unlock(t, h)
		empty(t, p.servers...)
	}
}

// Nobody waits for a member beyond its limit, however patient its client is: what it may
// have is taken back then, over another connection.
func TestAMemberThatHangsIsTakenBackAtTheLimit(t *testing.T) {
	p := &parliament{T: t}
	var members []holdfast.Lock
	var first *holdfast.Client
	for range 3 {
		s := redistest.Start(t)
		proxy := faultproxy.New(t, s.Addr(), 1)
		rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ReadTimeout: time.Minute})
		c, err := holdfast.New(rdb, holdfast.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { proxy.KillAll(); _ = c.Close(); _ = rdb.Close() })
		if first == nil {
			first = c
		}
		p.servers, p.proxies = append(p.servers, s), append(p.proxies, proxy)
		members = append(members, c.RLock("orders"))
	}
	p.lock = first.RedLock(members...)
	unlock(t, lock(t, p.lock)) // the servers learn the scripts
	p.proxies[1].OnNext("EVALSHA", faultproxy.DropReply)
	h := lock(t, p.lock)
	unlock(t, h)
	empty(t, p.servers...)
}

// Unlock does not wait for the minority, and yet releases each member with one call: what is
// not confirmed when it returns is on its way already.
func TestUnlockReleasesEachMemberOnce(t *testing.T) {
	p := newParliament(t, 5)
	var monitors []func() []string
	for _, s := range p.servers {
		monitors = append(monitors, s.Monitor(t))
	}
	const pairs = 20
	for range pairs {
		unlock(t, lock(t, p.lock))
	}
	empty(t, p.servers...)
	calls := 0
	for _, monitor := range monitors {
		for _, line := range monitor() {
			if strings.HasPrefix(strings.ToLower(line), `"evalsha"`) {
				calls++
			}
		}
	}
	// Where the machine stood still for a while a release may have been sent again.
	if most := pairs*2*len(p.servers) + pairs/2; calls > most {
		t.Errorf("got %d calls for %d pairs on %d servers, want at most %d", calls, pairs, len(p.servers), most)
	}
}
