package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/cenkalti/backoff/v4"

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

	ctx  context.Context // the caller's
	wait context.Context // ends with ctx, and when the wait runs out
}

// Acquire acquires a lock: it re-enters where ctx carries the owner of a hold of
// it, makes one attempt where the wait is 0, and waits otherwise.
func (e *Engine) Acquire(ctx context.Context, t *Target, opts ...locking.AcquireOption) (locking.Hold, error) {
	h, err := e.acquire(ctx, t, opts)
	if err != nil {
		return nil, fmt.Errorf("acquire %q: %w", t.Name, err)
	}
	return h, nil
}

func (e *Engine) acquire(ctx context.Context, t *Target, opts []locking.AcquireOption) (*hold, error) {
	ask, err := locking.NewAcquire(opts...)
	if err != nil {
		return nil, err
	}
	if err := e.admissible(ctx, t); err != nil {
		return nil, err
	}
	defer e.leave()

	a := &attempt{engine: e, target: t, ask: ask, lease: ask.Lease, ctx: ctx, wait: ctx}
	if a.lease == 0 {
		a.lease = e.config.Watchdog
	}
	if ask.Bounded && ask.Wait > 0 {
		bounded, cancel := context.WithTimeout(ctx, ask.Wait)
		defer cancel()
		a.wait = bounded
	}
	a.span = e.config.Tracer.Acquire(ctx, t.Driver.Kind(), t.Name)
	h, err := a.run()
	a.span.End(outcome(ctx, err), ownerID(h), h != nil && h.count > 1, a.lease, err)
	if h != nil {
		h.trace(a.span.Hold(h.owner.id))
	}
	return h, err
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
	case a.target.Options.Polling != nil:
		return a.poll(a.target.Options.Polling())
	case a.inQueue() != nil:
		return a.stand(a.inQueue())
	default:
		return a.queue()
	}
}

// prepare finds out how a release will be told, so that nothing is acquired that
// could not be released. Only a cluster has to be asked, and only once.
func (a *attempt) prepare() error {
	e := a.engine
	retries := e.retries()
	for {
		_, err := e.publishCommand(a.wait, e.closed)
		if err == nil {
			return nil
		}
		final := a.isSingle() || classOf(err) == script.Refused
		if final || !e.pause(a.wait, retries, e.closed) {
			return a.over(false, err)
		}
	}
}

// isSingle tells whether the caller wants a single attempt.
func (a *attempt) isSingle() bool { return a.ask.Bounded && a.ask.Wait == 0 }

// once is a single attempt, beside the line.
func (a *attempt) once() (*hold, error) {
	h, _, err := a.try(a.engine.newOwner(a.target))
	if h == nil && err == nil {
		return nil, locking.ErrNotAcquired
	}
	if err != nil {
		return nil, a.over(false, err)
	}
	return h, nil
}

// poll waits by the policy's pauses alone. Pauses after errors are the client's.
func (a *attempt) poll(policy backoff.BackOff) (*hold, error) {
	if policy == nil {
		return nil, errors.New("holdfast: the policy of WithPolling made no BackOff, got nil")
	}
	policy.Reset()
	e, o, retries := a.engine, a.engine.newOwner(a.target), a.engine.retries()
	told := false
	var refusal error // what Redis said instead of "taken", last
	for {
		h, _, err := a.try(o)
		if h != nil {
			return h, nil
		}
		pauses := policy
		switch classOf(err) {
		case script.Done:
			told, refusal = true, nil
			retries.Reset()
			a.span.Waiting()
		case script.Refused:
			return nil, err
		default:
			refusal = err
			pauses, o = retries, e.newOwner(a.target)
		}
		if !e.pause(a.wait, pauses, e.closed) {
			if err == nil && a.wait.Err() == nil && !e.closing() {
				return nil, locking.ErrNotAcquired // the policy said Stop
			}
			return nil, a.over(told, refusal)
		}
		a.span.Event(tracing.EventRetry)
	}
}

