package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/rlock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world is one engine whose link to a real server can be spoiled, and a second one
// with a clean link.
type world struct {
	*testing.T
	server      *redistest.Server
	proxy       *faultproxy.Proxy
	ours        *rlock.Lock
	theirs      *rlock.Lock
	monitor     func() []string
	proxyClient *redis.Client
}

const name = "orders"

func newWorld(t *testing.T, watchdog time.Duration) *world {
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr(), 1)
	w := &world{T: t, server: server, proxy: proxy, monitor: server.Monitor(t)}
	w.proxyClient = redis.NewClient(&redis.Options{Addr: proxy.Addr(), ReadTimeout: 300 * time.Millisecond})
	w.ours = w.lock(w.proxyClient, "ours", watchdog)
	w.theirs = w.lock(redis.NewClient(&redis.Options{Addr: server.Addr()}), "theirs", watchdog)
	// Both know their script now, and EVALSHA is all that is sent from here on.
	for _, l := range []*rlock.Lock{w.ours, w.theirs} {
		if err := l.Do(w.ctx(), func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) lock(rdb *redis.Client, id string, watchdog time.Duration) *rlock.Lock {
	e := engine.New(engine.Config{
		Redis: rdb, Program: script.NewProgram(rlock.Verbs()...), ID: id, FirstOwner: 1, Watchdog: watchdog,
		Retry:  func() backoff.BackOff { return backoff.NewConstantBackOff(10 * time.Millisecond) },
		Logger: slog.New(slog.DiscardHandler),
	})
	w.Cleanup(func() {
		w.proxy.Decide(nil)
		w.proxy.BlackHole(false)
		_ = e.Close()
		_ = rdb.Close()
	})
	return rlock.New(e, name, name)
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	w.Cleanup(cancel)
	return ctx
}

func (w *world) must(h locking.Hold, err error) locking.Hold {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	return h
}

func (w *world) want(deed string, err, target error) {
	w.Helper()
	if !errors.Is(err, target) {
		w.Errorf("%s: got error %v, want %v", deed, err, target)
	}
}

// fields are the owners that Redis has, with their counts.
func (w *world) fields() map[string]string {
	w.Helper()
	v, err := w.server.Do(w.ctx(), "HGETALL", name).Slice()
	if err != nil {
		w.Fatal(err)
	}
	m := map[string]string{}
	for i := 0; i+1 < len(v); i += 2 {
		m[fmt.Sprint(v[i])] = fmt.Sprint(v[i+1])
	}
	return m
}

func (w *world) free(within time.Duration) {
	w.Helper()
	redistest.Eventually(w.T, within, "the lock is free", func() bool { return len(w.fields()) == 0 })
}

// sent are the operations of a verb that reached the server, each as its arguments.
// An operation that travels alone has its verb at the end, see script/dispatch.lua.
func (w *world) sent(verb string) (ops []string) {
	verb = "rlock." + verb
	for _, line := range w.monitor() {
		words := strings.Split(strings.Trim(line, `"`), `" "`)
		if words[len(words)-1] == verb {
			ops = append(ops, strings.Join(words[4:len(words)-1], " "))
			continue
		}
		if verb == "rlock.release" && slices.Contains(words, "rlock.release_each") {
			w.Fatal("releases have travelled together: they are not counted here") // no two of these tests' do
		}
		for i, word := range words {
			if word == verb && i+2 < len(words) {
				n, _ := strconv.Atoi(words[i+2])
				ops = append(ops, strings.Join(words[i+3:min(i+3+n, len(words))], " "))
			}
		}
	}
	return ops
}

// spoil has the next operation of a verb meet a fault.
func (w *world) spoil(verb string, times int, d faultproxy.Decision) {
	w.proxy.Decide(func(c faultproxy.Command) faultproxy.Decision {
		if times > 0 && slices.Contains(c.Args, "rlock."+verb) {
			times--
			return d
		}
		return faultproxy.Pass
	})
}

// reached waits until so many faults have taken effect.
func (w *world) reached(n int) {
	w.Helper()
	redistest.Eventually(w.T, 5*time.Second, "the fault takes effect", func() bool { return len(w.proxy.Log()) >= n })
}

func TestRule1OneAcquireOrReleaseOfAnOwnerInFlight(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	outer := w.must(w.ours.Lock(w.ctx()))
	open := make(chan struct{})
	w.spoil("acquire", 1, faultproxy.Gate(open))
	var inner locking.Hold
	reentered := make(chan error)
	go func() {
		h, err := w.ours.Lock(outer.Context(context.Background()))
		inner = h
		reentered <- err
	}()
	w.reached(1)
	before := len(w.sent("release"))
	unlocked := make(chan error)
	go func() { unlocked <- outer.Unlock(w.ctx()) }()
	select {
	case err := <-unlocked:
		t.Fatalf("Unlock returned %v while a re-entry was in flight", err)
	case <-time.After(100 * time.Millisecond): // long enough for a release to be seen
	}
	if n := len(w.sent("release")); n != before {
		t.Errorf("%d releases were sent while a re-entry was in flight", n-before)
	}
	close(open)
	w.want("re-entry", <-reentered, nil)
	w.want("Unlock", <-unlocked, nil)
	w.want("the inner hold", inner.Err(), nil)
	if got := w.fields()[outer.Owner()]; got != "1" {
		t.Errorf("count in Redis: got %q, want 1", got)
	}
	w.want("inner Unlock", inner.Unlock(w.ctx()), nil)
	w.free(0)
}

func TestRule1ReleaseSaysWhatIsLeft(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	first := w.must(w.ours.Lock(w.ctx()))
	second := w.must(w.ours.Lock(first.Context(w.ctx())))
	third := w.must(w.ours.Lock(first.Context(w.ctx())))
	start := len(w.sent("release"))
	// Outer ones first: Count() - 1 would say 0 at once.
	for _, h := range []locking.Hold{first, second, third} {
		w.want("Unlock", h.Unlock(w.ctx()), nil)
	}
	for i, op := range w.sent("release")[start:] {
		if want := fmt.Sprintf("%s %d ", first.Owner(), 2-i); !strings.HasPrefix(op, want) {
			t.Errorf("release %d: got %q, want it to begin with %q", i+1, op, want)
		}
	}
}

func TestRule2FreshOwnerAfterAnUnknownOutcome(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	start := len(w.sent("acquire"))
	w.spoil("acquire", 2, faultproxy.DropReply)
	h := w.must(w.ours.Lock(w.ctx()))
	owners := map[string]bool{}
	for _, op := range w.sent("acquire")[start:] {
		owners[strings.Fields(op)[1]] = true
	}
	if len(owners) < 3 || !owners[h.Owner()] {
		t.Errorf("got owners %v, want a new one for each of three attempts", owners)
	}
	if got := w.fields(); len(got) != 1 || got[h.Owner()] != "1" {
		t.Errorf("in Redis: got %v, want %s once", got, h.Owner())
	}
	w.want("Unlock", h.Unlock(w.ctx()), nil)
	w.free(0)
}

func TestRule2SameOwnerAfterTaken(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	theirs := w.must(w.theirs.Lock(w.ctx()))
	start := len(w.sent("acquire"))
	done := make(chan locking.Hold)
	go func() {
		h, err := w.ours.Lock(context.Background())
		if err != nil {
			t.Error(err)
		}
		done <- h
	}()
	redistest.Eventually(t, 5*time.Second, "two attempts", func() bool { return len(w.sent("acquire")) >= start+2 })
	w.want("Unlock", theirs.Unlock(w.ctx()), nil)
	h := <-done
	for _, op := range w.sent("acquire")[start:] {
		if owner := strings.Fields(op)[1]; owner != h.Owner() {
			t.Errorf("got owner %s, want %s in each attempt", owner, h.Owner())
		}
	}
	w.want("Unlock", h.Unlock(w.ctx()), nil)
}

func TestRule3FirstAcquireIsUndoneToZero(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	w.spoil("acquire", 1, faultproxy.DropReply)
	_, err := w.ours.TryLock(w.ctx(), 0, 0)
	if err == nil || errors.Is(err, locking.ErrNotAcquired) {
		t.Errorf("got %v, want an error of unknown outcome", err)
	}
	w.free(time.Second)
}

func TestRule3ReentryIsUndoneToTheCountBefore(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	outer := w.must(w.ours.Lock(w.ctx()))
	w.spoil("acquire", 1, faultproxy.DropReply)
	_, err := w.ours.TryLock(outer.Context(w.ctx()), 0, 0)
	if err == nil {
		t.Error("re-entry without an answer: got no error")
	}
	redistest.Eventually(t, 2*time.Second, "the count is lowered", func() bool { return w.fields()[outer.Owner()] == "1" })
	w.want("the outer hold", outer.Err(), nil)
	_, err = w.theirs.TryLock(w.ctx(), 0, 0)
	w.want("another owner", err, locking.ErrNotAcquired)
	w.want("Unlock", outer.Unlock(w.ctx()), nil)
	w.free(0)
}

// "Gone" is not the end of an undo: the acquire may still arrive.
func TestRule3UndoOutlivesGone(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	open := make(chan struct{})
	w.spoil("acquire", 1, faultproxy.GateRequest(open))
	ctx, cancel := context.WithCancel(w.ctx())
	start := len(w.sent("release"))
	failed := make(chan error)
	go func() {
		_, err := w.ours.Lock(ctx)
		failed <- err
	}()
	w.reached(1)
	cancel()
	w.want("Lock", <-failed, context.Canceled)
	redistest.Eventually(t, 5*time.Second, "the undo is told gone", func() bool { return len(w.sent("release")) > start })
	acquires := len(w.sent("acquire"))
	close(open)
	redistest.Eventually(t, 5*time.Second, "the acquire arrives", func() bool { return len(w.sent("acquire")) > acquires })
	w.free(2 * time.Second)
}

func TestRule3LateAnswerIsNoHold(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	w.spoil("acquire", 1, faultproxy.DelayReply(200*time.Millisecond))
	h, err := w.ours.TryLock(w.ctx(), 0, 100*time.Millisecond)
	if err == nil {
		t.Errorf("got hold %s though the lease was over when the answer came", h.Owner())
	}
	w.free(time.Second)
}

// What waits for a lane and is not wanted any more was never sent: there is nothing to undo.
func TestRule3AQueuedAcquireIsWithdrawn(t *testing.T) {
	t.Parallel()
	const lanes = 16 // six that count, and ten that hang
	w := newWorld(t, 30*time.Second)
	crowd := w.lock(redis.NewClient(&redis.Options{Addr: w.proxy.Addr(), PoolSize: 2 * lanes, MinIdleConns: lanes}), "crowd", 30*time.Second)
	_, err := crowd.IsLocked(w.ctx())
	w.want("IsLocked", err, nil)
	open := make(chan struct{})
	w.spoil("inspect", lanes, faultproxy.GateRequest(open))
	asked := make(chan error, lanes)
	for n := range lanes { // one after the other, or they would share a call
		go func() {
			_, err := crowd.IsLocked(w.ctx())
			asked <- err
		}()
		w.reached(n + 1)
	}
	ctx, cancel := context.WithTimeout(w.ctx(), 100*time.Millisecond)
	defer cancel()
	_, err = crowd.Lock(ctx)
	w.want("Lock while all lanes hang", err, context.DeadlineExceeded)
	close(open)
	for range lanes {
		w.want("IsLocked", <-asked, nil)
	}
	_, err = crowd.IsLocked(w.ctx()) // would go out behind an acquire in the queue
	w.want("IsLocked", err, nil)
	for _, verb := range []string{"acquire", "release"} {
		for _, op := range w.sent(verb) {
			if strings.Contains(op, "crowd:") {
				t.Errorf("a withdrawn acquire: %s %s was sent", verb, op)
			}
		}
	}
}

func TestRule4TrustCountsFromTheSending(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	w.spoil("acquire", 1, faultproxy.DelayReply(250*time.Millisecond))
	start := time.Now()
	h := w.must(w.ours.TryLock(w.ctx(), 0, 600*time.Millisecond))
	time.Sleep(time.Until(start.Add(600 * time.Millisecond)))                                // the end of the lease is what this is about
	w.want("Err when the lease is over, counted from the sending", h.Err(), locking.ErrLost) // it looks at the clock, late timers or not
	<-h.Done()
}

// A confirmation of less does not move the end of trust back: neither one that was asked for
// with a shorter lease, nor the late answer to an older copy.
func TestRule4TheLargestConfirmationWins(t *testing.T) {
	t.Parallel()
	const short = 200 * time.Millisecond
	for name, confirm := range map[string]func(w *world, h locking.Hold){
		"re-entry with a shorter lease": func(w *world, h locking.Hold) {
			inner := w.must(w.ours.TryLock(h.Context(w.ctx()), 0, short))
			w.want("inner Unlock", inner.Unlock(w.ctx()), nil)
		},
		"Extend by less": func(w *world, h locking.Hold) {
			w.want("Extend", h.Extend(w.ctx(), short), nil)
		},
		"an older copy's answer": func(w *world, h locking.Hold) {
			open := make(chan struct{})
			w.spoil("renew", 1, faultproxy.Gate(open))
			older := make(chan error)
			go func() { older <- h.Extend(w.ctx(), short) }()
			w.reached(1)
			w.want("Extend", h.Extend(w.ctx(), time.Minute), nil)
			close(open)
			w.want("the older Extend", <-older, nil)
		},
		"a renewal": func(w *world, h locking.Hold) { engine.Renewed(h, time.Now().Add(short-30*time.Second)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 30*time.Second)
			h := w.must(w.ours.TryLock(w.ctx(), 0, 20*time.Second))
			confirm(w, h)
			select {
			case <-h.Done():
				t.Errorf("the hold ended, though Redis had confirmed a longer lease: %v", h.Err())
			case <-time.After(short * 3 / 2):
			}
			w.want("Unlock", h.Unlock(w.ctx()), nil)
		})
	}
}

