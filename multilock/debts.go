package multilock

import (
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
)

// A hold's debts are members of a quorum lock that it does not have, but that may be locked by it in Redis for
// a while. Unlock must not count them as free.

// owe notes until when (Unix time, ns) a member may be there that was acquired without an answer: what comes of it
// joins, is taken back, or has run out by then. Nothing is owed until a time that is over.
func (h *hold) owe(l *engine.Lock, until int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addDebt(l, time.Unix(0, until))
}

// addDebt is owe under h.mu.
func (h *hold) addDebt(l *engine.Lock, until time.Time) {
	if !time.Now().Before(until) {
		delete(h.debts, l)
		return
	}
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
