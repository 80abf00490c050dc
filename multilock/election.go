package multilock

import (
	"context"
	"errors"
	"slices"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
)

// enter makes a race for each quorum lock of a multi lock. They are acquired after the others, in an order that
// is common to all, as the others are. leave must follow.
func (a *acquisition) enter(ctx context.Context) {
	a.under.Store(1 + int32(len(a.multi.quorums)))
	rest := a.all[len(a.bids):]
	for _, q := range a.multi.quorums {
		r := q.newRace(ctx, a.wait, a.ask, rest[:len(q.given)])
		r.span, r.done = a.span, a.out
		a.races = append(a.races, r)
		rest = rest[len(q.given):]
	}
	slices.SortStableFunc(a.races, func(x, y *race) int { return inOrder(x.red.given)[0].Compare(inOrder(y.red.given)[0]) })
}

// leave ends the call, but not what is still on its way to a server of a quorum lock's.
func (a *acquisition) leave() {
	for _, b := range a.bids {
		b.StopWaiting() // whoever is next waits for none of these
	}
	for _, r := range a.races {
		r.leave()
	}
	a.out()
}

// out is called by all that use the bids when they do not any more.
func (a *acquisition) out() {
	if a.under.Add(-1) == 0 {
		a.done()
	}
}

// elect asks for the quorum locks, one after the other. Each of
// them is tried once, so that nobody waits for long for the locks that are held meanwhile. If one has no
// majority, everything is given back, and the pause is that of the quorum lock: again, it is time to begin anew.
func (a *acquisition) elect() (elected []*hold, again bool, err error) {
	for _, r := range a.races {
		res := r.try()
		if res.hold != nil {
			elected = append(elected, res.hold)
			continue
		}
		cut := a.wait.Err() != nil // then it tells less than what was before
		a.giveBack(elected)
		if res.refused != nil {
			return nil, false, a.over(r.named(res.refused))
		}
		again = r.again(res)
		switch {
		case r.told:
			a.told, a.last = true, nil
		case !cut || !a.told:
			a.last = r.named(r.last)
		}
		if !again {
			err = a.over(nil)
		}
		return nil, again, err
	}
	return elected, false, nil
}

// keep has keepers look after the quorum locks' holds.
func (a *acquisition) keep(elected []*hold) {
	for i, h := range elected {
		a.races[i].keep(h)
	}
}

// named says which of a multi lock's members an error is about.
func (r *race) named(err error) error {
	if err == nil || errors.Is(err, locking.ErrClosed) {
		return err
	}
	return r.red.memberError(err)
}

// giveBack gives back what was won, the last one first, and waits for the answers if it will be asked for
// again. What is still on its way is given back when it arrives.
func (a *acquisition) giveBack(elected []*hold) {
	for _, h := range elected {
		h.forgo(locking.ErrUnlocked)
	}
	won := slices.Clone(a.bids)
	for _, r := range a.races {
		for _, runner := range r.runners {
			mine := runner.mu.TryLock()
			if !mine && slices.ContainsFunc(elected, func(h *hold) bool { return h.has(runner.bid.Lock) }) {
				runner.mu.Lock() // a late member has just joined: it is let go in a moment
				mine = true
			}
			if mine {
				defer runner.mu.Unlock()
				won = append(won, runner.bid)
			}
		}
	}
	if !a.single {
		engine.GiveBack(a.wait, won)
		a.resort()
		return
	}
	for _, b := range slices.Backward(won) {
		b.Drop()
	}
}
