package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/tracing"
)

// An attempt is one call of Lock on its way.
type attempt struct {
	engine *Engine
	target *Target
	ask    locking.Acquire
	lease  time.Duration
	span   tracing.Acquire
	alone  bool // it asks for no other lock

	ctx     context.Context // the caller's
	wait    context.Context // ends with ctx, and when the wait runs out
	unbound func()          // ends wait, if it is not ctx
	front   *front          // where it stood in line before waitIn, if it did
}

// Acquire acquires a lock: it re-enters where ctx carries the owner of a hold of
// it, makes one attempt where the wait is 0, and waits otherwise.
//
// Crowds wait in stand. Mostly it is called from here and not from deeper, so that a goroutine that does little
// else makes do with the smallest stack, 2 KB: half of that is kept free, and a third of the rest is select's.
func (e *Engine) Acquire(ctx context.Context, t *Target, opts ...locking.AcquireOption) (locking.Hold, error) {
	a, err := e.newAttempt(ctx, t, opts)
	if err != nil {
		return nil, acquireError(t, err)
	}
	defer a.leave() // also when a tracer panics, or the caller's ctx does
	if a.lineUp(); a.front != nil {
		a.front.stand()
	}
	return a.acquire()
}

func acquireError(t *Target, err error) error { return fmt.Errorf("acquire %q: %w", t.Name, err) }

// newAttempt counts a call in; leave must follow.
func (e *Engine) newAttempt(ctx context.Context, t *Target, opts []locking.AcquireOption) (*attempt, error) {
	ask, err := locking.NewAcquire(opts...)
	if err != nil {
		return nil, err
	}
	if err := e.admissible(ctx, t); err != nil {
		return nil, err
	}
	a := &attempt{engine: e, target: t, ask: ask, lease: ask.Lease, alone: true, ctx: ctx, wait: ctx}
	if a.lease == 0 {
		a.lease = e.config.Watchdog
	}
	return a, nil
}

func (a *attempt) leave() {
	if a.front != nil {
		a.front.leave(nil) // mostly it has left
	}
	if a.unbound != nil {
		a.unbound()
	}
	a.engine.leave()
}

// lineUp starts the span and the wait, and joins the line if that is already clear; otherwise run decides.
func (a *attempt) lineUp() {
	e, t := a.engine, a.target
	if a.ask.Bounded && a.ask.Wait > 0 {
		a.wait, a.unbound = context.WithTimeout(a.ctx, a.ask.Wait)
	}
	a.span = e.config.Tracer.Acquire(a.ctx, t.Driver.Kind(), t.Name)
	_, prepared := e.publish.known()
	if prepared && !a.isSingle() && t.Polling == nil && a.inQueue() == nil && e.ownerOf(a.ctx, t) == nil {
		a.front = a.joinLine()
	}
}

// acquire is the rest of the call, in line or not.
func (a *attempt) acquire() (locking.Hold, error) {
	var h *hold
	var err error
	if a.front != nil {
		h, err = a.waitIn(a.front)
	} else {
		h, err = a.run()
	}
	a.span.End(Outcome(a.ctx, err), ownerID(h), h != nil && h.count > 1, a.lease, err)
	if err != nil {
		return nil, acquireError(a.target, err)
	}
	h.trace(a.span.Hold(h.owner.id))
	return h, nil
}

// admissible counts a call in, unless the target, ctx or the client forbids it.
func (e *Engine) admissible(ctx context.Context, t *Target) error {
	switch {
	case t.Err != nil:
		return t.Err
	case ctx == nil:
		return errNilContext
	case ctx.Err() != nil:
		return contextError(ctx)
	}
	return e.enter()
}

func (a *attempt) run() (*hold, error) {
	if err := a.prepare(); err != nil {
		return nil, err
	}
	if o := a.engine.ownerOf(a.ctx, a.target); o != nil {
		h, err := a.reenter(o)
		if !errors.Is(err, errRetired) {
			return h, err
		}
		// The owner has unlocked everything: its context names nobody any more.
	}
	switch {
	case a.isSingle():
		return a.once()
	case a.target.Polling != nil:
		return a.poll(a.target.Polling())
	default:
		return a.waitIn(a.turn())
	}
}

