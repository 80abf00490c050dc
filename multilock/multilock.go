package multilock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/tracing"
)

// Multi is several locks as one: held if all are. All its methods may be called at once.
type Multi struct {
	group
	ordered []*engine.Lock // those that are no quorum locks, as they are acquired
	slots   bool           // by slot, where a member's server was known to be a cluster
	quorums []*Red         // which are acquired after those
}

var _ locking.Lock = (*Multi)(nil)

// New makes a multi lock; nil traces nothing. What is not possible is told by its first call.
func New(tracer *tracing.Tracer, locks ...locking.Lock) *Multi {
	parts, err := flatten("a multi lock", locks)
	l := &Multi{group: group{kind: "multi", name: nameOf("multi", parts, locks), parts: parts, err: err, tracer: tracer}}
	l.given, l.quorums = split(parts)
	l.ordered = inOrder(l.given)
	l.slots = slices.ContainsFunc(l.given, (*engine.Lock).Slots)
	l.acquire = l.acquireAll
	return l
}

func (l *Multi) acquireAll(ctx context.Context, opts []locking.AcquireOption) (*hold, error) {
	members := slices.Clip(l.order())
	for _, q := range l.quorums {
		members = append(members, q.given...)
	}
	ask, bids, wait, done, err := l.open(ctx, members, opts)
	if err != nil {
		return nil, err
	}
	span, end := l.trace(ctx, ask)
	for _, b := range bids {
		b.Trace(span)
	}
	a := &acquisition{multi: l, ask: ask, all: bids, bids: bids[:len(l.given)], wait: wait, done: done, span: span, single: ask.Bounded && ask.Wait == 0}
	a.enter(ctx)
	defer a.leave()
	h, err := a.run()
	end(h, bids[0].Lease(), err)
	return h, err
}

// order is the order of acquisition. A server that turned out to be a cluster, behind a
// proxy, has slots to order by that were not known when the lock was made.
func (l *Multi) order() []*engine.Lock {
	if l.slots == slices.ContainsFunc(l.given, (*engine.Lock).Slots) {
		return l.ordered
	}
	return inOrder(l.given)
}

// An acquisition is one call of Lock on its way.
type acquisition struct {
	multi  *Multi
	ask    locking.Acquire
	all    []*engine.Bid
	bids   []*engine.Bid // those that are not for quorum locks, in the global order
	races  []*race       // for quorum locks, see elect
	wait   context.Context
	done   func()       // ends the bids
	under  atomic.Int32 // how many use them: this call, and the races
	span   tracing.Acquire
	single bool
	later  bool  // not the first try
	told   bool  // that somebody else has one of them
	last   error // what went wrong since
}

// run asks for all; if there are quorum locks too, for these once the others are won. Without a majority of one
// everything is given back, and it begins anew after a pause.
func (a *acquisition) run() (*hold, error) {
	for _, r := range a.races {
		if err := r.red.reenterable(r.ctx); err != nil {
			return nil, r.named(err)
		}
	}
	retries := a.all[0].Retries()
	for {
		if err := a.win(); err != nil {
			return nil, err
		}
		elected, again, err := a.elect()
		if err != nil {
			return nil, err
		}
		if !again {
			h, err := a.hold(elected)
			switch {
			case h != nil:
				return h, nil
			case !errors.Is(err, engine.ErrSilent):
				return nil, a.over(err)
			}
			a.last = err
			if a.single || !a.all[0].Pause(a.wait, retries) {
				return nil, a.over(nil)
			}
		}
		a.later = true
		a.span.Event(tracing.EventRetry)
	}
}

// win asks for all that are no quorum locks; if one is busy, gives back those that it got and waits for that one
// alone; and asks for all again, in the global order.
//
// It cannot deadlock, because it holds nothing while it waits. Nor do two acquisitions keep
// each other from succeeding: of those that meet, the one that has the last of the locks
// in question, in the order that is common to all, gets the rest too. Only the first try
// goes to all servers at once, if it is not the only one: or of those that meet none might
// succeed.
func (a *acquisition) win() error {
	if len(a.bids) == 0 {
		if a.wait.Err() != nil {
			return a.over(nil)
		}
		return nil
	}
	var waiting *engine.Bid // for its turn
	retries := a.bids[0].Retries()
	for _, b := range a.bids {
		if err := b.Prepare(); err != nil {
			return err
		}
	}
	for ; ; a.later = true {
		if waiting != nil {
			if err := waiting.Await(); err != nil {
				if a.wait.Err() != nil {
					err = nil // it says no more than that
				}
				return a.over(err)
			}
		}
		if a.wait.Err() != nil {
			return a.over(nil)
		}
		busy, err := a.round(!a.later && !a.single)
		switch {
		case err == nil && busy == nil:
			return nil
		case errors.Is(err, script.ErrSplit):
			continue // the batches are others by now
		case busy != nil && a.single:
			return locking.ErrNotAcquired
		case busy != nil:
			a.told, a.last = true, nil
			retries.Reset()
			a.span.Waiting()
			if waiting != nil && waiting != busy {
				waiting.StopWaiting()
			}
			waiting = busy
			waiting.StartWaiting()
			continue
		case errors.Is(err, locking.ErrLost), engine.ClassOf(err) == script.Refused, a.single:
			return a.over(err)
		}
		if waiting != nil && !a.inOneGo() {
			waiting.StopWaiting() // another server is silent: nobody stands still behind us for that
			waiting = nil
		}
		if !a.bids[0].Pause(a.wait, retries) {
			if errors.Is(err, engine.ErrSilent) && a.last != nil {
				err = nil // the end of the wait has cut the question short: what was before tells more
			}
			return a.over(err)
		}
		a.span.Event(tracing.EventRetry)
	}
}

