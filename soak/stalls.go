package main

import (
	"slices"
	"strings"
	"time"
)

// tolerated is how long a free lock may wait for its next holder without a reason.
const tolerated = 200 * ms

// stalls finds moments in which a lock was free, somebody waited for it by messages,
// and nothing that was inflicted on the lock, on the waiter's link or on everybody
// explains why the waiter did not have it.
func (a *analysis) stalls() {
	everybody, ofLock, ofWorker := a.explanations()
	waits := a.waits()
	for _, lock := range sortedKeys(waits) {
		taken := merged(a.taken(lock))
		for worker, calls := range waits[lock] {
			excuses := merged(slices.Concat(everybody, ofLock[lock], ofWorker[worker]))
			for _, call := range calls {
				for _, free := range minus(call, taken) {
					a.figures.stall(time.Duration(free.to - free.from))
					for _, bad := range minus(free, excuses) {
						if bad.to-bad.from > tolerated {
							a.blame(checkStall, lock, bad.from, "free for %v with %s waiting, %v of it unexplained",
								time.Duration(free.to-free.from), worker, time.Duration(bad.to-bad.from))
						}
					}
				}
			}
		}
	}
}

// explanations are the times in which a fault excuses a stall: of everybody, of one
// lock, of one worker's links.
func (a *analysis) explanations() (everybody []span, ofLock, ofWorker map[string][]span) {
	ofLock, ofWorker = map[string][]span{}, map[string][]span{}
	everybody = append(everybody, a.noise...)
	for _, f := range a.faults {
		s := span{f.Call, f.Time + f.Tail}
		switch {
		case f.Lock != "":
			ofLock[f.Lock] = append(ofLock[f.Lock], s)
		case f.Worker != "":
			ofWorker[f.Worker] = append(ofWorker[f.Worker], s)
			for lock := range a.ops { // everybody waits for the first in a queue
				if strings.HasPrefix(lock, "fair") {
					ofLock[lock] = append(ofLock[lock], s)
				}
			}
		default:
			everybody = append(everybody, s)
		}
	}
	for _, stop := range a.faults { // what lies in a process's buffers is news to it when it goes on, and silence begins then
		if stop.What != "worker stopped" {
			continue
		}
		for _, f := range a.faults {
			if f.Lock == "" && time.Duration(f.Tail) >= tailSilent && (f.Worker == "" || f.Worker == stop.Worker) && f.Call < stop.Time && f.Time+f.Tail > stop.Call {
				ofWorker[stop.Worker] = append(ofWorker[stop.Worker], span{stop.Time, stop.Time + f.Tail})
			}
		}
	}
	for lock, ops := range a.ops { // who is cut off cannot take back what it may have acquired
		for _, op := range ops {
			if !op.Unknown || !strings.HasSuffix(op.Verb, ".acquire") {
				continue
			}
			for _, f := range a.faults {
				if f.Worker == op.Worker && f.Lock == "" && f.Call < op.Time && f.Time > op.Call {
					ofLock[lock] = append(ofLock[lock], span{op.Call, min(f.Time+min(f.Tail, int64(tailPause)), op.Time+op.Lease+50*ms)})
				}
			}
		}
	}
	for _, deaths := range a.deaths { // a dead waiter keeps its place for a while
		for _, death := range deaths {
			for lock := range a.ops {
				if strings.HasPrefix(lock, "fair") {
					ofLock[lock] = append(ofLock[lock], span{death, death + int64(waiterLease) + second})
				}
			}
		}
	}
	return everybody, ofLock, ofWorker
}

// waits are the calls of Lock, by lock and worker, that waited for messages. Those of a
// worker that was killed are not known.
func (a *analysis) waits() map[string]map[string][]span {
	waits := map[string]map[string][]span{}
	for _, e := range a.events {
		if e.Kind != kindGot && e.Kind != kindMiss || e.Polls {
			continue
		}
		if waits[e.Lock] == nil {
			waits[e.Lock] = map[string][]span{}
		}
		waits[e.Lock][e.Worker] = append(waits[e.Lock][e.Worker], span{e.Call, min(e.Time, a.stop)})
	}
	for _, byWorker := range waits {
		for worker, calls := range byWorker {
			byWorker[worker] = merged(calls) // of one client only the first in line asks
		}
	}
	return waits
}

// taken are the times in which a lock was held, or may have been: a hold that did not
// end by a confirmed Unlock keeps it until its lease is over. An acquisition without
// an answer does not count: it is to be taken back soon, and the fault that lost the
// answer explains no more than that.
func (a *analysis) taken(lock string) (taken []span) {
	for _, t := range a.holdsOf(lock) {
		to := t.end
		if t.err != "" || t.noisy || t.lost != 0 {
			to = max(to, a.expiry(t))
		}
		taken = append(taken, span{t.Time, to})
	}
	return append(taken, a.orphans(lock)...)
}

// expiry is when a lease that may still run is over for certain.
func (a *analysis) expiry(t *tenure) (at int64) {
	for _, op := range a.byOwner[t.Owner] {
		if !strings.HasSuffix(op.Verb, ".release") {
			end := op.Time
			if end == 0 {
				end = op.Call
			}
			at = max(at, end+max(op.Lease, t.Lease)+50*ms)
		}
	}
	return at
}

// orphans are acquisitions that Redis confirmed, or may have executed, for a process
// that was killed before it had a hold of them: nobody takes those back.
func (a *analysis) orphans(lock string) (taken []span) {
	known := map[string]bool{}
	for _, t := range a.holdsOf(lock) {
		known[t.Owner] = true
	}
	for _, op := range a.ops[lock] {
		if !strings.HasSuffix(op.Verb, ".acquire") || known[op.Owner] || len(op.Answer) > 0 && op.Answer[0] != 1 {
			continue
		}
		for _, death := range a.deaths[op.Worker] {
			if death >= op.Call && death < op.Call+op.Lease {
				taken = append(taken, span{op.Call, max(op.Time, death) + op.Lease + 50*ms})
			}
		}
	}
	return taken
}

func (a *analysis) holdsOf(lock string) []*tenure {
	if a.locks == nil {
		a.locks = map[string][]*tenure{}
		for _, t := range a.holds {
			a.locks[t.Lock] = append(a.locks[t.Lock], t)
		}
	}
	return a.locks[lock]
}

// handOffs measures how long it took from a confirmed Unlock until the next one had the
// lock, where somebody was waiting.
func (a *analysis) handOffs() {
	for _, lock := range sortedKeys(a.ops) {
		holds := a.holdsOf(lock)
		for i := 1; i < len(holds); i++ {
			before, t := holds[i-1], holds[i]
			if strings.HasPrefix(lock, "hot:") && before.Owner == t.Owner {
				a.figures.HandOvers++ // these are never re-entered
			}
			if before.err == "" && !before.noisy && before.lost == 0 && t.Call < before.unlock && t.Time > before.unlock && !t.Polls {
				a.figures.HandOff.add(time.Duration(t.Time - before.unlock))
			}
		}
	}
}
