package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A fair is a hazard whose lock is a fair one.
type fair struct{ *hazard }

const waiterLease = time.Second

// newFair sets the scene, and looks at its end that nothing is left of it.
func newFair(t *testing.T, opts ...holdfast.LockOption) *fair {
	t.Helper()
	z := &fair{newHazard(t)}
	z.lock = z.client.FairLock("orders", opts...)
	z.other = z.direct().FairLock("orders", opts...)
	return z
}

// queue are those that wait, the next one first.
func (z *fair) queue() []string {
	z.Helper()
	return z.members("LRANGE", keys.Queue("orders"), 0, -1)
}

func (z *fair) members(args ...any) []string {
	z.Helper()
	entries, err := z.server.Do(z.ctx(), args...).StringSlice()
	if err != nil && !errors.Is(err, redis.Nil) {
		z.Fatalf("%v: %v", args, err)
	}
	return entries
}

// listeners are the channels of waiters that somebody is subscribed to.
func (z *fair) listeners() int {
	z.Helper()
	return len(z.members("PUBSUB", "CHANNELS", "redisson_lock__channel:{orders}:*"))
}

// queues starts a waiter, and returns once it stands in the queue and is subscribed.
func (z *fair) queues(ctx context.Context, l holdfast.Lock, opts ...holdfast.AcquireOption) *waiter {
	z.Helper()
	length, listeners := len(z.queue()), z.listeners()
	w := wait(ctx, l, opts...)
	redistest.Eventually(z, patience, "it waits", func() bool {
		return len(z.queue()) > length && z.listeners() > listeners
	})
	return w
}

// clean fails the test unless nothing is left: no lock, no queue, no subscription.
func (z *fair) clean() {
	z.Helper()
	redistest.Eventually(z, 3*time.Second, "nothing is left", func() bool {
		return !z.exists("orders") && !z.exists(keys.Queue("orders")) && !z.exists(keys.Timeout("orders")) && z.listeners() == 0
	})
}

// gone waits until the queue is as short as that.
func (z *fair) gone(d time.Duration, length int) {
	z.Helper()
	redistest.Eventually(z, d, fmt.Sprintf("%d are in the queue", length), func() bool {
		return len(z.queue()) == length && len(z.members("ZRANGE", keys.Timeout("orders"), 0, -1)) == length
	})
}

func (z *fair) waits(w *waiter) {
	z.Helper()
	select {
	case <-w.done:
		z.Fatalf("it should wait, but Lock returned %v", w.err)
	default:
	}
}

// fairProcessArgs is the environment variable that makes the test binary a process with
// waiters of the fair lock "orders": the server's address, how many, their waiter lease,
// and how often each acquires; 0: once, and it keeps the lock.
const fairProcessArgs = "HOLDFAST_FAIR_PROCESS"

func runFairProcess() {
	var addr string
	var waiters, turns int
	var lease time.Duration
	if _, err := fmt.Sscan(os.Getenv(fairProcessArgs), &addr, &waiters, (*duration)(&lease), &turns); err != nil {
		panic(err)
	}
	go func() { // the parent has died when standard input ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	client, err := holdfast.New(rdb)
	if err != nil {
		panic(err)
	}
	l := client.FairLock("orders", holdfast.WithWaiterLease(lease))
	fmt.Println("held") // it has started; what it holds, the test sees in Redis
	var all sync.WaitGroup
	for range waiters {
		all.Go(func() {
			if turns == 0 {
				_, err := l.Lock(context.Background())
				fmt.Println("got", err)
				select {}
			}
			for range turns {
				takeTurn(rdb, l)
			}
		})
	}
	all.Wait()
	fmt.Println("finished")
	select {} // until standard input ends
}

// startFair starts a process.
func startFair(t *testing.T, addr string, waiters int, lease time.Duration, turns int) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %v %d", fairProcessArgs, addr, waiters, lease, turns))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, dead: make(chan struct{})}
	started := make(chan struct{})
	go p.read(out, started) // ends with the child
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		<-p.dead
	})
	select {
	case <-started:
	case <-time.After(patience):
		t.Fatal("the process did not start")
	}
	return p
}

