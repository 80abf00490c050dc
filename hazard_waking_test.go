package holdfast_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// The lock is freed after the waiter's try and before its subscription counts: the
// confirmation wakes it.
func TestHazardFreedBetweenTryAndSubscribe(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	held := z.mustLock(z.other)
	gate := make(chan struct{})
	z.proxy.OnNext("SUBSCRIBE", faultproxy.GateRequest(gate))
	w := wait(z.ctx(), z.lock)
	redistest.Eventually(z, patience, "it subscribes", func() bool { return len(z.proxy.Log()) > 0 })
	z.mustUnlock(held)
	close(gate)
	z.gets(500*time.Millisecond, w)
}

// Messages are lost while the connection for them is down; each new confirmation
// makes that good.
func TestHazardMessagesAreCutOff(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	const rounds = 12
	killed := make(chan struct{})
	var kills atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ended by cancel
		defer close(killed)
		for every := time.NewTicker(300 * time.Millisecond); ; {
			select {
			case <-every.C:
				kills.Add(1)
				_ = z.server.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err()
			case <-ctx.Done():
				every.Stop()
				return
			}
		}
	}()
	mine, theirs := z.lock, z.other
	held := z.mustLock(mine)
	slowest := time.Duration(0)
	for range rounds {
		tries, at := z.calls("evalsha"), kills.Load()
		w := wait(z.ctx(), theirs)
		redistest.Eventually(z, patience, "it was told to wait", func() bool { return z.calls("evalsha") > tries })
		redistest.Eventually(z, patience, "a kill comes", func() bool { return kills.Load() > at })
		free := time.Now()
		z.mustUnlock(held)
		z.waitFor(4*time.Second, "the waiter has the lock", w.done)
		if w.err != nil {
			z.Fatal(w.err)
		}
		slowest = max(slowest, w.at.Sub(free))
		held = w.hold
		mine, theirs = theirs, mine
	}
	z.mustUnlock(held)
	cancel()
	<-killed
	if slowest > 2*time.Second {
		z.Errorf("the slowest of %d waiters came after %v", rounds, slowest)
	}
}

// Where messages do not come at all, the waiter comes by its own means.
func TestHazardDeafSubscription(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		deafen func(z *hazard) *waiter // makes a waiter that hears nothing
		most   time.Duration
	}{
		{"half-open, and so is every new one", func(z *hazard) *waiter {
			w := z.waits(z.lock)
			z.proxy.BlackHolePubSub(true)
			return w
		}, 6 * time.Second},
		{"half-open, and a new one is not", func(z *hazard) *waiter {
			w := z.waits(z.lock)
			for _, conn := range z.proxy.PubSubConns() {
				z.proxy.BlackHoleOne(conn)
			}
			return w
		}, 4 * time.Second},
		{"never confirmed", func(z *hazard) *waiter {
			z.proxy.BlackHolePubSub(true)
			tries := z.proxy.Seen()["EVALSHA"]
			w := wait(z.ctx(), z.lock)
			redistest.Eventually(z, patience, "it waits", func() bool {
				return z.proxy.Seen()["EVALSHA"] > tries && len(z.proxy.PubSubConns()) > 0
			})
			return w
		}, 6 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			held := z.mustLock(z.other)
			w := row.deafen(z)
			z.mustUnlock(held)
			start := time.Now()
			z.gets(row.most, w)
			t.Logf("the waiter came after %v", time.Since(start).Round(time.Millisecond))
		})
	}
}

