package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestHazardUnlockAfterTheLease(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	h, err := z.lock.TryLock(z.ctx(), 0, 500*time.Millisecond)
	if err != nil {
		z.Fatal(err)
	}
	theirs := z.mustLock(z.other)
	z.want("Err", h.Err(), holdfast.ErrLost)
	z.want("Extend", h.Extend(z.ctx(), time.Minute), holdfast.ErrLost)
	_, err = z.lock.Lock(context.WithoutCancel(h.Context(z.ctx())))
	z.want("re-entry", err, holdfast.ErrLost)
	z.want("Unlock", h.Unlock(z.ctx()), holdfast.ErrLost)
	z.want("a second Unlock", h.Unlock(z.ctx()), nil)
	z.wantCount(theirs, "1")
	z.want("the hold of the other", theirs.Err(), nil)
	z.mustUnlock(theirs)
}

// A renewal that is executed after the release must not bring the lock back, nor
// lengthen the lease of who has it now.
func TestHazardRenewalIsExecutedAfterUnlock(t *testing.T) {
	t.Parallel()
	for name, taken := range map[string]bool{"the lock is free": false, "another one has it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t, holdfast.WithWatchdogTimeout(2*time.Second))
			monitor := z.server.Monitor(t)
			h := z.mustLock(z.lock)
			gate := make(chan struct{})
			z.spoil(faultproxy.GateRequest(gate))
			redistest.Eventually(z, 2*time.Second, "a renewal is under way", func() bool { return len(z.proxy.Log()) > 0 })
			if c := z.proxy.Log()[0].Command; !slices.Contains(c.Args, "rlock.renew") {
				z.Fatalf("held back %v, which is no renewal", c.Args)
			}
			z.mustUnlock(h)
			z.want("Err", h.Err(), holdfast.ErrUnlocked)
			var theirs holdfast.Hold
			if taken {
				var err error
				if theirs, err = z.other.TryLock(z.ctx(), 0, 1500*time.Millisecond); err != nil {
					z.Fatal(err)
				}
			}
			close(gate)
			renewal := fmt.Sprintf(`lua "HEXISTS" "orders" %q`, h.Owner())
			redistest.Eventually(z, patience, "the renewal is executed", func() bool { return slices.Contains(monitor(), renewal) })
			if !taken {
				if z.exists("orders") {
					z.Errorf("afterwards: got %v, want nothing", z.fields())
				}
				return
			}
			z.wantCount(theirs, "1")
			if ttl, err := z.other.RemainingTTL(z.ctx()); err != nil || ttl > 1500*time.Millisecond {
				z.Errorf("RemainingTTL: got %v %v, want what is left of 1.5s", ttl, err)
			}
			z.mustUnlock(theirs)
		})
	}
}

// However a process ends, its locks end with their leases, and not before.
func TestHazardProcessEnds(t *testing.T) {
	t.Parallel()
	const lease = 1500 * time.Millisecond
	for name, end := range map[string]string{"kill -9": ends, "os.Exit": exits, "panic": panics} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			p := startProcess(t, z.server.Addr(), lease, end)
			if end == ends {
				p.signal(syscall.SIGKILL)
			}
			<-p.dead
			died := time.Now()
			if !z.exists("orders") {
				z.Error("the lock ended with the process: its lease is for work that may still be on its way")
			}
			z.freeWithin(lease + slack)
			z.wantWithin(lease, "the end of the lock", died)
		})
	}
}