// Five dead waiters cost one waiter lease, not five.
func TestHazardFairProcessIsKilled(t *testing.T) {
	t.Parallel()
	const lease = 2 * waiterLease
	z := newFair(t, holdfast.WithWaiterLease(lease))
	held := z.mustLock(z.other)
	p := startFair(t, z.server.Addr(), 5, lease, 0)
	z.gone(patience, 5)
	w := z.queues(z.ctx(), z.lock)
	p.signal(syscall.SIGKILL)
	<-p.dead
	free := time.Now()
	z.mustUnlock(held)
	z.waitFor(2*lease, "the one that lives has the lock", w.done)
	t.Logf("it came %v after the release, behind five dead ones", w.at.Sub(free).Round(time.Millisecond))
	z.gets(0, w)
	z.clean()
}

// The one whose turn it is stands still: it is passed after its waiter lease, and once
// it goes on it stands at the end of the queue.
func TestHazardFairHeadIsStopped(t *testing.T) {
	t.Parallel()
	const lease = 2 * waiterLease
	z := newFair(t, holdfast.WithWaiterLease(lease))
	held := z.mustLock(z.other)
	p := startFair(t, z.server.Addr(), 1, lease, 0)
	z.gone(patience, 1)
	w := z.queues(z.ctx(), z.lock)
	p.signal(syscall.SIGSTOP)
	z.mustUnlock(held)
	z.waitFor(2*lease, "the next one has the lock", w.done)
	if w.err != nil {
		z.Fatal(w.err)
	}
	last := z.queues(z.ctx(), z.other)
	p.signal(syscall.SIGCONT)
	redistest.Eventually(z, patience, "it stands in the queue again", func() bool { return len(z.queue()) == 2 })
	z.mustUnlock(w.hold)
	z.gets(time.Second, last)
	redistest.Eventually(z, patience, "it has the lock", func() bool { return p.said("got") == 1 })
	p.signal(syscall.SIGKILL)
	<-p.dead
	if _, err := z.other.ForceUnlock(z.ctx()); err != nil {
		z.Error(err)
	}
	z.clean()
}

// Whichever waiter leaves, the others keep their order, and the next one is woken.
func TestHazardFairWaiterIsCancelled(t *testing.T) {
	t.Parallel()
	z := newFair(t)
	const waiters = 5
	for position := range waiters {
		for _, free := range []bool{false, true} { // also in the very moment of the release
			held := z.mustLock(z.other)
			ctx, cancel := context.WithCancel(z.ctx())
			var all []*waiter
			for i := range waiters {
				if i == position {
					all = append(all, z.queues(ctx, z.lock))
					continue
				}
				all = append(all, z.queues(z.ctx(), z.lock))
			}
			if free {
				go cancel()
				z.mustUnlock(held)
			} else {
				cancel()
				z.waitFor(prompt, "the one that leaves", all[position].done)
				z.gone(time.Second, waiters-1)
				z.mustUnlock(held)
			}
			for i, w := range all {
				z.waitFor(500*time.Millisecond, fmt.Sprintf("number %d of the queue, %d left", i, position), w.done)
				if i == position && w.err != nil {
					z.want("Lock", w.err, context.Canceled)
					continue
				}
				z.gets(0, w)
			}
			cancel()
			z.clean()
		}
	}
}

// A step of a fair lock's waiting, told from its script.
type step int

const (
	enters step = iota
	renews
	takes
	releases // the last hold, or the place
)

func (s step) String() string {
	return [...]string{"entering", "renewal", "grant", "release"}[s]
}

// stepOf tells what a call that is one script does. EVALSHA's arguments are its hash, 3, three
// keys, what the script wants, and its name.
func stepOf(c faultproxy.Command) (s step, ok bool) {
	if c.Name != "EVALSHA" || len(c.Args) < 6 {
		return 0, false
	}
	switch arguments := c.Args[5:]; c.Args[len(c.Args)-1] {
	case "fairlock.release":
		return releases, true
	case "fairlock.acquire":
		switch {
		case arguments[6] == "1":
			return renews, true
		case arguments[5] == "0":
			return enters, true
		default:
			return takes, true
		}
	}
	return 0, false
}

// spoils decides about the next call that takes this step.
func (z *fair) spoils(s step, d faultproxy.Decision) (happened *atomic.Bool) {
	happened = new(atomic.Bool)
	z.proxy.Decide(func(c faultproxy.Command) faultproxy.Decision {
		if at, ok := stepOf(c); ok && at == s && happened.CompareAndSwap(false, true) {
			return d
		}
		return faultproxy.Pass
	})
	return happened
}

