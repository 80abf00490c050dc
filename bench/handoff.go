package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

var (
	handOffMedian = figure{Name: "hand-off to another process: p50", Unit: "ms", Better: lower}
	handOffTail   = figure{Name: "hand-off to another process: p99", Unit: "ms", Better: lower}
)

// handOff measures how long after the call of Unlock in one process the waiter in
// another one has the lock. Two processes hand a lock to and fro, and a few such
// locks at once gather the samples; they are idle nearly all of the time.
var handOff = measurement{name: "handoff", rounds: everyRound, fits: anyPeer, run: runHandOff}

const handOffLocks = 8

// handOffLimit is how much longer than its time the measurement may take. Nobody
// should wait for a free lock that long: the slowest poller comes after 0.25 s.
const handOffLimit = 15 * time.Second

func runHandOff(ctx context.Context, b *bench, p peer) (_ []reading, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*b.settings.Window+handOffLimit)
	defer cancel()
	here, err := p.open(b.addr, lease)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, here.Close()) }()
	there, err := startChild(ctx, OpenArgs{Peer: p.name, Addr: b.addr, Lease: lease})
	if err != nil {
		return nil, err
	}
	defer there.stop()

	var (
		mu      sync.Mutex
		samples []time.Duration
		wait    sync.WaitGroup
	)
	until := time.Now().Add(2 * b.settings.Window)
	errs := make([]error, handOffLocks)
	for i := range handOffLocks {
		wait.Go(func() { // ends soon after until, or with ctx
			name := fmt.Sprintf("handoff:%d", i)
			errs[i] = toAndFro(ctx, here.Named(name), there, name, until, func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				samples = append(samples, d)
			})
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		errs = []error{fmt.Errorf("a free lock was still not handed on after %v", handOffLimit)}
	}
	if len(samples) == 0 {
		return nil, errors.Join(errs...)
	}
	slices.Sort(samples)
	return []reading{{handOffMedian, quantile(samples, 0.5)}, {handOffTail, quantile(samples, 0.99)}}, errors.Join(errs...)
}

// toAndFro hands one lock to the child and back until time is up.
func toAndFro(ctx context.Context, mine mutex, there *child, name string, until time.Time, sample func(time.Duration)) error {
	if err := mine.Lock(ctx); err != nil {
		return err
	}
	for warm := false; time.Now().Before(until) || !warm; warm = true {
		theirs := there.goLock(name)
		settle()
		released := time.Now()
		if err := mine.Unlock(ctx); err != nil {
			return err
		}
		acquired, err := theirs()
		if err != nil {
			return err
		}
		if warm { // the first ones dial
			sample(acquired.Sub(released))
		}

		back := make(chan error, 1)
		go func() { // ends with ctx at the latest
			err := mine.Lock(ctx)
			acquired = time.Now()
			back <- err
		}()
		settle()
		released, err = there.unlock(name)
		if err = errors.Join(err, <-back); err != nil {
			return err
		}
		sample(acquired.Sub(released))
	}
	return mine.Unlock(ctx)
}

// settle lets the other side begin to wait: at least 5 ms, and otherwise at random
// over the longest pause of the libraries that poll (250 ms), so that a release comes
// at any point of a pause.
func settle() {
	time.Sleep(5*time.Millisecond + rand.N(250*time.Millisecond))
}

// quantile is that of sorted samples, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	i := min(int(q*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[i].Nanoseconds()) / 1e6
}
