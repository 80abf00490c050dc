package engine

import (
	"sync"
	"time"
)

// A tally counts what is under way, so that Close can wait for it for a while.
type tally struct {
	mu   sync.Mutex
	n    int
	zero chan struct{} // closed at zero; nil while nobody waits
}

func (t *tally) add() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
}

func (t *tally) remove() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	if t.n == 0 && t.zero != nil {
		close(t.zero)
		t.zero = nil
	}
}

// wait tells whether the count reached zero in time.
func (t *tally) wait(limit time.Duration) bool {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return true
	}
	if t.zero == nil {
		t.zero = make(chan struct{})
	}
	zero := t.zero
	t.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-zero:
		return true
	case <-timer.C:
		return false
	}
}

// seldom is a line of the log that may be due for 100,000 locks at once: it is
// written at most once in a while, with the number of those left out before.
type seldom struct {
	mu      sync.Mutex
	last    time.Time
	skipped int
}

const inAWhile = 5 * time.Second

func (s *seldom) log(e *Engine, msg string, args ...any) {
	s.mu.Lock()
	if time.Since(s.last) < inAWhile {
		s.skipped++
		s.mu.Unlock()
		return
	}
	skipped := s.skipped
	s.last, s.skipped = time.Now(), 0
	s.mu.Unlock()
	if skipped > 0 {
		args = append(args, "skipped", skipped)
	}
	e.log(msg, args...)
}

// clock ticks for everybody who waits for an answer. Answers come within a
// millisecond, and a timer for each would cost more than the rest of the wait.
type clock struct {
	mu   sync.Mutex
	next chan struct{} // closed by the next tick; nil: nobody has asked for one
}

const tick = 250 * time.Millisecond

// towards returns a channel that is closed when it is time to look whether a limit has passed: within a tick, and only for
// the last stretch by a timer of its own, which off stops.
func (c *clock) towards(limit time.Time) (look <-chan struct{}, off func()) {
	left := time.Until(limit)
	if left > tick {
		return c.tick(), func() {}
	}
	passed := make(chan struct{})
	timer := time.AfterFunc(left, func() { close(passed) })
	return passed, func() { timer.Stop() }
}

// tick returns a channel that is closed within a tick from now.
func (c *clock) tick() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		next := make(chan struct{})
		c.next = next
		time.AfterFunc(tick, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			close(next)
			c.next = nil
		})
	}
	return c.next
}