// onEachFairLoss runs a test for each way to lose a command.
func onEachFairLoss(t *testing.T, test func(z *fair, d faultproxy.Decision, executed bool)) {
	t.Parallel()
	for _, loss := range losses {
		t.Run(loss.name, func(t *testing.T) {
			t.Parallel()
			z := newFair(t)
			test(z, loss.decision, loss.executed)
			z.clean()
		})
	}
}

// One that enters twice stands there once, before those who came later.
func TestHazardFairEnteringIsLost(t *testing.T) {
	onEachFairLoss(t, func(z *fair, d faultproxy.Decision, executed bool) {
		held := z.mustLock(z.other)
		lost := z.spoils(enters, d)
		w := z.queues(z.ctx(), z.lock)
		if !lost.Load() || len(z.queue()) != 1 {
			z.Errorf("the queue: got %v, want one entry", z.queue())
		}
		later := z.queues(z.ctx(), z.other)
		z.mustUnlock(held)
		z.waitFor(time.Second, "the first one", w.done)
		z.waits(later)
		z.gets(0, w)
		z.gets(time.Second, later)
	})
}

// A free lock that is granted without the client's knowing is had by the next try.
func TestHazardFairGrantOfAFreeLockIsLost(t *testing.T) {
	onEachFairLoss(t, func(z *fair, d faultproxy.Decision, executed bool) {
		z.spoils(enters, d)
		start := time.Now()
		h := z.mustLock(z.lock)
		z.wantWithin(3*readTimeout, "Lock", start)
		z.wantCount(h, "1")
		z.mustUnlock(h)
		if z.exists("orders") {
			z.Errorf("after Unlock: got %v, want nothing", z.fields())
		}
	})
}

func TestHazardFairTryLockIsLost(t *testing.T) {
	onEachFairLoss(t, func(z *fair, d faultproxy.Decision, executed bool) {
		z.spoils(enters, d)
		_, err := z.lock.TryLock(z.ctx(), 0, 0)
		z.wantSaid("TryLock", err)
		z.freeWithin(time.Second)
	})
}

func TestHazardFairRenewalIsLost(t *testing.T) {
	t.Parallel()
	for _, loss := range losses {
		t.Run(loss.name, func(t *testing.T) {
			t.Parallel()
			z := newFair(t, holdfast.WithWaiterLease(2*waiterLease))
			held := z.mustLock(z.other)
			lost := z.spoils(renews, loss.decision)
			w := z.queues(z.ctx(), z.lock)
			me := z.queue()
			later := z.queues(z.ctx(), z.other)
			redistest.Eventually(z, patience, "a renewal is lost", lost.Load)
			time.Sleep(3 * waiterLease) // its place would be over by now
			if got := z.queue(); len(got) != 2 || got[0] != me[0] {
				z.Errorf("the queue: got %v, want %s first", got, me[0])
			}
			z.mustUnlock(held)
			z.waitFor(time.Second, "the first one", w.done)
			z.waits(later)
			z.gets(0, w)
			z.gets(time.Second, later)
			z.clean()
		})
	}
}

func TestHazardFairGrantIsLost(t *testing.T) {
	onEachFairLoss(t, func(z *fair, d faultproxy.Decision, executed bool) {
		held := z.mustLock(z.other)
		w := z.queues(z.ctx(), z.lock)
		later := z.queues(z.ctx(), z.other)
		lost := z.spoils(takes, d)
		free := time.Now()
		z.mustUnlock(held)
		z.waitFor(2*time.Second, "the first one", w.done)
		z.wantWithin(3*readTimeout, "the first one", free)
		if !lost.Load() {
			z.Error("nothing was lost")
		}
		z.waits(later)
		z.gets(0, w)
		z.gets(time.Second, later)
	})
}

func TestHazardFairReleaseIsLost(t *testing.T) {
	onEachFairLoss(t, func(z *fair, d faultproxy.Decision, executed bool) {
		h := z.mustLock(z.lock)
		w := z.queues(z.ctx(), z.other)
		z.spoils(releases, d)
		z.mustUnlock(h)
		z.gets(time.Second, w)
	})
}

