package holdfast_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// Without persistence a restart frees every lock: the holder is told at its next
// renewal.
func TestHazardRestartWithoutPersistence(t *testing.T) {
	t.Parallel()
	z := newHazard(t, holdfast.WithWatchdogTimeout(3*time.Second))
	h := z.mustLock(z.lock)
	if err := z.server.Restart(); err != nil {
		z.Fatal(err)
	}
	z.waitFor(1500*time.Millisecond, "the hold is lost", h.Done())
	z.want("Err", h.Err(), holdfast.ErrLost)
	z.want("Unlock", h.Unlock(z.ctx()), holdfast.ErrLost)
	z.freeWithin(slack)
}

func TestHazardRestartWithAppendOnlyFile(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	z := newHazardOn(t, server, holdfast.WithWatchdogTimeout(2*time.Second))
	h := z.mustLock(z.lock)
	if err := server.Restart(); err != nil {
		z.Fatal(err)
	}
	_, err := z.other.TryLock(z.ctx(), 2500*time.Millisecond, 0) // longer than a lease: it is renewed
	z.want("another client's TryLock", err, holdfast.ErrNotAcquired)
	z.want("the hold", h.Err(), nil)
	z.mustUnlock(h)
	z.gets(slack, wait(z.ctx(), z.other))
}

// A server that refuses for the moment: a bounded wait ends with what it said, an
// unbounded one with the lock once the server has recovered.
func TestHazardServerRefusesForNow(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		args    []string
		refuse  func(z *hazard)
		says    string
		recover func(z *hazard)
	}{
		{
			name:   "loading",
			refuse: (*hazard).loads,
			says:   "LOADING",
			recover: func(z *hazard) { // before 7.0 this is refused, and the data are loaded a few seconds later
				_ = z.server.Do(z.ctx(), "CONFIG", "SET", "key-load-delay", "0").Err()
			},
		}, {
			name:    "a script that takes long",
			args:    []string{"--lua-time-limit", "20"},
			refuse:  func(z *hazard) { z.runs(patience) },
			says:    "BUSY",
			recover: func(z *hazard) { z.redis("SCRIPT", "KILL") },
		}, {
			name:    "too few replicas",
			refuse:  func(z *hazard) { z.redis("CONFIG", "SET", "min-replicas-to-write", "1") },
			says:    "NOREPLICAS",
			recover: func(z *hazard) { z.redis("CONFIG", "SET", "min-replicas-to-write", "0") },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			z := newHazardOn(t, redistest.Start(t, row.args...))
			z.waitsForAnswers()
			row.refuse(z)
			start := time.Now()
			_, err := z.lock.TryLock(z.ctx(), 700*time.Millisecond, 0)
			z.wantSaid("TryLock(700ms)", err, row.says)
			z.wantWithin(700*time.Millisecond, "TryLock(700ms)", start)
			_, err = z.lock.TryLock(z.ctx(), 0, 0)
			z.wantSaid("TryLock(0)", err, row.says)
			w := wait(z.ctx(), z.lock)
			row.recover(z)
			z.gets(6*time.Second, w)
		})
	}
}

// waitsForAnswers gives the client the patience of go-redis's defaults: a server that is busy
// looks at its clients only now and then, and one that has hung up does not hear what it says.
func (z *hazard) waitsForAnswers() {
	z.Helper()
	z.rdb = z.dial(z.proxy.Addr(), func(o *redis.Options) { o.ReadTimeout = 0 })
	z.client = z.newClient(z.rdb)
	z.lock = z.client.RLock("orders")
	z.warm()
}

// loads restarts the server with data to read for some seconds. Redis looks at its
// clients after every two megabytes of them: after every key, and each sleeps only once. It
// returns once the client has a connection to the new process.
func (z *hazard) loads() {
	z.Helper()
	z.redis("CONFIG", "SET", "rdbcompression", "no")
	for i := range 30 {
		z.redis("SETRANGE", fmt.Sprint("data", i), 2<<20, "x")
	}
	z.redis("SAVE")
	if err := z.server.Spawn("--key-load-delay", "150000"); err != nil {
		z.Fatal(err)
	}
	redistest.Eventually(z, patience, "the server is loading", func() bool {
		return redis.HasErrorPrefix(z.rdb.Exists(z.ctx(), "orders").Err(), "LOADING")
	})
}