// prepare finds out how a release will be told, so that nothing is acquired that
// could not be released. Only a cluster has to be asked, and only once.
func (a *attempt) prepare() error {
	e := a.engine
	if _, ok := e.publish.known(); ok {
		return nil
	}
	retries := e.retries()
	for {
		_, err := e.publishCommand(a.wait, e.closed)
		if err == nil {
			return nil
		}
		final := a.isSingle() || classOf(err) == script.Refused
		if final || !e.pause(a.wait, retries.NextBackOff(), e.closed) {
			return a.over(false, err)
		}
	}
}

// isSingle tells whether the caller wants a single attempt.
func (a *attempt) isSingle() bool { return a.ask.Bounded && a.ask.Wait == 0 }

// An asker is on whose behalf Redis is asked.
type asker interface {
	// bidder is the owner that asks next.
	bidder() *owner
	// op is what to send.
	op() script.Op
	// heard takes the answer to a copy of it: v is nil after an error.
	heard(v []int64, err error, c sentCopy)
	// missed: the lock was acquired, but it is no hold.
	missed()
}

// A turn is how a caller asks and waits: in line before a plain lock (front), or at a place
// in a queue in Redis (place).
type turn interface {
	asker
	// await waits until it is time to ask. At first it is.
	await() error
	// handed is the hold that somebody else has handed over meanwhile, or nil.
	handed() *hold
	// known is what Redis said: told, others have the lock; or else a refusal.
	known() (told bool, refusal error)
	// leave ends the waiting, with a hold or without. Nothing of another owner is left
	// behind, and whoever is next comes.
	leave(h *hold)
}

func (a *attempt) turn() turn {
	if q := a.inQueue(); q != nil {
		return a.takePlace(q)
	}
	return a.joinLine()
}

// waitIn is the wait loop: ask; if others have the lock, wait for a message or for the
// moment when it may be ours without one; ask again.
//
// No message can be missed. A turn subscribes when it is told to wait, and the
// confirmation is a wake-up like any message, so what was published before it is made
// good by the try that follows. A wake-up that comes during a try stays there and causes
// another one; one that comes beside a hand-over leaves the question to who is next (handed).
func (a *attempt) waitIn(t turn) (h *hold, err error) {
	defer func() { t.leave(h) }() // also when a tracer or a back-off of the caller's panics
	e := a.engine
	retries := e.retries()
	var said error // what went wrong last, as far as it can be told
	for {
		if err := t.await(); err != nil {
			return nil, err
		}
		if a.wait.Err() != nil {
			return nil, a.over(t.known())
		}
		if h = t.handed(); h != nil {
			return h, nil
		}
		h, err = a.try(t)
		if h != nil {
			return h, nil
		}
		if err == nil {
			retries.Reset()
			a.span.Waiting()
			continue
		}
		if !errors.Is(err, errSilent) {
			said = err
		}
		if classOf(err) == script.Refused {
			return nil, err
		}
		if !e.pause(a.wait, retries.NextBackOff(), e.closed) {
			told, refusal := t.known()
			return nil, a.over(told, orElse(refusal, orElse(said, err)))
		}
		if errors.Is(err, errLate) {
			t.leave(nil)
			t = a.turn()
		}
		a.span.Event(tracing.EventRetry)
	}
}

const (
	safetyPoll   = 5 * time.Second       // a waiter asks at least that often, whatever it was told
	shortestWait = 10 * time.Millisecond // "0 ms" must not become a busy loop
)

// try sends one acquire. Neither a hold nor an error: another owner has the lock. What may
// have reached Redis without becoming a hold is the turn's to undo.
func (a *attempt) try(t asker) (*hold, error) {
	e := a.engine
	a.span.Attempt()
	call, answer := e.exchange(a.wait, t.op(), e.closed)
	v, err := answer.Numbers(2)
	t.heard(v, err, sentCopy{call: call})
	switch {
	case err != nil:
		return nil, err
	case v[0] != done:
		return nil, nil
	}
	h, err := a.admit(t.bidder(), call.Sent(), 0)
	if err != nil {
		t.missed()
	}
	return h, err
}

