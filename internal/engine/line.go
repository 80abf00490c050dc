package engine

import (
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/pubsub"
)

// lines are the queues of this client's waiters, one a lock, in order of arrival.
// Only the waiter in front asks Redis, the others wait for its place: a release
// then costs each client one try, however many wait.
type lines struct {
	mu sync.Mutex
	m  map[string]*line
}

// A line is the queue before one lock, and what its waiters know about it. It is
// there as long as somebody waits.
type line struct {
	key         string
	front, back *waiter // guarded by lines.mu

	// What follows belongs to the waiter in front, and passes on with its place.
	sub   *pubsub.Subscription // nil until the lock was found taken
	until time.Time            // the lock is taken until then, unless a message comes; zero: ask

	// What Redis told, for the errors of those whose wait runs out. Guarded by lines.mu.
	told    time.Time // when somebody else had the lock
	refusal error     // what Redis said instead, since then
}

// A waiter is one call in line.
type waiter struct {
	line       *line
	prev, next *waiter       // guarded by lines.mu
	turn       chan struct{} // closed when it is in front; nil if it was from the start

	attempt *attempt   // what it may be handed the lock for; nil: for nothing
	calling calling    // guarded by lines.mu
	given   chan *hold // capacity 1; made when it may be called first
}

// join puts a waiter at the end of a lock's line. The lock may be handed over to it for
// that attempt, if it is not nil.
func (ls *lines) join(key string, a *attempt) *waiter {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.m[key]
	if l == nil {
		l = &line{key: key}
		ls.m[key] = l
	}
	w := &waiter{line: l, prev: l.back, attempt: a}
	l.back = w
	if w.prev == nil {
		l.front = w
		return w
	}
	w.prev.next = w
	w.turn = make(chan struct{})
	return w
}

// leave takes a waiter out of its line, wherever it stands. If it stood in front,
// the next one does now, also if the one that leaves never got to know of its
// turn: the place is never lost. It tells whether the one that leaves was called.
func (ls *lines) leave(w *waiter) (wasCalled bool) {
	ls.mu.Lock()
	wasCalled = w.shut()
	l := w.line
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.back = w.prev
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.front = w.next
		if w.next != nil {
			if !l.until.IsZero() {
				w.next.open() // it need not have woken up for that
			}
			close(w.next.turn)
		}
	}
	var over *pubsub.Subscription
	if l.front == nil {
		delete(ls.m, l.key)
		over = l.sub
	}
	ls.mu.Unlock()
	if over != nil {
		over.Close()
	}
	return wasCalled
}

// learn notes what Redis answered: taken by somebody else, or a refusal.
func (ls *lines) learn(l *line, told bool, refusal error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if told {
		l.told = time.Now()
	}
	l.refusal = refusal
}

// known tells what those who only stand in line go by: lately, somebody else had the
// lock. The one in front asks at least that often, so if it is longer ago, Redis is
// silent.
func (ls *lines) known(l *line) (lately bool, refusal error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return time.Since(l.told) < safetyPoll+attemptLimit, l.refusal
}
