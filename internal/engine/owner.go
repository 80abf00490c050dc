package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/watchdog"
)

// An owner is who holds one lock in Redis: the holds that share one field of its
// hash, their trust window and their renewal. Its id is used for one acquisition,
// what is re-entered under it and who it is handed over to, then never again.
type owner struct {
	engine *Engine
	target *Target
	id     string
	entry  watchdog.Entry
	live   atomic.Int32 // len(holds), for the undo's release
	zeroed atomic.Bool  // an undo has sent a release to 0, so Unlock's own may find nothing

	mu      sync.Mutex
	holds   []*hold       // those that owe an Unlock
	single  [1]*hold      // the room for a single one, as mostly
	leaving *hold         // the one whose Unlock is under way; not among holds any more
	trusted time.Time     // the lock is ours until then, whatever has become of Redis
	renewed time.Time     // sending of the latest confirmation
	lease   time.Duration // the longest lease that was sent
	ended   error         // why it is retired; nil while it may be re-entered
	late    []sentCopy    // acquires from a queue that may still be executed, and take the lock or a place after a release

	undone    bool      // an undo was started, or is about to be, which may send a release at any time
	handUntil time.Time // it may be handed over until then

	ticket Ticket // when it entered the queue; written before there is a hold

	busy bool          // an acquire or release is under way, see take
	free chan struct{} // closed when it is over; nil while nobody waits
}

func (e *Engine) newOwner(t *Target) *owner {
	o := &owner{engine: e, target: t, id: e.nextOwner()}
	o.holds = o.single[:0]
	return o
}

// window tells until when a lease that was confirmed is trusted: it counts from
// the sending of the copy that was answered, less a margin for clocks that run
// apart. The margin is 1 % of the lease but at least 10 ms, and never more than a
// quarter, or short leases could not be held at all.
func window(sent time.Time, lease time.Duration) time.Time {
	margin := max(lease/100, 10*time.Millisecond)
	return sent.Add(lease - min(margin, lease/4))
}

// take waits for the owner's turn: one acquire or release at a time, or a release
// could overtake the re-entry that is to keep the lock. Give it back with give. A release that
// nobody waits for any more does not keep it (leftBehind): it may arrive after the next acquire, and the
// count in Redis is too low then, until the owner's next acquire or release, which say how many there are.
func (o *owner) take(ctx context.Context, stop <-chan struct{}) error {
	for {
		free := o.tryTake()
		if free == nil {
			return nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return locking.ErrClosed
		}
	}
}

// tryTake takes the owner's turn if it is free, otherwise it tells when to try again.
func (o *owner) tryTake() (free <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.busy {
		o.busy = true
		return nil
	}
	if o.free == nil {
		o.free = make(chan struct{})
	}
	return o.free
}

func (o *owner) give() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy = false
	if o.free != nil {
		close(o.free)
		o.free = nil
	}
}

// state tells why the owner is retired, nil if it is not: it looks at the clock
// too, because the watchdog may be late (a process that was stopped, say). One that has not had the
// lock yet is not retired.
func (o *owner) state() error { return o.stateAt(time.Now()) }

func (o *owner) stateAt(now time.Time) error {
	o.mu.Lock()
	lapsed := o.ended == nil && !o.renewed.IsZero() && !now.Before(o.trusted)
	ended := o.ended
	o.mu.Unlock()
	if lapsed {
		o.Lapsed()
		return locking.ErrLost
	}
	return ended
}

// admit makes a hold of a confirmed acquisition; before is how many holds it said the
// owner has. It fails if the answer came outside of its own trust window, or if the
// last of those holds has been unlocked meanwhile: then it is no hold.
func (o *owner) admit(h *hold, sent time.Time, lease time.Duration, before int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	until := window(sent, lease)
	if o.ended != nil || before > 0 && len(o.holds) == 0 || !now.Before(later(until, o.trusted)) {
		return false
	}
	o.engine.remember(o)
	if before == 0 {
		o.handUntil = handOverUntil(sent, now)
	}
	h.owner = o
	h.count = len(o.holds) + 1
	o.holds = append(o.holds, h)
	o.live.Store(int32(len(o.holds)))
	o.confirm(sent, lease)
	return true
}

// confirm takes note that Redis keeps the lock for a lease from sent on. The
// largest confirmation wins. Under o.mu.
func (o *owner) confirm(sent time.Time, lease time.Duration) {
	o.trusted = later(o.trusted, window(sent, lease))
	o.renewed = later(o.renewed, sent)
	o.lease = max(o.lease, lease)
	o.schedule()
}

