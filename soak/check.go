package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The checks, by the names under which they report.
const (
	checkOverlap   = "overlap"   // two holds of one lock at once, by the clock
	checkRegister  = "register"  // two holds of one lock at once, by the register
	checkWindow    = "window"    // a hold was trusted for longer than its lease allows
	checkLoss      = "loss"      // a hold was lost for no reason
	checkLinear    = "linear"    // answers that no lock service can give in any order
	checkUndecided = "undecided" // porcupine did not find out, which is no pass
	checkStall     = "stall"     // a free lock was handed on late, and no fault explains it
	checkOrder     = "order"     // a fair lock overtook a waiter
	checkGhost     = "ghost"     // something was left behind
	checkBound     = "bound"     // an overlap after data was lost lasted longer than promised
)

// A violation is one broken promise.
type violation struct {
	Check string `json:"check"`
	Round string `json:"round"`
	Lock  string `json:"lock,omitempty"`
	At    int64  `json:"at"`
	Text  string `json:"text"`
}

// An analysis holds a history in the shape that the checks want, and what they find.
type analysis struct {
	round
	events  []event
	holds   []*tenure            // in order of their beginning
	locks   map[string][]*tenure // the same, by lock
	byID    map[string]*tenure   // by hold
	ops     map[string][]event   // of each lock, in order of their calls
	byOwner map[string][]event   // operations
	faults  []event              // faults alone
	stop    int64                // when the workers were told to stop
	deaths  map[string][]int64   // of each worker
	noise   []span               // nothing is to be expected of the machine then
	figures figures
	found   []violation
}

// A tenure is one outermost hold, from the return of Lock to its Unlock.
type tenure struct {
	event                          // the got line
	trust, lost, unlock, end int64 // last known as held; loss first seen; Unlock called, returned
	err                      string
	noisy                    bool // its end is not known: the worker was killed
}

// analyse runs all checks over a history.
func analyse(r round, events []event) *analysis {
	a := &analysis{
		round: r, events: events, byID: map[string]*tenure{}, ops: map[string][]event{},
		byOwner: map[string][]event{}, deaths: map[string][]int64{}, figures: newFigures(r),
	}
	a.read()
	a.exclusion()
	a.register()
	if !a.Lossy {
		a.windows()
		a.losses()
		a.linear()
		a.stalls()
	}
	if !a.Aborted {
		a.ghosts()
	}
	a.order()
	a.handOffs()
	a.figures.Violations = len(a.found)
	return a
}

func (a *analysis) blame(check, lock string, at int64, format string, args ...any) {
	a.found = append(a.found, violation{check, a.Name, lock, at, fmt.Sprintf(format, args...)})
}

// read sorts the lines.
func (a *analysis) read() {
	slices.SortStableFunc(a.events, func(x, y event) int { return cmp.Compare(x.Time, y.Time) })
	var noise []span
	sent := map[string]event{}
	for _, e := range a.events {
		switch e.Kind {
		case kindGot:
			t := &tenure{event: e, trust: e.Time}
			a.byID[e.Hold] = t
			a.holds = append(a.holds, t)
			a.figures.got(e)
		case kindMiss:
			a.figures.miss(e)
		case kindStill, kindLost, kindClash, kindEnd:
			a.tell(e)
		case kindSent:
			sent[sentKey(e)] = e
		case kindOp:
			delete(sent, sentKey(e))
			a.operation(e)
		case kindFault:
			a.faults = append(a.faults, e)
			if e.Value == 0 {
				a.figures.fault(e)
			}
		case kindNoise:
			noise = append(noise, span{e.Call, e.Time + 30*ms})
		case kindDeath:
			a.deaths[e.Worker] = append(a.deaths[e.Worker], e.Time)
		case kindStop:
			a.stop = e.Time
		case kindForce:
			a.figures.Forced++
		case kindFigure:
			a.figures.figure(e)
		}
	}
	for _, e := range sent { // in flight when its process was killed
		e.Kind, e.Unknown = kindOp, true
		a.operation(e)
	}
	if a.stop == 0 && len(a.events) > 0 {
		a.stop = a.events[len(a.events)-1].Time
	}
	a.noise = merged(noise)
	a.bury()
}

