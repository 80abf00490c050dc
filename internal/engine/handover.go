package engine

import (
	"time"

	"github.com/holdfast-go/holdfast/locking"
)

// handOverTime bounds for how long the callers of one client pass a lock on among themselves,
// counted from the answer to the acquire that they owe it to.
const handOverTime = time.Millisecond

// handOverUntil tells until when a lock that was acquired may be handed over: for about four round
// trips, so that callers of other clients hardly notice, and no longer than handOverTime.
func handOverUntil(sent, answered time.Time) time.Time {
	return answered.Add(min(4*answered.Sub(sent), handOverTime))
}

// handOver gives the lock to the caller of this client who waits for it next, without asking
// Redis, and tells whether it did. This is lock cohorting (Dice, Marathe, Shavit: Lock Cohorting,
// PPoPP 2012): a lock that stays within the client costs no round trip, and what that costs the callers of
// other clients is bounded by time.
//
// For Redis nothing happens: one owner has the lock. Here the next hold has an owner of its own,
// which goes on with the id, the trust window and the renewal; the one before is retired, so no
// context of it can re-enter. The caller has the owner's turn.
//
// What has a lease of its own is not handed over, because that counts from its own acquire; nor is what an
// undo may take back.
func (h *hold) handOver() bool {
	o := h.owner
	o.mu.Lock()
	may := o.handsOver(h) // otherwise nobody is called in vain; bequeath decides
	o.mu.Unlock()
	if !may {
		return false
	}
	w := o.engine.lines.call(o.target)
	if w == nil {
		return false
	}
	next, ending := o.bequeath(h, w.attempt)
	w.given <- next // only then is a tracer told, which may take its time, or panic
	if next == nil {
		return false
	}
	o.tell(ending)
	return true
}

// handsOver tells whether the hold may be handed over now. Under o.mu.
func (o *owner) handsOver(h *hold) bool {
	now := time.Now()
	return len(o.holds) == 1 && o.holds[0] == h && h.renews && o.lease == o.engine.config.Watchdog && !o.undone &&
		now.Before(o.handUntil) && now.Before(o.trusted) && !o.engine.closing()
}

// bequeath makes the hold of the next caller and its owner, and retires this one; tell must follow. It is nil
// if the hold may not be handed over any more.
func (o *owner) bequeath(h *hold, caller *attempt) (next *hold, ending []*hold) {
	heir := &owner{engine: o.engine, target: caller.target, id: o.id}
	next = caller.hold()
	next.owner, next.count = heir, 1
	heir.holds = []*hold{next}
	heir.live.Store(1)

	o.mu.Lock()
	if !o.handsOver(h) {
		o.mu.Unlock()
		return nil, nil
	}
	heir.trusted, heir.renewed, heir.lease, heir.handUntil = o.trusted, o.renewed, o.lease, o.handUntil
	ending = o.end(locking.ErrUnlocked) // in one step: now nobody but the heir releases what has this id
	o.mu.Unlock()

	o.engine.remember(heir)
	heir.mu.Lock()
	heir.schedule() // were a renewal under way, its answer is not heard any more, and another one is due at once
	heir.mu.Unlock()
	return next, ending
}

// Whether a waiter may be called to be handed the lock.
type calling uint8

const (
	shut   calling = iota // it does not stand in front, or asks Redis
	open                  // it waits
	called                // it must be sent a hold, or nil, whatever happens: it waits for that without a limit
)

// open lets the waiter in front be called.
func (ls *lines) open(w *waiter) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	w.open()
}

// open is lines.open under lines.mu.
func (w *waiter) open() {
	if w.attempt == nil || w.calling == called {
		return
	}
	if w.given == nil {
		w.given = make(chan *hold, 1)
	}
	w.calling = open
}

// call calls the waiter in front of a lock of that kind, if it may be called.
func (ls *lines) call(t *Target) *waiter {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.m[t.Key]
	if l == nil || l.front.calling != open {
		return nil
	}
	if a := l.front.attempt; a.wait.Err() != nil || a.target.Driver.Kind() != t.Driver.Kind() {
		return nil
	}
	l.front.calling = called
	return l.front
}

// shut has the waiter not be called any more, and tells whether it has been.
func (ls *lines) shut(w *waiter) (wasCalled bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return w.shut()
}

// shut is lines.shut under lines.mu.
func (w *waiter) shut() (wasCalled bool) {
	wasCalled = w.calling == called
	w.calling = shut
	return wasCalled
}
