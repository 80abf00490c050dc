package holdfast_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// Nothing may be left running when all are done.
func TestMain(m *testing.M) {
	if os.Getenv(processArgs) != "" {
		runProcess() // a child of a hazard test
		return
	}
	if os.Getenv(fairProcessArgs) != "" {
		runFairProcess() // a child of a fair lock's test
		return
	}
	redistest.AtOnce(8)
	logging.Disable() // go-redis tells of every dial that fails, and here many do
	// A pool that could not dial looks once a second whether it can, also for the rest of
	// a second after it was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const (
	// A client's patience with a silent socket in these tests. Everything else of its
	// Redis client is go-redis's default, retries included.
	readTimeout = 300 * time.Millisecond
	// shortLease is a watchdog timeout with which a loss shows within a second.
	shortLease = 600 * time.Millisecond
	// slack is what a busy machine may add to any bound.
	slack = 250 * time.Millisecond
	// patience bounds what should not take long at all.
	patience = 15 * time.Second
)

// A hazard is the scene of one test: a server, a proxy in front of it, a client that
// meets the faults and another one that meets none. The lock is "orders".
type hazard struct {
	*testing.T
	server *redistest.Server
	proxy  *faultproxy.Proxy
	rdb    *redis.Client    // behind the proxy
	client *holdfast.Client // on rdb
	lock   holdfast.Lock    // of client
	other  holdfast.Lock    // of a client that talks to the server directly
}

// newHazard sets the scene. Options are those of both clients.
func newHazard(t *testing.T, opts ...holdfast.Option) *hazard {
	t.Helper()
	return newHazardOn(t, redistest.Start(t), opts...)
}

func newHazardOn(t *testing.T, server *redistest.Server, opts ...holdfast.Option) *hazard {
	t.Helper()
	z := &hazard{T: t, server: server, proxy: faultproxy.New(t, server.Addr(), 1)}
	z.rdb = z.dial(z.proxy.Addr())
	z.client = z.newClient(z.rdb, opts...)
	z.lock = z.client.RLock("orders")
	z.other = z.direct(opts...).RLock("orders")
	z.warm()
	t.Cleanup(func() { z.proxy.BlackHole(false) }) // before the clients close, who else would wait in vain
	return z
}