// runs has the server busy with a script for d, or until SCRIPT KILL. Redis looks at its clients after every hundred
// thousand of Lua's instructions: those between two questions for the time are cheap.
func (z *hazard) runs(d time.Duration) {
	z.Helper()
	once := z.dial(z.server.Addr(), func(o *redis.Options) { o.ReadTimeout, o.MaxRetries = 2*patience, -1 })
	script := `local t = redis.call('TIME'); local stop = t[1] * 1000000 + t[2] + ARGV[1]
		repeat for i = 1, 10000 do end t = redis.call('TIME') until t[1] * 1000000 + t[2] > stop`
	go func() { _ = once.Eval(context.Background(), script, nil, d.Microseconds()).Err() }() // ends with the script, or when its client is closed
	redistest.Eventually(z, patience, "the server is busy", func() bool {
		return redis.HasErrorPrefix(z.rdb.Exists(z.ctx(), "orders").Err(), "BUSY")
	})
}

// Redis says "max number of clients" and closes the connection. go-redis takes the words
// for a server that knows no HELLO, greets on, and finds the connection broken: that is
// all that its callers can see.
func TestHazardTooManyClients(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	late := z.direct().RLock("orders") // has no connection yet
	z.redis("CONFIG", "SET", "maxclients", "4")
	var crowd []net.Conn
	for range 4 {
		conn, err := net.Dial("tcp", z.server.Addr())
		if err != nil {
			z.Fatal(err)
		}
		defer conn.Close()
		crowd = append(crowd, conn)
	}
	start := time.Now()
	_, err := late.TryLock(z.ctx(), 300*time.Millisecond, 0)
	z.wantSaid("TryLock(300ms)", err)
	z.wantWithin(300*time.Millisecond, "TryLock(300ms)", start)
	z.wantHungUp("TryLock(300ms)", err)
	_, err = late.TryLock(z.ctx(), 0, 0)
	z.wantSaid("TryLock(0)", err)
	z.wantHungUp("TryLock(0)", err)
	w := wait(z.ctx(), late)
	for _, conn := range crowd {
		_ = conn.Close()
	}
	z.gets(3*time.Second, w)
}

// wantHungUp fails the test unless err says, in the words of docs/failures.md, that the
// connection was closed. Which word it is depends on when the client notices.
func (z *hazard) wantHungUp(deed string, err error) {
	z.Helper()
	for _, word := range []string{"broken pipe", "connection reset by peer", "EOF"} {
		if err != nil && strings.HasPrefix(err.Error(), `acquire "orders": `) && strings.HasSuffix(err.Error(), word) {
			return
		}
	}
	z.Errorf("%s: got %v, want that the connection was closed", deed, err)
}

// Without memory nobody acquires, but whoever holds keeps and releases.
func TestHazardOutOfMemory(t *testing.T) {
	t.Parallel()
	z := newHazard(t, holdfast.WithWatchdogTimeout(shortLease))
	outer := z.mustLock(z.lock)
	inner, err := z.lock.Lock(outer.Context(z.ctx()))
	z.want("re-entry", err, nil)
	w := z.waits(z.other)
	z.redis("CONFIG", "SET", "maxmemory", "100kb")

	start := time.Now()
	_, err = z.client.RLock("more orders").Lock(z.ctx())
	z.wantSaid("Lock of a free one", err, "OOM")
	_, err = z.lock.Lock(outer.Context(z.ctx()))
	z.wantSaid("re-entry", err, "OOM")
	z.wantWithin(slack, "the refusals", start)

	select {
	case <-outer.Done():
		z.Errorf("the hold ended without memory: %v", outer.Err())
	case <-time.After(3 * shortLease): // it is renewed meanwhile
	}
	z.wantCount(outer, "2")
	z.mustUnlock(inner)
	z.wantCount(outer, "1")
	z.mustUnlock(outer)
	z.freeWithin(slack)
	z.waitFor(slack, "the waiter is told", w.done) // "taken" was true until now
	z.wantSaid("the waiter", w.err, "OOM")
}

