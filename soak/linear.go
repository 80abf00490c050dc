package main

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// The linear check gives the operations that Redis answered to porcupine: is there an
// order, each operation at one moment between its call and its answer, in which one
// lock answers like this?
//
// An operation without an answer may have had its effect at any time from its call on,
// until longestFlight after it was given up, or never. If a later release found what an
// acquisition without an answer had left, that acquisition was executed. The end of a
// lease is an operation too, of nobody: possible from the call of what armed it plus the
// lease on, and without effect if that lease is not the last one. Where a release is
// certain to have come before, it is left out.

// A lockState is what Redis knows of a lock.
type lockState struct {
	owner string // "": free
	count int64  // anyCount: not known
	arm   int    // the operation that set the lease; anyArm: not known
}

const (
	anyCount = -1
	anyArm   = -1
)

// A lockOp is an input of the model.
type lockOp struct {
	verb    string // acquire, renew, release, force, expire
	owner   string
	count   int64
	arm     int
	unknown bool
	answer  []int64
}

// lockSteps are the states that an operation may lead to; none if it cannot have been
// answered like this.
func lockSteps(s lockState, op lockOp) []any {
	if op.unknown {
		if next, ok := effect(s, op); ok && next != s {
			return []any{s, next}
		}
		return []any{s}
	}
	mine := s.owner == op.owner
	switch op.verb {
	case "expire":
		if mine && (s.arm == op.arm || s.arm == anyArm) {
			return []any{lockState{}}
		}
		return []any{s}
	case "force":
		return []any{lockState{}}
	}
	switch op.answer[0] {
	case 0: // taken by another
		if s.owner == "" || mine {
			return nil
		}
		return []any{s}
	case -1: // gone
		if mine {
			return nil
		}
		return []any{s}
	}
	next, ok := effect(s, op)
	if !ok || op.verb == "acquire" && next.count != anyCount && len(op.answer) > 1 && next.count != op.answer[1] {
		return nil
	}
	return []any{next}
}

// effect is what an operation does when it is executed; false if it does nothing.
func effect(s lockState, op lockOp) (lockState, bool) {
	mine := s.owner == op.owner
	switch {
	case op.verb == "acquire" && s.owner == "" && op.count == 0:
		return lockState{op.owner, 1, op.arm}, true
	case op.verb == "acquire" && mine:
		count := s.count
		if count != anyCount {
			count = max(count, op.count+1)
		}
		return lockState{op.owner, count, op.arm}, true
	case op.verb == "renew" && mine:
		return lockState{op.owner, s.count, op.arm}, true
	case op.verb == "release" && mine && op.count == 0:
		return lockState{}, true
	case op.verb == "release" && mine:
		count := s.count
		if count != anyCount {
			count = min(count, op.count)
		}
		return lockState{op.owner, count, s.arm}, true
	case op.verb == "force":
		return lockState{}, true
	}
	return s, false
}

func lockModel(initial []any) porcupine.Model {
	nondeterministic := porcupine.NondeterministicModel{
		Init:  func() []any { return initial },
		Step:  func(state, input, _ any) []any { return lockSteps(state.(lockState), input.(lockOp)) },
		Equal: func(x, y any) bool { return x == y },
	}
	return nondeterministic.ToModel()
}

const (
	pieceSize    = 40000       // operations that are checked at once
	smallest     = 100         // a piece of so many is not halved any more
	pieceLimit   = time.Second // for one piece; ten times that for the smallest
	clockErrors  = 3 * ms      // Redis counts in milliseconds, and rounds down
	stillPending = math.MaxInt64
	// longestFlight is how late an operation without an answer can still be executed: no
	// fault holds a command or a server for longer.
	longestFlight = 5 * second
)

// linear checks every lock's operations. "Unknown" is no pass.
func (a *analysis) linear() {
	for _, lock := range sortedKeys(a.ops) {
		if strings.HasPrefix(lock, "fair") || strings.HasPrefix(lock, "held:") {
			continue // the order of a fair lock is a check of its own; nobody else wants what is held
		}
		ops := slices.DeleteFunc(slices.Clone(a.ops[lock]), func(e event) bool { return !modelled(e) })
		if len(ops) == 0 {
			continue
		}
		ops = withoutEmpty(ops)
		slices.SortFunc(ops, func(x, y event) int { return cmp.Compare(x.Call, y.Call) })
		for from := 0; from < len(ops); from += pieceSize {
			a.piece(lock, ops, from, min(from+pieceSize, len(ops)))
		}
	}
}

func modelled(e event) bool {
	kind, _, _ := strings.Cut(e.Verb, ".")
	return kind == "rlock" && (e.Unknown || len(e.Answer) > 0 || e.Verb == "rlock.force")
}

// withoutEmpty leaves out the last releases that found nothing. Undos send many of them,
// and each doubles the search; a hold that a release did not find is the business of the
// check of losses.
func withoutEmpty(ops []event) []event {
	return slices.DeleteFunc(ops, func(op event) bool {
		return strings.HasSuffix(op.Verb, ".release") && op.Count == 0 && !op.Unknown && op.Answer[0] < 0
	})
}