func sentKey(e event) string { return fmt.Sprint(e.Worker, e.Verb, e.Owner, e.Count, e.Call) }

func (a *analysis) operation(e event) {
	a.ops[e.Lock] = append(a.ops[e.Lock], e)
	a.byOwner[e.Owner] = append(a.byOwner[e.Owner], e)
	if strings.HasSuffix(e.Verb, ".renew") {
		a.figures.renewal(e)
	}
}

// tell adds what a hold says of itself.
func (a *analysis) tell(e event) {
	t := a.byID[e.Hold]
	if t == nil {
		return
	}
	t.trust = max(t.trust, e.Trust)
	switch e.Kind {
	case kindLost:
		if t.lost == 0 {
			t.lost = e.Time
		}
	case kindEnd:
		t.unlock, t.end, t.err = e.Call, e.Time, e.Err
		if e.Err == "lost" && t.lost == 0 {
			t.lost = e.Time
		}
	}
}

// bury ends the holds of workers that were killed.
func (a *analysis) bury() {
	for _, t := range a.holds {
		if t.end != 0 {
			continue
		}
		t.noisy = true
		t.end = a.stop
		for _, death := range a.deaths[t.Worker] {
			if death > t.Time {
				t.end = min(t.end, death)
			}
		}
	}
}

// exclusion finds two holds that were trusted at once. The intervals are such that the
// hold was certainly trusted in them, so there is no tolerance.
func (a *analysis) exclusion() {
	locks := map[string][]*tenure{}
	for _, t := range a.holds {
		locks[t.Lock] = append(locks[t.Lock], t)
	}
	for lock, holds := range locks {
		var last *tenure // the one that is trusted longest so far
		for _, t := range holds {
			if last != nil && last.trust > t.Time {
				a.overlap(lock, last, t)
			}
			if last == nil || t.trust > last.trust {
				last = t
			}
		}
	}
}

func (a *analysis) overlap(lock string, first, second *tenure) {
	d := time.Duration(min(first.trust, second.trust) - second.Time)
	if d <= 0 {
		return
	}
	if !a.Lossy {
		a.blame(checkOverlap, lock, second.Time, "%s and %s both held it for %v", first.Hold, second.Hold, d)
		return
	}
	// Of two that a loss let in, the first learns it at its next renewal, once it has found
	// the new master; one that is not renewed when its lease ends.
	bound := a.Watchdog/3 + time.Second
	if first.Own {
		bound = time.Duration(first.Lease)
	}
	a.figures.overlap(d)
	if d > bound+a.noiseIn(span{second.Time, second.Time + int64(d)}) {
		a.blame(checkBound, lock, second.Time, "%s and %s both held it for %v, the bound is %v", first.Hold, second.Hold, d, bound)
	}
}

// noiseIn is how long the machine stood still in s.
func (a *analysis) noiseIn(s span) time.Duration {
	quiet := int64(0)
	for _, rest := range minus(s, a.noise) {
		quiet += rest.to - rest.from
	}
	return time.Duration(s.to - s.from - quiet)
}

// register finds those who met somebody in the register. One who had lost its hold,
// or whose process was killed, may still be in there.
func (a *analysis) register() {
	for _, e := range a.events {
		if e.Kind != kindClash {
			continue
		}
		me, other := a.byID[e.Hold], a.byID[e.What]
		switch {
		case me == nil || e.Err != "" || me.lost != 0 && me.lost <= e.Time: // it says so itself
			a.figures.LateEntries++
		case other == nil || other.lost != 0 || other.noisy:
			a.figures.LateHolders++ // it stays until it leaves, or for ever if it died
		case a.Lossy:
			a.figures.RegisterOverlaps++
		default:
			a.blame(checkRegister, e.Lock, e.Time, "%s found %s inside", e.Hold, e.What)
		}
	}
}

// margin is how much earlier than its lease a hold ends.
func margin(lease int64) int64 { return min(max(lease/100, 10*ms), lease/4) }

