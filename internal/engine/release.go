package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
)

// unlockLimit bounds an Unlock, which does not heed its caller's ctx.
const unlockLimit = 3 * time.Second

func (h *hold) Unlock(ctx context.Context) error {
	if ctx == nil {
		ctx = context.Background()
	}
	o := h.owner
	inside := o.state() == nil // called within the trust window

	o.mu.Lock()
	over := h.unlocked
	if over == nil {
		h.unlocked = make(chan struct{})
	}
	o.mu.Unlock()
	if over != nil {
		<-over // bounded by the first call's limit
		return nil
	}
	defer close(h.unlocked)

	span := o.engine.config.Tracer.Release(ctx, o.target.Driver.Kind(), h.Name(), o.id)
	err := h.unlock(&patience{ctx: context.WithoutCancel(ctx), until: time.Now().Add(unlockLimit)}, inside)
	if err != nil {
		err = fmt.Errorf("unlock %q: %w", h.Name(), err)
	}
	span.End(err)
	return err
}

// patience is Unlock's own time limit: a context that is made only when something has
// to be waited for, because mostly nothing has.
type patience struct {
	ctx    context.Context
	until  time.Time
	waited bool // some of it is gone
}

func (p *patience) limited() (context.Context, context.CancelFunc) {
	return context.WithDeadline(p.ctx, p.until)
}

// unlock waits for the owner's turn, decides how many holds are left and has
// Redis told.
func (h *hold) unlock(p *patience, inside bool) error {
	o := h.owner
	if err := o.takeWith(p); err != nil {
		// Something else of this owner hangs. If it is a re-entry, it finds the owner
		// retired when it comes back, and is undone too.
		if h.drop(locking.ErrUnlocked) {
			return locking.ErrLost
		}
		return errSilent
	}
	defer o.give()

	if h.handOver() {
		return nil
	}
	after, lost := o.leave(h)
	if lost {
		return locking.ErrLost
	}
	return h.released(after, o.release(p, after, inside, false))
}

// released ends the hold as its release ended.
func (h *hold) released(after int, err error) error {
	o := h.owner
	switch {
	case errors.Is(err, locking.ErrLost):
		h.lose()
		o.retire(locking.ErrLost)
	case err != nil:
		h.left()
		o.engine.undo(o) // goes on until one lease from now
	default:
		h.left()
	}
	if after == 0 {
		o.retire(locking.ErrUnlocked)
		if o.hasLate() {
			o.engine.undo(o)
		}
	}
	return err
}

// leftBehind ends the hold without the answer to its release, which is on its way, and
// mostly answered in a moment: another one is sent only if it is not. But where other holds are left, or late
// copies may still take the lock, an undo goes out at once.
func (h *hold) leftBehind(after int, release *script.Call, share int) error {
	o := h.owner
	if after > 0 || o.hasLate() {
		return h.released(after, errSilent)
	}
	h.left()
	o.engine.undoUnless(o, release, share)
	o.retire(locking.ErrUnlocked)
	return errSilent
}

// hasLate tells whether something may still be executed that takes the lock anew.
func (o *owner) hasLate() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.late) > 0
}

// takeWith is take within an Unlock's patience.
func (o *owner) takeWith(p *patience) error {
	if o.tryTake() == nil {
		return nil
	}
	p.waited = true
	ctx, cancel := p.limited()
	defer cancel()
	return o.take(ctx, nil)
}

// leave takes the hold out of those that owe an Unlock, stops the renewal that
// nobody else wants, and tells how many holds are left. lost: there was
// nothing to take out, the owner is retired.
func (o *owner) leave(h *hold) (after int, lost bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.Index(o.holds, h)
	if i < 0 {
		return 0, true
	}
	o.holds = slices.Delete(o.holds, i, i+1)
	o.live.Store(int32(len(o.holds)))
	if o.leaving == nil {
		o.leaving = h
	}
	o.schedule()
	return len(o.holds), false
}

// left ends a hold whose release was decided.
func (h *hold) left() { h.settle(locking.ErrUnlocked) }

// lose ends a hold that Redis did not know any more.
func (h *hold) lose() { h.settle(locking.ErrLost) }

func (h *hold) settle(cause error) {
	o := h.owner
	o.mu.Lock()
	if o.leaving == h {
		o.leaving = nil
	}
	ended := h.mark(cause)
	o.mu.Unlock()
	if ended {
		h.finish()
	}
}

// release sends the release until it is answered or ctx ends; executed twice it
// does no harm. inside tells whether Unlock was called within the trust window.
//
// "Gone" has two readings. On an inner release it is always a loss: other holds
// of the owner should have kept the field. On the last one the field may be gone
// because an earlier copy of this very release took it, or an undo, so it is a loss only if
// no earlier copy can have run and the answer came within the window, or if Unlock
// was called too late anyway.
//
// earlier: a copy may have been executed already.
func (o *owner) release(p *patience, after int, inside, earlier bool) error {
	e := o.engine
	op := o.releaseOp(after)
	pauses := e.retries()
	ctx, cancel := p.ctx, context.CancelFunc(func() {}) // an exchange has a limit of its own, as long as ours
	if p.waited {
		ctx, cancel = p.limited()
	}
	defer func() { cancel() }()
	for {
		_, answer := e.exchange(ctx, op, nil)
		switch script.ClassOf(answer.Err) {
		case script.Done:
			return o.told(answer, after, inside, earlier)
		case script.Refused:
			return answer.Err
		case script.Unknown:
			earlier = true
		}
		if !p.waited {
			p.waited = true
			ctx, cancel = p.limited()
		}
		if !e.pause(ctx, pauses.NextBackOff(), nil) {
			return answer.Err
		}
	}
}

func (o *owner) releaseOp(after int) script.Op {
	publish, _ := o.engine.publish.known() // the acquire has asked for it
	return o.target.Driver.Release(o.target.Key, o.id, after, publish)
}

// told reads the answer to a release.
func (o *owner) told(answer script.Answer, after int, inside, earlier bool) error {
	if o.engine.untold(o.target, answer) {
		return nil
	}
	v, err := answer.Ints(2)
	if err != nil {
		return err
	}
	if v[0] == gone && (after > 0 || !inside || !earlier && !o.zeroed.Load() && o.within()) {
		return locking.ErrLost
	}
	return nil
}

func (o *owner) within() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Now().Before(o.trusted)
}

// untold tells whether the lock was freed without a message, and logs it: waiters
// then find out by the end of the lease or their safety poll.
func (e *Engine) untold(t *Target, answer script.Answer) bool {
	if len(answer.Reply) < 2 || answer.Reply[0] != int64(untold) {
		return false
	}
	e.log("lock freed, but its waiters could not be told", "lock", t.Name, "error", answer.Reply[1])
	return true
}