// queue waits in line, and in front of it for messages.
func (a *attempt) queue() (*hold, error) {
	e := a.engine
	w := e.lines.join(a.target.Key)
	defer e.lines.leave(w)
	if w.turn != nil {
		a.span.Waiting()
		select {
		case <-w.turn:
		case <-a.wait.Done():
			return nil, a.over(e.lines.known(w.line))
		case <-e.closed:
			return nil, locking.ErrClosed
		}
	}
	return a.lead(w.line)
}

// lead is the wait loop, for the waiter in front: acquire; if taken, subscribe and
// have the subscription confirmed; acquire again; wait for a message or the end of
// the lease that Redis told; acquire again.
//
// No message can be missed. A confirmation is a wake-up like any message, so what
// was published before it is made good by the try that follows. A wake-up that comes
// during a try stays there and causes another try. And who takes over the front
// starts by waiting, because all that came since the last answer is still there.
func (a *attempt) lead(l *line) (*hold, error) {
	e := a.engine
	retries := e.retries()
	o := e.newOwner(a.target)
	told := false  // by Redis, in this call
	var said error // what went wrong last, as far as it can be told
	for {
		if !l.until.IsZero() {
			if err := a.await(l, told); err != nil {
				return nil, err
			}
		}
		if a.wait.Err() != nil {
			return nil, a.over(e.lines.known(l))
		}
		h, ttl, err := a.try(o)
		if err == nil {
			l.until = time.Now().Add(ttl)
			e.lines.learn(l, true, nil) // also for who comes next, if it is ours now
			retries.Reset()
			if h != nil {
				return h, nil
			}
			told = true
			a.span.Waiting()
			continue
		}
		l.until = time.Time{}
		if !errors.Is(err, errSilent) {
			said = err
		}
		switch classOf(err) {
		case script.Refused:
			return nil, err
		case script.NotExecuted:
			e.lines.learn(l, false, err)
		}
		if !e.pause(a.wait, retries, e.closed) {
			lately, refusal := e.lines.known(l)
			return nil, a.over(told || lately, orElse(refusal, orElse(said, err)))
		}
		o = e.newOwner(a.target) // never the one whose acquisition may still arrive
		a.span.Event(tracing.EventRetry)
	}
}

const (
	safetyPoll   = 5 * time.Second       // a waiter asks at least that often, whatever it was told
	shortestWait = 10 * time.Millisecond // "0 ms" must not become a busy loop
)

// await waits in front of the line for a message or for the lease to end.
func (a *attempt) await(l *line, told bool) error {
	e := a.engine
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
	select {
	case <-l.sub.Wake():
		a.span.Event(tracing.EventWakeUp)
		if err := l.sub.Err(); err != nil {
			return fmt.Errorf("subscribe to its channel: %w", err)
		}
	case <-timer.C:
	case <-a.wait.Done():
		lately, refusal := e.lines.known(l)
		return a.over(told || lately, refusal)
	case <-e.closed:
		return locking.ErrClosed
	}
	return nil
}

// try sends one acquire of a new owner. Neither a hold nor an error: another owner
// has the lock for ttl more. Whatever may have reached Redis without becoming a
// hold is undone in the background.
func (a *attempt) try(o *owner) (h *hold, ttl time.Duration, err error) {
	e := a.engine
	a.span.Attempt()
	o.lease = a.lease // nobody else knows this owner yet
	call, answer := e.exchange(a.wait, a.firstOp(o), e.closed)
	v, err := answer.Ints(2)
	switch {
	case err != nil:
		if classOf(err) == script.Unknown {
			e.undo(o, call)
		}
		return nil, 0, err
	case v[0] == done:
		if e.closing() {
			e.undo(o)
			return nil, 0, locking.ErrClosed
		}
		h := a.hold()
		if !o.admit(h, call.Sent(), a.lease, 0) {
			e.undo(o)
			return nil, 0, errLate
		}
		return h, a.lease, nil
	case v[1] == noTTL:
		return nil, safetyPoll, nil // held by nobody of ours
	default:
		return nil, time.Duration(max(v[1], 0)) * time.Millisecond, nil
	}
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

// classOf is script.ClassOf that knows an operation withdrawn in time.
func classOf(err error) script.Class {
	var n notSent
	if errors.As(err, &n) {
		return script.NotExecuted
	}
	return script.ClassOf(err)
}

func outcome(ctx context.Context, err error) tracing.Outcome {
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
