package multilock

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
)

// A lapsing is a member whose time may be over without anybody having looked.
type lapsing struct {
	engine.Held
	over    bool
	ended   bool
	told    func(engine.Held, error)
	dropped bool
}

func (l *lapsing) Name() string                        { return "orders" }
func (l *lapsing) Owner() string                       { return "client:1" }
func (l *lapsing) Count() int                          { return 1 }
func (l *lapsing) Drop()                               { l.dropped = true }
func (l *lapsing) Lose()                               { l.dropped = true }
func (l *lapsing) OnEnd(told func(engine.Held, error)) { l.told = told }
func (l *lapsing) MemberError(err error) error         { return err }

func (l *lapsing) Err() error {
	if !l.over {
		return nil
	}
	if !l.ended {
		l.ended = true
		l.told(l, locking.ErrLost)
	}
	return locking.ErrLost
}

// A majority that has run out a moment ago, before any timer has said so, is none: a member that
// comes then does not complete the hold, which is over.
func TestNobodyJoinsAHoldWhoseMajorityHasJustEnded(t *testing.T) {
	members := []*lapsing{{}, {}, {}}
	h := newHold(&group{name: "red(orders, orders, orders)"}, []engine.Held{members[0], members[1]}, 2, 0)
	if !h.join(&engine.Lock{}, members[2]) {
		t.Fatal("a member that comes in time does not join")
	}
	members[0].over, members[1].over = true, true
	if late := (&lapsing{}); h.join(&engine.Lock{}, late) {
		t.Error("a member joins a hold that is over")
	}
	if err := h.Err(); !errors.Is(err, locking.ErrLost) {
		t.Errorf("Err: got %v, want ErrLost", err)
	}
	if !members[2].dropped {
		t.Error("the member that was left is not released")
	}
	select {
	case <-h.Done():
	default:
		t.Error("Done is open")
	}
}

// A refused is an error that Redis replied.
type refused string

func (refused) Error() string { return "NOPERM no" }
func (refused) RedisError()   {}

// Who said no, or yes too late, has answered: only silence is counted as none.
func TestWhatAQuorumTells(t *testing.T) {
	refusal := fmt.Errorf("member %q: %w", "orders", refused(""))
	for _, c := range []struct {
		o    outcome
		n    int
		want []string
	}{
		{outcome{won: 3, stale: true}, 3, []string{"3 of 3 servers said yes, but too late", engine.ErrLate.Error()}},
		{outcome{won: 1, errs: []error{refusal, fmt.Errorf("member: %w", engine.ErrLate), engine.ErrSilent, engine.ErrSilent}}, 5,
			[]string{"3 of 5 servers answered, 1 with yes", refused("").Error(), engine.ErrLate.Error(), engine.ErrSilent.Error()}},
		{outcome{errs: []error{engine.ErrSilent, engine.ErrSilent, engine.ErrSilent}}, 3, []string{"0 of 3 servers answered, 0 with yes"}},
	} {
		err := c.o.err(&race{runners: make([]*runner, c.n)})
		for _, words := range c.want {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("got %v, want it to say %q", err, words)
			}
		}
	}
}