// The answer to a renewal that comes when the hold has ended has no owner kept again.
func TestRule4AnswersAboutEndedHoldsAreIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 30*time.Second)
	h := w.must(w.ours.Lock(w.ctx()))
	if n := engine.Kept(h); n != 1 {
		t.Fatalf("while it is held the watchdog keeps %d owners, want 1", n)
	}
	w.want("Unlock", h.Unlock(w.ctx()), nil)
	engine.Renewed(h, time.Now())
	if n := engine.Kept(h); n != 0 {
		t.Errorf("an answer about an ended hold: the watchdog keeps %d owners, want none", n)
	}
	w.want("Err", h.Err(), locking.ErrUnlocked)
}

// What is freed before the subscription is confirmed is noticed by the try after it.
func TestAReleaseBeforeTheSubscriptionIsNoticed(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	theirs := w.must(w.theirs.Lock(w.ctx()))
	open := make(chan struct{})
	w.proxy.OnNext("SUBSCRIBE", faultproxy.GateRequest(open))
	got := make(chan error)
	go func() {
		_, err := w.ours.Lock(context.Background())
		got <- err
	}()
	w.reached(1)
	w.want("Unlock", theirs.Unlock(w.ctx()), nil)
	close(open)
	select {
	case err := <-got:
		w.want("Lock", err, nil)
	case <-time.After(3 * time.Second): // the safety poll comes after 4.5s
		t.Error("the release was missed")
	}
}