func TestHazardClose(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	held := z.mustLock(z.other)
	waiting := []*waiter{z.waits(z.lock), wait(z.ctx(), z.lock), wait(z.ctx(), z.client.RLock("orders"), holdfast.WithWait(time.Hour))}
	open := z.mustLock(z.client.RLock("other orders"))
	ctx := open.Context(z.ctx())

	start := time.Now()
	z.want("Close", z.client.Close(), nil)
	z.wantWithin(time.Second, "Close", start)
	for _, w := range waiting {
		z.waitFor(prompt, "a waiter returns", w.done)
		z.want("a waiter", w.err, holdfast.ErrClosed)
	}
	z.waitFor(0, "Done of an open hold", open.Done())
	z.want("Err of an open hold", open.Err(), holdfast.ErrClosed)
	z.want("the cause of its context", context.Cause(ctx), holdfast.ErrClosed)
	if !z.exists("other orders") {
		z.Error("Close released a hold whose work may still be running")
	}
	z.wantCount(held, "1")

	for deed, call := range map[string]func() error{
		"Lock":         func() error { _, err := z.lock.Lock(z.ctx()); return err },
		"TryLock":      func() error { _, err := z.lock.TryLock(z.ctx(), 0, 0); return err },
		"Do":           func() error { return z.lock.Do(z.ctx(), func(context.Context) error { return nil }) },
		"ForceUnlock":  func() error { _, err := z.lock.ForceUnlock(z.ctx()); return err },
		"IsLocked":     func() error { _, err := z.lock.IsLocked(z.ctx()); return err },
		"IsHeld":       func() error { _, err := z.lock.IsHeld(ctx); return err },
		"HoldCount":    func() error { _, err := z.lock.HoldCount(z.ctx()); return err },
		"RemainingTTL": func() error { _, err := z.lock.RemainingTTL(z.ctx()); return err },
		"Extend":       func() error { return open.Extend(z.ctx(), time.Minute) },
		"Check":        func() error { return z.client.Check(z.ctx()) },
	} {
		z.want(deed+" after Close", call(), holdfast.ErrClosed)
	}
	z.want("Unlock after Close", open.Unlock(z.ctx()), nil)
	if z.exists("other orders") {
		z.Error("Unlock after Close released nothing")
	}
	z.want("a second Close", z.client.Close(), nil)
	z.want("the Redis client", z.rdb.Ping(z.ctx()).Err(), nil)
	z.mustUnlock(held)
}

// Close is bounded also where nothing is answered any more.
func TestHazardCloseInABlackHole(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.mustLock(z.client.RLock("other orders"))
	z.mustLock(z.other)
	w := z.waits(z.lock)
	z.proxy.BlackHole(true)
	_, err := z.client.RLock("more orders").TryLock(z.ctx(), 50*time.Millisecond, 0) // leaves something to take back
	z.wantSaid("TryLock", err)
	start := time.Now()
	z.want("Close", z.client.Close(), nil)
	z.wantWithin(5*time.Second, "Close", start)
	z.waitFor(prompt, "the waiter returns", w.done)
	z.want("the waiter", w.err, holdfast.ErrClosed)
}

func TestHazardNothingToWorkWith(t *testing.T) {
	t.Parallel()
	ring := redis.NewRing(&redis.RingOptions{})
	defer ring.Close()
	for name, rdb := range map[string]redis.UniversalClient{
		"nil":                       nil,
		"a nil *redis.Client":       (*redis.Client)(nil),
		"a nil *ClusterClient":      (*redis.ClusterClient)(nil),
		"a *redis.Ring":             ring,
		"a nil *redis.Ring":         (*redis.Ring)(nil),
		"an interface around a nil": redis.UniversalClient((*redis.Client)(nil)),
	} {
		if c, err := holdfast.New(rdb); err == nil || c != nil {
			t.Errorf("New of %s: got %v, %v, want an error", name, c, err)
		}
	}
	rdb := redis.NewClient(&redis.Options{})
	defer rdb.Close()
	for name, opts := range map[string][]holdfast.Option{
		"a nil option":     {nil},
		"WatchdogTimeout":  {holdfast.WithWatchdogTimeout(time.Millisecond)},
		"WithLogger":       {holdfast.WithLogger(nil)},
		"WithRetry":        {holdfast.WithRetry(nil)},
		"WithNameMapper":   {holdfast.WithNameMapper(nil)},
		"WithClientID":     {holdfast.WithClientID("a b")},
		"a version-4 UUID": {holdfast.WithClientID("6e3d30b7-83b1-433a-9335-5e8b9916d3ac")},
	} {
		c, err := holdfast.New(rdb, opts...)
		if err == nil || c != nil {
			t.Errorf("%s: got %v, %v, want an error", name, c, err)
		} else if strings.HasPrefix(name, "W") && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %q, want it to name the option", name, err)
		}
	}
}

