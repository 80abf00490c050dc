package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/locking"
)

// What an Extend may have made of the lease is undone for as long as that lease.
func TestRule6UndoLastsForTheLeaseOfAnExtend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 30*time.Second)
	h := w.must(w.ours.TryLock(w.ctx(), 0, 600*time.Millisecond))
	w.spoil("renew", 1, faultproxy.DropReply)
	ctx, cancel := context.WithTimeout(w.ctx(), 100*time.Millisecond)
	defer cancel()
	w.want("Extend", h.Extend(ctx, time.Hour), context.DeadlineExceeded)
	if err := w.server.Pause(); err != nil {
		t.Fatal(err)
	}
	<-h.Done()
	w.want("Err", h.Err(), locking.ErrLost)
	time.Sleep(1500 * time.Millisecond) // two of the first leases: an undo of that length is over
	if err := w.server.Resume(); err != nil {
		t.Fatal(err)
	}
	w.free(15 * time.Second)
}

// A cancelled call is undone once, and then nothing more is sent.
func TestUndoEndsWhenNothingCanBeLeft(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	open := make(chan struct{})
	w.spoil("acquire", 1, faultproxy.Gate(open))
	ctx, cancel := context.WithCancel(w.ctx())
	failed := make(chan error)
	start := len(w.sent("release"))
	go func() {
		_, err := w.ours.Lock(ctx)
		failed <- err
	}()
	w.reached(1)
	cancel()
	w.want("Lock", <-failed, context.Canceled)
	w.free(time.Second)
	close(open)
	time.Sleep(1500 * time.Millisecond) // six more copies, if it went on
	if n := len(w.sent("release")) - start; n > 4 {
		t.Errorf("%d releases were sent for one call that was cancelled", n)
	}
}

// An undo of the same owner may be first to release it: that is no loss.
func TestRule5AnUndoThatIsFirstIsNoLoss(t *testing.T) {
	w := newWorld(t, 30*time.Second)
	outer := w.must(w.ours.Lock(w.ctx()))
	w.spoil("acquire", 1, faultproxy.DropRequest)
	_, err := w.ours.TryLock(outer.Context(w.ctx()), 0, 0) // an undo goes on from here
	if err == nil {
		t.Fatal("re-entry without an answer: got no error")
	}
	open := make(chan struct{})
	start := len(w.sent("release"))
	w.spoil("release", 1, faultproxy.GateRequest(open))
	unlocked := make(chan error)
	go func() { unlocked <- outer.Unlock(w.ctx()) }()
	redistest.Eventually(t, 5*time.Second, "the undo releases", func() bool {
		return len(w.fields()) == 0 && len(w.sent("release")) > start
	})
	close(open)
	w.want("Unlock", <-unlocked, nil)
	w.want("Err", outer.Err(), locking.ErrUnlocked)
}
