package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/tracing"
)

// A front is a caller in line before a plain lock. Of those of one client only the one
// in front asks Redis; the others wait for its place.
type front struct {
	single
	waiter *waiter
	line   *line
	ended  error // why it did not get to the front
	told   bool  // by Redis, in this call
	left   bool  // the line
	given  *hold // that was handed over
}

func (a *attempt) joinLine() *front {
	var heir *attempt
	if a.alone && a.ask.Lease == 0 {
		heir = a
	}
	w := a.engine.lines.join(a.target.Key, heir)
	return &front{single: single{a: a}, waiter: w, line: w.line}
}

// stand waits for the front of the line. If it does not get there, await tells why.
func (f *front) stand() {
	if f.waiter.turn == nil || f.ended != nil {
		return
	}
	f.a.span.Waiting()
	select {
	case <-f.waiter.turn:
		f.waiter.turn = nil
	case <-f.a.wait.Done():
		f.gaveUp()
	case <-f.a.engine.closed:
		f.gaveUp()
	}
}

func (f *front) gaveUp() { f.ended = f.a.over(f.a.engine.lines.known(f.line)) }

// heard keeps what Redis told for those behind too. Who takes over the front starts by
// waiting, because all that came since the last answer is still there.
func (f *front) heard(v []int64, err error, c sentCopy) {
	e := f.a.engine
	switch {
	case err != nil:
		if classOf(err) == script.NotExecuted && !errors.Is(err, script.ErrUndone) && !errors.Is(err, script.ErrSplit) {
			e.lines.learn(f.line, false, err)
		}
	case v[0] == done:
		f.line.until = time.Now().Add(f.a.lease) // for who comes next
		e.lines.learn(f.line, true, nil)
	default:
		f.line.until = until(v[1])
		f.told = true
		e.lines.learn(f.line, true, nil)
	}
	f.single.heard(v, err, c)
}

func (f *front) known() (told bool, refusal error) {
	lately, refusal := f.a.engine.lines.known(f.line)
	return f.told || lately, refusal
}

// await waits for the front of the line, then to be handed the lock, for a message, or for the lease to end.
// After it nobody hands anything over.
func (f *front) await() error {
	err := f.listen()
	if f.a.engine.lines.shut(f.waiter) {
		f.given = <-f.waiter.given
	}
	return err
}

// listen is await, but who was called may not know of it yet.
func (f *front) listen() error {
	a, e, l := f.a, f.a.engine, f.line
	if f.stand(); f.ended != nil {
		return f.ended
	}
	if l.until.IsZero() {
		return nil
	}
	if l.sub == nil {
		l.sub = e.pubsub.Subscribe(a.target.Driver.Channel(a.target.Key, ""))
		a.span.Event(tracing.EventSubscribe)
	}
	if err := l.sub.Err(); err != nil { // the one who was in front has taken the wake-up along
		return fmt.Errorf("subscribe to its channel: %w", err)
	}
	most := safetyPoll - e.jitter(safetyPoll/10)
	timer := time.NewTimer(min(max(time.Until(l.until)+e.jitter(shortestWait), shortestWait), most))
	defer timer.Stop()
	e.lines.open(f.waiter)
	select {
	case f.given = <-f.waiter.given: // nil: it was too late for that, so ask
		e.lines.shut(f.waiter)
		return nil
	case <-l.sub.Wake():
		a.span.Event(tracing.EventWakeUp)
		if err := l.sub.Err(); err != nil {
			return fmt.Errorf("subscribe to its channel: %w", err)
		}
	case <-timer.C:
	case <-a.wait.Done():
		return a.over(f.known())
	case <-e.closed:
		return locking.ErrClosed
	}
	l.until = time.Time{} // whoever is in front asks, also if we do not come to it
	return nil
}

// handed is the hold that was handed over, if one was. Who comes next does not ask as long as it may
// be handed over again: who asks cannot be called.
func (f *front) handed() (h *hold) {
	if f.given != nil {
		if f.line.until.IsZero() { // a message came at the same moment, and is still to be answered with a question
			f.line.until = time.Now().Add(handOverTime)
		}
		f.a.span.Event(tracing.EventHandOver)
	}
	h, f.given = f.given, nil
	return h
}

// leave gives back what was handed over when nobody waited any more. Only the first call does anything.
func (f *front) leave(*hold) {
	if f.left {
		return
	}
	f.left = true
	if f.a.engine.lines.leave(f.waiter) {
		f.given = <-f.waiter.given
	}
	if f.given != nil {
		f.given.Drop()
	}
}
