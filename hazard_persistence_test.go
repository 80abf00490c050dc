package holdfast_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A server that writes all down may be killed under load: nobody overlaps, and
// everybody goes on.
func TestHazardKilledUnderLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	z := newHazardOn(t, server)
	patient := z.ctx()
	ctx, cancel := context.WithCancel(context.Background())
	var inside register
	var workers sync.WaitGroup
	for range 4 {
		l := z.direct().RLock("orders")
		for range 2 {
			workers.Go(func() {
				for ctx.Err() == nil {
					err := l.Do(patient, func(ctx context.Context) error {
						inside.enter()
						defer inside.leave()
						return l.Do(ctx, func(context.Context) error { return nil })
					})
					z.want("Do within Do", err, nil)
				}
			})
		}
	}
	for range 4 {
		before := inside.turns.Load()
		redistest.Eventually(t, patience, "the workers go on", func() bool { return inside.turns.Load() > before+50 })
		if err := server.Restart(); err != nil { // by kill -9
			z.Fatal(err)
		}
	}
	cancel()
	workers.Wait()
	if n := inside.overlaps.Load(); n > 0 {
		z.Errorf("%d overlaps", n)
	}
	z.freeWithin(3 * time.Second)
}

// A snapshot brings a lock back that was released since. It stays for a lease at most.
func TestHazardSnapshotBringsALockBack(t *testing.T) {
	t.Parallel()
	const lease = 1500 * time.Millisecond
	z := newHazard(t, holdfast.WithWatchdogTimeout(lease))
	h := z.mustLock(z.lock)
	z.redis("SAVE")
	saved := time.Now()
	z.mustUnlock(h)
	if err := z.server.Restart(); err != nil {
		z.Fatal(err)
	}
	if !z.exists("orders") {
		z.Error("the snapshot did not bring the lock back")
	}
	w := wait(z.ctx(), z.other)
	z.gets(lease+500*time.Millisecond, w)
	z.wantWithin(lease+500*time.Millisecond, "to come in", saved)
	z.want("a second Unlock", h.Unlock(z.ctx()), nil)
}
