package multilock

import (
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
)

// A hold's debts are members of a quorum lock that it does not have, but that may be locked by it in Redis for
// a while. Unlock must not count them as free.

// owe notes that a member may have been acquired without an answer, or may be there after its time
// was over. What comes of it is taken back, or has run out a lease later.
func (h *hold) owe(l *engine.Lock) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addDebt(l, time.Now().Add(h.lease))
}

func (h *hold) oweUntil(l *engine.Lock, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addDebt(l, until)
}

// addDebt is oweUntil under h.mu.
func (h *hold) addDebt(l *engine.Lock, until time.Time) {
	if h.debts == nil {
		h.debts = map[*engine.Lock]time.Time{}
	}
	h.debts[l] = until
}

// owed counts those that may still be there. Under h.mu.
func (h *hold) owed() (n int) {
	for _, until := range h.debts {
		if time.Now().Before(until) {
			n++
		}
	}
	return n
}
