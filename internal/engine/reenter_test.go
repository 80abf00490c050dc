package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
)

// Not parallel: the bound is everybody's.
func TestHoldsOfAnOwnerAreBounded(t *testing.T) {
	const most = 3
	defer engine.Bound(most)()
	w := newWorld(t, 30*time.Second)
	holds := []locking.Hold{w.must(w.ours.Lock(w.ctx()))}
	ctx := holds[0].Context(w.ctx())
	for len(holds) < most {
		holds = append(holds, w.must(w.ours.Lock(ctx)))
	}
	if h, err := w.ours.Lock(ctx); err == nil || !strings.Contains(err.Error(), "has 3 holds") {
		t.Errorf("re-entry at the bound: got %v %v, want an error that names it", h, err)
	}
	if got := w.fields()[holds[0].Owner()]; got != "3" {
		t.Errorf("count in Redis: got %q, want 3", got)
	}
	w.want("inner Unlock", holds[2].Unlock(w.ctx()), nil)
	holds[2] = w.must(w.ours.Lock(ctx)) // there is room again
	for _, h := range holds {
		w.want("Unlock", h.Unlock(w.ctx()), nil)
	}
	w.free(0)
}
