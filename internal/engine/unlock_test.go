package engine_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/locking"
)

// Something else of the owner hangs until the limit of Unlock is over, and the trust window has passed by then.
func TestALossWhileUnlockWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	for deed, unlock := range map[string]func(h locking.Hold) error{
		"Unlock": func(h locking.Hold) error { return h.Unlock(w.ctx()) },
		"UnlockAll": func(h locking.Hold) error {
			return engine.UnlockAll(w.ctx(), []engine.Held{h.(engine.Held)}, 1, 1)[0]
		},
	} {
		h := w.must(w.ours.TryLock(w.ctx(), 0, time.Second))
		give := engine.TakeTurn(h)
		w.want(deed, unlock(h), locking.ErrLost)
		w.want("Err", h.Err(), locking.ErrLost)
		give()
		w.free(5 * time.Second)
	}
}

// One of two is lost when Unlock begins, and has nothing to answer.
func TestUnlockAllReturnsWithTheLastAnswerThatCanCome(t *testing.T) {
	w, v := newWorld(t, time.Minute), newWorld(t, time.Minute)
	lapsed := w.must(w.ours.TryLock(w.ctx(), 0, 50*time.Millisecond))
	<-lapsed.Done()
	fastest := time.Hour // this machine has its own pauses
	for range 3 {
		h := v.must(v.ours.Lock(v.ctx()))
		start := time.Now()
		errs := engine.UnlockAll(v.ctx(), []engine.Held{lapsed.(engine.Held), h.(engine.Held)}, 2, 2)
		fastest = min(fastest, time.Since(start))
		w.want("the lapsed one", errs[0], locking.ErrLost)
		v.want("the other one", errs[1], nil)
	}
	if fastest > 250*time.Millisecond {
		t.Errorf("the fastest of three took %v, though all had been said at once", fastest)
	}
}

// When the moment for the others is over, the least number that has to be released is waited for, and no longer.
func TestUnlockAllReturnsWithTheLeastThatIsNeeded(t *testing.T) {
	w, v := newWorld(t, time.Minute), newWorld(t, time.Minute)
	var members []engine.Held
	open := make(chan struct{})
	for i, d := range []faultproxy.Decision{faultproxy.DelayReply(800 * time.Millisecond), faultproxy.Gate(open)} {
		x := []*world{w, v}[i]
		l := x.lock(redis.NewClient(&redis.Options{Addr: x.proxy.Addr(), ReadTimeout: time.Minute}), "patient", time.Minute)
		members = append(members, x.must(l.Lock(x.ctx())).(engine.Held))
		x.spoil("release", 1, d)
	}
	start := time.Now()
	errs := engine.UnlockAll(w.ctx(), members, 1, 2)
	took := time.Since(start)
	close(open)
	w.want("the one that is needed", errs[0], nil)
	if took > 2*time.Second {
		t.Errorf("it took %v, though the one that is needed had answered after 800ms", took)
	}
}
