package main

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// A script writes a history by hand; times are in milliseconds.
type script struct{ events []event }

func (s *script) op(verb, owner string, call, back int64, answer ...int64) {
	e := event{Kind: kindOp, Verb: "rlock." + verb, Lock: "a", Owner: owner, Worker: "w0", Call: call * ms, Time: back * ms, Lease: second, Answer: answer, Unknown: len(answer) == 0}
	s.events = append(s.events, e)
}

// hold is a hold with the operations that belong to it.
func (s *script) hold(owner string, call, got, trust, unlock int64) {
	s.op("acquire", owner, call, got, 1, 1)
	s.events = append(s.events,
		event{Kind: kindGot, Lock: "a", Owner: owner, Hold: owner, Worker: "w0", Call: call * ms, Time: got * ms, Lease: second},
		event{Kind: kindEnd, Lock: "a", Owner: owner, Hold: owner, Worker: "w0", Call: unlock * ms, Time: (unlock + 1) * ms, Trust: trust * ms})
	s.op("release", owner, unlock, unlock+1, 1, 0)
}

// want fails the test unless exactly these checks find something.
func (s *script) want(t *testing.T, checks ...string) {
	t.Helper()
	var got []string
	for _, v := range analyse(round{Name: "test", Watchdog: 3 * time.Second}, s.events).found {
		if !slices.Contains(got, v.Check) {
			got = append(got, v.Check)
		}
	}
	slices.Sort(got)
	slices.Sort(checks)
	if fmt.Sprint(got) != fmt.Sprint(checks) {
		t.Errorf("found by %v, want %v", got, checks)
	}
}

func TestTurnsAreInOrder(t *testing.T) {
	var s script
	for i := range int64(50) {
		s.hold(fmt.Sprint("o", i), 1+i*10, 2+i*10, 5+i*10, 6+i*10)
	}
	s.want(t)
}

func TestTwoHoldsAtOnceAreFound(t *testing.T) {
	var s script
	s.hold("x", 1, 2, 20, 21)
	s.hold("y", 10, 11, 15, 16)
	s.want(t, checkOverlap, checkLinear)
}

func TestAHoldBeyondItsWindowIsFound(t *testing.T) {
	var s script
	s.hold("x", 1, 400, 1100, 1101) // sent at 1 with a lease of one second
	s.want(t, checkWindow, checkStall)
}

func TestALeaseThatEndsTooEarlyIsFound(t *testing.T) {
	for _, second := range []int64{900, 1010} {
		var s script
		s.op("acquire", "x", 1, 2, 1, 1)
		s.op("acquire", "y", second, second+1, 1, 1)
		if second < 1000 {
			s.want(t, checkLinear)
		} else {
			s.want(t)
		}
	}
}

func TestAnAcquisitionWithoutAnAnswerMayHold(t *testing.T) {
	var s script
	s.op("acquire", "x", 1, 300)        // executed, the answer lost
	s.op("acquire", "y", 10, 11, 0, 99) // taken, and by nobody else
	s.op("release", "x", 20, 320)       // executed, the answer lost
	s.hold("y", 30, 31, 40, 41)
	s.want(t)

	var nobody script
	nobody.op("acquire", "y", 10, 11, 0, 99)
	nobody.want(t, checkLinear)
}

func TestAReleaseThatFreesTooEarlyIsFound(t *testing.T) {
	var s script
	s.op("acquire", "x", 1, 2, 1, 1)
	s.events = append(s.events, event{Kind: kindOp, Verb: "rlock.acquire", Lock: "a", Owner: "x", Count: 1, Call: 3 * ms, Time: 4 * ms, Lease: second, Answer: []int64{1, 2}})
	s.events = append(s.events, event{Kind: kindOp, Verb: "rlock.release", Lock: "a", Owner: "x", Count: 1, Call: 5 * ms, Time: 6 * ms, Answer: []int64{1, 1}})
	s.op("acquire", "y", 10, 11, 1, 1)
	s.want(t, checkLinear)
}