// A client that nobody made has nothing to send with: each call says so.
func TestHazardNoClient(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	const says = "the client is nil"
	for name, c := range map[string]*holdfast.Client{"a nil *Client": nil, "a zero Client": {}} {
		for kind, l := range map[string]holdfast.Lock{"RLock": c.RLock("orders"), "FairLock": c.FairLock("orders")} {
			for deed, call := range map[string]func() error{
				"Lock":    func() error { _, err := l.Lock(z.ctx()); return err },
				"TryLock": func() error { _, err := l.TryLock(z.ctx(), 0, 0); return err },
				"Do": func() error {
					return l.Do(z.ctx(), func(context.Context) error { z.Error("Do ran fn"); return nil })
				},
				"ForceUnlock":  func() error { _, err := l.ForceUnlock(z.ctx()); return err },
				"IsLocked":     func() error { _, err := l.IsLocked(z.ctx()); return err },
				"IsHeld":       func() error { _, err := l.IsHeld(z.ctx()); return err },
				"HoldCount":    func() error { _, err := l.HoldCount(z.ctx()); return err },
				"RemainingTTL": func() error { _, err := l.RemainingTTL(z.ctx()); return err },
			} {
				z.wantSaid(kind+" of "+name+": "+deed, call(), says)
			}
			if l.Name() != "orders" {
				z.Errorf("%s of %s: got name %q", kind, name, l.Name())
			}
		}
		if err := c.Check(z.ctx()); err == nil || !strings.Contains(err.Error(), says) {
			z.Errorf("Check of %s: got %v, want it to say %q", name, err, says)
		}
		z.want("Close of "+name, c.Close(), nil)
	}
}

func TestHazardNilArguments(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	h := z.mustLock(z.lock)
	var none context.Context
	for deed, call := range map[string]func() error{
		"Lock":             func() error { _, err := z.lock.Lock(none); return err },
		"TryLock":          func() error { _, err := z.lock.TryLock(none, 0, 0); return err },
		"IsLocked":         func() error { _, err := z.lock.IsLocked(none); return err },
		"IsHeld":           func() error { _, err := z.lock.IsHeld(none); return err },
		"ForceUnlock":      func() error { _, err := z.lock.ForceUnlock(none); return err },
		"Extend":           func() error { return h.Extend(none, time.Second) },
		"Check":            func() error { return z.client.Check(none) },
		"Do without fn":    func() error { return z.lock.Do(z.ctx(), nil) },
		"a nil option":     func() error { _, err := z.lock.Lock(z.ctx(), nil); return err },
		"a nil LockOption": func() error { _, err := z.client.RLock("orders", nil).Lock(z.ctx()); return err },
	} {
		if call() == nil {
			z.Errorf("%s of nil: got no error", deed)
		}
	}
	z.want("the context of nil", h.Context(none).Err(), nil)
	z.want("Unlock with nil", h.Unlock(none), nil)
	z.freeWithin(slack)
}

// Counts that nobody of ours wrote must not be believed beyond reason.
func TestHazardForeignCounts(t *testing.T) {
	t.Parallel()
	for _, count := range []string{"abc", "", "-1", "0", "2147483647", "9007199254740993", "1e300", "nan"} {
		t.Run(count, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			h := z.mustLock(z.lock)
			z.redis("HSET", "orders", h.Owner(), count)
			inner, err := z.lock.TryLock(h.Context(z.ctx()), 0, 0)
			if err == nil {
				z.want("inner Unlock", inner.Unlock(z.ctx()), nil)
			} else {
				z.wantSaid("re-entry", err)
			}
			_, _ = z.lock.HoldCount(h.Context(z.ctx())) // must not panic; what it tells is open
			z.want("Unlock", h.Unlock(z.ctx()), nil)
			z.freeWithin(slack)
		})
	}
}

// Somebody else writes to the owner's count. Another number changes nothing, and the next
// Unlock sets it right; what is no number is refused. Unlock frees the lock in any case.
func TestHazardForeignCountBetweenHolds(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	outer := z.mustLock(z.lock)
	inner, err := z.lock.Lock(outer.Context(z.ctx()))
	z.want("re-entry", err, nil)
	z.redis("HSET", "orders", outer.Owner(), "7")
	if n, err := z.lock.HoldCount(outer.Context(z.ctx())); n != 2 || err != nil {
		t.Errorf("HoldCount: got %d, %v, want 2", n, err)
	}
	z.mustUnlock(inner)
	z.wantCount(outer, "1")
	z.redis("HSET", "orders", outer.Owner(), "x")
	_, err = z.lock.Lock(outer.Context(z.ctx()))
	z.wantSaid("re-entry", err, "ERR hash value is not an integer")
	z.want("the hold", outer.Err(), nil)
	z.mustUnlock(outer)
	z.freeWithin(0)
	z.redis("HSET", "orders", "somebody", "x")
	_, err = z.lock.TryLock(z.ctx(), 0, 0)
	z.want("TryLock", err, holdfast.ErrNotAcquired)
}

