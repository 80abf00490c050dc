package holdfast_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// prompt bounds the way back to a caller whose ctx ended.
const prompt = 100 * time.Millisecond

// cancelled acquires with a ctx that is cancelled after d, and fails the test if the
// call comes back late or with an error that hides the cancelling. An acquisition
// that was faster is released.
func (z *hazard) cancelled(l holdfast.Lock, d time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	var at time.Time
	timer := time.AfterFunc(d, func() { at = time.Now(); cancel() })
	h, err := l.Lock(ctx)
	if !timer.Stop() {
		<-ctx.Done() // so that at is written
		z.wantWithin(prompt, "a cancelled Lock", at)
	}
	cancel()
	switch {
	case err == nil:
		z.want("Unlock", h.Unlock(context.Background()), nil)
	case !errors.Is(err, context.Canceled), errors.Is(err, holdfast.ErrNotAcquired):
		z.Errorf("a cancelled Lock: got %v, want context.Canceled", err)
	}
}

// instants are seeded: the same in every run.
func instants(n int, most time.Duration) []time.Duration {
	random := rand.New(rand.NewPCG(20, 26))
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = time.Duration(random.Int64N(int64(most)))
	}
	return all
}

func TestHazardCancelledAtAnyInstant(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	gates := make(chan chan struct{}, 1)
	z.proxy.Decide(func(c faultproxy.Command) faultproxy.Decision {
		select {
		case gate := <-gates:
			if c.N%2 == 0 {
				return faultproxy.GateRequest(gate)
			}
			return faultproxy.Gate(gate)
		default:
			return faultproxy.Pass
		}
	})
	for i, instant := range instants(300, 3*time.Millisecond) {
		gate := make(chan struct{})
		if i%3 == 0 {
			gates <- gate // the next command hangs until after the cancelling
		}
		z.cancelled(z.lock, instant)
		close(gate)
		select {
		case <-gates:
		default:
		}
	}
	z.proxy.Decide(nil)
	z.freeWithin(2 * time.Second)
	z.gets(slack, wait(z.ctx(), z.other))
}

var cancellations = flag.Int64("hazard.cancellations", 0,
	"how many calls TestHazardCancelledByTheThousand cancels; 0: as many as three seconds take")

// Callers of all kinds leave at random instants, many at once: before their question is
// sent, while it is under way, in the queue, while the lock is being handed to them. Nobody
// is inside beside another one, and nothing is left: no key, no place in a queue, no
// subscription; goroutines are counted when all tests are done.
func TestHazardCancelledByTheThousand(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	var locks []holdfast.Lock
	var registers []*register // one for each name: two clients have each of them
	for c := range 2 {
		client := z.direct()
		for i := range 4 {
			locks = append(locks, client.RLock(fmt.Sprint("orders", i)), client.FairLock(fmt.Sprint("fair", i)))
			if c == 0 {
				registers = append(registers, new(register), new(register))
			}
		}
	}
	var cancelled, acquired, failed atomic.Int64
	var callers sync.WaitGroup
	start := time.Now()
	enough := func() bool {
		if *cancellations == 0 {
			return time.Since(start) > 3*time.Second && cancelled.Load() >= 1000 && acquired.Load() > 0
		}
		return cancelled.Load() >= *cancellations
	}
	for n := range uint64(32) {
		callers.Go(func() {
			random := rand.New(rand.NewPCG(2026, n))
			for failed.Load() == 0 && !enough() {
				i := random.IntN(len(locks))
				ctx, cancel := context.WithCancel(context.Background())
				timer := time.AfterFunc(time.Microsecond<<random.IntN(14)+time.Duration(random.IntN(1000)), cancel) // up to 8 ms
				h, err := locks[i].Lock(ctx)
				timer.Stop()
				cancel()
				switch {
				case err == nil:
					acquired.Add(1)
					registers[i%len(registers)].enter()
					registers[i%len(registers)].leave()
					if err := h.Unlock(ctx); err != nil {
						failed.Add(1)
						z.Errorf("Unlock: %v", err)
					}
				case !errors.Is(err, context.Canceled), errors.Is(err, holdfast.ErrNotAcquired):
					failed.Add(1)
					z.Errorf("a cancelled Lock: got %v, want context.Canceled", err)
				default:
					cancelled.Add(1)
				}
			}
		})
	}
	callers.Wait()
	if acquired.Load() == 0 {
		z.Error("nobody ever acquired: the cancelling met no grant")
	}
	for i, r := range registers {
		if n := r.overlaps.Load(); n > 0 {
			z.Errorf("%s: %d overlaps, want none", locks[i].Name(), n)
		}
	}
	z.Logf("%d cancelled, %d acquired", cancelled.Load(), acquired.Load())
	redistest.Eventually(z, 5*time.Second, "nothing is left", func() bool {
		keys, err := z.server.Do(z.ctx(), "KEYS", "*").StringSlice()
		channels, err2 := z.server.Do(z.ctx(), "PUBSUB", "CHANNELS").Slice()
		return err == nil && err2 == nil && len(keys) == 0 && len(channels) == 0
	})
}