// Messages are not read for a while, and Redis cuts the connection for them because too
// many have piled up. What was freed meanwhile is told by the new one's confirmation.
func TestHazardMessagesPileUp(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.redis("CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 0 0")
	held := z.mustLock(z.other)
	noise := z.mustLock(z.direct().RLock("noise"))
	w := z.waits(z.lock)
	beside := wait(z.ctx(), z.client.RLock("noise"))
	const channel = "redisson_lock__channel:{noise}"
	redistest.Eventually(z, patience, "both are subscribed", func() bool {
		return z.server.Do(z.ctx(), "PUBLISH", channel, "1").Val() == int64(1)
	})

	open := make(chan struct{})
	z.proxy.OnNext("PING", faultproxy.Gate(open)) // nothing behind it is read either
	redistest.Eventually(z, patience, "the reader is stopped", func() bool { return len(z.proxy.Log()) > 0 })
	stopped := z.proxy.PubSubConns()
	const flood = "for _ = 1, 3 do redis.call('PUBLISH', ARGV[1], string.rep('x', 65536)) end return 1"
	redistest.Eventually(z, patience, "Redis cuts the connection", func() bool {
		for range 16 {
			z.redis("EVAL", flood, "0", channel)
		}
		return z.subscribers() == 0
	})
	if log, err := os.ReadFile(filepath.Join(z.server.Dir(), "redis.log")); err != nil || !strings.Contains(string(log), "output buffer limits") {
		z.Errorf("the server's log has nothing of an output buffer: %v", err)
	}
	z.mustUnlock(held)
	if conns := z.proxy.PubSubConns(); !slices.Equal(conns, stopped) {
		z.Errorf("connections for messages: got %v, want %v, which the client still takes for good", conns, stopped)
	}
	close(open)
	z.gets(time.Second, w)
	z.mustUnlock(noise)
	z.gets(time.Second, beside)
}

func TestHazardServerRestartsWhileWaiting(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.mustLock(z.other)
	w := z.waits(z.lock)
	if err := z.server.Restart(); err != nil { // and forgets the lock
		z.Fatal(err)
	}
	z.gets(3*time.Second, w)
}

// Nobody tells that a holder has died: its lease does.
func TestHazardHolderIsKilled(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	z := newHazard(t)
	p := startProcess(t, z.server.Addr(), lease, ends)
	w := z.waits(z.lock)
	p.signal(syscall.SIGKILL)
	<-p.dead
	died := time.Now()
	left := time.Duration(z.server.Do(z.ctx(), "PTTL", "orders").Val().(int64)) * time.Millisecond
	z.waitFor(lease+500*time.Millisecond, "the next one", w.done)
	if took := w.at.Sub(died); took > left+500*time.Millisecond || took < left-50*time.Millisecond {
		z.Errorf("the next one came after %v, want %v, the rest of the lease, and half a second at most", took, left)
	}
	z.gets(0, w)
}

// Messages are hints: whoever floods the channel causes tries, fewer than messages,
// and no grant.
func TestHazardForgedMessages(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	held := z.mustLock(z.other)
	w := z.waits(z.lock)
	before := z.calls("evalsha")
	const messages = 5000
	for i := range messages / 1000 {
		text := []string{"0", "1", "", "\x00\xff", strings.Repeat("x", 10000)}[i]
		z.redis("EVAL", "for i = 1, 1000 do redis.call('PUBLISH', ARGV[1], ARGV[2]) end return 1", "0",
			"redisson_lock__channel:{orders}", text)
	}
	redistest.Eventually(z, patience, "the flood has run off", func() bool {
		n := z.calls("evalsha")
		time.Sleep(50 * time.Millisecond) // quiet is seen by waiting
		return n > before && n == z.calls("evalsha")
	})
	if tries := z.calls("evalsha") - before; tries > messages/10 {
		z.Errorf("%d forged messages caused %d tries", messages, tries)
	}
	select {
	case <-w.done:
		z.Errorf("a forged message let a waiter in: %v", w.err)
	default:
	}
	z.wantCount(held, "1")
	z.mustUnlock(held)
	z.gets(500*time.Millisecond, w)
}

// calls tells how often the server has run a command, from scripts or not.
func (z *hazard) calls(command string) (n int) {
	z.Helper()
	info, err := z.server.Do(z.ctx(), "INFO", "commandstats").Text()
	if err != nil {
		z.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if stats, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			_, _ = fmt.Sscan(stats, &n)
		}
	}
	return n
}