// schedule tells the watchdog when to renew, if any hold wants it, and when the
// trust window ends. Under o.mu.
func (o *owner) schedule() {
	if o.engine.closing() {
		return // ended by Close: nothing is renewed any more, the leases run out
	}
	every := o.engine.config.Watchdog / 3
	at := o.renewed.Add(every - o.engine.jitter(every/10))
	if !o.wantsRenewal(at) {
		at = time.Time{}
	}
	retry := min(max(every/10, 20*time.Millisecond), time.Second)
	o.engine.watchdog.Put(&o.entry, o, watchdog.Schedule{RenewAt: at, Retry: retry, Deadline: o.trusted})
}

// wantsRenewal tells whether a hold is to be kept by the watchdog at that time, or now if it is past.
func (o *owner) wantsRenewal(at time.Time) bool {
	for _, h := range o.holds {
		if h.renews && (h.limit.IsZero() || later(at, time.Now()).Before(h.limit)) {
			return true
		}
	}
	return false
}

// Renewal is the watchdog's question: what to send now.
func (o *owner) Renewal() script.Op {
	return o.target.Driver.Renew(o.target.Key, o.id, o.engine.config.Watchdog)
}

// Renewed takes the answer to one copy of a renewal. Lost is lost at once; without
// an answer the window keeps running, and the watchdog sends another copy.
func (o *owner) Renewed(answer script.Answer, sent time.Time) {
	e := o.engine
	v, err := answer.Ints(2)
	switch {
	case err != nil:
		e.config.Tracer.Renewal("unknown")
		e.unanswered.log(e, "renewals are not answered", "lock", o.target.Name, "error", err)
		o.renewNoMore()
	case v[0] == gone:
		if o.isLeaving() {
			return // its own release was first
		}
		e.config.Tracer.Renewal("lost")
		o.retire(locking.ErrLost)
	default:
		e.config.Tracer.Renewal("renewed")
		o.mu.Lock()
		if o.ended == nil {
			o.confirm(sent, e.config.Watchdog)
		}
		o.mu.Unlock()
	}
}

// renewNoMore ends the copies of a renewal that nobody wants any more: a hold's limit
// has passed.
func (o *owner) renewNoMore() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended == nil && !o.wantsRenewal(time.Now()) {
		o.schedule()
	}
}

// isLeaving tells whether the last hold's Unlock is under way.
func (o *owner) isLeaving() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended == nil && len(o.holds) == 0
}

// Lapsed is called when the trust window has passed: every hold is lost, renewal
// ends, and what may still be ours in Redis is released in the background.
func (o *owner) Lapsed() {
	o.mu.Lock()
	early := time.Now().Before(o.trusted) // confirmed a moment ago
	o.mu.Unlock()
	if !early && o.retire(locking.ErrLost) {
		o.engine.undo(o)
	}
}

// retire ends the owner and all its holds, and tells whether it did. A hold whose
// Unlock is under way ends as unlocked: what becomes of it is Unlock's to say.
func (o *owner) retire(cause error) bool {
	o.mu.Lock()
	if o.ended != nil {
		o.mu.Unlock()
		return false
	}
	ending := o.end(cause)
	lost := len(ending) > 0 && cause == locking.ErrLost
	if o.leaving != nil && o.leaving.mark(leavingCause(cause)) {
		ending = append(ending, o.leaving)
	}
	o.mu.Unlock()
	if lost {
		o.engine.lost.log(o.engine, "hold lost", "lock", o.target.Name, "owner", o.id)
	}
	o.tell(ending)
	return true
}

// end retires an owner that is not retired yet, under o.mu; tell must follow.
func (o *owner) end(cause error) (ending []*hold) {
	o.ended = cause
	ending = o.holds[:0]
	for _, h := range o.holds {
		if h.mark(cause) {
			ending = append(ending, h)
		}
	}
	o.holds = nil
	o.live.Store(0)
	o.engine.watchdog.Remove(&o.entry)
	return ending
}

// tell ends what was retired for everybody else.
func (o *owner) tell(ending []*hold) {
	o.engine.forget(o)
	for _, h := range ending {
		h.finish()
	}
}

// leavingCause tells how a hold ends whose Unlock is under way when its owner is
// retired.
func leavingCause(cause error) error {
	if errors.Is(cause, locking.ErrLost) {
		return locking.ErrUnlocked
	}
	return cause
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
