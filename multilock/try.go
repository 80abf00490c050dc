package multilock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
)

// A try asks every member once, at the same time, each with a short limit. What a member
// answers when the try is decided already joins the hold, or is given back.
type try struct {
	r     *race
	start time.Time

	bounded context.Context // ends with the limit, also for those who are asked while the hold has begun
	cancel  func()
	unbound func() bool // ends what waits for the limit

	asked []*one // those that were not still in the try before

	mu      sync.Mutex
	won     []*engine.Bid
	taken   []*engine.Bid
	errs    []error
	refused error
	stale   bool // a majority, but with no validity left
	left    int  // members that have not answered
	lit     int  // of those, the ones that answered the last time
	over    bool // decided
	hold    *hold
	changed chan struct{} // capacity 1
}

// An outcome is what a try had come to when it was decided.
type outcome struct {
	hold    *hold
	refused error // by so many that a majority is not possible
	won     int
	taken   []*engine.Bid
	errs    []error
	stale   bool // a majority said yes, with no validity left
	took    time.Duration
}

// try returns once it is decided: there is a majority, or others have so many that there is none to
// win, or all have answered, or the limit is over. It does not wait for those that were dark the
// last time if the others make it clear.
func (r *race) try() outcome {
	t := &try{r: r, start: time.Now(), changed: make(chan struct{}, 1)}
	t.bounded, t.cancel = context.WithTimeout(context.WithoutCancel(r.ctx), limit(r.lease))
	r.span.Attempt()
	free := make([]*one, 0, len(r.runners))
	for _, runner := range r.runners {
		if !runner.mu.TryLock() {
			t.errs = append(t.errs, runner.bid.Lock.MemberError(engine.ErrSilent))
			continue // it is still in the try before
		}
		dark := runner.bid.Lock.IsDark()
		free = append(free, &one{runner: runner, dark: dark})
		t.left++
		if !dark {
			t.lit++
		}
	}
	t.asked = free
	t.unbound = context.AfterFunc(t.bounded, func() {
		for _, f := range free {
			t.heard(f)
		}
	})
	if len(free) == 0 {
		t.end()
	}
	r.over.Add(int32(len(free)))
	for _, f := range free {
		f.bid.Bound(t.bounded)
		t.ask(f)
	}
	for !t.decided() {
		select {
		case <-t.changed:
		case <-t.bounded.Done():
			t.decide()
		case <-r.wait.Done():
			if t.decide(); t.hold == nil {
				t.cancel() // nobody wants the answers any more
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return outcome{t.hold, t.refused, len(t.won), slices.Clone(t.taken), append(slices.Clone(t.errs), t.silent()...), t.stale, time.Since(t.start)}
}

// silent is an error for each member that has not answered, if there is no hold. Under t.mu.
func (t *try) silent() (errs []error) {
	if t.hold != nil || t.left == 0 {
		return nil
	}
	for _, f := range t.asked {
		if !f.noted {
			errs = append(errs, f.bid.Lock.MemberError(engine.ErrSilent))
		}
	}
	return errs
}

// A one is a member in a try.
type one struct {
	*runner
	dark  bool
	call  *script.Call   // that was started; nil: it is asked by a goroutine of its own
	owner engine.Carrier // that it was started for
	heard bool           // guarded by try.mu
	noted bool           // what it has said was counted; guarded by try.mu
	known bool           // and it is known whether it was acquired; guarded by try.mu
}

// ask asks one member. Mostly nothing has to be waited for before, and the answer is heard
// where it arrives.
func (t *try) ask(f *one) {
	owner := f.bid.Carrier()
	call := f.bid.Start()
	if call == nil {
		go func() { // ends with the limit
			var busy *engine.Bid
			err := f.bid.Prepare()
			if err == nil {
				busy, err = engine.Ask([]*engine.Bid{f.bid})
			}
			t.note(f, busy != nil, err)
		}()
		return
	}
	t.mu.Lock()
	f.call, f.owner = call, owner
	t.mu.Unlock()
	call.Then(func(*script.Call) { t.heard(f) })
	if t.bounded.Err() != nil { // the limit may have found nothing yet
		t.heard(f)
	}
}

// heard takes what a started call has come to, once: its answer, or at the limit that there
// is none.
func (t *try) heard(f *one) {
	t.mu.Lock()
	first := f.call != nil && !f.heard
	if first {
		f.heard = true
	}
	t.mu.Unlock()
	if !first {
		return
	}
	busy, err := f.bid.Heard(f.call)
	t.note(f, busy, err)
}

// note counts what a member has said. One that is silent is dark from then on, until it answers again: for
// the whole limit, or because nobody listens at its address. What was not asked changes nothing: the turn
// of an owner did not come, or the hold that is re-entered is lost.
func (t *try) note(f *one, busy bool, err error) {
	switch {
	case !engine.WasAsked(err), errors.Is(err, locking.ErrLost):
	case err == nil, spoke(err), engine.ClassOf(err) == script.Refused:
		f.bid.Lock.SetDark(false)
	case !errors.Is(t.bounded.Err(), context.Canceled):
		f.bid.Lock.SetDark(true)
	}
	t.mu.Lock()
	f.noted = true
	t.left--
	if !f.dark {
		t.lit--
	}
	won := err == nil && !busy
	late := won && t.over
	switch {
	case late: // into the hold, or back
	case won:
		t.won = append(t.won, f.bid)
	case busy:
		t.taken = append(t.taken, f.bid)
	default:
		t.errs = append(t.errs, err)
	}
	last, h, ripe := t.left == 0, t.hold, t.ripe()
	if f.known = engine.ClassOf(err) != script.Unknown; !f.known {
		f.stray.Store(time.Now().Add(t.r.longest).UnixNano())
	}
	if h != nil && !late {
		h.arrived(f.owner)
		h.owe(f.bid.Lock, f.stray.Load())
	}
	if !late {
		f.mu.Unlock() // before anybody sees that it has answered: then the next try may ask it
	}
	t.mu.Unlock()
	if late {
		join(h, f)
		f.mu.Unlock()
	}
	if last {
		t.end()
	}
	if ripe { // a wake-up for each member would cost more than all else
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}
	t.r.leave()
}

// end stops the limit, as all have answered.
func (t *try) end() {
	t.unbound()
	t.cancel()
}

// join takes what was won when its try was over into the hold, if there is one. Under no mutex of the
// try's: a hold that turns out to have ended tells the caller's tracer.
func join(h *hold, f *one) {
	joined := h != nil && h.join(f.bid.Lock, f.bid.Won())
	if h != nil {
		h.arrived(f.owner)
	}
	if !joined {
		f.bid.Drop()
	}
}

// decided tells whether the try is over, and decides it if it can be.
func (t *try) decided() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over && t.ripe() {
		t.finish()
	}
	return t.over
}

// ripe tells whether there is enough to decide. Under t.mu.
func (t *try) ripe() bool {
	quorum := t.r.red.quorum
	clear := len(t.won) >= quorum || len(t.won)+t.left < quorum // whether there is a majority
	return t.left == 0 || t.r.early && len(t.won) >= quorum || clear && t.lit == 0 || len(t.taken) > len(t.r.runners)-quorum
}

func (t *try) decide() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.finish()
	}
}

