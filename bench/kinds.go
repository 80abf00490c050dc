package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/holdfast-go/holdfast"
)

// groupSize is how many names of one server a multi lock takes.
const groupSize = 3

// A kind is measured beside the plain lock of the same library, in the same round.
type kind struct {
	kind, plain figure
	ratio       figure
}

func kindFigures(name, plain, unit string) kind {
	return kind{
		kind:  figure{Name: name, Unit: unit, Better: higher},
		plain: figure{Name: name + ": " + plain, Unit: unit, Better: higher},
		ratio: figure{Name: name + ": ratio of the two", Unit: "x", Better: higher},
	}
}

var fairHot = kindFigures("hot fair lock: 32 callers in one process", "a plain lock in its place, not handed over", "sections/s")

func multiFigures(callers int) kind {
	return kindFigures(fmt.Sprintf("multi lock of three names, %s", count(callers, "caller")), "a single plain lock in its place", "pairs/s")
}

// isSubject leaves only the library that the kinds are of.
func isSubject(p peer) bool { return p.name == subject }

// hotFair measures a fair lock that many callers of one process want, and the plain
// lock in the same place: each with a lease of its own, with which the plain lock is not handed over.
var hotFair = beside("fair", fairHot,
	func(l *holdfastLocker) []func(context.Context) error { return hotOf(l.client.FairLock("hot")) },
	func(l *holdfastLocker) []func(context.Context) error { return hotOf(l.client.RLock("hot")) })

// multiPairs measures lock and unlock of several names at once that nobody else wants,
// and of one.
func multiPairs(callers int) measurement {
	return beside(fmt.Sprintf("multi/%d", callers), multiFigures(callers),
		func(l *holdfastLocker) []func(context.Context) error { return groupsOf(l, callers) },
		func(l *holdfastLocker) []func(context.Context) error {
			work := make([]func(context.Context) error, callers)
			for i := range work {
				work[i] = pairsOf(l, i)
			}
			return work
		})
}

// beside measures a kind and the plain lock one after the other, each round starting
// with the other one.
func beside(name string, f kind, ofKind, ofPlain func(*holdfastLocker) []func(context.Context) error) measurement {
	var runs atomic.Int64
	run := func(ctx context.Context, b *bench, _ peer) ([]reading, error) {
		var kind, plain float64
		var first, second error
		if runs.Add(1)%2 == 1 {
			plain, first = b.rate(ctx, ofPlain)
			kind, second = b.rate(ctx, ofKind)
		} else {
			kind, first = b.rate(ctx, ofKind)
			plain, second = b.rate(ctx, ofPlain)
		}
		values := []reading{{f.kind, kind}, {f.plain, plain}}
		if plain > 0 {
			values = append(values, reading{f.ratio, kind / plain})
		}
		return values, errors.Join(first, second)
	}
	return measurement{name: name, rounds: everyRound, fits: isSubject, run: run}
}

// rate is how often a second the work is done, on an empty Redis and by a client of
// its own.
func (b *bench) rate(ctx context.Context, work func(*holdfastLocker) []func(context.Context) error) (_ float64, err error) {
	if err := flush(ctx, b.addr); err != nil {
		return 0, err
	}
	l, err := openHoldfast(b.addr, lease)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	t := drive(ctx, b.settings.Window/4, b.settings.Window, work(l.(*holdfastLocker)))
	return t.perSecond(), t.problem()
}

// hotOf is the work of callers that all want one lock. Two at once in it are an error.
func hotOf(hot holdfast.Lock) []func(context.Context) error {
	var inside atomic.Int64
	one := func(ctx context.Context) error {
		hold, err := hot.Lock(ctx, holdfast.WithLease(lease))
		if err != nil {
			return err
		}
		together := inside.Add(1)
		inside.Add(-1)
		if together != 1 {
			err = fmt.Errorf("the lock was not exclusive: %d inside", together)
		}
		return errors.Join(err, hold.Unlock(ctx))
	}
	work := make([]func(context.Context) error, hotCallers)
	for i := range work {
		work[i] = one
	}
	return work
}

// groupsOf is the work of callers that lock three names as one, of as many groups in
// turn as pairsOf has names.
func groupsOf(l *holdfastLocker, callers int) []func(context.Context) error {
	work := make([]func(context.Context) error, callers)
	for caller := range work {
		groups := make([]holdfast.Lock, namesEach)
		for i := range groups {
			members := make([]holdfast.Lock, groupSize)
			for j := range members {
				members[j] = l.client.RLock(fmt.Sprintf("multi:%d:%d:%d", caller, i, j))
			}
			groups[i] = l.client.MultiLock(members...)
		}
		next := 0
		work[caller] = func(ctx context.Context) error {
			m := &holdfastMutex{lock: groups[next%len(groups)]}
			next++
			if err := m.Lock(ctx); err != nil {
				return err
			}
			return m.Unlock(ctx)
		}
	}
	return work
}
