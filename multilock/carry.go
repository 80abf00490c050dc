package multilock

import (
	"context"
	"errors"
	"slices"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
)

// A carrying is a context with a hold and the owners of its members. They are looked up when they
// are asked for: a quorum hold's members come and go, and some are on their way when it begins.
type carrying struct {
	context.Context
	hold *hold
}

// Carry returns ctx with the hold, and an owner for each member.
func (h *hold) Carry(ctx context.Context) context.Context { return carrying{ctx, h} }

// groupKey is the key of the group holds that a context carries, the innermost last: a multi lock's, and then
// those of its quorum locks.
type groupKey struct{}

func carried(ctx context.Context) []*hold {
	if ctx == nil {
		return nil
	}
	holds, _ := ctx.Value(groupKey{}).([]*hold)
	return holds
}

// Value is that of the hold, otherwise the parent's.
func (c carrying) Value(key any) any {
	if key == (groupKey{}) {
		return c.hold.appendGroups(slices.Clip(carried(c.Context)))
	}
	if v := c.hold.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}

// appendGroups appends the hold and those of its members that are groups themselves.
func (h *hold) appendGroups(groups []*hold) []*hold {
	groups = append(groups, h)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.latest {
		if part, ok := m.(*hold); ok {
			groups = append(groups, part)
		}
	}
	return groups
}

// outer is the innermost hold of this lock that ctx carries, or nil.
func (l *Red) outer(ctx context.Context) *hold {
	for _, h := range slices.Backward(carried(ctx)) {
		if h.group.kind == l.kind && sameMembers(h.group.given, l.given) {
			return h
		}
	}
	return nil
}

// reenterable is ErrLost if ctx carries a hold of this lock that is lost. Its members do not tell: a
// majority of the servers may never have been asked for it, or have been released when it ended.
func (l *Red) reenterable(ctx context.Context) error {
	if outer := l.outer(ctx); outer != nil {
		if err := outer.Err(); errors.Is(err, locking.ErrLost) {
			return err
		}
	}
	return nil
}

// Value is the owner of the member that the key names, if the hold has it; of a hold that has ended the latest one, so
// that it is found to be lost. One that is on its way makes who re-enters wait until it has arrived.
func (h *hold) Value(key any) any {
	if !engine.IsOwnerKey(key) {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	members := h.members
	if h.life.Err != nil {
		members = h.latest
	}
	for _, m := range members {
		if o := m.Value(key); o != nil {
			return o
		}
	}
	for _, c := range h.coming {
		if o := c.Value(key); o != nil {
			return o
		}
	}
	return nil
}

// awaits tells whether a member is on its way.
func (h *hold) awaits(l *engine.Lock) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.coming, l.Carries)
}

// expect has the hold carry the owner of a member that is on its way.
func (h *hold) expect(c engine.Carrier) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.coming = append(h.coming, c)
}

// arrived ends that, whatever has come of it.
func (h *hold) arrived(c engine.Carrier) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.coming = slices.DeleteFunc(h.coming, func(other engine.Carrier) bool { return other == c })
}
