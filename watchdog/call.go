package watchdog

import (
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
)

// A call is some renewals on their way to one server.
type call struct {
	ops      []script.Op // until it is started
	copies   []sentCopy
	queued   func() bool // written before any entry has the call
	answered bool        // guarded by Watchdog.mu
}

// A sentCopy tells whose renewal it is: an entry in one of its lives.
type sentCopy struct {
	entry *Entry
	life  uint32
}

// there tells whether the entry still lives that life. Under Watchdog.mu.
func (s sentCopy) there() bool { return s.entry.index > 0 && s.entry.life == s.life }

// start sends a call, and has its entries remember it until it is answered, which
// it may be already.
func (w *Watchdog) start(c *call) {
	ops := c.ops
	c.ops = nil
	c.queued = w.send(ops, func(answers []script.Answer, sent time.Time) { w.answered(c, answers, sent) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.answered {
		return
	}
	for _, s := range c.copies {
		if s.there() {
			s.entry.call = c
		}
	}
}

// answered tells each lease what became of its copy, unless it has been removed.
func (w *Watchdog) answered(c *call, answers []script.Answer, sent time.Time) {
	w.mu.Lock()
	c.answered = true
	w.mu.Unlock()
	for i, s := range c.copies {
		if lease := w.recipient(c, s); lease != nil {
			lease.Renewed(answers[i], sent)
		}
	}
}

// recipient tells who is to be told about a copy, nil if nobody.
func (w *Watchdog) recipient(c *call, s sentCopy) Lease {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !s.there() {
		return nil
	}
	if s.entry.call == c {
		s.entry.call = nil // it would keep all of the call in memory
	}
	return s.entry.lease
}
