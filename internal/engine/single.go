package engine

import (
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
)

// once is a single attempt, beside the line or the queue.
func (a *attempt) once() (*hold, error) {
	h, err := a.try(&single{a: a})
	if h == nil && err == nil {
		return nil, locking.ErrNotAcquired
	}
	if err != nil {
		return nil, a.over(false, err)
	}
	return h, nil
}

// A single asks for an owner, and after an answer of unknown outcome for a new one. It
// never waits.
type single struct {
	a *attempt
	o *owner // nil until it is needed: most waiters of a crowd have none
}

func (s *single) bidder() *owner {
	if s.o == nil {
		s.o = s.a.engine.newOwner(s.a.target)
	}
	return s.o
}

func (s *single) op() script.Op {
	o := s.bidder()
	o.lease = s.a.lease // nobody else knows this owner yet
	return s.a.firstOp(o)
}

func (s *single) heard(_ []int64, err error, c sentCopy) {
	if err == nil {
		return
	}
	if classOf(err) == script.Unknown {
		s.a.engine.undo(s.o, c)
	}
	s.o = nil // never again the one whose acquisition may still arrive
}

func (s *single) missed() {
	s.a.engine.undo(s.o)
	s.o = nil
}