// The outer hold survives whatever becomes of re-entries that are cancelled.
func TestHazardReentryIsCancelledAtAnyInstant(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	outer := z.mustLock(z.lock)
	gates := make(chan chan struct{}, 1)
	z.proxy.Decide(func(c faultproxy.Command) faultproxy.Decision {
		select {
		case gate := <-gates:
			if c.N%2 == 0 {
				return faultproxy.GateRequest(gate)
			}
			return faultproxy.Gate(gate)
		default:
			return faultproxy.Pass
		}
	})
	for i, instant := range instants(100, 2*time.Millisecond) {
		gate := make(chan struct{})
		if i%4 == 0 {
			gates <- gate
		}
		ctx, cancel := context.WithCancel(outer.Context(context.Background()))
		timer := time.AfterFunc(instant, cancel)
		inner, err := z.lock.Lock(ctx)
		timer.Stop()
		cancel()
		close(gate)
		if err == nil {
			z.want("inner Unlock", inner.Unlock(z.ctx()), nil)
		} else if !errors.Is(err, context.Canceled) {
			z.Errorf("a cancelled re-entry: %v", err)
		}
		z.want("the outer hold", outer.Err(), nil)
		select {
		case <-gates:
		default:
		}
	}
	z.proxy.Decide(nil)
	if got := z.fields(); len(got) != 1 || got[outer.Owner()] == "" {
		z.Errorf("in Redis: got %v, want the outer owner alone", got)
	}
	z.mustUnlock(outer)
	z.freeWithin(2 * time.Second)
	z.gets(slack, wait(z.ctx(), z.other))
}

// The outer hold is unlocked while a re-entry hangs, and the re-entry is executed after
// that: it finds the hold gone and takes nothing.
func TestHazardReentryHangsDuringUnlock(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	outer := z.mustLock(z.lock)
	gate := make(chan struct{})
	z.spoil(faultproxy.GateRequest(gate))
	w := wait(outer.Context(z.ctx()), z.lock)
	redistest.Eventually(z, patience, "the re-entry hangs", func() bool { return len(z.proxy.Log()) > 0 })
	start := time.Now()
	z.want("Unlock", outer.Unlock(z.ctx()), nil)
	z.wantWithin(3*time.Second, "Unlock", start)
	z.waitFor(3*time.Second, "the re-entry returns", w.done)
	if w.err == nil { // it came first: the lock is its
		z.wantCount(w.hold, "1")
		z.mustUnlock(w.hold)
	}
	close(gate)
	z.freeWithin(2 * time.Second)
	z.gets(slack, wait(z.ctx(), z.other))
}

func TestHazardCancelledWhileWaiting(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	held := z.mustLock(z.other)
	var waiters sync.WaitGroup
	for _, instant := range instants(100, 300*time.Millisecond) {
		waiters.Go(func() { z.cancelled(z.lock, instant) })
	}
	waiters.Wait()
	z.wantCount(held, "1")
	z.mustUnlock(held)
	z.freeWithin(time.Second)
	redistest.Eventually(z, 3*time.Second, "nobody is subscribed", func() bool { return z.subscribers() == 0 })
}

func TestHazardCancelledInABlackHole(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.proxy.BlackHole(true)
	var callers sync.WaitGroup
	for i, instant := range instants(50, 500*time.Millisecond) {
		callers.Go(func() { z.cancelled(z.client.RLock(fmt.Sprint("orders", i)), instant) })
	}
	callers.Wait()
	z.proxy.BlackHole(false)
	redistest.Eventually(z, 3*time.Second, "nothing is locked", func() bool {
		n, err := z.server.Do(z.ctx(), "DBSIZE").Int()
		return err == nil && n == 0
	})
}

func TestHazardTryLockInABlackHole(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	fresh := z.newClient(z.dial(z.proxy.Addr())).RLock("orders") // has no connection yet
	z.proxy.BlackHole(true)
	for name, l := range map[string]holdfast.Lock{"a connection that fell silent": z.lock, "no connection yet": fresh} {
		start := time.Now()
		_, err := l.TryLock(z.ctx(), 200*time.Millisecond, 0)
		z.wantSaid(name, err, "did not answer")
		if took := time.Since(start); took < 190*time.Millisecond || took > 200*time.Millisecond+slack {
			z.Errorf("%s: TryLock(200ms) took %v", name, took)
		}
		start = time.Now()
		_, err = l.TryLock(z.ctx(), 0, 0)
		z.wantSaid(name, err)
		z.wantWithin(3*time.Second, "one attempt", start)
	}
}

// A waiter that was told "taken" before the silence knows why it goes without.
func TestHazardSilenceWhileWaiting(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.mustLock(z.other)
	result := make(chan error)
	go func() { // ends with its wait
		_, err := z.lock.TryLock(context.Background(), 500*time.Millisecond, 0)
		result <- err
	}()
	redistest.Eventually(z, patience, "it waits", func() bool { return z.subscribers() > 0 })
	z.proxy.BlackHole(true)
	z.want("TryLock", <-result, holdfast.ErrNotAcquired)
}

