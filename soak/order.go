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

// inversions compares each grant with the places that were confirmed long before it.
func (a *analysis) inversions(lock string) {
	type place struct{ asked, told int64 }
	places := map[string]place{}
	unknown := map[string]int64{} // when an owner first asked without an answer
	ops := slices.Clone(a.ops[lock])
	for _, op := range ops {
		if at := unknown[op.Owner]; op.Verb == "fairlock.acquire" && op.Unknown && (at == 0 || op.Call < at) {
			unknown[op.Owner] = op.Call
		}
	}
	slices.SortStableFunc(ops, func(x, y event) int { return cmp.Compare(x.Time, y.Time) })
	for _, op := range ops {
		if op.Verb != "fairlock.acquire" || op.Unknown || len(op.Answer) < 7 {
			continue
		}
		p, known := places[op.Owner]
		switch at := unknown[op.Owner]; {
		case op.Answer[6] == 1: // it entered; perhaps anew, having lost its place
			p = place{op.Call, op.Time}
		case !known && at != 0: // it was there already, by a call whose answer was lost
			p = place{min(at, op.Call), op.Time}
		case !known:
			p = place{op.Call, op.Time}
		}
		places[op.Owner] = p
	}
	holds := a.holdsOf(lock)
	earliest := map[*tenure]place{}
	for _, t := range holds {
		if p, ok := places[t.Owner]; ok {
			earliest[t] = p
		}
	}
	for i, t := range holds {
		mine, ok := earliest[t]
		if !ok {
			continue
		}
		for _, later := range holds[i+1:] {
			if p, ok := earliest[later]; ok && p.told < mine.asked {
				a.figures.Inversions++
				a.blame(checkOrder, lock, t.Time, "%s came before %s, whose place was confirmed before it asked", t.Hold, later.Hold)
			}
		}
	}
}