// One that leaves is out within a second or so, and the one behind it has its turn.
func TestHazardFairLeavingIsLost(t *testing.T) {
	onEachFairLoss(t, func(z *fair, d faultproxy.Decision, executed bool) {
		held := z.mustLock(z.other)
		ctx, cancel := context.WithCancel(z.ctx())
		w := z.queues(ctx, z.lock)
		later := z.queues(z.ctx(), z.other)
		lost := z.spoils(releases, d)
		cancel()
		z.waitFor(prompt, "the one that leaves", w.done)
		z.want("Lock", w.err, context.Canceled)
		z.gone(1500*time.Millisecond, 1)
		if !lost.Load() {
			z.Error("nothing was lost")
		}
		z.mustUnlock(held)
		z.gets(time.Second, later)
	})
}

// Entering is executed after its caller has gone and left: what comes late is taken
// back, too.
func TestHazardFairEnteringIsExecutedLate(t *testing.T) {
	t.Parallel()
	for _, free := range []bool{true, false} {
		t.Run(fmt.Sprint("the lock is free: ", free), func(t *testing.T) {
			t.Parallel()
			z := newFair(t)
			var held holdfast.Hold
			if !free {
				held = z.mustLock(z.other)
			}
			gate := make(chan struct{})
			hangs := z.spoils(enters, faultproxy.GateRequest(gate))
			ctx, cancel := context.WithCancel(z.ctx())
			w := wait(ctx, z.lock)
			redistest.Eventually(z, patience, "it enters", hangs.Load)
			cancel()
			z.waitFor(prompt, "the one that leaves", w.done)
			redistest.Eventually(z, patience, "it has been told that it has nothing", func() bool { return z.calls("hdel") > 1 })
			close(gate)
			if !free {
				time.Sleep(2 * readTimeout) // what comes late comes within the client's own timeout; that it does no harm is seen by waiting
				z.gone(1500*time.Millisecond, 0)
				z.mustUnlock(held)
			}
			z.clean()
		})
	}
}

// Its ctx ends while the grant is on its way back: the next one has it at once.
func TestHazardFairGrantRacesCancel(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]time.Duration{
		"the reply comes soon":                     0,
		"the reply comes after the client gave up": 2 * readTimeout,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := newFair(t)
			held := z.mustLock(z.other)
			ctx, cancel := context.WithCancel(z.ctx())
			w := z.queues(ctx, z.lock)
			later := z.queues(z.ctx(), z.other)
			gate := make(chan struct{})
			z.spoils(takes, faultproxy.Gate(gate))
			z.mustUnlock(held)
			redistest.Eventually(z, patience, "it is granted", func() bool { return len(z.proxy.Log()) > 0 })
			start := time.Now()
			cancel()
			z.waitFor(prompt, "Lock returns", w.done)
			z.want("Lock", w.err, context.Canceled)
			time.AfterFunc(delay, func() { close(gate) }) // the delay is the scene
			z.waitFor(500*time.Millisecond, "the next one", later.done)
			z.wantWithin(500*time.Millisecond, "the way to the next one", start)
			z.gets(0, later)
			z.clean()
		})
	}
}

// A free lock, nobody waits, and the caller leaves while the grant is on its way.
func TestHazardFairFirstGrantRacesCancel(t *testing.T) {
	t.Parallel()
	z := newFair(t)
	gate := make(chan struct{})
	z.spoils(enters, faultproxy.Gate(gate))
	ctx, cancel := context.WithCancel(z.ctx())
	w := wait(ctx, z.lock)
	redistest.Eventually(z, patience, "it is granted", func() bool { return len(z.proxy.Log()) > 0 })
	later := z.queues(z.ctx(), z.other)
	cancel()
	z.waitFor(prompt, "Lock returns", w.done)
	z.waitFor(500*time.Millisecond, "the next one", later.done)
	close(gate)
	z.gets(0, later)
	z.clean()
}

