package engine_test

import (
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
)

// Something else of the owner hangs until the limit of Unlock is over, and the trust window has passed by then.
func TestALossWhileUnlockWaitsForItsTurn(t *testing.T) {
	w := newWorld(t, time.Minute)
	for deed, unlock := range map[string]func(h locking.Hold) error{
		"Unlock": func(h locking.Hold) error { return h.Unlock(w.ctx()) },
		"UnlockAll": func(h locking.Hold) error {
			return engine.UnlockAll(w.ctx(), []engine.Held{h.(engine.Held)}, 1, 1)[0]
		},
	} {
		h := w.must(w.ours.TryLock(w.ctx(), 0, time.Second))
		give := engine.TakeTurn(h)
		w.want(deed, unlock(h), locking.ErrLost)
		w.want("Err", h.Err(), locking.ErrLost)
		give()
		w.free(5 * time.Second)
	}
}
