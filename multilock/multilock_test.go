package multilock_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestMain(m *testing.M) {
	redistest.AtOnce(4)
	logging.Disable() // go-redis tells of every dial that fails, and here many do
	// A pool that could not dial looks once a second whether it can, also for the rest of
	// a second after it was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// readTimeout is a client's patience with a silent socket.
const readTimeout = 300 * time.Millisecond

func client(t *testing.T, addr string, opts ...holdfast.Option) *holdfast.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr, ReadTimeout: readTimeout})
	c, err := holdfast.New(rdb, append([]holdfast.Option{holdfast.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = rdb.Close() })
	return c
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A member of three names on one server is one script to acquire, and one to release.
func TestThreeNamesOnOneServerAreOneCall(t *testing.T) {
	server := redistest.Start(t)
	c := client(t, server.Addr())
	ctx := within(t)
	l := c.MultiLock(c.RLock("a"), c.RLock("b"), c.RLock("c"))
	if err := l.Do(ctx, func(context.Context) error { return nil }); err != nil { // the server learns the scripts
		t.Fatal(err)
	}
	for name, opts := range map[string][]holdfast.AcquireOption{"watchdog": nil, "lease": {holdfast.WithLease(time.Minute)}} {
		monitor := server.Monitor(t)
		h, err := l.Lock(ctx, opts...)
		if err != nil {
			t.Fatal(err)
		}
		if got := server.Do(ctx, "EXISTS", "a", "b", "c").Val(); got != int64(3) {
			t.Errorf("%s: got %v keys, want 3", name, got)
		}
		if err := h.Unlock(ctx); err != nil {
			t.Fatal(err)
		}
		if got := server.Do(ctx, "EXISTS", "a", "b", "c").Val(); got != int64(0) {
			t.Errorf("%s: got %v keys, want none", name, got)
		}
		calls := 0
		for _, line := range monitor() {
			if strings.HasPrefix(strings.ToLower(line), `"evalsha"`) {
				calls++
			}
		}
		if calls != 2 {
			t.Errorf("%s: got %d calls, want 2", name, calls)
		}
	}
}

// Were members of one server freed one after the other, somebody could get one that is freed already together with one that
// nobody held, and lose that to the rest of the same ForceUnlock.
func TestForceUnlockIsOneStep(t *testing.T) {
	server := redistest.Start(t)
	c, operator := client(t, server.Addr()), client(t, server.Addr())
	ctx := within(t)
	if _, err := c.MultiLock(c.RLock("a"), c.FairLock("b")).Lock(ctx); err != nil {
		t.Fatal(err)
	}
	l := operator.MultiLock(operator.RLock("a"), operator.FairLock("b"), operator.RLock("c"), operator.RLock("d"))
	if err := server.Do(ctx, "SET", "d", "theirs").Err(); err != nil {
		t.Fatal(err)
	}
	monitor := server.Monitor(t)
	freed, err := l.ForceUnlock(ctx)
	if !freed || err == nil || strings.Count(err.Error(), "WRONGTYPE") != 1 || !strings.Contains(err.Error(), `member "d" on `+server.Addr()+`/0: WRONGTYPE`) {
		t.Errorf("got %v and %v, want true, and WRONGTYPE of d alone", freed, err)
	}
	if got := server.Do(ctx, "EXISTS", "a", "b", "c").Val(); got != int64(0) {
		t.Errorf("got %v keys, want none", got)
	}
	calls := 0
	for _, line := range monitor() {
		if strings.HasPrefix(strings.ToLower(line), `"evalsha"`) {
			calls++
		}
	}
	if calls != 1 {
		t.Errorf("got %d calls, want 1", calls)
	}
	if freed, err := c.MultiLock(c.RLock("a"), c.RLock("b")).ForceUnlock(ctx); freed || err != nil {
		t.Errorf("got %v, %v, want false", freed, err)
	}
}

// Sets that overlap, in any order, on two servers: everybody makes progress, nobody overlaps.
func TestOverlappingSetsMakeProgress(t *testing.T) {
	servers := []*redistest.Server{redistest.Start(t), redistest.Start(t)}
	names := []string{"a", "b", "c", "d", "e", "f"}
	inside := make([]atomic.Int32, len(names))
	ctx := within(t)
	var wg sync.WaitGroup
	var turns [8]atomic.Int32
	for i := range turns {
		clients := []*holdfast.Client{client(t, servers[0].Addr()), client(t, servers[1].Addr())}
		wg.Go(func() {
			for range 15 {
				set := rand.Perm(len(names))[:2+rand.IntN(3)]
				var locks []holdfast.Lock
				for _, n := range set {
					if n == 5 {
						locks = append(locks, clients[n%2].FairLock(names[n]))
					} else {
						locks = append(locks, clients[n%2].RLock(names[n]))
					}
				}
				err := clients[0].MultiLock(locks...).Do(ctx, func(context.Context) error {
					for _, n := range set {
						if inside[n].Add(1) > 1 {
							t.Errorf("two are inside of %s", names[n])
						}
					}
					for _, n := range set {
						inside[n].Add(-1)
					}
					turns[i].Add(1)
					return nil
				})
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range turns {
		if n := turns[i].Load(); n != 15 {
			t.Errorf("client %d had %d turns, want 15", i, n)
		}
	}
	for _, s := range servers {
		redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return s.Do(ctx, "DBSIZE").Val() == int64(0) })
	}
}

func quorum(t *testing.T, n int) (servers []*redistest.Server, lock func(opts ...holdfast.Option) holdfast.Lock) {
	for range n {
		servers = append(servers, redistest.Start(t))
	}
	return servers, func(opts ...holdfast.Option) holdfast.Lock {
		var locks []holdfast.Lock
		var first *holdfast.Client
		for _, s := range servers {
			c := client(t, s.Addr(), opts...)
			if first == nil {
				first = c
			}
			locks = append(locks, c.RLock("orders"))
		}
		return first.RedLock(locks...)
	}
}

func TestAQuorumExcludesAndSurvivesAMinority(t *testing.T) {
	servers, lock := quorum(t, 5)
	ctx := within(t)
	a, b := lock(), lock()
	h, err := a.Lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.TryLock(ctx, 0, 0); !errors.Is(err, holdfast.ErrNotAcquired) {
		t.Errorf("got %v, want ErrNotAcquired", err)
	}
	got := make(chan error, 1)
	go func() {
		h, err := b.Lock(ctx)
		if err == nil {
			err = h.Unlock(ctx)
		}
		got <- err
	}()
	time.Sleep(200 * time.Millisecond)
	if err := h.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the waiter came after %v: the unlock did not wake it", took)
	}
	servers[0].Kill()
	servers[1].Kill()
	if err := a.Do(ctx, func(context.Context) error { return nil }); err != nil {
		t.Errorf("with 3 of 5: %v", err)
	}
	servers[2].Kill()
	_, err = a.TryLock(ctx, 0, 0)
	if err == nil || errors.Is(err, holdfast.ErrNotAcquired) {
		t.Errorf("with 2 of 5: got %v, want an error that says so", err)
	}
	says(t, "with 2 of 5", err, "majority")
}

func TestQuorumManyWorkersNeverOverlap(t *testing.T) {
	_, lock := quorum(t, 3)
	ctx := within(t)
	var inside, overlaps, turns atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		l := lock()
		for range 2 {
			wg.Go(func() {
				for range 10 {
					h, err := l.Lock(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					if inside.Add(1) > 1 {
						overlaps.Add(1)
					}
					turns.Add(1)
					inside.Add(-1)
					if err := h.Unlock(ctx); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if overlaps.Load() != 0 || turns.Load() != 80 {
		t.Errorf("got %d overlaps, %d turns", overlaps.Load(), turns.Load())
	}
}