// A release costs each client one try or two, however many wait.
func TestHazardManyWaiters(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	const clients, waiters, turns = 4, 500, 200
	held := z.mustLock(z.other)
	ctx, cancel := context.WithCancel(z.ctx())
	var inside register
	var all sync.WaitGroup
	errs := make(chan error, clients*waiters)
	for range clients {
		l := z.direct().RLock("orders")
		for range waiters {
			all.Go(func() {
				h, err := l.Lock(ctx)
				if err != nil {
					return // cancelled below
				}
				inside.enter()
				if inside.turns.Load() >= turns {
					cancel()
				}
				inside.leave()
				if err := h.Unlock(context.Background()); err != nil {
					errs <- err
				}
			})
		}
	}
	redistest.Eventually(z, patience, "all clients are subscribed", func() bool { return z.subscribers() == clients })
	z.idles()
	// Each try that finds the lock taken looks at the hash once.
	before := z.calls("hget")
	z.mustUnlock(held)
	all.Wait()
	cancel()
	close(errs)
	for err := range errs {
		z.Errorf("Unlock: %v", err)
	}
	grants := int(inside.turns.Load())
	tries := z.calls("hget") - before
	if grants < turns || inside.overlaps.Load() > 0 {
		z.Errorf("%d grants, %d overlaps, want at least %d and none", grants, inside.overlaps.Load(), turns)
	}
	if most := 2 * clients * (grants + 1); tries > most {
		z.Errorf("%d tries for %d releases to %d clients, want at most %d", tries, grants+1, clients, most)
	}
	z.freeWithin(time.Second)
}

// idles watches the server while all wait: next to nothing is sent.
func (z *hazard) idles() {
	z.Helper()
	const watched = 2 * time.Second
	scripts, pings, subscribes := z.calls("evalsha"), z.calls("ping"), z.calls("subscribe")
	time.Sleep(watched) // idleness is seen by waiting
	scripts, pings, subscribes = z.calls("evalsha")-scripts, z.calls("ping")-pings, z.calls("subscribe")-subscribes
	// A client asks each 4.5 s at most, and a PING goes out each second of silence.
	if scripts > 8 || pings > 12 || subscribes > 0 {
		z.Errorf("in %v, 2000 waiters sent %d scripts, %d PINGs, %d SUBSCRIBEs", watched, scripts, pings, subscribes)
	}
}

// A client with a thousand waiters of one lock subscribes once, and not any more soon
// after they left.
func TestHazardSubscriptionsEnd(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	held := z.mustLock(z.other)
	ctx, cancel := context.WithCancel(z.ctx())
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			_, err := z.lock.Lock(ctx)
			z.want("Lock", err, context.Canceled)
		})
	}
	redistest.Eventually(z, patience, "they are subscribed", func() bool { return z.subscribers() == 1 })
	cancel()
	all.Wait()
	z.mustUnlock(held)
	redistest.Eventually(z, 3*time.Second, "nobody is subscribed", func() bool { return z.subscribers() == 0 })
	if n := z.calls("subscribe"); n != 1 {
		z.Errorf("subscribed %d times, want once", n)
	}
}

// Of those that wait without limit none is forgotten when the one in front leaves.
func TestHazardFrontLeaves(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	held := z.mustLock(z.other)
	front := z.waits(z.lock)
	second := wait(z.ctx(), z.lock)
	ctx, cancel := context.WithCancel(z.ctx())
	leaving := wait(ctx, z.client.RLock("orders"), holdfast.WithWait(time.Hour))
	cancel()
	z.waitFor(prompt, "the one that leaves", leaving.done)
	z.mustUnlock(held)
	for range 2 {
		select {
		case <-front.done:
			z.gets(time.Second, front)
			front.done = nil
		case <-second.done:
			z.gets(time.Second, second)
			second.done = nil
		case <-time.After(2 * time.Second):
			z.Fatal("after 2s nobody has the lock")
		}
	}
}
