package engine

import (
	"context"

	"github.com/holdfast-go/holdfast/locking"
)

// A Held is a hold that is part of one of several locks.
type Held interface {
	locking.Hold
	// Carry returns ctx with the owner: a Lock with it re-enters.
	Carry(ctx context.Context) context.Context
	// OnEnd has told called with the cause once the hold has ended.
	OnEnd(told func(cause error))
	// Drop releases the hold in the background.
	Drop()
	// Abandon ends the hold with ErrClosed and leaves its key to the lease.
	Abandon()
}

// Drop releases the hold in the background, until that is confirmed or its lease is over.
func (h *hold) Drop() { h.drop() }

// drop is Drop; lost: the owner was retired before, there is nothing to release.
func (h *hold) drop() (lost bool) {
	after, lost := h.owner.leave(h)
	if lost {
		return true
	}
	h.left()
	if after == 0 {
		h.owner.retire(locking.ErrUnlocked)
	}
	h.owner.engine.undo(h.owner)
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
