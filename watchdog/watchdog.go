package watchdog

import (
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
)

// A Lease is what the watchdog keeps: one owner's hold of one lock in Redis.
type Lease interface {
	// Renewal tells what to send now; it has at least one key.
	Renewal() script.Op
	// Renewed is told what became of one copy that was sent at that time. It may
	// call Put and Remove.
	Renewed(answer script.Answer, sent time.Time)
	// Lapsed is called when the deadline has passed, once for each that was put and
	// neither moved nor removed. The entry has been removed before.
	Lapsed()
}

// A Schedule is when to do what for a lease.
type Schedule struct {
	RenewAt  time.Time     // zero: never renewed, only the deadline is watched
	Retry    time.Duration // until another copy is sent while no answer came; at least 1 ms
	Deadline time.Time     // when the lease lapses
}

// Send sends operations to one server as one call, and never blocks. It calls
// answered once they are answered, from another goroutine, with an answer for each;
// maybe never. queued tells whether they still wait to be sent.
type Send func(ops []script.Op, answered func(answers []script.Answer, sent time.Time)) (queued func() bool)

// A Watchdog renews leases and watches their deadlines. All its methods may be
// called at once.
type Watchdog struct {
	send   Send
	server func(key string) string
	epoch  time.Time // moments count from here

	mu      sync.Mutex
	queue   queue
	armed   moment // when the goroutine looks next
	started bool
	closed  bool

	wake    chan struct{} // capacity 1: something matters before armed
	stop    chan struct{}
	stopped chan struct{}
}

// New makes a watchdog; server tells on which server a key is, and never blocks. It
// starts its goroutine with the first Put.
func New(send Send, server func(key string) string) *Watchdog {
	return &Watchdog{
		send:    send,
		server:  server,
		epoch:   time.Now(),
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
}

func (w *Watchdog) now() moment { return w.moment(time.Now()) }

func (w *Watchdog) moment(t time.Time) moment { return moment(t.Sub(w.epoch)) }

// Put adds an entry, or reschedules it; l is the same as long as it is there. After
// Close it does nothing.
func (w *Watchdog) Put(e *Entry, l Lease, s Schedule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if e.index == 0 {
		e.lease = l
		e.life++
	}
	e.renewAt, e.deadline, e.retry = never, w.moment(s.Deadline), s.Retry
	if !s.RenewAt.IsZero() {
		e.renewAt = w.moment(s.RenewAt)
	}
	w.queue.put(e)
	switch {
	case !w.started:
		w.started = true
		w.armed = e.next()
		go w.run() // ended by Close
	case e.next() < w.armed:
		// Only then: a lock that is taken and freed at once must not cost a wake-up.
		w.armed = e.next()
		w.rouse()
	}
}

// Remove takes an entry out. No renewal of it is started any more, Lapsed is not
// called, and answers to earlier renewals are dropped; a call of the lease that is
// under way at this moment goes on. Removing what is not there does nothing.
func (w *Watchdog) Remove(e *Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.index > 0 {
		w.drop(e)
	}
}

// drop takes out an entry that is there. Under w.mu.
func (w *Watchdog) drop(e *Entry) {
	w.queue.remove(e)
	e.forget()
}

// forget leaves nothing behind that a removed entry would keep alive, or that a
// round under way would take for a renewal.
func (e *Entry) forget() {
	e.lease, e.call, e.renewAt, e.index = nil, nil, never, 0
}

// Len tells how many leases are kept.
func (w *Watchdog) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

// Close removes all entries, then stops the goroutine and waits for it: for as long
// as the call of a lease that is under way lasts. So it must not be called from a
// lease, nor with a mutex held that a lease takes. Answers that come later are
// dropped.
func (w *Watchdog) Close() {
	w.mu.Lock()
	closed, started := w.closed, w.started
	w.closed = true
	for _, p := range w.queue {
		p.entry.forget()
	}
	w.queue = nil
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
	default: // it is to wake already
	}
}
