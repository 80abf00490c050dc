package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast"
)

// A guarded is an outermost hold that is watched from Lock to Unlock.
type guarded struct {
	*goroutine
	hold  holdfast.Hold
	lock  string
	id    string
	trust int64 // the last moment at which it was known to be held
	noted int64 // when that was last written down
}

// acquire calls lock and notes what came of it; nil if there is no hold.
func (g *goroutine) acquire(name string, lease time.Duration, polls bool, lock func() (holdfast.Hold, error)) *guarded {
	w := g.worker
	call := now()
	hold, err := lock()
	at := now()
	e := event{Call: call, Time: at, Worker: w.config.Name, Lock: name, Polls: polls}
	if err != nil {
		e.Kind, e.Err = kindMiss, err.Error()
		if errors.Is(err, holdfast.ErrNotAcquired) {
			e.Err = "not acquired"
		}
		w.record.note(e)
		if !errors.Is(err, holdfast.ErrNotAcquired) && !errors.Is(err, context.Canceled) {
			g.pause(g.between(time.Millisecond, 20*time.Millisecond))
		}
		return nil
	}
	g.holds++
	e.Kind, e.Hold = kindGot, fmt.Sprintf("%s-%d", g.id, g.holds)
	if len(w.clients) == 1 { // a quorum's hold has an owner for each server, and no window of one of them alone
		e.Owner = hold.Owner()
	}
	e.Lease, e.Own = int64(lease), lease > 0
	if lease == 0 {
		e.Lease = int64(w.config.Watchdog)
	}
	w.record.note(e)
	w.acquired.Add(1)
	h := &guarded{goroutine: g, hold: hold, lock: name, id: e.Hold, noted: at}
	h.watch()
	return h
}

// watch notes the moment at which the hold tells that it is lost, whatever its holder
// does meanwhile.
func (h *guarded) watch() {
	lost := event{Kind: kindLost, Worker: h.worker.config.Name, Lock: h.lock, Hold: h.id, Owner: h.hold.Owner()}
	hold := h.hold
	context.AfterFunc(hold.Context(context.Background()), func() {
		if err := hold.Err(); errors.Is(err, holdfast.ErrLost) {
			lost.Err = err.Error()
			h.worker.record.note(lost)
		}
	})
}

// held asks the hold, and notes the moment before the question if the answer is yes.
func (h *guarded) held() bool {
	at := now()
	if h.hold.Err() == nil {
		h.trust = at
		if at-h.noted > 100*ms {
			h.noted = at
			h.note(event{Kind: kindStill, Trust: at})
		}
		return true
	}
	return false
}

func (h *guarded) note(e event) {
	e.Worker, e.Lock, e.Hold, e.Owner = h.worker.config.Name, h.lock, h.id, h.hold.Owner()
	h.worker.record.note(e)
}

// enter goes into the register; false if the hold is lost already.
func (h *guarded) enter() bool {
	call := now()
	inside, err := h.worker.register.enter(h.lock, h.id)
	if err != nil {
		fatal(err)
	}
	held := h.held()
	if inside != "" {
		clash := event{Kind: kindClash, Call: call, What: inside, Trust: h.trust}
		if !held {
			clash.Err = "lost"
		}
		h.note(clash)
	}
	return held
}

// work passes time as long as the hold is held.
func (h *guarded) work(d time.Duration) {
	for end := time.Now().Add(d); h.held() && time.Now().Before(end); {
		select {
		case <-time.After(min(20*time.Millisecond, time.Until(end))):
		case <-h.hold.Done():
		}
	}
}

// leave leaves the register.
func (h *guarded) leave() {
	if _, err := h.worker.register.leave(h.lock, h.id); err != nil {
		fatal(err)
	}
	h.held()
}

// release leaves the register and unlocks, with a ctx that has ended.
func (h *guarded) release() {
	h.leave()
	call := now()
	err := h.hold.Unlock(h.worker.ctx)
	h.note(event{Kind: kindEnd, Call: call, Trust: h.trust, Err: text(err)})
}