func TestAStallIsFoundUnlessAFaultExplainsIt(t *testing.T) {
	stall := func() *script {
		s := &script{}
		s.hold("x", 1, 2, 20, 21)
		s.hold("y", 10, 500, 510, 511)
		return s
	}
	stall().want(t, checkStall)
	for _, row := range []struct {
		fault event
		still bool
	}{
		{event{What: "SIGSTOP"}, false},
		{event{What: "reset after", Lock: "a"}, false},
		{event{What: "reset after", Lock: "b"}, true},
		{event{What: "black hole", Worker: "w0"}, false},
		{event{What: "black hole", Worker: "w1"}, true},
	} {
		s := stall()
		row.fault.Kind, row.fault.Call, row.fault.Time, row.fault.Tail = kindFault, 20*ms, 30*ms, 400*ms
		s.events = append(s.events, row.fault)
		if row.still {
			s.want(t, checkStall)
		} else {
			s.want(t)
		}
	}
}

// Somebody is cut off whose acquisition was executed: it cannot take that back before it is heard again.
func TestAStallBehindOneWhoIsCutOff(t *testing.T) {
	for _, end := range []int64{450, 150} { // of the black hole
		var s script
		s.hold("x", 1, 2, 20, 21)
		s.op("acquire", "lost", 22, 122)
		s.hold("y", 10, 500, 510, 511)
		s.events[len(s.events)-3].Worker, s.events[len(s.events)-2].Worker = "w1", "w1"
		s.events = append(s.events, event{Kind: kindFault, What: "black hole", Worker: "w0", Call: 20 * ms, Time: end * ms, Tail: 100 * ms})
		if end > 200 {
			s.want(t)
		} else {
			s.want(t, checkStall)
		}
	}
}

func TestALossForNoReasonIsFound(t *testing.T) {
	var s script
	s.hold("x", 1, 2, 20, 40)
	s.events = append(s.events, event{Kind: kindLost, Lock: "a", Owner: "x", Hold: "x", Time: 30 * ms})
	s.want(t, checkLoss)
}

func TestARenewalAfterTheWindowExplainsNothing(t *testing.T) {
	for _, answered := range []int64{900, 1010} { // the window ends at 991
		var s script
		s.hold("x", 1, 2, 20, 1050)
		s.op("renew", "x", 850, answered, 1, second/ms)
		slices.SortStableFunc(s.events, func(a, b event) int { return int(a.Time - b.Time) })
		s.events = append(s.events, event{Kind: kindLost, Lock: "a", Owner: "x", Hold: "x", Time: 1020 * ms})
		if answered < 991 {
			s.want(t, checkLoss)
		} else {
			s.want(t)
		}
	}
}

// A renewal that Redis refuses is over: the next one has a date of its own. What the library sends again
// within one call, the text of a script say, keeps its first date.
func TestARefusedRenewalDatesNoOther(t *testing.T) {
	for refusal, checks := range map[string][]string{
		"NOREPLICAS Not enough good replicas to write.": nil,
		"NOSCRIPT No matching script. Please use EVAL.": {checkWindow},
	} {
		var s script
		s.hold("x", 1, 2, 20, 2600)
		s.op("renew", "x", 300, 310)
		refused := &s.events[len(s.events)-1]
		refused.Unknown, refused.Err = false, refusal
		s.op("renew", "x", 800, 810, 1, second/ms)
		s.op("renew", "x", 1500, 1510, 1, second/ms)
		slices.SortStableFunc(s.events, func(a, b event) int { return int(a.Time - b.Time) })
		s.events = append(s.events, event{Kind: kindLost, Lock: "a", Owner: "x", Hold: "x", Time: 2491 * ms})
		s.want(t, checks...)
	}
}

// Answered in the last moment of the window: whether the library heard it in time is not known.
func TestARenewalInTheLastMomentOfAWindow(t *testing.T) {
	for _, lost := range []int64{1842, 993} { // by the renewal's window, and by the one before
		var s script
		s.hold("x", 1, 2, 900, 1900) // the window ends at 991
		s.op("renew", "x", 850, 975, 1, second/ms)
		slices.SortStableFunc(s.events, func(a, b event) int { return int(a.Time - b.Time) })
		s.events = append(s.events, event{Kind: kindLost, Lock: "a", Owner: "x", Hold: "x", Time: lost * ms})
		s.want(t)
	}
}

