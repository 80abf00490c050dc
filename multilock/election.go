package multilock

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/holdfast-go/holdfast/internal/engine"
)

// enter makes a race for each quorum lock of a multi lock. They are acquired after the others, in an order that
// is common to all, as the others are. leave must be called at the end; done is called after all that
// uses the bids.
func (a *acquisition) enter(ctx context.Context, done func()) (leave func()) {
	var under atomic.Int32
	under.Store(1 + int32(len(a.multi.quorums)))
	over := func() {
		if under.Add(-1) == 0 {
			done()
		}
	}
	rest := a.all[len(a.bids):]
	for _, q := range a.multi.quorums {
		r := q.newRace(ctx, a.wait, a.ask, rest[:len(q.given)])
		r.span, r.done = a.span, over
		a.races = append(a.races, r)
		rest = rest[len(q.given):]
	}
	slices.SortStableFunc(a.races, func(x, y *race) int { return inOrder(x.red.given)[0].Compare(inOrder(y.red.given)[0]) })
	return func() {
		for _, r := range a.races {
			r.leave()
		}
		over()
	}
}

// elect asks for the quorum locks, one after the other, and makes one hold of all if it gets them. Each of
// them is tried once, so that nobody waits for long for the locks that are held meanwhile. If one has no
// majority, everything is given back, and the pause is that of the quorum lock: neither a hold nor an
// error then, it is time to begin anew.
func (a *acquisition) elect() (*hold, error) {
	var elected []*hold
	for _, r := range a.races {
		res := r.try()
		if res.hold != nil {
			elected = append(elected, res.hold)
			continue
		}
		a.giveBack(elected)
		if res.refused != nil {
			return nil, fmt.Errorf("member %q: %w", r.red.name, res.refused)
		}
		again := r.again(res)
		a.told, a.last = r.told, r.last
		if !again {
			return nil, r.ended()
		}
		a.later = true
		return nil, nil
	}
	h, err := a.hold(elected)
	if err != nil {
		return nil, err
	}
	for i, r := range a.races {
		r.keep(elected[i])
	}
	return h, nil
}

// giveBack gives back what was won, the last one first, and waits for the answers if it will be asked for
// again. What is still on its way is given back when it arrives.
func (a *acquisition) giveBack(elected []*hold) {
	for _, h := range elected {
		h.forgo()
	}
	won := slices.Clone(a.bids)
	for _, r := range a.races {
		for _, runner := range r.runners {
			if runner.mu.TryLock() {
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
