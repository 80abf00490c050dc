package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
)

// A leaving is one hold of several on its way out.
type leaving struct {
	h       *hold
	inside  bool // within its trust window
	after   int
	call    *script.Call
	share   int
	settled bool
	err     error

	turnless bool // something else of its owner hangs
}

// UnlockAll releases the holds of several locks, those that go together in one call. It
// returns an error for each, nil or not, once enough of them are released or nothing
// more can be expected within Unlock's limit. The rest is released in the background.
func UnlockAll(ctx context.Context, members []Held, enough int) []error {
	p := &patience{ctx: context.WithoutCancel(ctx), until: time.Now().Add(unlockLimit)}
	leavers := make([]*leaving, len(members))
	for i, m := range members {
		h := m.(*hold)
		leavers[i] = &leaving{h: h, inside: h.owner.state() == nil}
	}
	// Turns are taken in the order that is common to all, as Ask takes them, or two calls
	// for the same owners could wait for each other.
	for _, l := range slices.SortedStableFunc(slices.Values(leavers), func(a, b *leaving) int {
		return compare(a.h.owner.target, a.h.owner.engine, b.h.owner.target, b.h.owner.engine)
	}) {
		l.prepare(p)
	}
	defer func() {
		for _, l := range leavers {
			if !l.turnless {
				l.h.owner.give()
			}
		}
	}()
	answered := start(leavers)
	released := 0
	for _, l := range leavers {
		if l.settled && l.err == nil {
			released++
		}
	}
	timer := time.NewTimer(time.Until(p.until))
	defer timer.Stop()
	for waiting := answered.n; waiting > 0 && released < enough; waiting-- {
		select {
		case l := <-answered.ch:
			if l.answered(p, enough == len(members)) == nil {
				released++
			}
		case <-timer.C:
			waiting = 1
		}
	}
	errs := make([]error, len(leavers))
	for i, l := range leavers {
		l.settle(errSilent)
		if l.err != nil {
			errs[i] = fmt.Errorf("unlock %q: %w", l.h.Name(), l.err)
		}
	}
	return errs
}

// prepare takes the owner's turn and the hold out of it.
func (l *leaving) prepare(p *patience) {
	o := l.h.owner
	if o.takeWith(p) != nil {
		l.h.Drop()
		l.settled, l.err, l.turnless = true, errSilent, true
		return
	}
	var lost bool
	if l.after, lost = o.leave(l.h); lost {
		l.settled, l.err = true, locking.ErrLost
	}
}

// answers are those that are expected, as they come.
type answers struct {
	ch chan *leaving
	n  int
}

// start sends the releases, in one call those that go together.
func start(leavers []*leaving) answers {
	a := answers{ch: make(chan *leaving, len(leavers))}
	var batches [][]*leaving
next:
	for _, l := range leavers {
		if l.settled {
			continue
		}
		a.n++
		for i, batch := range batches {
			if first := batch[0].h.owner; first.engine == l.h.owner.engine &&
				first.engine.sender.Server(first.target.Key) == first.engine.sender.Server(l.h.owner.target.Key) {
				batches[i] = append(batch, l)
				continue next
			}
		}
		batches = append(batches, []*leaving{l})
	}
	for _, batch := range batches {
		ops := make([]script.Op, len(batch))
		for i, l := range batch {
			ops[i], l.share = l.h.owner.releaseOp(l.after), i
		}
		call := batch[0].h.owner.engine.sender.Start(ops...)
		for _, l := range batch {
			l.call = call
		}
		call.Then(func(*script.Call) {
			for _, l := range batch {
				a.ch <- l // there is room for all
			}
		})
	}
	return a
}

// answered reads the answer to a release. Without a good one it is sent again, if the
// caller has the patience for it.
func (l *leaving) answered(p *patience, patient bool) error {
	o := l.h.owner
	answer := l.call.Answers()[l.share]
	class := script.ClassOf(answer.Err)
	var err error
	switch {
	case class == script.Done:
		err = o.told(answer, l.after, l.inside, false)
	case patient && class != script.Refused:
		p.waited = true
		err = o.release(p, l.after, l.inside, class == script.Unknown)
	default:
		err = answer.Err
	}
	l.settle(err)
	return l.err
}

// settle ends the hold, once.
func (l *leaving) settle(err error) {
	if l.settled {
		return
	}
	l.settled = true
	l.err = l.h.released(l.after, err)
}
