package multilock

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
)

// A keeper gets the members back that a quorum hold misses: those that did not answer
// when it was acquired, and those that came back without the lock. A member that is asked
// again gives nothing away, because a majority has the lock all along.
type keeper struct {
	red   *Red
	every time.Duration
	outer []*hold // those that this one was re-entered from

	ctx    context.Context // ends with the hold
	cancel context.CancelFunc
	mu     sync.Mutex
	timer  *time.Timer
}

// keep has a keeper look after a hold until it ends, if its members are renewed for as long as it lives.
func (r *race) keep(h *hold) {
	if r.ask.Lease != 0 || r.ask.MaxHold != 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &keeper{red: r.red, every: r.lease / 3, outer: carried(r.ctx), ctx: ctx, cancel: cancel}
	h.mu.Lock()
	h.ended, h.kept = k.stop, true
	over := h.life.Err != nil
	h.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if over || k.ctx.Err() != nil {
		k.cancel()
		return
	}
	k.timer = time.AfterFunc(k.every, func() { k.look(h) })
}

func (k *keeper) stop() {
	k.cancel()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
	}
}

// look asks the members that are missing, one after the other, each for the short limit.
func (k *keeper) look(h *hold) {
	for _, m := range k.red.given {
		if k.ctx.Err() == nil && !h.has(m) && !h.awaits(m) && !k.follows(m) {
			k.fetch(h, m)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() == nil {
		k.timer.Reset(k.every)
	}
}

// follows tells whether a member is to be got by a hold that this one was re-entered
// from: then it is re-entered too, or it would be taken from each other. A hold without a
// keeper gets nothing, and is not waited for.
func (k *keeper) follows(m *engine.Lock) bool {
	return slices.ContainsFunc(k.outer, func(outer *hold) bool {
		return slices.ContainsFunc(outer.group.given, m.Same) && outer.isKept() && !outer.has(m)
	})
}

// isKept tells whether a keeper looks after the hold.
func (h *hold) isKept() bool {
	h.look()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kept && h.life.Err == nil && !h.leaving
}

func (k *keeper) fetch(h *hold, m *engine.Lock) {
	wait, cancel := context.WithTimeout(k.ctx, limit(3*k.every))
	defer cancel()
	owners := context.Background() // with that of the innermost hold that has the member
	for _, outer := range k.outer {
		for _, held := range outer.living() {
			if m.Owns(held) {
				owners = held.Carry(owners)
			}
		}
	}
	bids, err := engine.NewBids(owners, wait, locking.Acquire{}, m)
	if err != nil {
		return // its client is closed
	}
	b := bids[0]
	defer b.End()
	if b.Prepare() != nil {
		return
	}
	busy, err := engine.Ask(bids)
	switch {
	case engine.ClassOf(err) == script.Unknown:
		h.owe(m, time.Now().Add(b.Lease()).UnixNano())
	case busy == nil && err == nil && !h.join(m, b.Won()):
		b.Drop()
	}
}

// has tells whether the hold has this member.
func (h *hold) has(m *engine.Lock) bool {
	return slices.ContainsFunc(h.living(), m.Owns)
}

// join takes one more member into the hold, unless it has ended or has that one.
func (h *hold) join(l *engine.Lock, m engine.Held) bool {
	h.look() // members whose time is over do not count: then the hold is over, not completed
	h.mu.Lock()
	ok := h.life.Err == nil && !h.leaving && !slices.ContainsFunc(h.members, l.Owns)
	if ok {
		h.members = append(h.members, m)
		h.latest = append(slices.DeleteFunc(slices.Clone(h.latest), l.Owns), m)
		delete(h.debts, l)
	}
	lease := time.Until(h.extended)
	h.mu.Unlock()
	if ok {
		m.OnEnd(h.memberEnded)
	}
	if ok && lease >= time.Millisecond {
		go catchUp(m, lease) // ends with the member, or the limit of an answer
	}
	return ok
}

// catchUp extends a member that has joined after Extend; otherwise the hold would be left with those that had been
// there.
func catchUp(m engine.Held, lease time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), engine.AttemptLimit)
	defer cancel()
	_ = m.Extend(ctx, lease)
}
