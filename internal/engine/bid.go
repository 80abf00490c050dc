package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/pubsub"
	"github.com/holdfast-go/holdfast/tracing"
)

// What a bid may get for an answer.
var (
	ErrSilent = errSilent
	ErrLate   = errLate
)

// AttemptLimit bounds the wait for what mostly takes one answer.
const AttemptLimit = attemptLimit

// A Bid is one lock's part in the acquisition of several. It asks without waiting, together
// with others (Ask), and waits by itself when it is told to. It is used by one goroutine
// at a time.
type Bid struct {
	Lock *Lock

	a     *attempt
	asker asker  // for a new owner
	turn  turn   // the same, while it waits
	owner *owner // that ctx carries, and that has the lock already; nil: none
	holds int    // that it had when the bid took its turn
	until int64  // ms that Redis told, when it was taken last
	won   *hold
	sub   *pubsub.Subscription

	first struct { // what a and, at first, asker point to, in one piece with the bid
		attempt attempt
		single  single
	}
}

// NewBids makes a bid for each of these locks, of a call with ctx, whose waiting ends with wait. End must follow for
// each. The error is of a call that is not possible.
func NewBids(ctx, wait context.Context, ask locking.Acquire, locks ...*Lock) ([]*Bid, error) {
	all, bids := make([]Bid, len(locks)), make([]*Bid, len(locks)) // in two pieces
	for i, l := range locks {
		if err := l.engine.admissible(ctx, l.target); err != nil {
			for _, b := range bids[:i] {
				b.End()
			}
			return nil, err
		}
		bids[i] = &all[i]
		bids[i].open(l, ctx, wait, ask)
	}
	return bids, nil
}

func (b *Bid) open(l *Lock, ctx, wait context.Context, ask locking.Acquire) {
	b.Lock, b.owner = l, l.engine.ownerOf(ctx, l.target)
	b.first.attempt = attempt{engine: l.engine, target: l.target, ask: ask, lease: ask.Lease, ctx: ctx, wait: wait}
	b.a = &b.first.attempt
	if b.a.lease == 0 {
		b.a.lease = l.engine.config.Watchdog
	}
	b.first.single = single{a: b.a}
	b.asker = &b.first.single
}

// Trace has the bid's waiting seen on a span.
func (b *Bid) Trace(span tracing.Acquire) { b.a.span = span }

// End must be called once for each bid, after which it is over.
func (b *Bid) End() {
	b.StopWaiting()
	if b.sub != nil {
		b.sub.Close()
	}
	b.a.engine.leave()
}

// Prepare finds out how releases are told, see prepare.
func (b *Bid) Prepare() error { return b.name(b.a.prepare()) }

// Bound has the bid's waiting end with wait from now on.
func (b *Bid) Bound(wait context.Context) { b.a.wait = wait }

// Lease is the lease that is asked for: the watchdog's if none is.
func (b *Bid) Lease() time.Duration { return b.a.lease }

// StartWaiting has the bid wait for its turn: in line, or at a place in a queue.
func (b *Bid) StartWaiting() {
	if b.turn != nil {
		return
	}
	b.turn = b.a.turn()
	if f, ok := b.turn.(*front); ok && f.waiter.turn == nil && f.line.until.IsZero() {
		f.line.until = until(b.until)
		f.told = true
	}
	b.asker = b.turn
}

// Await waits until it is time to ask; it is, if the turn was given up.
func (b *Bid) Await() error {
	if b.turn == nil {
		return nil
	}
	return b.name(b.turn.await())
}

// StopWaiting gives the turn up, also if it had come, or keeps what was won with it.
func (b *Bid) StopWaiting() {
	if b.turn != nil {
		b.turn.leave(b.won)
		b.turn, b.asker = nil, &single{a: b.a}
	}
}

// Told is after which time the lock may be free, as Redis said when it was taken.
func (b *Bid) Told() time.Duration { return time.Until(until(b.until)) }

// Over tells why the waiting ended without the lock, see attempt.over.
func (b *Bid) Over(told bool, refusal error) error { return b.a.over(told, refusal) }