// finish decides: a majority, with enough validity left, is a hold. Otherwise everything is
// given back. Under t.mu.
func (t *try) finish() {
	t.over = true
	red := t.r.red
	valid := t.r.lease - time.Since(t.start) - drift(t.r.lease)
	if len(t.won) >= red.quorum && valid > 0 {
		t.hold = newHold(&red.group, t.inOrder(), red.quorum, t.r.longest)
		if outer := red.outer(t.r.ctx); outer != nil && outer.isLive() {
			t.hold.owner = outer.owner // whichever member answered first then
		}
		t.owe()
		return
	}
	t.stale = len(t.won) >= red.quorum
	for _, err := range t.errs {
		if errors.Is(err, locking.ErrLost) {
			t.refused = err
		}
	}
	refusals := 0
	for _, err := range t.errs {
		if engine.ClassOf(err) == script.Refused {
			refusals++
		}
	}
	if refusals > len(t.r.runners)-red.quorum {
		t.refused = errors.Join(t.errs...)
	}
	for _, b := range t.won {
		b.Drop() // its owner is used up
	}
}

// owe has the hold know which members may have been acquired by this try or one before, though they did
// not say so. What comes of them joins it, is taken back, or runs out.
func (t *try) owe() {
	for _, runner := range t.r.runners {
		i := slices.IndexFunc(t.asked, func(f *one) bool { return f.runner == runner })
		if i >= 0 && t.asked[i].known {
			if runner.bid.Won() == nil {
				t.hold.owe(runner.bid.Lock, runner.stray.Load())
			}
			continue
		}
		t.hold.owe(runner.bid.Lock, time.Now().Add(t.r.longest).UnixNano())
		if i >= 0 && !t.asked[i].noted && t.asked[i].owner != nil {
			t.hold.expect(t.asked[i].owner)
		}
	}
}

// inOrder are the holds that were won in the order of the members, but first those of
// owners that had the lock before: a member that a re-entered hold did not have begins anew.
func (t *try) inOrder() (won []engine.Held) {
	for _, m := range t.r.red.given {
		for _, b := range t.won {
			if b.Lock == m {
				won = append(won, b.Won())
			}
		}
	}
	slices.SortStableFunc(won, func(a, b engine.Held) int { return b.Count() - a.Count() })
	return won
}

// err tells what went wrong where nobody else has the lock: how many answered, and what the others
// said or did not say.
func (o outcome) err(r *race) error {
	n := len(r.runners)
	answered := n
	for _, err := range o.errs {
		if !spoke(err) {
			answered--
		}
	}
	if o.stale {
		return fmt.Errorf("holdfast: %d of %d servers said yes, but too late for the lease: %w", o.won, n, engine.ErrLate)
	}
	if len(o.errs) == 0 {
		return fmt.Errorf("holdfast: %d of %d servers answered, %d with yes, a majority is needed", answered, n, o.won)
	}
	return fmt.Errorf("holdfast: %d of %d servers answered, %d with yes, a majority is needed: %w", answered, n, o.won, errors.Join(o.errs...))
}

// spoke tells whether an error is what Redis said, or what it said came too late; otherwise it
// was silent.
func spoke(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) || errors.Is(err, engine.ErrLate)
}
