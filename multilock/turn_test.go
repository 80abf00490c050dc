package multilock_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A copy of an all-or-nothing acquire that arrives when a later one has succeeded finds
// one member taken, and gives the others back: they must not be those of the hold.
func TestALateCopyTakesNothingFromAHold(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr(), 1)
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ReadTimeout: 300 * time.Millisecond})
	c, err := holdfast.New(rdb, holdfast.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = rdb.Close() })
	held := lock(t, client(t, server.Addr()).FairLock("a"))
	monitor := server.Monitor(t)

	got := make(chan holdfast.Hold, 1)
	go func() {
		h, err := c.MultiLock(c.FairLock("a"), c.RLock("b")).Lock(within(t))
		if err != nil {
			t.Errorf("Lock: %v", err)
		}
		got <- h
	}()
	redistest.Eventually(t, 5*time.Second, "it stands in the queue and listens", func() bool {
		channels, _ := server.Do(within(t), "PUBSUB", "CHANNELS").StringSlice()
		return len(channels) == 1 && server.Do(within(t), "LLEN", "redisson_lock_queue:{a}").Val() == int64(1)
	})
	gate := make(chan struct{})
	var gated atomic.Bool
	proxy.Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if cmd.Name == "EVALSHA" && slices.Contains(cmd.Args, "all") && gated.CompareAndSwap(false, true) {
			return faultproxy.GateRequest(gate)
		}
		return faultproxy.Pass
	})
	unlock(t, held)
	var h holdfast.Hold
	select {
	case h = <-got:
	case <-time.After(10 * time.Second):
		t.Fatal("not acquired within 10s")
	}
	if h == nil || !gated.Load() {
		t.Fatal("no hold, or no copy that is late")
	}
	before := acquiresOfAll(monitor())
	close(gate)
	redistest.Eventually(t, 5*time.Second, "the late copy arrives", func() bool { return acquiresOfAll(monitor()) > before })
	want(t, "the hold", h.Err(), nil)
	if n := keysOf(t, server, "a", "b"); n != 2 {
		t.Errorf("got %d members in Redis, want 2", n)
	}
	if count := server.Do(within(t), "HGET", "a", h.Owner()).Val(); count != "1" {
		t.Errorf("hold count of the fair member's owner: got %v, want 1", count)
	}
	unlock(t, h)
	empty(t, server)
}

func acquiresOfAll(lines []string) (n int) {
	for _, line := range lines {
		if strings.HasPrefix(strings.ToLower(line), `"evalsha"`) && strings.Contains(line, `"all"`) {
			n++
		}
	}
	return n
}

// Who waits for a turn on one server, and cannot take it because another one is dead,
// leaves it to those behind.
func TestADeadServerHoldsUpNobodyElsewhere(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	held := lock(t, p.otherB.FairLock("b"))
	monitor := p.second.Monitor(t)
	ctx, cancel := context.WithCancel(within(t))
	ended := make(chan error, 1)
	go func() {
		_, err := p.a.MultiLock(p.a.RLock("a"), p.b.FairLock("b")).Lock(ctx)
		ended <- err
	}()
	// At first beside the queue, then for a place, then because it listens from now on: after that it sleeps, and has
	// nothing on the other server.
	redistest.Eventually(t, 5*time.Second, "it stands in the queue", func() bool {
		return strings.Count(strings.Join(monitor(), "\n"), `"fairlock.acquire"`) >= 3 && keysOf(t, p.first, "a") == 0
	})
	p.first.Kill()
	unlock(t, held)
	h, err := client(t, p.second.Addr()).FairLock("b").TryLock(within(t), 5*time.Second, 0)
	want(t, "TryLock of the free lock", err, nil)
	if h != nil {
		unlock(t, h)
	}
	cancel()
	want(t, "the multi lock", <-ended, context.Canceled)
	empty(t, p.second)
}

// What was won without a majority is given back, and its owner is never used again.
func TestAQuorumUsesNoOwnerTwice(t *testing.T) {
	servers, quorumLock := quorum(t, 3)
	for _, s := range servers[:2] {
		lock(t, client(t, s.Addr()).RLock("orders"))
	}
	l := quorumLock()
	if _, err := l.IsLocked(within(t)); err != nil { // the third server learns the scripts
		t.Fatal(err)
	}
	monitor := servers[2].Monitor(t)
	ctx, cancel := context.WithCancel(within(t))
	over := make(chan error, 1)
	go func() {
		_, err := l.Lock(ctx)
		over <- err
	}()
	tries := func() map[string]int {
		owners := map[string]int{}
		for _, line := range monitor() {
			words := strings.Split(strings.Trim(line, `"`), `" "`)
			if words[len(words)-1] == "rlock.acquire" {
				owners[words[len(words)-3]]++
			}
		}
		return owners
	}
	redistest.Eventually(t, 10*time.Second, "it has tried several times", func() bool { return len(tries()) >= 3 })
	cancel()
	want(t, "Lock", <-over, context.Canceled)
	for owner, n := range tries() {
		if n > 1 {
			t.Errorf("owner %s asked %d times", owner, n)
		}
	}
}

// The turn of a member's owner does not come within the limit of a try: its server was not asked, and is not
// dark for that.
func TestAMemberWhoseOwnerIsBusyIsNotDark(t *testing.T) {
	p := newParliament(t, 3)
	h := p.whole()
	inner := hang(t, p.proxies[0], p.members[0], h)
	again := lockIn(t, h.Context(within(t)), p.lock)
	inner.goOn()
	want(t, "the re-entry", <-inner.ended, nil)
	for _, h := range []holdfast.Hold{inner.hold, again, h} {
		unlock(t, h)
	}
	empty(t, p.servers...)
	if p.members[0].(*engine.Lock).IsDark() {
		t.Error("a server that was not asked is dark")
	}
}