// Pause waits before asking again after an error; false when wait is over.
func (b *Bid) Pause(wait context.Context, r *Retries) bool {
	return b.a.engine.pause(wait, r.NextBackOff(), b.a.engine.closed)
}

// Retries are the pauses after errors of one call.
func (b *Bid) Retries() *Retries { return b.a.engine.retries() }

// Listen has messages of the lock told by wake, which has room for one.
func (b *Bid) Listen(wake chan struct{}) error {
	if b.sub == nil {
		b.sub = b.a.engine.pubsub.Join(b.a.target.Driver.Channel(b.a.target.Key, ""), wake)
	}
	return b.sub.Err()
}

// Ask asks for the locks of all bids at once, all or nothing. They must go together
// (Together). Neither an error nor a busy one: all are won (Won). busy: that one is taken by
// somebody else, and nothing of the others is left. Nor is it after an error, once what may
// have been executed is undone in the background.
func Ask(bids []*Bid) (busy *Bid, err error) {
	a := bids[0].a
	for i, b := range bids {
		b.won = nil
		if err := b.begin(); err != nil {
			giveAll(bids[:i])
			return nil, b.name(err)
		}
	}
	defer giveAll(bids)
	op := bids[0].do()
	if len(bids) > 1 {
		ops := make([]script.Op, len(bids))
		ops[0] = op
		for i, b := range bids[1:] {
			ops[i+1] = b.do()
		}
		op = script.All(ops)
	}
	call, answer := a.engine.exchange(a.wait, op, a.engine.closed)
	answers := []script.Answer{answer}
	if len(bids) > 1 {
		answers = answer.Shares(len(bids))
	}
	for i, b := range bids {
		c := sentCopy{call: call, share: i, of: len(bids)}
		if len(bids) == 1 {
			c.of = 0
		}
		taken, failed := b.heard(answers[i], c)
		if taken {
			busy = b
		}
		if err == nil || errors.Is(err, script.ErrUndone) {
			err = b.name(failed)
		}
	}
	if busy != nil {
		return busy, nil
	}
	if err == nil {
		err = admitAll(bids, call)
	}
	return nil, err
}

// Start sends what Ask would send for the bid alone, and does not wait; Heard must follow. Until then
// the owner's turn is taken: who has it from a context already, see Carrier, waits for the answer.
// It is nil if the bid Waits: for the turn of an owner that re-enters, or for a cluster that has to be
// asked how releases are told.
func (b *Bid) Start() *script.Call {
	b.won = nil
	if b.Waits() {
		return nil
	}
	b.asker.bidder().tryTake() // nobody else knows this owner yet
	return b.a.engine.sender.Start(b.do())
}

// Carrier is the owner that Start asks for.
func (b *Bid) Carrier() Carrier { return b.asker.bidder() }

// Waits tells whether there may be something to wait for before the bid can ask.
func (b *Bid) Waits() bool {
	_, known := b.a.engine.publish.known()
	return !known || b.owner != nil
}

// Heard takes what has come of Start by now, as Ask would: won, or busy, or an error. What has
// not been answered is withdrawn, or undone in the background.
func (b *Bid) Heard(call *script.Call) (busy bool, err error) {
	o := b.asker.bidder() // heard may replace it
	defer o.give()
	busy, err = b.heard(soFar(call), sentCopy{call: call})
	if err == nil && !busy {
		b.won, err = b.admit(call)
	}
	return busy, b.name(err)
}

func admitAll(bids []*Bid, call *script.Call) (err error) {
	for _, b := range bids {
		var failed error
		if b.won, failed = b.admit(call); failed != nil {
			err = b.name(failed)
		}
	}
	if err != nil {
		for _, b := range bids {
			b.Drop()
		}
	}
	return err
}

func (b *Bid) admit(call *script.Call) (*hold, error) {
	if b.owner != nil {
		return b.a.admit(b.owner, call.Sent(), b.holds)
	}
	h, err := b.a.admit(b.asker.bidder(), call.Sent(), 0)
	if err != nil {
		b.asker.missed()
	}
	return h, err
}

