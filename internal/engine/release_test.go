package engine_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/locking"
)

// The second Unlock of an inner hold is not the outer hold's.
func TestASecondUnlockSendsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 30*time.Second)
	outer := w.must(w.ours.Lock(w.ctx()))
	inner := w.must(w.ours.Lock(outer.Context(w.ctx())))
	start := len(w.sent("release"))
	for range 2 {
		w.want("inner Unlock", inner.Unlock(w.ctx()), nil)
	}
	if n := len(w.sent("release")) - start; n != 1 {
		t.Errorf("%d releases were sent for two calls of one hold, want 1", n)
	}
	w.want("the outer hold", outer.Err(), nil)
	if got := w.fields()[outer.Owner()]; got != "1" {
		t.Errorf("count in Redis: got %q, want 1", got)
	}
	w.want("outer Unlock", outer.Unlock(w.ctx()), nil)
	w.free(0)
}

// Nobody answers the release, but the lease runs out: whoever watches the hold is told then,
// and not when Unlock gives up.
func TestDoneDoesNotWaitForUnlock(t *testing.T) {
	t.Parallel()
	const lease = 300 * time.Millisecond
	w := newWorld(t, 30*time.Second)
	h := w.must(w.ours.TryLock(w.ctx(), 0, lease))
	w.proxy.BlackHole(true)
	unlocked := make(chan error, 1)
	go func() { unlocked <- h.Unlock(w.ctx()) }()
	select {
	case <-h.Done():
		w.want("Err", h.Err(), locking.ErrUnlocked)
	case <-time.After(4 * lease): // Unlock has a limit of 3s
		t.Error("Done waits for an Unlock that is under way")
	}
	w.proxy.BlackHole(false)
	w.want("Unlock", <-unlocked, nil) // a copy of it may have been executed: not answered is not lost
}

// Two leases are long enough for renewals, for an undo and for the end of the trust window.
func TestNothingIsSentAfterTheLastUnlock(t *testing.T) {
	t.Parallel()
	const lease = 400 * time.Millisecond
	w := newWorld(t, lease)
	outer := w.must(w.ours.Lock(w.ctx()))
	inner := w.must(w.ours.Lock(outer.Context(w.ctx())))
	redistest.Eventually(t, 5*time.Second, "it is renewed", func() bool { return w.naming(outer.Owner())["rlock.renew"] > 0 })
	w.want("outer Unlock", outer.Unlock(w.ctx()), nil)
	w.want("inner Unlock", inner.Unlock(w.ctx()), nil)
	if n := engine.Kept(inner); n != 0 {
		t.Errorf("the watchdog keeps %d owners, want none", n)
	}
	renewals := w.naming(outer.Owner())["rlock.renew"]
	<-time.After(2 * lease)
	sent := w.naming(outer.Owner())
	if sent["rlock.renew"] != renewals || sent["rlock.release"] != 2 {
		t.Errorf("got %v once unlocked, want %d renewals as before and 2 releases", sent, renewals)
	}
}

// naming counts the scripts that name an owner, by their verbs.
func (w *world) naming(owner string) map[string]int {
	w.Helper()
	verbs := map[string]int{}
	for _, verb := range []string{"acquire", "renew", "release", "force", "inspect"} {
		for _, op := range w.sent(verb) {
			if slices.Contains(strings.Fields(op), owner) {
				verbs["rlock."+verb]++
			}
		}
	}
	return verbs
}