func (z *hazard) dial(addr string, mutate ...func(*redis.Options)) *redis.Client {
	options := &redis.Options{Addr: addr, ReadTimeout: readTimeout}
	for _, change := range mutate {
		change(options)
	}
	rdb := redis.NewClient(options)
	z.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func (z *hazard) newClient(rdb redis.UniversalClient, opts ...holdfast.Option) *holdfast.Client {
	z.Helper()
	c, err := holdfast.New(rdb, append([]holdfast.Option{holdfast.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	if err != nil {
		z.Fatal(err)
	}
	z.Cleanup(func() { _ = c.Close() })
	return c
}

// direct makes one more client that meets no faults.
func (z *hazard) direct(opts ...holdfast.Option) *holdfast.Client {
	return z.newClient(z.dial(z.server.Addr()), opts...)
}

// warm has the server learn the scripts and the client dial, so that the next
// EVALSHA is the one that a test means.
func (z *hazard) warm() {
	z.Helper()
	if _, err := z.client.RLock("warm-up").IsLocked(z.ctx()); err != nil {
		z.Fatal(err)
	}
}

// spoil decides about the client's next script.
func (z *hazard) spoil(d faultproxy.Decision) { z.proxy.OnNext("EVALSHA", d) }

// ctx ends before the test's patience does.
func (z *hazard) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	z.Cleanup(cancel)
	return ctx
}

func (z *hazard) mustLock(l holdfast.Lock, opts ...holdfast.AcquireOption) holdfast.Hold {
	z.Helper()
	h, err := l.Lock(z.ctx(), opts...)
	if err != nil {
		z.Fatalf("Lock: %v", err)
	}
	return h
}

func (z *hazard) mustUnlock(h holdfast.Hold) {
	z.Helper()
	if err := h.Unlock(z.ctx()); err != nil {
		z.Fatalf("Unlock: %v", err)
	}
}

// fields are the owners in Redis and their counts.
func (z *hazard) fields() map[string]string {
	z.Helper()
	reply, err := z.server.Do(z.ctx(), "HGETALL", "orders").Slice()
	if err != nil {
		z.Fatal(err)
	}
	fields := map[string]string{}
	for i := 0; i+1 < len(reply); i += 2 {
		fields[reply[i].(string)] = reply[i+1].(string)
	}
	return fields
}

// wantCount fails the test unless Redis knows this hold's owner, alone, with that count.
func (z *hazard) wantCount(h holdfast.Hold, count string) {
	z.Helper()
	if got := z.fields(); len(got) != 1 || got[h.Owner()] != count {
		z.Errorf("in Redis: got %v, want %s=%s", got, h.Owner(), count)
	}
}

func (z *hazard) exists(key string) bool {
	z.Helper()
	n, err := z.server.Do(z.ctx(), "EXISTS", key).Int()
	if err != nil {
		z.Fatal(err)
	}
	return n > 0
}

// freeWithin fails the test unless the lock's key is gone in time.
func (z *hazard) freeWithin(d time.Duration) {
	z.Helper()
	redistest.Eventually(z, d, "the lock is free", func() bool { return !z.exists("orders") })
}

// redis sends the test's own commands.
func (z *hazard) redis(args ...any) {
	z.Helper()
	if err := z.server.Do(z.ctx(), args...).Err(); err != nil {
		z.Fatalf("%v: %v", args, err)
	}
}

// wantSaid fails the test unless err names the lock and has all these words, and is
// not ErrNotAcquired: "Redis said no" is not "somebody else has it".
func (z *hazard) wantSaid(deed string, err error, words ...string) {
	z.Helper()
	if err == nil {
		z.Errorf("%s: got no error, want one that says %q", deed, words)
		return
	}
	if errors.Is(err, holdfast.ErrNotAcquired) {
		z.Errorf("%s: got ErrNotAcquired, want one that says %q", deed, words)
	}
	for _, word := range append(words, "orders") {
		if !strings.Contains(err.Error(), word) {
			z.Errorf("%s: got %q, want it to say %q", deed, err, word)
		}
	}
}

func (z *hazard) want(deed string, err, target error) {
	z.Helper()
	if !errors.Is(err, target) {
		z.Errorf("%s: got error %v, want %v", deed, err, target)
	}
}

// wantWithin fails the test if something that began at start took longer than d and a
// little slack.
func (z *hazard) wantWithin(d time.Duration, deed string, start time.Time) {
	z.Helper()
	if took := time.Since(start); took > d+slack {
		z.Errorf("%s took %v, want at most %v", deed, took, d)
	}
}

// waitFor waits for a signal that is to come within d.
func (z *hazard) waitFor(d time.Duration, what string, signal <-chan struct{}) {
	z.Helper()
	select {
	case <-signal:
	case <-time.After(d + slack):
		z.Fatalf("%s: not within %v", what, d)
	}
}

// A waiter is a Lock that runs beside the test.
type waiter struct {
	done chan struct{} // closed once Lock has returned
	hold holdfast.Hold
	err  error
	at   time.Time
}

func wait(ctx context.Context, l holdfast.Lock, opts ...holdfast.AcquireOption) *waiter {
	w := &waiter{done: make(chan struct{})}
	go func() { // ends with ctx at the latest
		defer close(w.done)
		w.hold, w.err = l.Lock(ctx, opts...)
		w.at = time.Now()
	}()
	return w
}

// waits starts a waiter of a lock that is held, and returns once it is subscribed.
func (z *hazard) waits(l holdfast.Lock) *waiter {
	z.Helper()
	before := z.subscribers()
	w := wait(z.ctx(), l)
	redistest.Eventually(z, patience, "the waiter is subscribed", func() bool { return z.subscribers() > before })
	return w
}

func (z *hazard) subscribers() int64 {
	z.Helper()
	reply, err := z.server.Do(z.ctx(), "PUBSUB", "NUMSUB", "redisson_lock__channel:{orders}").Slice()
	if err != nil {
		z.Fatal(err)
	}
	return reply[1].(int64)
}

// gets waits until a waiter has the lock, and unlocks it.
func (z *hazard) gets(d time.Duration, w *waiter) {
	z.Helper()
	z.waitFor(d, "the waiter has the lock", w.done)
	if w.err != nil {
		z.Fatalf("the waiter: %v", w.err)
	}
	z.mustUnlock(w.hold)
}

// A register is the guarded resource: it notices two that are inside at once.
type register struct{ inside, overlaps, turns atomic.Int64 }

func (r *register) enter() {
	if r.inside.Add(1) > 1 {
		r.overlaps.Add(1)
	}
	r.turns.Add(1)
}

func (r *register) leave() { r.inside.Add(-1) }
