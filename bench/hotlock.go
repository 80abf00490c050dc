package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

const hotCallers = 32

var (
	hotRate = figure{Name: "hot lock: 32 callers in one process", Unit: "sections/s", Better: higher}
	hotMost = figure{Name: "hot lock: share of the busiest caller (even: 3.1)", Unit: "%", Better: lower}
)

// hotLock measures one lock that many callers of one process want.
var hotLock = measurement{name: "hot", rounds: everyRound, fits: anyPeer, run: runHotLock}

func runHotLock(ctx context.Context, b *bench, p peer) (_ []reading, err error) {
	l, err := p.open(b.addr, lease)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()

	var (
		guarded guardedCount
		entered atomic.Int64
	)
	work := make([]func(context.Context) error, hotCallers)
	for i := range work {
		m := l.Named("hot")
		work[i] = func(ctx context.Context) error {
			if err := m.Lock(ctx); err != nil {
				return err
			}
			entered.Add(1)
			guarded.increment()
			return m.Unlock(ctx)
		}
	}
	t := drive(ctx, b.settings.Window/4, b.settings.Window, work)
	if got, want := guarded.n.Load(), entered.Load(); got != want {
		return nil, fmt.Errorf("the lock was not exclusive: %d sections counted to %d", want, got)
	}
	share := 100 * float64(slices.Max(t.counted)) / max(1, t.perSecond()*t.window.Seconds())
	return []reading{{hotRate, t.perSecond()}, {hotMost, share}}, t.problem()
}

// A guardedCount is a plain counter: two at once in the critical section lose a
// count. Its load and store are atomic only for the sake of the race detector, which
// sees no order between callers that only Redis keeps apart.
type guardedCount struct{ n atomic.Int64 }

func (c *guardedCount) increment() {
	seen := c.n.Load()
	c.n.Store(seen + 1)
}