// After a failed save Redis refuses writes. A waiter must not go on waiting quietly
// for a lock that nobody can take.
func TestHazardSaveFailed(t *testing.T) {
	t.Parallel()
	z := newHazardOn(t, redistest.Start(t, "--save", "3600", "1"))
	held := z.mustLock(z.other)
	w := z.waits(z.lock)
	rubble := filepath.Join(z.server.Dir(), "dump.rdb") // a directory stands where the file should go
	if err := os.MkdirAll(filepath.Join(rubble, "x"), 0o700); err != nil {
		z.Fatal(err)
	}
	z.redis("BGSAVE")
	redistest.Eventually(z, patience, "the save has failed", func() bool {
		info := z.server.Do(z.ctx(), "INFO", "persistence").String()
		return strings.Contains(info, "rdb_last_bgsave_status:err")
	})
	start := time.Now()
	_, err := z.client.RLock("more orders").Lock(z.ctx())
	z.wantSaid("Lock of a free one", err, "MISCONF")
	z.wantWithin(slack, "the refusal", start)
	z.waitFor(6*time.Second, "the waiter is told", w.done)
	z.wantSaid("the waiter", w.err, "MISCONF")
	z.wantSaid("Unlock", held.Unlock(z.ctx()), "MISCONF")
	z.want("Err", held.Err(), holdfast.ErrUnlocked)

	if err := os.RemoveAll(rubble); err != nil {
		z.Fatal(err)
	}
	z.redis("SAVE")
	z.freeWithin(2 * time.Second) // by the release that goes on in the background
}

// Somebody takes the lock away: the hold is lost at its next renewal, and the lock
// never comes back by itself.
func TestHazardTakenAway(t *testing.T) {
	t.Parallel()
	for name, takeAway := range map[string]func(z *hazard){
		"FLUSHALL": func(z *hazard) { z.redis("FLUSHALL") },
		"DEL":      func(z *hazard) { z.redis("DEL", "orders") },
		"ForceUnlock": func(z *hazard) {
			freed, err := z.other.ForceUnlock(z.ctx())
			if err != nil || !freed {
				z.Errorf("ForceUnlock: got %v %v, want true", freed, err)
			}
		},
		"a key of another type": func(z *hazard) {
			z.redis("SET", "orders", "theirs")
			z.Cleanup(func() { z.wantForeign() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t, holdfast.WithWatchdogTimeout(shortLease))
			h := z.mustLock(z.lock)
			ctx := h.Context(z.ctx())
			takeAway(z)
			z.waitFor(shortLease, "the hold is lost", h.Done())
			z.want("Err", h.Err(), holdfast.ErrLost)
			z.waitFor(0, "its context", ctx.Done())
			z.want("the context's cause", context.Cause(ctx), holdfast.ErrLost)
			_, err := z.lock.Lock(context.WithoutCancel(ctx))
			if name != "a key of another type" {
				z.want("re-entry", err, holdfast.ErrLost)
				if z.exists("orders") {
					z.Errorf("afterwards: got %v, want nothing", z.fields())
				}
			}
			z.want("Unlock", h.Unlock(z.ctx()), holdfast.ErrLost)
		})
	}
}

// What another one took meanwhile stays theirs.
func TestHazardTakenByAnother(t *testing.T) {
	t.Parallel()
	z := newHazard(t, holdfast.WithWatchdogTimeout(shortLease))
	h := z.mustLock(z.lock)
	z.redis("DEL", "orders")
	theirs, err := z.other.TryLock(z.ctx(), 0, 10*time.Second)
	if err != nil {
		z.Fatal(err)
	}
	z.waitFor(shortLease, "the hold is lost", h.Done())
	z.want("Unlock", h.Unlock(z.ctx()), holdfast.ErrLost)
	z.wantCount(theirs, "1")
	if ttl, err := z.other.RemainingTTL(z.ctx()); err != nil || ttl < 8*time.Second {
		z.Errorf("RemainingTTL: got %v %v, want what is left of ten seconds", ttl, err)
	}
	z.mustUnlock(theirs)
}

