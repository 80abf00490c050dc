package main

import (
	"cmp"
	"slices"
	"strings"
)

// order finds waiters of a fair lock that were overtaken: whose place in the queue was
// confirmed before the other one even asked, and who had the lock later all the same.
// A place that was given up, or whose process was killed or stood still, does not count.
func (a *analysis) order() {
	for _, lock := range sortedKeys(a.ops) {
		if !strings.HasPrefix(lock, "fair") {
			continue
		}
		a.inversions(lock)
	}
}

// A place is what is known of a waiter's last one: when it asked for it at the earliest, when
// it was told of it at the latest, and until when it kept it without asking again.
type place struct{ asked, told, until int64 }

// places are the last places of a lock's waiters, by owner.
func (a *analysis) places(lock string) map[string]place {
	places := map[string]place{}
	unanswered := map[string][]int64{} // calls, since the last answer
	ops := slices.Clone(a.ops[lock])
	slices.SortStableFunc(ops, func(x, y event) int { return cmp.Compare(x.Call, y.Call) })
	for _, op := range ops {
		switch {
		case op.Verb != "fairlock.acquire":
		case op.Unknown:
			unanswered[op.Owner] = append(unanswered[op.Owner], op.Call)
		case len(op.Answer) >= 7:
			p, known := places[op.Owner]
			asked := slices.Min(append(unanswered[op.Owner], op.Call))
			switch {
			case op.Answer[6] == 1: // it entered, perhaps anew
				p = place{op.Call, op.Time, 0}
			case !known: // it had entered, by a call whose answer was lost
				p = place{asked, op.Time, 0}
			case op.Time > p.until: // nobody may have noticed, or it came back by such a call
				p.told = op.Time
			}
			p.until = max(p.until, op.Call+int64(waiterLease))
			places[op.Owner] = p
			delete(unanswered, op.Owner)
		}
	}
	return places
}

// inversions compares each grant with the places that were confirmed before it asked.
func (a *analysis) inversions(lock string) {
	places := a.places(lock)
	holds := a.holdsOf(lock)
	for i, t := range holds {
		mine, ok := places[t.Owner]
		if !ok {
			continue
		}
		for _, later := range holds[i+1:] {
			if p, ok := places[later.Owner]; ok && p.told < mine.asked {
				a.figures.Inversions++
				a.blame(checkOrder, lock, t.Time, "%s came before %s, whose place was confirmed before it asked", t.Hold, later.Hold)
			}
		}
	}
}
