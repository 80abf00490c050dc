package engine

import (
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/watchdog"
)

// An undo takes back, in the background, what an owner may still have in Redis
// without a hold to show for it: an acquisition of unknown outcome, a hold that
// lapsed, a release that was not answered. It sends releases down to the holds that
// the owner still has, until one is confirmed, or one lease after the last command
// of the owner: then nothing of it can be left.
//
// It is a customer of the watchdog, which sends it as it sends renewals: many in
// one call, and no goroutine each.
type undo struct {
	owner *owner
	entry watchdog.Entry
	until time.Time

	longest time.Duration // between two copies
	held    bool          // the owner has had the lock: once its field is gone, nothing of it can come back
	anew    bool          // an acquire may take the lock or a place after a release was confirmed, see owner.late

	mu    sync.Mutex
	pause time.Duration
	open  int       // acquires whose outcome is not known
	since time.Time // what was sent before does not count: an acquire has been executed since
	over  bool
}

const (
	firstPause   = 20 * time.Millisecond
	answerPause  = 100 * time.Millisecond // for the answer to a release that is on its way
	longestPause = 5 * time.Second        // also for a lease of hours
)

// A sentCopy is one copy of an acquire on its way: a call of its own, or a share of an
// all-or-nothing one.
type sentCopy struct {
	call      *script.Call
	share, of int // of: 0 for a call of its own
}

func (c sentCopy) answer() script.Answer {
	answer := c.call.Answers()[0]
	if c.of == 0 {
		return answer
	}
	return answer.Shares(c.of)[c.share]
}

// undo starts one. copies are the acquires whose outcomes are unknown: the release goes
// out at once, on whichever lane is free, and so may overtake them; when one has come
// back it is sent again.
func (e *Engine) undo(o *owner, copies ...sentCopy) {
	now := time.Now()
	o.mu.Lock()
	held := !o.renewed.IsZero()
	var late []sentCopy
	if len(o.holds) == 0 {
		late, o.late = o.late, nil
	}
	o.mu.Unlock()
	copies = append(copies, late...)
	u := e.newUndo(o)
	u.held, u.anew, u.open = held && len(late) == 0, len(late) > 0, len(copies)
	if len(copies) == 0 || u.anew {
		u.since = now // what was executed, was executed before
	}
	u.send(now)
	for _, c := range copies {
		c.call.Then(func(*script.Call) { u.returned(c.answer()) })
	}
}

// undoUnless is the undo of an owner whose release is on its way: another one is sent only
// if that one is not answered soon, or not well.
func (e *Engine) undoUnless(o *owner, release *script.Call, share int) {
	u := e.newUndo(o)
	u.held, u.pause = true, answerPause
	u.send(time.Now().Add(u.pause))
	release.Then(func(*script.Call) { u.Renewed(release.Answers()[share], release.Sent()) })
}

// newUndo makes one that lasts for a lease from now, and counts it in.
func (e *Engine) newUndo(o *owner) *undo {
	o.mu.Lock()
	lease := o.lease
	o.undone = true
	o.mu.Unlock()
	e.undos.add()
	return &undo{owner: o, until: time.Now().Add(lease), pause: firstPause, longest: min(max(time.Second, lease/60), longestPause)}
}

// send has the watchdog send the first release at that time.
func (u *undo) send(at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.schedule(at)
}

// schedule has the watchdog send a release at that time, and further copies after
// growing pauses while there is no answer. Under u.mu.
func (u *undo) schedule(at time.Time) {
	if !u.over {
		u.owner.engine.watchdog.Put(&u.entry, u, watchdog.Schedule{RenewAt: at, Retry: u.pause, Deadline: u.until})
	}
}

// Renewal is the watchdog's question: what to send now.
func (u *undo) Renewal() script.Op {
	o := u.owner
	publish, _ := o.engine.publish.known() // an acquire has asked for it before
	after := int(o.live.Load())
	if after == 0 {
		o.zeroed.Store(true)
	}
	return o.target.Driver.Release(o.target.Key, o.id, after, publish)
}

// Renewed takes the answer to one release. "Gone" is not the end of it while the first
// acquire may still arrive; nor is a count that is low enough while the owner has
// holds left and a re-entry may still arrive.
func (u *undo) Renewed(answer script.Answer, sent time.Time) {
	v, err := answer.Ints(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	zero := u.owner.live.Load() == 0
	known := u.open == 0 && !sent.Before(u.since) // it was sent after all that could be executed
	switch {
	case err != nil:
	case v[0] != gone && (zero && !u.anew || known), v[0] == gone && zero && (u.held || known && !u.since.IsZero()):
		u.end()
		return
	}
	u.pause = min(2*u.pause, u.longest)
	u.schedule(time.Now().Add(u.pause))
}

// returned is told what became of an acquire at last. Without an answer it may still
// be executed.
func (u *undo) returned(answer script.Answer) {
	v, err := answer.Ints(1)
	if script.ClassOf(err) == script.Unknown {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open--
	switch {
	case u.anew, err == nil && v[0] == done:
		u.since = time.Now()
		u.schedule(u.since)
	case u.open == 0 && u.since.IsZero():
		u.end() // none was executed
	}
}

// Lapsed is called one lease after the last command: nothing can be left.
func (u *undo) Lapsed() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.end()
}

// end is called under u.mu.
func (u *undo) end() {
	if !u.over {
		u.over = true
		u.owner.engine.watchdog.Remove(&u.entry)
		u.owner.engine.undos.remove()
	}
}