// wantForeign fails the test unless somebody else's key is still there.
func (z *hazard) wantForeign() {
	z.Helper()
	if got, err := z.server.Do(z.ctx(), "GET", "orders").Text(); got != "theirs" {
		z.Errorf("the foreign key: got %q %v, want it untouched", got, err)
	}
}

func TestHazardKeyOfAnotherType(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.redis("SET", "orders", "theirs")
	for name, call := range map[string]func() error{
		"Lock":        func() error { _, err := z.lock.Lock(z.ctx()); return err },
		"TryLock":     func() error { _, err := z.lock.TryLock(z.ctx(), 0, 0); return err },
		"ForceUnlock": func() error { _, err := z.lock.ForceUnlock(z.ctx()); return err },
		"IsLocked":    func() error { _, err := z.lock.IsLocked(z.ctx()); return err },
	} {
		start := time.Now()
		z.wantSaid(name, call(), "WRONGTYPE")
		z.wantWithin(slack, name, start)
	}
	z.wantForeign()
}

// A waiter is told of a foreign key at its next try, with a message or without.
func TestHazardKeyOfAnotherTypeWhileWaiting(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(z *hazard, h holdfast.Hold){
		"put there by somebody": func(z *hazard, _ holdfast.Hold) { z.redis("SET", "orders", "theirs") },
		"put there after a force-unlock": func(z *hazard, _ holdfast.Hold) {
			z.redis("EVAL", "redis.call('DEL', KEYS[1]); redis.call('SET', KEYS[1], 'theirs'); return redis.call('PUBLISH', ARGV[1], '0')",
				"1", "orders", "redisson_lock__channel:{orders}")
			_, err := z.other.ForceUnlock(z.ctx())
			z.wantSaid("ForceUnlock", err, "WRONGTYPE")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			h := z.mustLock(z.other)
			w := z.waits(z.lock)
			replace(z, h)
			z.waitFor(6*time.Second, "the waiter is told", w.done)
			z.wantSaid("the waiter", w.err, "WRONGTYPE")
			z.wantSaid("Unlock", h.Unlock(z.ctx()), "WRONGTYPE")
			z.wantForeign()
		})
	}
}

// Renewals that are refused for a while do no harm, if the window is long enough; and
// a hold whose renewals go on being refused ends with it, never silently.
func TestHazardRenewalsAreRefused(t *testing.T) {
	t.Parallel()
	for _, refused := range []time.Duration{time.Second, 5 * time.Second} {
		t.Run(fmt.Sprint("for ", refused), func(t *testing.T) {
			t.Parallel()
			const lease = 2 * time.Second
			z := newHazard(t, holdfast.WithWatchdogTimeout(lease))
			h := z.mustLock(z.lock)
			z.redis("CONFIG", "SET", "min-replicas-to-write", "1")
			start := time.Now()
			if refused > lease {
				z.waitFor(lease, "the hold is lost", h.Done())
				z.want("Err", h.Err(), holdfast.ErrLost)
				z.want("Unlock", h.Unlock(z.ctx()), holdfast.ErrLost)
				z.wantWithin(lease, "the end of the hold", start)
				return
			}
			select {
			case <-h.Done():
				z.Errorf("the hold ended: %v", h.Err())
			case <-time.After(refused): // how long renewals are refused
			}
			z.redis("CONFIG", "SET", "min-replicas-to-write", "0")
			_, err := z.other.TryLock(z.ctx(), lease, 0)
			z.want("another client's TryLock", err, holdfast.ErrNotAcquired)
			z.want("the hold", h.Err(), nil)
			z.mustUnlock(h)
		})
	}
}
