package engine

import (
	"context"

	"github.com/holdfast-go/holdfast/locking"
)

// A Held is a hold that is part of one of several locks.
type Held interface {
	locking.Hold
	Carrier
	// Carry returns ctx with the owner: a Lock with it re-enters.
	Carry(ctx context.Context) context.Context
	// MemberError says which of several locks an error is about.
	MemberError(err error) error
	// OnEnd has told called with the hold and the cause once it has ended.
	OnEnd(told func(h Held, cause error))
	// Drop releases the hold in the background.
	Drop()
	// Lose is Drop of what is given back because another one is lost: who re-enters is told that it is.
	Lose()
	// Abandon ends the hold with ErrClosed and leaves its key to the lease.
	Abandon()
}

// A Carrier knows owners by the keys under which contexts have them: nil for any other key.
type Carrier interface{ Value(key any) any }

// IsOwnerKey tells whether a context's key is one of an owner.
func IsOwnerKey(key any) bool {
	_, is := key.(ownerKey)
	return is
}

// Value is the owner itself under its own key.
func (o *owner) Value(key any) any {
	if key == o.target.ownerKey {
		return o
	}
	return nil
}

func (h *hold) Value(key any) any { return h.owner.Value(key) }

// Drop releases the hold in the background, until that is confirmed or its lease is over.
func (h *hold) Drop() { h.drop(locking.ErrUnlocked) }

// Lose is Drop, after which the owner is lost, not unlocked: who re-enters through a context of it must not begin
// anew, or wait for those who have the lock by then.
func (h *hold) Lose() { h.drop(locking.ErrLost) }

// drop releases the hold in the background; lost: the owner was retired before, there is nothing to release.
func (h *hold) drop(cause error) (lost bool) {
	o := h.owner
	o.mu.Lock()
	o.undone = true // before the hold leaves, because it does so out of turn: the one that is left must not be handed over
	o.mu.Unlock()
	after, lost := o.leave(h)
	if lost {
		return true
	}
	repeated := after > 0 || o.hasLate() // other holds are left, or something may still take the lock
	h.left()
	if after == 0 {
		o.retire(cause)
	}
	if repeated {
		o.engine.undo(o)
	} else {
		o.engine.undoUnless(o, o.engine.sender.Start(o.releaseOp(0)), 0)
	}
	return false
}

// Abandon ends the hold as Close would end it, though it is another client that was closed:
// it is not renewed any more, its key stays until the lease runs out, and Unlock still
// releases it. Other holds of its owner go on.
func (h *hold) Abandon() {
	o := h.owner
	o.mu.Lock()
	h.renews = false
	ended := h.mark(locking.ErrClosed)
	if o.ended == nil {
		o.schedule()
	}
	o.mu.Unlock()
	if ended {
		h.finish()
	}
}
