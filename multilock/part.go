package multilock

import (
	"context"
	"slices"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
)

// A quorum lock's hold can itself be one of a multi lock's.
var _ engine.Held = (*hold)(nil)

// MemberError says which of a multi lock's members an error is about.
func (h *hold) MemberError(err error) error { return h.group.memberError(err) }

// OnEnd has told called with the hold and the cause once it has ended, at once if it has. Call it
// once, before anybody else has the hold.
func (h *hold) OnEnd(told func(h engine.Held, cause error)) {
	h.mu.Lock()
	h.onEnd = told
	cause := h.life.Err
	h.mu.Unlock()
	if cause != nil {
		told(h, cause)
	}
}

// isPart tells whether the hold is one of a multi lock's, which has the spans.
func (h *hold) isPart() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.onEnd != nil
}

// Drop releases the members in the background.
func (h *hold) Drop() {
	h.forgo(locking.ErrUnlocked)
	for _, m := range slices.Backward(h.living()) {
		m.Drop()
	}
	h.finish()
}

// Lose is Drop, after which the hold is lost to those who re-enter.
func (h *hold) Lose() {
	h.forgo(locking.ErrLost)
	for _, m := range slices.Backward(h.living()) {
		m.Lose()
	}
	h.finish()
}

// forgo ends the hold. Its members are still to be released.
func (h *hold) forgo(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving = true
	h.life.End(cause)
}

// Abandon ends the hold as the end of a client does, and leaves the members to their leases.
func (h *hold) Abandon() {
	h.mu.Lock()
	ended := h.life.End(locking.ErrClosed)
	h.mu.Unlock()
	if !ended {
		return
	}
	for _, m := range h.living() {
		m.Abandon() // and is among the closed ones then
	}
	h.finish()
}

// hasClosed tells whether a member is a group with members whose client was closed.
func hasClosed(m engine.Held) bool {
	h, ok := m.(*hold)
	if !ok {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.closed) > 0
}

func isGroup(m engine.Held) bool {
	_, is := m.(*hold)
	return is
}

// unlockAll releases members, each group by itself and the others together, see engine.UnlockAll. Where there are
// groups, all have to be released.
func unlockAll(ctx context.Context, members []engine.Held, least, enough int) []error {
	if !slices.ContainsFunc(members, isGroup) {
		return engine.UnlockAll(ctx, members, least, enough)
	}
	var singles []engine.Held
	groups := map[int]chan error{}
	for i, m := range members {
		group, ok := m.(*hold)
		if !ok {
			singles = append(singles, m)
			continue
		}
		done := make(chan error, 1)
		groups[i] = done
		go func() { done <- group.Unlock(ctx) }() // ends within Unlock's limit
	}
	left := engine.UnlockAll(ctx, singles, len(singles), len(singles))
	errs := make([]error, len(members))
	for i := range members {
		if done := groups[i]; done != nil {
			errs[i] = <-done
		} else {
			errs[i], left = left[0], left[1:]
		}
	}
	return errs
}