// hold makes one hold of all. A lease of the caller's starts anew once all are held, or those
// that were acquired first would have less of it.
func (a *acquisition) hold(elected []*hold) (*hold, error) {
	h := newHold(&a.multi.group, a.holds(elected), len(a.multi.parts), 0)
	if a.ask.Lease == 0 || len(elected) == 0 && a.inOneGo() {
		a.keep(elected)
		return h, nil
	}
	limited, cancel := context.WithTimeout(a.wait, engine.AttemptLimit)
	defer cancel()
	defer a.all[0].Lock.OnClose(cancel)() // see untilOneCloses: wait does not end with an only client
	err := h.extend(limited, a.ask.Lease)
	if err == nil {
		return h, nil
	}
	h.forgo(locking.ErrUnlocked)
	a.giveBack(elected)
	switch {
	case errors.Is(err, locking.ErrLost):
		err = engine.ErrLate // the first ones had run out before the last were there
	case limited.Err() != nil:
		err = fmt.Errorf("%w: %v", engine.ErrSilent, err) // whose end of a context is not the caller's
	}
	return nil, err
}

// over tells why it ended without the locks.
func (a *acquisition) over(err error) error {
	switch {
	case errors.Is(err, locking.ErrLost), errors.Is(err, locking.ErrClosed):
		return err
	case errors.Is(context.Cause(a.wait), locking.ErrClosed):
		return locking.ErrClosed // also if it is another member's client
	case errors.Is(err, locking.ErrNotAcquired):
		return err
	}
	if err == nil {
		err = a.last
	}
	if err == nil && a.told && a.single {
		return locking.ErrNotAcquired
	}
	return a.all[0].Over(a.told, err)
}

// round asks each batch in its turn, or all at once. What it got it gives back, in
// reverse, unless it got all.
func (a *acquisition) round(atOnce bool) (busy *engine.Bid, err error) {
	batches := batches(a.bids, together)
	a.span.Attempt()
	if atOnce && len(batches) > 1 {
		busy, err = askTogether(batches)
	} else {
		busy, err = a.askInTurn()
	}
	switch {
	case busy == nil && err == nil:
	case a.single && !errors.Is(err, script.ErrSplit):
		for _, b := range slices.Backward(a.bids) {
			b.Drop()
		}
	default:
		engine.GiveBack(a.wait, a.bids) // or the next round would find them taken, by this one
		a.resort()
	}
	return busy, err
}

// askInTurn asks one batch after the other. One that turns out to be of several slots is
// asked in parts, and what was won before it is kept.
func (a *acquisition) askInTurn() (busy *engine.Bid, err error) {
	for rest := a.bids; len(rest) > 0; {
		batch := leading(rest, together)
		busy, err = engine.Ask(batch)
		switch {
		case errors.Is(err, script.ErrSplit) && len(leading(rest, together)) < len(batch):
		case busy != nil || err != nil:
			return busy, err
		default:
			rest = rest[len(batch):]
		}
	}
	return nil, nil
}

// resort puts the bids into the order of acquisition anew: a server that turned out to be
// a cluster has slots to order by.
func (a *acquisition) resort() {
	slices.SortStableFunc(a.bids, func(x, y *engine.Bid) int { return x.Lock.Compare(y.Lock) })
}

// askTogether asks all batches at once. Of several that are busy the first counts.
func askTogether(batches [][]*engine.Bid) (busy *engine.Bid, err error) {
	busies, errs := make([]*engine.Bid, len(batches)), make([]error, len(batches))
	var wg sync.WaitGroup
	for i, batch := range batches {
		wg.Go(func() { busies[i], errs[i] = engine.Ask(batch) }) // ends with the wait, or the limit of an attempt
	}
	wg.Wait()
	for i := range batches {
		if busy == nil {
			busy = busies[i]
		}
		if err == nil {
			err = errs[i]
		}
	}
	if err != nil {
		busy = nil
	}
	return busy, err
}