func TestHazardFairCancelledAtAnyInstant(t *testing.T) {
	t.Parallel()
	z := newFair(t)
	held := z.mustLock(z.other)
	var callers sync.WaitGroup
	for _, instant := range instants(150, 300*time.Millisecond) {
		callers.Go(func() { z.cancelled(z.lock, instant) })
	}
	time.Sleep(100 * time.Millisecond) // the 150 instants lie within 300 ms; the release is to fall among them
	z.mustUnlock(held)
	callers.Wait()
	z.gone(2*time.Second, 0)
	z.clean()
	z.gets(slack, wait(z.ctx(), z.other))
	z.clean()
}

// Close ends all waiters, and their places.
func TestHazardFairCloseWithWaiters(t *testing.T) {
	t.Parallel()
	z := newFair(t)
	held := z.mustLock(z.other)
	var all []*waiter
	for range 5 {
		all = append(all, z.queues(z.ctx(), z.lock))
	}
	later := z.queues(z.ctx(), z.other)
	start := time.Now()
	z.want("Close", z.client.Close(), nil)
	z.wantWithin(time.Second, "Close", start)
	for _, w := range all {
		z.waitFor(prompt, "a waiter", w.done)
		z.want("Lock", w.err, holdfast.ErrClosed)
	}
	z.gone(0, 1)
	z.mustUnlock(held)
	z.gets(500*time.Millisecond, later)
	z.clean()
}

// Messages do not come: the next renewal tells.
func TestHazardFairDeafSubscription(t *testing.T) {
	t.Parallel()
	for name, deafen := range map[string]func(z *fair){
		"half-open, and so is every new one": func(z *fair) { z.proxy.BlackHolePubSub(true) },
		"half-open, and a new one is not": func(z *fair) {
			for _, conn := range z.proxy.PubSubConns() {
				z.proxy.BlackHoleOne(conn)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := newFair(t)
			held := z.mustLock(z.other)
			w := z.queues(z.ctx(), z.lock)
			deafen(z)
			z.mustUnlock(held)
			start := time.Now()
			z.gets(6*time.Second, w)
			t.Logf("it came after %v", time.Since(start).Round(time.Millisecond))
			z.proxy.BlackHolePubSub(false)
			z.proxy.KillAll()
			z.clean()
		})
	}
}

// The subscription is confirmed after the release: the confirmation wakes.
func TestHazardFairFreedBetweenTryAndSubscribe(t *testing.T) {
	t.Parallel()
	z := newFair(t)
	held := z.mustLock(z.other)
	gate := make(chan struct{})
	z.proxy.OnNext("SUBSCRIBE", faultproxy.GateRequest(gate))
	w := wait(z.ctx(), z.lock)
	redistest.Eventually(z, patience, "it subscribes", func() bool { return len(z.proxy.Log()) > 0 })
	z.mustUnlock(held)
	close(gate)
	z.gets(500*time.Millisecond, w)
	z.clean()
}

// Nobody tells that a holder has died: the next one's timer does.
func TestHazardFairHolderDies(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	z := newFair(t)
	start := time.Now()
	if _, err := z.lock.TryLock(z.ctx(), 0, lease); err != nil {
		z.Fatal(err)
	}
	z.proxy.BlackHole(true) // it cannot release
	w := z.queues(z.ctx(), z.other)
	z.waitFor(lease+500*time.Millisecond, "the next one", w.done)
	if took := w.at.Sub(start); took < lease-50*time.Millisecond || took > lease+500*time.Millisecond {
		z.Errorf("the next one came after %v, want %v, the lease, and half a second at most", took, lease)
	}
	z.gets(0, w)
	z.proxy.BlackHole(false)
	z.clean()
}

