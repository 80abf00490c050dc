package engine

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/pubsub"
	"github.com/holdfast-go/holdfast/tracing"
	"github.com/holdfast-go/holdfast/watchdog"
)

// defaultWaiterLease is how long a waiter's place is kept without being renewed.
const defaultWaiterLease = 15 * time.Second

// A place is one waiter's place in a queue in Redis. It is its owner's id that stands
// there, so the id stays the same from try to try, also after one whose outcome is
// unknown. While the caller waits, the watchdog renews the place as it renews holds,
// many in one call; a renewal never takes the lock, and never a place.
type place struct {
	attempt *attempt
	queue   Queue
	owner   *owner
	lease   time.Duration
	entry   watchdog.Entry
	sub     *pubsub.Subscription // to the owner's own channel; nil until it was told to wait
	news    chan struct{}        // capacity 1: look at what follows

	unknown []*script.Call // tries that may still be executed
	asked   bool           // a try may have reached Redis

	mu    sync.Mutex
	said  standing
	again bool // try now: it is our turn, the place is gone, or Redis refuses to renew it
	left  bool // nothing is renewed any more
}

// A standing is what Redis said about a place.
type standing struct {
	at               time.Time // when it was told
	until            time.Time // try again then, if no message comes
	since            int64     // the server's time, us
	position, length int64
	mixed            bool
}

// stand waits in the queue in Redis: enter it or acquire; if there are others, subscribe
// and have that confirmed; try again; wait for the message that it is our turn, or for
// the moment when all before us could be dead; try again.
//
// No turn can be missed. The message is sent once, to the first one, so it has to
// be subscribed before a try says who is first: the confirmation is a wake-up, and a
// try follows it. A message that is lost later is made good by the next renewal,
// whose answer says whose turn it is.
//
// Every way out that does not have the lock leaves the queue, and gives back what a try
// without an answer may have got: one release does both (undo).
func (a *attempt) stand(q Queue) (*hold, error) {
	p := a.takePlace(q)
	var h *hold
	defer func() { p.leave(h) }() // also when a tracer or a back-off of the caller's panics
	e := a.engine
	retries := e.retries()
	var said error // what went wrong last, as far as it can be told
	for {
		got, err := p.try()
		if got != nil {
			h = got
			return h, nil
		}
		if err == nil {
			retries.Reset()
			said = nil
			a.span.Waiting()
			if err := p.await(); err != nil {
				return nil, err
			}
			continue
		}
		if !errors.Is(err, errSilent) {
			said = err
		}
		if classOf(err) == script.Refused {
			return nil, err
		}
		if !e.pause(a.wait, retries, e.closed) {
			return nil, a.over(p.toldLately(), orElse(said, err))
		}
		if errors.Is(err, errLate) {
			p.leave(nil) // its turn came and went
			p = a.takePlace(q)
		}
		a.span.Event(tracing.EventRetry)
	}
}

func (a *attempt) takePlace(q Queue) *place {
	lease := a.target.Options.WaiterLease
	if lease == 0 {
		lease = defaultWaiterLease
	}
	o := a.engine.newOwner(a.target)
	o.lease = max(a.lease, lease) // what it leaves in Redis is gone that long after
	return &place{attempt: a, queue: q, owner: o, lease: lease, news: make(chan struct{}, 1)}
}

// try asks for the lock, or for the place.
func (p *place) try() (*hold, error) {
	a := p.attempt
	if a.wait.Err() != nil {
		return nil, errSilent
	}
	a.span.Attempt()
	p.mu.Lock()
	p.again = false // what comes from here on may be newer than the answer
	p.mu.Unlock()
	call, answer := a.engine.exchange(a.wait, p.op(false), a.engine.closed)
	v, err := answer.Ints(standingInts)
	class := classOf(err)
	p.asked = p.asked || class == script.Done || class == script.Unknown
	switch {
	case err != nil:
		if class == script.Unknown {
			p.unknown = append(p.unknown, call)
		}
		return nil, err
	case v[0] != done:
		p.told(v, call.Sent())
		return nil, nil
	case a.engine.closing():
		return nil, locking.ErrClosed
	}
	p.note(v)
	h := a.hold()
	if !p.owner.admit(h, call.Sent(), a.lease, 0) {
		return nil, errLate
	}
	return h, nil
}

const standingInts = 7

func (p *place) op(renew bool) script.Op {
	p.mu.Lock()
	said := p.said
	p.mu.Unlock()
	publish, _ := p.attempt.engine.publish.known() // prepare has asked for it
	t := p.owner.target
	return p.queue.Stand(t.Key, p.owner.id, p.attempt.lease, Place{
		Lease: p.lease, Since: said.since, Mixed: said.since == 0 || said.mixed, Renew: renew,
	}, publish)
}