// batches are those that go together, in their order.
func batches[T any](all []T, together func(a, b T) bool) (batches [][]T) {
	for rest := all; len(rest) > 0; {
		batch := leading(rest, together)
		batches = append(batches, batch)
		rest = rest[len(batch):]
	}
	return batches
}

// inOneGo tells whether all go together.
func (a *acquisition) inOneGo() bool { return len(leading(a.bids, together)) == len(a.bids) }

func together(b, other *engine.Bid) bool { return b.Lock.Together(other.Lock) }

// leading are those at the beginning that go together.
func leading[T any](all []T, together func(a, b T) bool) []T {
	n := min(1, len(all))
	for n < len(all) && together(all[0], all[n]) {
		n++
	}
	return all[:n:n]
}

// holds are the holds of all parts, in the order in which these were given.
func (a *acquisition) holds(elected []*hold) []engine.Held {
	holds := make([]engine.Held, 0, len(a.multi.parts))
	for _, part := range a.multi.parts {
		switch part := part.(type) {
		case *engine.Lock:
			i := slices.IndexFunc(a.bids, func(b *engine.Bid) bool { return b.Lock == part })
			holds = append(holds, a.bids[i].Won())
		case *Red:
			i := slices.IndexFunc(elected, func(h *hold) bool { return h.group == &part.group })
			holds = append(holds, elected[i])
		}
	}
	return holds
}

// ForceUnlock frees whatever members are held, whoever holds them, and tells whether any
// was. It tries all. Those that go together are freed in one step. Between others somebody may get a member that is
// freed already, together with one that is not held and still to be forced, which is then taken from him.
func (l *Multi) ForceUnlock(ctx context.Context) (bool, error) {
	if err := l.possible("force-unlock"); err != nil {
		return false, err
	}
	var deeds []func() ([]bool, []error)
	for _, batch := range batches(l.order(), (*engine.Lock).Together) {
		deeds = append(deeds, func() ([]bool, []error) {
			freed, errs := engine.ForceUnlock(ctx, batch...)
			for i, l := range batch {
				errs[i] = l.MemberError(errs[i])
			}
			return freed, errs
		})
	}
	for _, q := range l.quorums {
		deeds = append(deeds, func() ([]bool, []error) {
			freed, err := q.ForceUnlock(ctx)
			return []bool{freed}, []error{q.memberError(err)}
		})
	}
	freed, errs := each(deeds, func(deed func() ([]bool, []error)) (bool, error) {
		freed, errs := deed()
		return slices.Contains(freed, true), errors.Join(errs...)
	})
	if err := errors.Join(errs...); err != nil {
		return slices.Contains(freed, true), fmt.Errorf("force-unlock %q: %w", l.name, err)
	}
	return slices.Contains(freed, true), nil
}

// IsLocked tells whether all members are locked, by whomever.
func (l *Multi) IsLocked(ctx context.Context) (bool, error) {
	locked, err := ask(&l.group, "look at", func(m locking.Lock) (bool, error) { return m.IsLocked(ctx) })
	return err == nil && !slices.Contains(locked, false), err
}

// IsHeld tells whether ctx carries an owner of each member that holds it.
func (l *Multi) IsHeld(ctx context.Context) (bool, error) {
	n, err := l.HoldCount(ctx)
	return n > 0, err
}

// HoldCount tells the smallest of the members' hold counts.
func (l *Multi) HoldCount(ctx context.Context) (int, error) {
	counts, err := ask(&l.group, "count holds of", func(m locking.Lock) (int, error) { return m.HoldCount(ctx) })
	if err != nil {
		return 0, err
	}
	return slices.Min(counts), nil
}

// RemainingTTL tells the smallest of the members'; ErrNotHeld if one is free.
func (l *Multi) RemainingTTL(ctx context.Context) (time.Duration, error) {
	ttls, err := ask(&l.group, "look at", func(m locking.Lock) (time.Duration, error) { return m.RemainingTTL(ctx) })
	if err != nil {
		return 0, err
	}
	return slices.Min(ttls), nil
}

// ask asks all members, and wants an answer of all.
func ask[T any](g *group, deed string, question func(locking.Lock) (T, error)) ([]T, error) {
	if err := g.possible(deed); err != nil {
		return nil, err
	}
	answers, errs := each(g.parts, func(part locking.Lock) (T, error) {
		answer, err := question(part)
		return answer, named(part, err)
	})
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%s %q: %w", deed, g.name, err)
	}
	return answers, nil
}