// What explains a stall does so from when the process goes on: what lies in its buffers is news to it then.
func TestASubscriptionThatFellSilentWhileItsProcessStood(t *testing.T) {
	for _, stopped := range []bool{true, false} {
		var s script
		s.hold("x", 1, 2, 20, 21)
		s.hold("y", 5990, 6000, 6010, 6011)
		s.events[len(s.events)-3].Call = 10 * ms // that long it waited
		s.events = append(s.events, event{Kind: kindFault, What: "all subscriptions half-open", Call: 15 * ms, Time: 15 * ms, Tail: int64(tailSilent)})
		if stopped {
			s.events = append(s.events, event{Kind: kindFault, What: "worker stopped", Worker: "w0", Call: 10 * ms, Time: 2500 * ms, Tail: 10 * ms})
			s.want(t)
		} else {
			s.want(t, checkStall)
		}
	}
}

func TestSomebodyInTheRegisterIsFound(t *testing.T) {
	var s script
	s.hold("x", 1, 2, 20, 21)
	s.hold("y", 30, 31, 35, 36)
	s.events = append(s.events, event{Kind: kindClash, Lock: "a", Hold: "y", What: "x", Call: 32 * ms, Time: 33 * ms})
	s.want(t, checkRegister)
	for i := range s.events {
		if s.events[i].Kind == kindClash {
			s.events[i].Err = "lost" // it knew already
		}
	}
	s.want(t)
}

func TestAWaiterWhoIsOvertakenIsFound(t *testing.T) {
	stand := func(owner string, call int64, answer ...int64) event {
		return event{Kind: kindOp, Verb: "fairlock.acquire", Lock: "fair:0", Owner: owner, Call: call * ms, Time: (call + 1) * ms, Lease: second, Answer: answer}
	}
	got := func(owner string, at int64) event {
		return event{Kind: kindGot, Lock: "fair:0", Owner: owner, Hold: owner, Worker: "w0", Call: ms, Time: at * ms}
	}
	s := script{events: []event{
		stand("x", 1, 0, 900, 1, 1, 1, 0, 1), // has a place
		stand("y", 10, 1, 1, 10, 0, 0, 0, 1), // takes the lock
		got("y", 12),
		stand("x", 20, 1, 1, 20, 0, 0, 0, 0),
		got("x", 22),
	}}
	s.want(t, checkOrder)

	lost := stand("y", 1)
	lost.Unknown = true // y had its place first, but was not told
	s.events = append(s.events, lost)
	s.events[1].Answer[6] = 0
	s.want(t)
}

func TestAPlaceIsKeptForTheWaitersLease(t *testing.T) {
	lease := int64(waiterLease / time.Millisecond)
	for _, renewed := range []bool{true, false} {
		op := func(owner string, call int64, answer ...int64) event {
			return event{Kind: kindOp, Verb: "fairlock.acquire", Lock: "fair:0", Owner: owner, Call: call * ms, Time: (call + 1) * ms, Lease: second, Answer: answer}
		}
		got := func(owner string, at int64) event {
			return event{Kind: kindGot, Lock: "fair:0", Owner: owner, Hold: owner, Worker: "w0", Call: ms, Time: at * ms, Polls: true}
		}
		late := op("x", lease+50)
		late.Unknown = true // it came back with this one
		s := script{events: []event{
			op("x", 1, 0, 900, 1, 1, 1, 0, 1),
			op("y", lease+10, 1, 1, 10, 0, 0, 0, 1), got("y", lease+12),
			late,
			op("x", lease+60, 1, 1, 20, 0, 0, 0, 0), got("x", lease+62),
		}}
		if renewed {
			s.events = append(s.events, op("x", lease-10, 0, 900, 1, 1, 1, 0, 0))
			s.want(t, checkOrder)
		} else {
			s.want(t)
		}
	}
}