// note keeps what tells the order in which waiters came.
func (p *place) note(v []int64) {
	if v[6] == 1 {
		p.owner.ticket = Ticket{Time: v[2], Position: v[3]}
	}
}

// told takes note of an answer that is not the lock, and has the place renewed from
// now on.
func (p *place) told(v []int64, sent time.Time) {
	if p.note(v); v[6] == 1 {
		p.attempt.span.Queued(v[3], v[4])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hear(v, sent)
}

// hear takes note of where the place stands, and when it is renewed next. Under p.mu.
func (p *place) hear(v []int64, sent time.Time) {
	if p.left {
		return
	}
	now := time.Now()
	wait := safetyPoll
	if v[1] != noTTL {
		wait = time.Duration(max(v[1], 0)) * time.Millisecond
	}
	p.said = standing{at: now, until: now.Add(wait), since: v[2], position: v[3], length: v[4], mixed: v[5] == 1}
	e := p.attempt.engine
	every := min(p.lease/3, safetyPoll)
	e.watchdog.Put(&p.entry, p, watchdog.Schedule{
		RenewAt:  sent.Add(every - e.jitter(every/10)),
		Retry:    min(max(every/10, 20*time.Millisecond), time.Second),
		Deadline: sent.Add(p.lease),
	})
}

// Renewal is the watchdog's question: what to send now.
func (p *place) Renewal() script.Op { return p.op(true) }

// Renewed takes the answer to one renewal of the place. It tells the same as a try
// that has to wait, so who only waits has nothing to ask.
func (p *place) Renewed(answer script.Answer, sent time.Time) {
	v, err := answer.Ints(standingInts)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil && script.ClassOf(err) != script.Refused:
		return // the watchdog sends another copy
	case err != nil, v[0] == gone, v[1] == 0:
		p.again = true
	default:
		p.hear(v, sent)
	}
	p.rouse()
}

// Lapsed is called when the place may be gone.
func (p *place) Lapsed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.again = true
	p.rouse()
}

func (p *place) rouse() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// await waits until it is time for a try.
func (p *place) await() error {
	a, e := p.attempt, p.attempt.engine
	if p.sub == nil {
		t := p.owner.target
		p.sub = e.pubsub.Subscribe(t.Driver.Channel(t.Key, p.owner.id))
		a.span.Event(tracing.EventSubscribe)
	}
	for {
		p.mu.Lock()
		until, again := p.said.until, p.again
		p.mu.Unlock()
		if again {
			return nil
		}
		over, err := p.sleep(until)
		if over || err != nil {
			return err
		}
	}
}

// sleep waits until then; over is false if there is news of the place instead.
func (p *place) sleep(until time.Time) (over bool, err error) {
	a, e := p.attempt, p.attempt.engine
	timer := time.NewTimer(max(time.Until(until)+e.jitter(shortestWait), shortestWait))
	defer timer.Stop()
	select {
	case <-p.sub.Wake():
		a.span.Event(tracing.EventWakeUp)
		if err := p.sub.Err(); err != nil {
			return true, fmt.Errorf("subscribe to its channel: %w", err)
		}
	case <-p.news:
		return false, nil
	case <-timer.C:
	case <-a.wait.Done():
		return true, a.over(p.toldLately(), nil)
	case <-e.closed:
		return true, locking.ErrClosed
	}
	return true, nil
}

// toldLately tells whether Redis said not long ago that others are before us.
func (p *place) toldLately() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.said.at.IsZero() && time.Since(p.said.at) < safetyPoll+attemptLimit
}

// leave ends the waiting. Without a hold the owner is out of the queue as soon as Redis
// answers, and the next one is told. With one, what earlier tries may still bring about is
// undone once the lock is unlocked.
func (p *place) leave(h *hold) {
	e := p.attempt.engine
	p.mu.Lock()
	p.left = true
	e.watchdog.Remove(&p.entry)
	p.mu.Unlock()
	if p.sub != nil {
		p.sub.Close()
	}
	p.owner.mu.Lock()
	p.owner.late = p.unknown
	p.owner.mu.Unlock()
	if h == nil && p.asked {
		e.undo(p.owner)
	}
}

// A Ticket tells when an acquisition came: a waiter of a Queue, or who found it empty.
// Tickets of one server compare in the order of its scripts; two that ran in one call
// have the same Time, and compare by Position if the queue only grew between them.
type Ticket struct {
	Time     int64 // of the server, us
	Position int64 // 0: it did not wait
}

// TicketOf tells the ticket of a hold that was acquired in a Queue; for tests.
func TicketOf(h locking.Hold) (Ticket, bool) {
	own, ok := h.(*hold)
	if !ok || own.owner.ticket.Time == 0 {
		return Ticket{}, false
	}
	return own.owner.ticket, true
}

var _ watchdog.Lease = (*place)(nil)