// windowOf is the latest moment until which an owner may be trusted, by the operations
// that were answered before a moment. The hook's clock is read after the library's own,
// so it errs on the library's side.
func (a *analysis) windowOf(owner string, before int64) (until int64, known bool) {
	for _, op := range a.byOwner[owner] {
		arms := strings.HasSuffix(op.Verb, ".acquire") || strings.HasSuffix(op.Verb, ".renew")
		if arms && !op.Unknown && len(op.Answer) > 0 && op.Answer[0] == 1 && op.Time <= before {
			until, known = max(until, op.Call+op.Lease-margin(op.Lease)), true
		}
	}
	return until, known
}

// earliest is windowOf for the library's own reckoning, which may be stricter: what was
// not executed at first and went out again in another form keeps its first date, and what
// is answered when the window is over comes too late: later than slack after its end.
func (a *analysis) earliest(owner string, before, slack int64) (until int64, known bool) {
	again := int64(0)
	for _, op := range a.byOwner[owner] {
		switch {
		case strings.HasSuffix(op.Verb, ".release"):
		case !op.Unknown && len(op.Answer) == 0:
			if again == 0 && goesOutAgain(op.Err) {
				again = op.Call
			}
		case len(op.Answer) > 0 && op.Time <= before:
			call := op.Call
			if again != 0 {
				call, again = again, 0
			}
			if op.Answer[0] == 1 && (!known || op.Time < until+slack) {
				until, known = max(until, call+op.Lease-margin(op.Lease)), true
			}
		}
	}
	return until, known
}

// goesOutAgain tells whether an error is one upon which the library sends the same call in another form.
func goesOutAgain(err string) bool {
	return strings.HasPrefix(err, "NOSCRIPT") || strings.HasPrefix(err, "TRYAGAIN") || strings.HasPrefix(err, "CROSSSLOT")
}

// windows finds holds that were trusted for longer than their lease allows.
func (a *analysis) windows() {
	for _, t := range a.holds {
		until, known := a.windowOf(t.Owner, t.trust)
		if known && t.trust > until {
			a.blame(checkWindow, t.Lock, t.trust, "%s was trusted %v after the end of its window", t.Hold, time.Duration(t.trust-until))
		}
	}
}

// signalLimit is how late a hold may tell that it is lost, apart from the time in which
// the machine stood still.
const signalLimit = 300 * time.Millisecond

// losses finds holds that were lost before their time, though nobody forgot anything.
func (a *analysis) losses() {
	for _, t := range a.holds {
		if t.lost == 0 {
			continue
		}
		a.figures.Lost++
		until, known := a.earliest(t.Owner, t.lost, -unnoticed)
		latest, _ := a.earliest(t.Owner, t.lost, unnoticed)
		switch {
		case strings.HasPrefix(t.Lock, "held:") && a.noiseIn(span{t.lost - int64(a.Watchdog), t.lost}) > a.Watchdog/10:
			a.figures.Starved++ // the machine stood still for what was left of the time for a renewal
		case strings.HasPrefix(t.Lock, "held:"):
			a.blame(checkLoss, t.Lock, t.lost, "%s was lost, though the watchdog had ten seconds for each renewal", t.Hold)
		case !known:
		case time.Duration(until-t.lost) > time.Duration(unnoticed)+a.noiseIn(span{until - t.Lease - second, until - t.Lease + margin(t.Lease)}):
			// The library reads the clock before the hook does; if the machine stood still in between, earlier than it seems.
			a.blame(checkLoss, t.Lock, t.lost, "%s was lost %v before the end of its window", t.Hold, time.Duration(until-t.lost))
		case t.unlock == 0 || t.unlock > t.lost: // otherwise Unlock has asked
			late := time.Duration(t.lost-latest) - a.noiseIn(span{latest, t.lost})
			a.figures.signal(late)
			if late > signalLimit {
				a.blame(checkWindow, t.Lock, t.lost, "%s told of its loss %v after the end of its window", t.Hold, late)
			}
		}
	}
}

// ghosts are noted by the controller; here they become violations.
func (a *analysis) ghosts() {
	for _, e := range a.events {
		if e.Kind == kindGhost {
			a.figures.Ghosts++
			a.blame(checkGhost, e.Lock, e.Time, "%s %s %d %s", e.Worker, e.What, e.Value, e.Err)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