func TestHazardFairScriptFlush(t *testing.T) {
	t.Parallel()
	z := newFair(t)
	patient := z.ctx()
	ctx, cancel := context.WithCancel(patient) // ends when there was enough
	defer cancel()
	var workers sync.WaitGroup
	var inside register
	for range 3 {
		l := z.direct().FairLock("orders")
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
	for every := time.NewTicker(3 * time.Millisecond); inside.turns.Load() < 200; <-every.C {
		if patient.Err() != nil {
			z.Fatalf("only %d turns", inside.turns.Load())
		}
		z.redis("SCRIPT", "FLUSH")
	}
	cancel()
	workers.Wait()
	if n := inside.overlaps.Load(); n > 0 {
		z.Errorf("%d overlaps", n)
	}
	z.clean()
}

func TestHazardFairForceUnlockWakesTheHead(t *testing.T) {
	t.Parallel()
	z := newFair(t)
	held := z.mustLock(z.other)
	w := z.queues(z.ctx(), z.lock)
	later := z.queues(z.ctx(), z.other)
	if ok, err := z.other.ForceUnlock(z.ctx()); err != nil || !ok {
		z.Errorf("ForceUnlock: got %v, %v", ok, err)
	}
	z.waitFor(500*time.Millisecond, "the first one", w.done)
	z.waits(later)
	z.want("the holder's Unlock", held.Unlock(z.ctx()), holdfast.ErrLost)
	z.wantCount(w.hold, "1")
	z.gets(0, w)
	z.gets(500*time.Millisecond, later)
	z.clean()
}

// Who has the lock re-enters before those who wait.
func TestHazardFairReentryWhileOthersWait(t *testing.T) {
	t.Parallel()
	z := newFair(t)
	outer := z.mustLock(z.lock)
	w := z.queues(z.ctx(), z.other)
	inner, err := z.lock.Lock(outer.Context(z.ctx()))
	if err != nil {
		z.Fatal(err)
	}
	z.wantCount(outer, "2")
	z.mustUnlock(inner)
	z.wantCount(outer, "1")
	z.waits(w)
	if n, err := z.lock.HoldCount(outer.Context(z.ctx())); n != 1 || err != nil {
		z.Errorf("HoldCount: got %d, %v, want 1", n, err)
	}
	z.mustUnlock(outer)
	z.gets(500*time.Millisecond, w)
	z.clean()
}

// A dead head in front of fifty: nobody asks but the next one, once.
func TestHazardFairDeadHeadIsQuiet(t *testing.T) {
	t.Parallel()
	const lease, clients, waiters = 7 * time.Second, 3, 50
	z := newFair(t)
	held := z.mustLock(z.other)
	p := startFair(t, z.server.Addr(), 1, lease, 0)
	z.gone(patience, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	var first *waiter
	var rest sync.WaitGroup
	var locks []holdfast.Lock
	for range clients {
		locks = append(locks, z.direct().FairLock("orders"))
	}
	for i := range waiters {
		w := wait(ctx, locks[i%clients])
		if i == 0 {
			first = w
		} else {
			rest.Go(func() { <-w.done })
		}
		redistest.Eventually(z, patience, "it waits", func() bool { return len(z.queue()) == i+2 })
	}
	redistest.Eventually(z, patience, "all are subscribed", func() bool { return z.listeners() == waiters+1 })
	p.signal(syscall.SIGKILL)
	<-p.dead
	scripts, start := z.calls("evalsha"), time.Now()
	z.mustUnlock(held)
	z.waitFor(lease+500*time.Millisecond, "the next one", first.done)
	took := time.Since(start)
	scripts = z.calls("evalsha") - scripts
	// A client renews the places of all its waiters in one call, every 2.3 seconds or so; and
	// there is the next one's try and the release.
	if most := 3 * int(took.Seconds()); scripts > most {
		z.Errorf("in %v, %d waiters behind a dead one sent %d scripts, want at most %d", took, waiters, scripts, most)
	}
	t.Logf("in %v, %d waiters behind a dead one sent %d scripts", took.Round(time.Millisecond), waiters, scripts)
	cancel()
	rest.Wait()
	z.gets(0, first)
	z.clean()
}

// However many single attempts there are: while somebody waits, none has the lock.
func TestHazardFairTryLockNeverJumps(t *testing.T) {
	t.Parallel()
	z := newFair(t)
	ctx, cancel := context.WithCancel(z.ctx())
	held := z.mustLock(z.other)
	var all []*waiter
	for range 10 {
		all = append(all, z.queues(z.ctx(), z.lock))
	}
	var storm sync.WaitGroup
	var tries, jumped atomic.Int64
	left := make(chan struct{}) // closed when the queue is empty
	for range 2 {
		l := z.direct().FairLock("orders")
		for range 3 {
			storm.Go(func() {
				for ctx.Err() == nil {
					h, err := l.TryLock(z.ctx(), 0, 0)
					tries.Add(1)
					if err == nil {
						select {
						case <-left:
						default:
							jumped.Add(1)
						}
						err = h.Unlock(z.ctx())
					}
					if err != nil && !errors.Is(err, holdfast.ErrNotAcquired) {
						t.Logf("TryLock: %v", err) // of a busy machine
					}
				}
			})
		}
	}
	z.mustUnlock(held)
	for i, w := range all {
		z.waitFor(500*time.Millisecond, "the next one", w.done)
		time.Sleep(10 * time.Millisecond) // its work
		if i == len(all)-1 {
			close(left)
		}
		z.gets(0, w)
	}
	cancel()
	storm.Wait()
	if tries.Load() < 100 || jumped.Load() > 0 {
		z.Errorf("%d of %d tries jumped the queue, want none of at least 100", jumped.Load(), tries.Load())
	}
	z.clean()
}

func TestHazardFairSentinelFailover(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	sentinel := redistest.StartSentinel(t, 1)
	z := &fair{&hazard{T: t, server: sentinel.Master()}}
	lock := func() holdfast.Lock {
		c := z.newClient(sentinel.Client(t), holdfast.WithWatchdogTimeout(lease))
		return c.FairLock("orders", holdfast.WithWaiterLease(lease))
	}
	h := z.mustLock(lock())
	mine := lock()
	patient, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	var all []*waiter
	for range 3 {
		all = append(all, z.queues(patient, mine))
	}
	old := sentinel.Master()
	old.Kill()
	sentinel.WaitNewMaster(t, old)
	z.server = sentinel.Master()
	select {
	case <-h.Done():
		z.want("the hold", h.Err(), holdfast.ErrLost)
	case <-time.After(lease + lease/3): // by then it was renewed at the new master, or is lost
		z.mustUnlock(h)
	}
	var inside register
	var each sync.WaitGroup
	for _, w := range all {
		each.Go(func() {
			<-w.done
			if w.err != nil {
				z.Errorf("a waiter: %v", w.err)
				return
			}
			inside.enter()
			time.Sleep(10 * time.Millisecond) // its work
			inside.leave()
			if err := w.hold.Unlock(patient); err != nil {
				z.Errorf("Unlock: %v", err)
			}
		})
	}
	done := make(chan struct{})
	go func() { each.Wait(); close(done) }() // ends with the waiters
	z.waitFor(2*lease+6*time.Second, "all have had it", done)
	if inside.overlaps.Load() > 0 {
		z.Errorf("%d overlaps", inside.overlaps.Load())
	}
	z.clean()
}

// The slot moves back and forth under waiters of a fair lock.
func TestHazardFairSlotMoves(t *testing.T) {
	t.Parallel()
	z := newClustered(t, 2, 0)
	const moves = 4
	ctx, cancel := context.WithCancel(context.Background())
	patient, end := context.WithTimeout(context.Background(), 4*patience)
	defer end()
	var inside register
	var slowest time.Duration // not atomic: the race detector watches the lock
	var workers sync.WaitGroup
	for range 2 {
		l := z.connect().FairLock("orders")
		for range 3 {
			workers.Go(func() {
				for ctx.Err() == nil {
					start := time.Now()
					h, err := l.Lock(patient)
					if err != nil {
						z.Errorf("Lock: %v", err)
						return
					}
					inside.enter()
					slowest = max(slowest, time.Since(start))
					inside.leave()
					if err := h.Unlock(patient); err != nil {
						z.Errorf("Unlock: %v", err)
					}
				}
			})
		}
	}
	from := z.cluster.MasterOf("orders")
	to := z.cluster.Nodes[1-slices.Index(z.cluster.Nodes, from)]
	for range moves {
		before := inside.turns.Load()
		z.cluster.MoveSlot(t, keys.Slot("orders"), from, to)
		from, to = to, from
		redistest.Eventually(t, patience, "the workers have gone on", func() bool { return inside.turns.Load() > before+20 })
		redistest.Eventually(t, patience, "the masters agree", func() bool { return z.epoch(from) == z.epoch(to) })
	}
	cancel()
	workers.Wait()
	if n := inside.overlaps.Load(); n > 0 {
		z.Errorf("%d overlaps", n)
	}
	t.Logf("%d turns, the slowest Lock took %v", inside.turns.Load(), slowest.Round(time.Millisecond))
	left := from.Do(z.ctx(), "KEYS", "*orders*").String()
	if !strings.HasSuffix(left, "[]") {
		z.Errorf("left: %s", left)
	}
}