// piece checks the operations that were called in one stretch. Whatever was under way
// at its beginning or end may or may not have had its effect in it. What cannot be
// decided in time is halved.
func (a *analysis) piece(lock string, ops []event, from, to int) {
	start, end := int64(math.MinInt64), int64(math.MaxInt64)
	if from > 0 {
		start = ops[from].Call
	}
	if to < len(ops) {
		end = ops[to].Call
	}
	initial := []any{lockState{}}
	for _, owner := range living(ops[:from], start) {
		initial = append(initial, lockState{owner, anyCount, anyArm})
	}
	found := foundBy(ops)
	var history []porcupine.Operation
	for i, e := range ops[:to] {
		if i >= from || lastEffect(e) >= start {
			history = append(history, operationsOf(ops, i, start, end, found)...)
		}
	}
	for _, state := range initial[1:] {
		owner := state.(lockState).owner
		history = append(history, porcupine.Operation{Input: lockOp{verb: "expire", owner: owner, arm: anyArm}, Call: start, Return: stillPending})
	}
	limit := pieceLimit
	if to-from <= smallest {
		limit *= 10
	}
	result := decide(initial, history, limit)
	if result == porcupine.Unknown && to-from > smallest {
		a.piece(lock, ops, from, (from+to)/2)
		a.piece(lock, ops, (from+to)/2, to)
		return
	}
	a.figures.Histories++
	a.figures.Operations += len(history)
	switch result {
	case porcupine.Illegal:
		a.figures.Illegal++
		a.blame(checkLinear, lock, ops[from].Call, "no order explains the answers to operations %d to %d of it", from, to)
	case porcupine.Unknown:
		a.figures.Undecided++
		a.blame(checkUndecided, lock, ops[from].Call, "operations %d to %d of it could not be decided in %v", from, to, limit)
	}
}

// living are the owners that may have the lock at a moment, by what was sent before. A
// release that found nothing proves nothing if it may have overtaken the acquire.
func living(before []event, at int64) []string {
	type owner struct {
		armed    int64 // at the latest
		expires  int64 // at the latest
		released bool
	}
	owners := map[string]*owner{}
	for _, op := range before {
		o := owners[op.Owner]
		switch {
		case op.Owner == "":
		case !strings.HasSuffix(op.Verb, ".release"):
			if !op.Unknown && op.Answer[0] != 1 {
				continue
			}
			if o == nil {
				o = &owner{}
				owners[op.Owner] = o
			}
			o.armed = max(o.armed, lastEffect(op))
			o.expires = max(o.expires, lastEffect(op)+op.Lease+longestFlight)
		case o != nil && op.Count == 0 && !op.Unknown && op.Time < at:
			o.released = o.released || op.Answer[0] > 0 || op.Call > o.armed
		}
	}
	return slices.DeleteFunc(sortedKeys(owners), func(id string) bool { return owners[id].released || owners[id].expires < at })
}

// lastEffect is when an operation was executed at the latest.
func lastEffect(e event) int64 {
	if e.Unknown {
		return max(e.Time, e.Call) + longestFlight
	}
	return e.Time
}

// foundBy tells of each owner when a release found that it had the lock.
func foundBy(ops []event) map[string]int64 {
	found := map[string]int64{}
	for _, op := range ops {
		if _, known := found[op.Owner]; !known && strings.HasSuffix(op.Verb, ".release") && !op.Unknown && op.Answer[0] == 1 {
			found[op.Owner] = op.Time
		}
	}
	return found
}

// operationsOf makes the model's operations of one that was sent: itself, and the end of
// the lease that it set.
func operationsOf(ops []event, i int, start, end int64, found map[string]int64) []porcupine.Operation {
	e := ops[i]
	op := lockOp{verb: strings.TrimPrefix(e.Verb, "rlock."), owner: e.Owner, count: int64(e.Count), arm: i, unknown: e.Unknown, answer: e.Answer}
	call, back := max(e.Call, start), lastEffect(e)
	if at := found[e.Owner]; e.Unknown && op.verb == "acquire" && e.Count == 0 && at > 0 {
		op.unknown, op.answer, back = false, []int64{1, 1}, at
	}
	if back >= end || e.Call < start {
		op.unknown, back = true, max(back, call)
	}
	list := []porcupine.Operation{{Input: op, Call: call, Return: back}}
	arms := (op.verb == "acquire" || op.verb == "renew") && (op.unknown || op.answer[0] == 1)
	expires := e.Call + e.Lease - clockErrors
	if arms && expires < end && !releasedBefore(ops[i:], e.Owner, expires) {
		list = append(list, porcupine.Operation{
			Input: lockOp{verb: "expire", owner: e.Owner, arm: i}, Call: max(expires, start), Return: max(lastEffect(e)+e.Lease+longestFlight, start),
		})
	}
	return list
}

// releasedBefore tells whether an owner's lock was freed for certain before a moment.
func releasedBefore(ops []event, owner string, at int64) bool {
	for _, op := range ops {
		if op.Call > at {
			return false
		}
		if op.Owner == owner && strings.HasSuffix(op.Verb, ".release") && op.Count == 0 && !op.Unknown && op.Time < at {
			return true
		}
	}
	return false
}
