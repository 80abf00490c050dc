package multilock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A member that cannot be released uses up the whole time of Unlock. Those that have answered
// meanwhile are told as released, however many they are.
func TestUnlockTellsOnlyTheSilentMember(t *testing.T) {
	t.Parallel()
	dead, server := redistest.Start(t), redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr(), 1)
	c := client(t, dead.Addr())
	members := []holdfast.Lock{c.RLock("dead")}
	for i := range 8 { // each of a client of its own, so that each is released in a call of its own
		rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ReadTimeout: 5 * time.Second})
		c, err := holdfast.New(rdb)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(); _ = rdb.Close() })
		members = append(members, c.RLock(fmt.Sprint("m", i)))
	}
	h := lock(t, c.MultiLock(members...))
	dead.Kill()
	proxy.Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if slices.Contains(cmd.Args, "rlock.release") {
			return faultproxy.DelayReply(1500 * time.Millisecond) // the dead one's refusal comes first
		}
		return faultproxy.Pass
	})
	err := h.Unlock(within(t))
	says(t, "Unlock", err, `member "dead" on 127.0.0.1:`)
	for i := range 8 {
		if name := fmt.Sprintf("member %q on ", fmt.Sprint("m", i)); err != nil && strings.Contains(err.Error(), name) {
			t.Errorf("Unlock: got %v, though %s was answered", err, name)
		}
	}
	empty(t, server)
}

// A re-entry of one member hangs, and with it the turn of that member's owner. The others are
// released at once, and so is that one when its turn comes.
func TestUnlockWaitsForNoTurnOfAnotherMember(t *testing.T) {
	t.Run("multi", func(t *testing.T) {
		p := newPair(t)
		h := lock(t, p.a.MultiLock(p.b.RLock("b"), p.a.RLock("a")))
		inner := hang(t, p.proxy, p.b.RLock("b"), h)
		unlocked := unlocking(h)
		redistest.Eventually(t, 2*time.Second, "the other member is released", func() bool { return keysOf(t, p.first, "a") == 0 })
		inner.goOn()
		want(t, "Unlock", <-unlocked, nil)
		want(t, "the re-entry", <-inner.ended, nil)
		if n := keysOf(t, p.second, "b"); n != 1 {
			t.Errorf("got %d keys of the re-entry's, want 1", n)
		}
		unlock(t, inner.hold)
		empty(t, p.first, p.second)
	})
	t.Run("red", func(t *testing.T) {
		p := newParliament(t, 3)
		h := p.whole()
		inner := hang(t, p.proxies[0], p.members[0], h)
		unlocked := unlocking(h)
		redistest.Eventually(t, 2*time.Second, "a majority is released", func() bool { return p.keys() <= 1 })
		want(t, "Unlock", <-unlocked, nil)
		inner.goOn()
		if err := <-inner.ended; err == nil {
			unlock(t, inner.hold)
		}
		empty(t, p.servers...)
	})
}

func unlocking(h holdfast.Hold) <-chan error {
	unlocked := make(chan error, 1)
	go func() { unlocked <- h.Unlock(context.Background()) }()
	return unlocked
}

// A hanging is a re-entry whose requests are lost until it goes on.
type hanging struct {
	goOn  func()
	ended chan error
	hold  holdfast.Hold // once ended
}

func hang(t *testing.T, proxy *faultproxy.Proxy, member holdfast.Lock, outer holdfast.Hold) *hanging {
	t.Helper()
	proxy.Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if slices.Contains(cmd.Args, "rlock.acquire") {
			return faultproxy.DropRequest
		}
		return faultproxy.Pass
	})
	x := &hanging{ended: make(chan error, 1), goOn: func() { proxy.Decide(nil) }}
	ctx := outer.Context(within(t))
	go func() {
		var err error
		x.hold, err = member.Lock(context.WithoutCancel(ctx))
		x.ended <- err
	}()
	redistest.Eventually(t, 2*time.Second, "it is on its way", func() bool { return len(proxy.Log()) > 0 })
	return x
}

// One server has forgotten its member, one does not answer, and the third one confirms: a majority was held
// until then, so that is an unlock without an answer, and no loss.
func TestUnlockOfAMajorityIsNoLossThoughOneMemberIs(t *testing.T) {
	p := newParliament(t, 3)
	h := p.whole()
	p.servers[0].Do(within(t), "FLUSHALL")
	p.dark(true, 1)
	err := h.Unlock(within(t))
	if err == nil || errors.Is(err, holdfast.ErrLost) {
		t.Errorf("Unlock: got %v, want an error that is not ErrLost", err)
	}
	says(t, "Unlock", err, holdfast.ErrLost.Error()) // whose member it was
	want(t, "Err", h.Err(), holdfast.ErrUnlocked)
	p.dark(false, 1)
	empty(t, p.servers...)
}

// Two have forgotten it: no majority was held.
func TestUnlockOfALostMajority(t *testing.T) {
	p := newParliament(t, 3)
	h := p.whole()
	for _, s := range p.servers[:2] {
		s.Do(within(t), "DEL", "orders")
	}
	want(t, "Unlock", h.Unlock(within(t)), holdfast.ErrLost)
	want(t, "Err", h.Err(), holdfast.ErrLost)
	empty(t, p.servers...)
}
