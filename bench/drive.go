package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A tally is what callers did.
type tally struct {
	counted []int64 // of each caller, within the counted time
	window  time.Duration
	failed  int64 // attempts that ended with an error
	stuck   int   // callers that did not come back
	err     error // the first error
}

// perSecond is the rate of all callers together.
func (t tally) perSecond() float64 {
	var sum int64
	for _, n := range t.counted {
		sum += n
	}
	return float64(sum) / t.window.Seconds()
}

// problem says what went wrong, or nothing.
func (t tally) problem() error {
	switch {
	case t.stuck > 0:
		return fmt.Errorf("%d of %d callers were stuck: still not done %v after the end", t.stuck, len(t.counted), patience)
	case t.failed > 0:
		return fmt.Errorf("%d attempts failed, the first with: %w", t.failed, t.err)
	}
	return nil
}

// patience is how long callers may take to finish what they are at once the counted
// time is over.
const patience = 5 * time.Second

// drive lets each caller do its work again and again, all at once. The rate is
// counted in the middle, after a warm-up and while every caller is still at it, so
// that neither dialling nor the end blurs it.
func drive(ctx context.Context, warmUp, window time.Duration, callers []func(context.Context) error) tally {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		stop          atomic.Bool
		failed, stuck atomic.Int64
		once          sync.Once
		first         error
		wait          sync.WaitGroup
	)
	counts := make([]paddedCount, len(callers))
	for i, work := range callers {
		wait.Go(func() { // ends by stop, or by ctx if its work hangs
			for !stop.Load() {
				err := work(ctx)
				if err == nil {
					counts[i].n.Add(1)
					continue
				}
				once.Do(func() { first = err })
				if ctx.Err() != nil {
					stuck.Add(1)
					return
				}
				failed.Add(1)
				time.Sleep(time.Millisecond) // never a busy loop of errors
			}
		})
	}

	time.Sleep(warmUp)
	before, start := snapshot(counts), time.Now()
	time.Sleep(window)
	after, end := snapshot(counts), time.Now()

	stop.Store(true)
	late := time.AfterFunc(patience, cancel)
	wait.Wait()
	late.Stop()

	t := tally{window: end.Sub(start), failed: failed.Load(), stuck: int(stuck.Load()), err: first}
	for i := range counts {
		t.counted = append(t.counted, after[i]-before[i])
	}
	return t
}

// A paddedCount has a cache line of its own.
type paddedCount struct {
	n atomic.Int64
	_ [56]byte
}

func snapshot(counts []paddedCount) []int64 {
	seen := make([]int64, len(counts))
	for i := range counts {
		seen[i] = counts[i].n.Load()
	}
	return seen
}
