package watchdog

import (
	"container/heap"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
)

// mostOps is how many renewals go in one call.
const mostOps = 100

// slack is how much earlier than asked a renewal may be sent, to go with others.
const slack = 5 * time.Millisecond

// A Lease is what the watchdog keeps: one owner's hold of one lock in Redis.
type Lease interface {
	// Renewal tells what to send now.
	Renewal() script.Op
	// Renewed is told what became of one copy that was sent at that time. It may
	// call Put and Remove.
	Renewed(answer script.Answer, sent time.Time)
	// Lapsed is called when the deadline has passed; the entry has been removed.
	Lapsed()
}

// A Schedule is when to do what for a lease.
type Schedule struct {
	RenewAt  time.Time     // zero: never renewed, only the deadline is watched
	Retry    time.Duration // until another copy is sent while no answer came
	Deadline time.Time     // when the lease lapses
}

// Send sends operations to one server as one call, and never blocks. It calls
// answered once they are answered, from another goroutine; maybe never. queued tells
// whether they still wait to be sent.
type Send func(ops []script.Op, answered func(answers []script.Answer, sent time.Time)) (queued func() bool)

// A Watchdog renews leases and watches their deadlines. All its methods may be
// called at once.
type Watchdog struct {
	send   Send
	server func(key string) string

	mu      sync.Mutex
	entries entries
	armed   time.Time // when the goroutine looks next
	started bool
	closed  bool
	wake    chan struct{} // capacity 1: the earliest moment has changed
	stop    chan struct{}
	stopped chan struct{}
}

// New makes a watchdog; server tells on which server a key is. It starts its
// goroutine with the first Put.
func New(send Send, server func(key string) string) *Watchdog {
	return &Watchdog{
		send:    send,
		server:  server,
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
}

// Put adds an entry, or reschedules it. After Close it does nothing.
func (w *Watchdog) Put(e *Entry, l Lease, s Schedule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	e.renewAt, e.deadline, e.retry = s.RenewAt, s.Deadline, s.Retry
	if e.index == 0 {
		e.lease = l
		e.life++
		e.call = nil
		heap.Push(&w.entries, e)
	} else {
		heap.Fix(&w.entries, int(e.index-1))
	}
	switch {
	case !w.started:
		w.started = true
		go w.run() // ended by Close
	case e.next().Before(w.armed):
		// Only then: a lock that is taken and freed at once must not cost a wake-up.
		w.armed = e.next()
		w.rouse()
	}
}

// Remove takes an entry out. No renewal of it is started any more, and answers to
// earlier ones are dropped. What is being sent or told at this moment may go on.
func (w *Watchdog) Remove(e *Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.index > 0 {
		heap.Remove(&w.entries, int(e.index-1))
		e.lease, e.call = nil, nil
	}
}

// Len tells how many leases are kept.
func (w *Watchdog) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.entries)
}

// Close stops the watchdog and waits for its goroutine. No lease is called any more,
// except by a call under way.
func (w *Watchdog) Close() {
	w.mu.Lock()
	closed, started := w.closed, w.started
	w.closed = true
	w.entries = nil
	w.mu.Unlock()
	if !closed {
		close(w.stop)
	}
	if started {
		<-w.stopped
	}
}

func (w *Watchdog) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run waits for the earliest moment and does what is due, until Close.
func (w *Watchdog) run() {
	defer close(w.stopped)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-w.wake:
		case <-w.stop:
			return
		}
		lapsed, renewals, next := w.due(time.Now())
		for _, l := range lapsed {
			l.Lapsed()
		}
		w.renew(renewals)
		timer.Reset(time.Until(next))
	}
}

// A renewal is one copy that is due.
type renewal struct {
	entry    *Entry
	lease    Lease
	life     uint32
	deadline time.Time
	op       script.Op
}

// due takes out what has lapsed, reschedules what is to be renewed now, and tells
// when something else is due.
func (w *Watchdog) due(now time.Time) (lapsed []Lease, renewals []renewal, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.armed = next }()
	for len(w.entries) > 0 {
		e := w.entries[0]
		switch {
		case !now.Before(e.deadline):
			lapsed = append(lapsed, e.lease)
			heap.Pop(&w.entries)
			e.lease, e.call = nil, nil
		case !e.renewAt.IsZero() && !now.Add(slack).Before(e.renewAt):
			if e.call == nil || !e.call.queued() {
				renewals = append(renewals, renewal{entry: e, lease: e.lease, life: e.life, deadline: e.deadline})
			}
			e.renewAt = now.Add(slack + max(e.retry, time.Millisecond))
			heap.Fix(&w.entries, 0)
		default:
			return lapsed, renewals, e.next()
		}
	}
	return lapsed, renewals, now.Add(time.Hour) // Put rouses
}

// renew sends what is due: by server, the earliest deadline first.
func (w *Watchdog) renew(renewals []renewal) {
	slices.SortFunc(renewals, func(a, b renewal) int { return a.deadline.Compare(b.deadline) })
	batches := map[string][]renewal{}
	for _, r := range renewals {
		r.op = r.lease.Renewal()
		server := w.server(r.op.Keys[0])
		batches[server] = append(batches[server], r)
		if len(batches[server]) == mostOps {
			w.start(batches[server])
			delete(batches, server)
		}
	}
	for _, batch := range batches {
		w.start(batch)
	}
}

// A call is one batch on its way. queued is asked by later rounds.
type call struct{ queued func() bool }

// start sends a batch.
func (w *Watchdog) start(batch []renewal) {
	ops := make([]script.Op, len(batch))
	for i, r := range batch {
		ops[i] = r.op
	}
	c := &call{}
	c.queued = w.send(ops, func(answers []script.Answer, sent time.Time) { w.answered(batch, answers, sent) })
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range batch {
		if r.entry.index > 0 && r.entry.life == r.life {
			r.entry.call = c
		}
	}
}

// answered tells each lease what became of its copy, unless it has been removed.
func (w *Watchdog) answered(batch []renewal, answers []script.Answer, sent time.Time) {
	for i, r := range batch {
		w.mu.Lock()
		there := !w.closed && r.entry.index > 0 && r.entry.life == r.life
		w.mu.Unlock()
		if there {
			r.lease.Renewed(answers[i], sent)
		}
	}
}