// Won is the hold that the last Ask won; nil if it did not.
func (b *Bid) Won() Held {
	if b.won == nil {
		return nil
	}
	return b.won
}

// Drop gives back what was won, and with it the turn that was waited for: its owner is
// used up.
func (b *Bid) Drop() {
	if b.won == nil {
		return
	}
	b.won.Drop()
	b.spent()
}

// spent: what was won is given back.
func (b *Bid) spent() {
	b.won = nil
	if b.turn != nil {
		b.turn.leave(nil)
		b.turn = nil
	}
	b.asker = &single{a: b.a}
}

// aMoment is how long a server that does not answer is waited for where it can be done without.
const aMoment = 500 * time.Millisecond

// GiveBack is Drop for all bids that won, the last one first, but waits for the answers: who
// asks again would find what is still there of its own. It waits no longer than wait, nor
// than for a moment; the rest is done in the background.
func GiveBack(wait context.Context, bids []*Bid) {
	var won []Held
	for _, b := range slices.Backward(bids) {
		if b.won != nil {
			won = append(won, b.won)
		}
	}
	if len(won) == 0 {
		return
	}
	wait, cancel := context.WithCancel(wait)
	defer cancel()
	defer bids[0].Lock.OnClose(cancel)() // wait ends with each of several clients, not with an only one
	leaveAll(patience{ctx: wait, until: time.Now().Add(aMoment)}, won, len(won), len(won))
	for _, b := range bids {
		if b.won != nil {
			b.spent()
		}
	}
}

func (b *Bid) name(err error) error {
	if errors.Is(err, script.ErrUndone) {
		return err
	}
	return b.Lock.MemberError(err)
}

// begin takes the turn of an owner that re-enters.
func (b *Bid) begin() error {
	if b.owner == nil {
		return nil
	}
	if err := b.owner.take(b.a.wait, b.a.engine.closed); err != nil {
		return notAsked{b.a.over(false, nil)}
	}
	holds, err := b.owner.reentrant()
	b.holds = holds
	if err == nil {
		return nil
	}
	b.owner.give()
	if errors.Is(err, errRetired) {
		b.owner = nil // it has unlocked everything: its context names nobody any more
		return nil
	}
	return err
}

// notAsked marks the error of a bid whose owner's turn did not come: Redis was not asked.
type notAsked struct{ error }

func (n notAsked) Unwrap() error { return n.error }

// WasAsked tells whether the error that a bid got is one of Redis, or of its silence.
func WasAsked(err error) bool {
	var n notAsked
	return !errors.As(err, &n)
}

func giveAll(bids []*Bid) {
	for _, b := range bids {
		if b.owner != nil {
			b.owner.give()
		}
	}
}

// do is the acquire.
func (b *Bid) do() script.Op {
	t := b.a.target
	if o := b.owner; o != nil {
		o.sending(b.a.lease)
		return t.Driver.Acquire(t.Key, o.id, b.a.lease, b.holds)
	}
	return b.asker.op()
}

// heard takes the bid's share of the answer: taken by somebody else, or an error.
func (b *Bid) heard(answer script.Answer, c sentCopy) (taken bool, err error) {
	v, err := answer.Numbers(2)
	if b.owner != nil {
		switch {
		case classOf(err) == script.Unknown:
			b.a.engine.undo(b.owner, c) // down to the holds that it has
		case err == nil && v[0] != done:
			b.owner.retire(locking.ErrLost) // gone, though no hold had been told
			return false, locking.ErrLost
		}
		return false, err
	}
	b.asker.heard(v, err, c)
	if c.of > 0 && classOf(err) == script.Unknown && b.a.inQueue() != nil {
		// A place keeps its owner. Were that one asked for again, this copy could still come,
		// find it with the lock and another member taken, and take back what is a hold by then.
		b.StopWaiting()
	}
	if err == nil && v[0] != done {
		b.until = v[1]
		return true, nil
	}
	return false, err
}
