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
//
// No turn can be missed. The message is sent once, to the first one, so it has to
// be subscribed before a try says who is first: the confirmation is a wake-up, and a
// try follows it. A message that is lost later is made good by the next renewal,
// whose answer says whose turn it is.
//
// Every way out that does not have the lock leaves the queue, and gives back what a try
// without an answer may have got: one release does both (undo).
type place struct {
	attempt *attempt
	queue   Queue
	owner   *owner
	lease   time.Duration
	entry   watchdog.Entry
	sub     *pubsub.Subscription // to the owner's own channel; nil until it was told to wait
	news    chan struct{}        // capacity 1: look at what follows

	unknown []sentCopy // tries that may still be executed
	asked   bool       // a try may have reached Redis

	mu    sync.Mutex
	said  standing
	again bool // try now: it is our turn, the place is gone, or Redis refuses to renew it
	left  bool // nothing is renewed any more
}

// A standing is what Redis said about a place.
type standing struct {
	at    time.Time // when it was told
	until time.Time // try again then, if no message comes
	since int64     // the server's time, us
	mixed bool
}

func (a *attempt) takePlace(q Queue) *place {
	lease := a.target.WaiterLease
	if lease == 0 {
		lease = defaultWaiterLease
	}
	o := a.engine.newOwner(a.target)
	o.lease = max(a.lease, lease) // what it leaves in Redis is gone that long after
	return &place{attempt: a, queue: q, owner: o, lease: lease, news: make(chan struct{}, 1)}
}

func (p *place) bidder() *owner { return p.owner }

func (p *place) op() script.Op {
	p.mu.Lock()
	p.again = false // what comes from here on may be newer than the answer
	p.mu.Unlock()
	return p.stand(false)
}

// heard takes note of an answer. If it is not the lock, the place is renewed from now on.
func (p *place) heard(v []int64, err error, c sentCopy) {
	if err == nil && len(v) < standingInts {
		v, err = nil, errStanding
	}
	class := classOf(err)
	p.asked = p.asked || class == script.Done || class == script.Unknown
	if class == script.Unknown {
		p.unknown = append(p.unknown, c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.again = true
		return
	}
	if v[6] == 1 {
		p.owner.ticket = Ticket{Time: v[2], Position: v[3]}
		if v[0] != done {
			p.attempt.span.Queued(v[3], v[4])
		}
	}
	if v[0] != done {
		p.hear(v, c.call.Sent())
	}
}

// missed needs to do nothing: leaving gives the lock back too.
func (p *place) missed() {}

// await waits until it is time for a try.
func (p *place) await() error {
	a, e := p.attempt, p.attempt.engine
	p.mu.Lock()
	told := !p.said.at.IsZero()
	p.mu.Unlock()
	if !told {
		return nil
	}
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

const standingInts = 7

var errStanding = errors.New("holdfast: unexpected reply from Redis about a queue")

func (p *place) stand(renew bool) script.Op {
	p.mu.Lock()
	said := p.said
	p.mu.Unlock()
	publish, _ := p.attempt.engine.publish.known() // prepare has asked for it
	t := p.owner.target
	return p.queue.Stand(t.Key, p.owner.id, p.attempt.lease, Place{
		Lease: p.lease, Since: said.since, Mixed: said.since == 0 || said.mixed, Renew: renew,
	}, publish)
}

// hear takes note of where the place stands, and when it is renewed next. Under p.mu.
func (p *place) hear(v []int64, sent time.Time) {
	if p.left {
		return
	}
	p.said = standing{at: time.Now(), until: until(v[1]), since: v[2], mixed: v[5] == 1}
	e := p.attempt.engine
	every := min(p.lease/3, safetyPoll)
	e.watchdog.Put(&p.entry, p, watchdog.Schedule{
		RenewAt:  e.together(sent.Add(every), every/2),
		Retry:    min(max(every/10, 20*time.Millisecond), time.Second),
		Deadline: sent.Add(p.lease),
	})
}

// together moves a renewal forward to a moment that many share, at most that much: a
// thousand waiters then cost a few commands, however they came.
func (e *Engine) together(at time.Time, most time.Duration) time.Time {
	return at.Add(-(at.Sub(e.began) % most))
}

// Renewal is the watchdog's question: what to send now.
func (p *place) Renewal() script.Op { return p.stand(true) }

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
		return true, a.over(p.known())
	case <-e.closed:
		return true, locking.ErrClosed
	}
	return true, nil
}

// handed: a place in a queue is not passed over.
func (p *place) handed() *hold { return nil }

// known tells whether Redis said not long ago that others are before us.
func (p *place) known() (told bool, refusal error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.said.at.IsZero() && time.Since(p.said.at) < safetyPoll+attemptLimit, nil
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