func TestRule5GoneOnTheLastRelease(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil faultproxy.Decision
		want  error
	}{
		{"an earlier copy can have run", faultproxy.DropReply, nil},
		{"no earlier copy", faultproxy.Pass, locking.ErrLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 30*time.Second)
			h := w.must(w.ours.Lock(w.ctx()))
			if c.want != nil {
				if _, err := w.theirs.ForceUnlock(w.ctx()); err != nil {
					t.Fatal(err)
				}
			}
			w.spoil("release", 1, c.spoil)
			w.want("Unlock", h.Unlock(w.ctx()), c.want)
			w.free(0)
		})
	}
	t.Run("called too late", func(t *testing.T) {
		w := newWorld(t, 30*time.Second)
		h := w.must(w.ours.TryLock(w.ctx(), 0, 100*time.Millisecond))
		<-h.Done()
		w.want("Unlock", h.Unlock(w.ctx()), locking.ErrLost)
	})
}

// The release arrives after the lease, in time for Unlock but not for Redis: no loss is reported, because
// the field may be gone for that reason.
func TestRule5AnAnswerOutsideTheWindowIsNoLoss(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 30*time.Second)
	h := w.must(w.ours.TryLock(w.ctx(), 0, 200*time.Millisecond))
	open := make(chan struct{})
	w.spoil("release", 1, faultproxy.Gate(open))
	if err := w.server.Do(w.ctx(), "DEL", name).Err(); err != nil {
		t.Fatal(err)
	}
	unlocked := make(chan error)
	go func() { unlocked <- h.Unlock(w.ctx()) }()
	w.reached(1)
	<-h.Done() // the end of its window
	close(open)
	w.want("Unlock", <-unlocked, nil)
	w.want("Err", h.Err(), locking.ErrUnlocked)
}

