package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/tracing"
)

// mostHolds bounds the hold count of one owner, far below what Redis and Lua count
// exactly. Only a test changes it.
var mostHolds = 1<<31 - 1

// reenter acquires once more for an owner that has the lock. The owner's id stays,
// so a copy of unknown outcome may be followed by another one: both say which count
// is to be reached. errRetired: the owner has unlocked everything.
func (a *attempt) reenter(o *owner) (*hold, error) {
	e := a.engine
	wait := a.wait
	if a.isSingle() {
		limited, cancel := context.WithTimeout(a.wait, attemptLimit)
		defer cancel()
		wait = limited
	}
	if err := o.take(wait, e.closed); err != nil {
		return nil, a.over(false, nil)
	}
	defer o.give()

	pauses := e.retries()
	var unknown []sentCopy // copies that may have been executed, or may still be
	for {
		before, err := o.reentrant()
		if err != nil {
			return nil, err
		}
		h, call, err := a.tryAgain(o, before)
		switch classOf(err) {
		case script.Done:
			return h, nil
		case script.Unknown:
			unknown = append(unknown, sentCopy{call: call})
		}
		final := errors.Is(err, locking.ErrLost) || classOf(err) == script.Refused
		if !final && !a.isSingle() && e.pause(a.wait, pauses.NextBackOff(), e.closed) {
			a.span.Event(tracing.EventRetry)
			continue
		}
		if len(unknown) > 0 {
			e.undo(o, unknown...) // down to the holds that it has
		}
		if final {
			return nil, err
		}
		return nil, a.over(false, err)
	}
}

// reentrant tells how many holds the owner has, or why it cannot be re-entered.
func (o *owner) reentrant() (before int, err error) {
	switch err := o.state(); {
	case errors.Is(err, locking.ErrUnlocked):
		return 0, errRetired
	case err != nil:
		return 0, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.holds) == 0 {
		return 0, errRetired // its last Unlock did not wait for its turn
	}
	if len(o.holds) >= mostHolds {
		return 0, fmt.Errorf("holdfast: owner %s has %d holds, no more are possible", o.id, mostHolds)
	}
	return len(o.holds), nil
}

// tryAgain sends one acquire of an owner that has the lock already.
func (a *attempt) tryAgain(o *owner, before int) (*hold, *script.Call, error) {
	a.span.Attempt()
	o.sending(a.lease)
	call, answer := a.engine.exchange(a.wait, a.target.Driver.Acquire(a.target.Key, o.id, a.lease, before), a.engine.closed)
	v, err := answer.Ints(2)
	switch {
	case err != nil:
		return nil, call, err
	case v[0] != done:
		o.retire(locking.ErrLost) // gone, though no hold had been told
		return nil, call, locking.ErrLost
	}
	h := a.hold()
	if !o.admit(h, call.Sent(), a.lease, before) {
		return nil, call, errLate
	}
	return h, call, nil
}

// sending notes the lease of a command: what it may have locked is gone that long
// after. It tells whether the owner is not retired yet.
func (o *owner) sending(lease time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lease = max(o.lease, lease)
	return o.ended == nil
}