func TestHazardUnlockWithAnEndedContext(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	ctx, cancel := context.WithCancel(z.ctx())
	h, err := z.lock.Lock(ctx)
	if err != nil {
		z.Fatal(err)
	}
	cancel()
	z.want("the hold", h.Err(), nil)
	z.want("Unlock", h.Unlock(ctx), nil)
	if z.exists("orders") {
		z.Errorf("after Unlock: got %v, want nothing", z.fields())
	}
}

// The grant is on its way back while the caller leaves: it is taken back.
func TestHazardGrantRacesCancel(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]time.Duration{
		"the reply comes soon":                     0,
		"the reply comes after the client gave up": 2 * readTimeout,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			gate := make(chan struct{})
			z.spoil(faultproxy.Gate(gate))
			ctx, cancel := context.WithCancel(z.ctx())
			w := wait(ctx, z.lock)
			redistest.Eventually(z, patience, "it is granted", func() bool { return len(z.proxy.Log()) > 0 })
			start := time.Now()
			cancel()
			z.waitFor(prompt, "Lock returns", w.done)
			z.want("Lock", w.err, context.Canceled)
			time.AfterFunc(delay, func() { close(gate) }) // the delay is the scene
			z.freeWithin(time.Second)
			z.wantWithin(time.Second, "the way to freedom", start)
			z.gets(slack, wait(z.ctx(), z.other))
		})
	}
}

// The acquire is executed after the caller has gone and the undo has been answered
// "gone": the undo comes again.
func TestHazardAcquireIsExecutedLate(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(z *hazard) error{
		"the caller is cancelled": func(z *hazard) error {
			ctx, cancel := context.WithTimeout(z.ctx(), 50*time.Millisecond)
			defer cancel()
			_, err := z.lock.Lock(ctx)
			return err
		},
		"the client times out": func(z *hazard) error {
			_, err := z.lock.TryLock(z.ctx(), 0, 0)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			monitor := z.server.Monitor(t)
			gate := make(chan struct{})
			z.spoil(faultproxy.GateRequest(gate))
			z.wantSaid(name, call(z))
			ran := func(command string) (n int) {
				for _, line := range monitor() {
					if line == command {
						n++
					}
				}
				return n
			}
			owner := ""
			redistest.Eventually(z, patience, "the undo names the owner", func() bool {
				owner = ownerOfFirst(monitor())
				return owner != ""
			})
			gone := fmt.Sprintf(`lua "HDEL" "orders" %q`, owner)
			redistest.Eventually(z, patience, "the undo is told \"gone\"", func() bool { return ran(gone) >= 2 })
			close(gate)
			taken := fmt.Sprintf(`lua "HSET" "orders" %q "1"`, owner)
			redistest.Eventually(z, patience, "the acquire is executed", func() bool { return ran(taken) == 1 })
			z.freeWithin(1500 * time.Millisecond)
		})
	}
}

// ownerOfFirst finds whose field the first command on "orders" is about.
func ownerOfFirst(lines []string) string {
	for _, line := range lines {
		var owner string
		if n, _ := fmt.Sscanf(line, `lua "HDEL" "orders" %q`, &owner); n == 1 {
			return owner
		}
	}
	return ""
}

func TestHazardServerIsDown(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	// The kernel refuses its dials, a proxy would accept them. By default go-redis tries for 0.4 s.
	rdb := z.dial(z.server.Addr(), func(o *redis.Options) { o.DialerRetries = 1 })
	lock := z.newClient(rdb).RLock("orders")
	z.server.Kill()
	start := time.Now()
	_, err := lock.TryLock(z.ctx(), 500*time.Millisecond, 0)
	z.wantSaid("TryLock(500ms)", err, "connection refused")
	z.wantWithin(500*time.Millisecond, "TryLock(500ms)", start)
	_, err = lock.TryLock(z.ctx(), 0, 0)
	z.wantSaid("TryLock(0)", err, "connection refused")
	w := wait(z.ctx(), lock)
	if err := z.server.Restart(); err != nil {
		z.Fatal(err)
	}
	z.gets(3*time.Second, w)
}

func TestHazardPoolIsExhausted(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	rdb := z.dial(z.server.Addr(), func(o *redis.Options) { o.PoolSize, o.PoolTimeout = 1, 100*time.Millisecond })
	lock := z.newClient(rdb).RLock("orders")
	hog := make(chan error)
	go func() { hog <- rdb.BLPop(context.Background(), 0, "nothing").Err() }() // ends with the push below
	redistest.Eventually(z, patience, "the pool is empty", func() bool { return rdb.PoolStats().IdleConns == 0 && rdb.PoolStats().TotalConns == 1 })
	_, err := lock.TryLock(z.ctx(), 300*time.Millisecond, 0)
	z.wantSaid("TryLock", err, "pool")
	w := wait(z.ctx(), lock)
	z.redis("RPUSH", "nothing", "x")
	z.want("the hog", <-hog, nil)
	z.gets(3*time.Second, w)
}