func TestHazardDeepReentry(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	const depth = 500
	ctx := z.ctx()
	var holds []holdfast.Hold
	for i := range depth {
		h, err := z.lock.Lock(ctx)
		if err != nil || h.Count() != i+1 {
			z.Fatalf("Lock %d: got count %d, %v", i+1, h.Count(), err)
		}
		holds = append(holds, h)
		ctx = h.Context(ctx)
	}
	z.wantCount(holds[0], fmt.Sprint(depth))
	for i, h := range holds { // outermost first
		z.want("Unlock", h.Unlock(z.ctx()), nil)
		if i < depth-1 {
			z.want("the innermost hold", holds[depth-1].Err(), nil)
		}
	}
	z.freeWithin(slack)
}

// A hash that no lock of ours made, without an end: nobody is let in, nothing spins.
func TestHazardLockWithoutAnEnd(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.redis("HSET", "orders", "somebody", "1")
	before := z.calls("evalsha")
	_, err := z.lock.TryLock(z.ctx(), time.Second, 0)
	z.want("TryLock", err, holdfast.ErrNotAcquired)
	if n := z.calls("evalsha") - before; n > 5 {
		z.Errorf("sent %d scripts in a second", n)
	}
	freed, err := z.lock.ForceUnlock(z.ctx())
	if !freed || err != nil {
		z.Errorf("ForceUnlock: got %v %v, want true", freed, err)
	}
	z.gets(slack, wait(z.ctx(), z.lock))
}

// Any bytes make a name; on a cluster it must keep the lock and its channel together.
var hostileNames = []struct {
	name    string
	cluster bool // possible there, too
}{
	{"\n", true}, {"\x00\xff\xfe", true}, {`"; redis.call('FLUSHALL') --`, true}, {"*3\r\n$3\r\nDEL", true},
	{"KEYS[1]", true}, {"%s%d", true}, {strings.Repeat("n", 512), true}, {"{orders}:1", true}, {" ", true},
	{"a{b}c", true}, {"{a}{b}", true}, {"名前", true},
	{"{}", false}, {"{}x", false}, {"a{", false}, {"a}b", false}, {"}", false}, {"a{b", false}, {"a{}b{c}", false},
}

func TestHazardHostileNames(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	cluster := redistest.StartCluster(t, 3, 0)
	sharded := z.newClient(cluster.Client(t))
	for _, row := range hostileNames {
		z.lives(z.client, row.name)
		if row.cluster {
			z.lives(sharded, row.name)
			continue
		}
		z.refused(sharded, row.name)
	}
	for _, c := range []*holdfast.Client{z.client, sharded} {
		z.refused(c, "")
		z.refused(c, strings.Repeat("n", 513))
	}
	if n := z.server.Do(z.ctx(), "DBSIZE").Val(); n != int64(0) {
		z.Errorf("%v keys are left", n)
	}
}

// lives is the life of a lock: held, waited for, handed on, freed.
func (z *hazard) lives(c *holdfast.Client, name string) {
	z.Helper()
	l := c.RLock(name)
	h, err := l.Lock(z.ctx())
	if err != nil {
		z.Errorf("Lock of %q: %v", name, err)
		return
	}
	w := wait(z.ctx(), l)
	_, err = l.TryLock(z.ctx(), 0, 0)
	z.want("TryLock", err, holdfast.ErrNotAcquired)
	z.mustUnlock(h)
	z.gets(time.Second, w)
	if locked, err := l.IsLocked(z.ctx()); locked || err != nil || l.Name() != name {
		z.Errorf("%q afterwards: got %v %v, name %q", name, locked, err, l.Name())
	}
}

func (z *hazard) refused(c *holdfast.Client, name string) {
	z.Helper()
	_, err := c.RLock(name).TryLock(z.ctx(), 0, 0)
	_, asked := c.RLock(name).IsLocked(z.ctx())
	_, forced := c.RLock(name).ForceUnlock(z.ctx())
	for _, err := range []error{err, asked, forced} {
		if !errors.Is(err, holdfast.ErrInvalidName) {
			z.Errorf("%q: got %v, want ErrInvalidName", name, err)
		}
	}
}