// Other holds should have kept the field, whatever copies came before: every hold is lost.
func TestRule5GoneOnAnInnerRelease(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]faultproxy.Decision{
		"no earlier copy":              faultproxy.Pass,
		"an earlier copy can have run": faultproxy.DropReply,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 30*time.Second)
			outer := w.must(w.ours.Lock(w.ctx()))
			second := w.must(w.ours.Lock(outer.Context(w.ctx())))
			inner := w.must(w.ours.Lock(outer.Context(w.ctx())))
			if _, err := w.theirs.ForceUnlock(w.ctx()); err != nil {
				t.Fatal(err)
			}
			w.spoil("release", 1, spoil)
			w.want("inner Unlock", inner.Unlock(w.ctx()), locking.ErrLost)
			for _, h := range []locking.Hold{outer, second, inner} {
				w.want("Err", h.Err(), locking.ErrLost)
			}
			w.want("outer Unlock", outer.Unlock(w.ctx()), locking.ErrLost)
		})
	}
}

func TestRule6LapsedHoldIsReleasedAndNotRenewed(t *testing.T) {
	const lease = 900 * time.Millisecond
	w := newWorld(t, lease)
	h := w.must(w.ours.Lock(w.ctx()))
	// The key outlives the trust: somebody makes it immortal, and nobody hears the answers.
	w.spoil("renew", 1000, faultproxy.DropReply)
	if err := w.server.Do(w.ctx(), "PERSIST", name).Err(); err != nil {
		t.Fatal(err)
	}
	<-h.Done()
	w.want("Err", h.Err(), locking.ErrLost)
	w.free(lease)
	redistest.Eventually(t, 5*time.Second, "renewals end", func() bool {
		n := len(w.sent("renew"))
		time.Sleep(lease / 2) // longer than any pause between two copies
		return len(w.sent("renew")) == n
	})
}

func TestRule7Margin(t *testing.T) {
	for lease, want := range map[time.Duration]time.Duration{
		time.Hour:              time.Hour - 36*time.Second,
		30 * time.Second:       30*time.Second - 300*time.Millisecond,
		500 * time.Millisecond: 490 * time.Millisecond,
		20 * time.Millisecond:  15 * time.Millisecond,
		time.Millisecond:       750 * time.Microsecond,
	} {
		sent := time.Now()
		if got := engine.Window(sent, lease).Sub(sent); got != want {
			t.Errorf("trust window of %v: got %v, want %v", lease, got, want)
		}
	}
}
