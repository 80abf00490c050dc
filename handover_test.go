package holdfast_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// Two clients, many callers each, one hot lock on a real server: callers hand it over within their client, never are two
// inside, and the callers of either client come to it, though the other ones never leave off.
func TestTwoClientsShareAHotLock(t *testing.T) {
	t.Parallel()
	const callers, turns = 8, 500
	server := redistest.Start(t)
	var (
		inside, handedOver atomic.Int64
		entered            [2]atomic.Int64
		owners             sync.Map
		group              sync.WaitGroup
	)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for i := range entered {
		client := newClient(t, server.Client(t))
		for range callers {
			group.Go(func() {
				l := client.RLock("hot")
				for entered[0].Load() < turns || entered[1].Load() < turns {
					h, err := l.Lock(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d are inside", n)
					}
					entered[i].Add(1)
					if _, known := owners.LoadOrStore(h.Owner(), true); known {
						handedOver.Add(1)
					}
					inside.Add(-1)
					if err := h.Unlock(ctx); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	group.Wait()
	t.Logf("entered %d and %d times, %d of these by a hand-over", entered[0].Load(), entered[1].Load(), handedOver.Load())
	if handedOver.Load() == 0 {
		t.Error("nothing was handed over")
	}
	if n := server.Do(context.Background(), "EXISTS", "hot").Val(); n != int64(0) {
		t.Error("the key is left")
	}
}