// admit makes a hold of an acquire that was answered.
func (a *attempt) admit(o *owner, sent time.Time, before int) (*hold, error) {
	if a.engine.closing() {
		return nil, locking.ErrClosed
	}
	h := a.hold()
	if !o.admit(h, sent, a.lease, before) {
		return nil, errLate
	}
	return h, nil
}

// until is when to ask again after an answer {0, ms}.
func until(ms int64) time.Time {
	if ms == noTTL {
		return time.Now().Add(safetyPoll) // held by nobody of ours
	}
	return time.Now().Add(time.Duration(max(ms, 0)) * time.Millisecond)
}

// firstOp is the acquire of a new owner that takes no place in a queue.
func (a *attempt) firstOp(o *owner) script.Op {
	t := a.target
	if q := a.inQueue(); q != nil {
		publish, _ := a.engine.publish.known() // prepare has asked for it
		return q.Stand(t.Key, o.id, a.lease, Place{}, publish)
	}
	return t.Driver.Acquire(t.Key, o.id, a.lease, 0)
}

// inQueue is the driver of a kind whose waiters stand in a queue in Redis, or nil.
func (a *attempt) inQueue() Queue {
	q, _ := a.target.Driver.(Queue)
	return q
}

// hold makes the hold that this call asks for.
func (a *attempt) hold() *hold {
	h := &hold{renews: a.ask.Lease == 0}
	if a.ask.MaxHold > 0 {
		h.limit = time.Now().Add(a.ask.MaxHold)
	}
	return h
}

var (
	errLate    = errors.New("holdfast: Redis answered after the lease had run out")
	errRetired = errors.New("holdfast: owner has unlocked")
)

// over tells why the waiting ended without the lock. told: Redis answered that
// another owner has it. refusal: what it said instead, or that it did not answer.
func (a *attempt) over(told bool, refusal error) error {
	switch {
	case a.engine.closing():
		return locking.ErrClosed
	case a.ctx.Err() != nil && refusal != nil:
		return fmt.Errorf("%w: %w", contextError(a.ctx), refusal)
	case a.ctx.Err() != nil && told:
		return fmt.Errorf("%w while another owner has the lock", contextError(a.ctx))
	case a.ctx.Err() != nil:
		return contextError(a.ctx)
	case told && a.wait.Err() != nil && silent(refusal):
		return locking.ErrNotAcquired
	case refusal != nil:
		return refusal
	default:
		return errSilent
	}
}

// silent tells whether Redis has said nothing: no answer came, the connection broke, or
// the last question was not even sent.
func silent(refusal error) bool {
	var network net.Error
	return refusal == nil || errors.Is(refusal, errSilent) ||
		classOf(refusal) == script.Unknown && (errors.Is(refusal, io.EOF) || errors.As(refusal, &network))
}

// ClassOf is classOf for those who ask with bids.
func ClassOf(err error) script.Class { return classOf(err) }

// classOf is script.ClassOf that knows an operation withdrawn in time.
func classOf(err error) script.Class {
	if err == nil {
		return script.Done
	}
	var n notSent
	if errors.As(err, &n) {
		return script.NotExecuted
	}
	return script.ClassOf(err)
}

// Outcome is how a span tells the end of an acquisition.
func Outcome(ctx context.Context, err error) tracing.Outcome {
	switch {
	case err == nil:
		return tracing.Acquired
	case errors.Is(err, locking.ErrNotAcquired):
		return tracing.NotAcquired
	case ctx.Err() != nil, errors.Is(err, locking.ErrClosed):
		return tracing.Cancelled
	default:
		return tracing.Error
	}
}

func ownerID(h *hold) string {
	if h == nil {
		return ""
	}
	return h.owner.id
}
