package main

import (
	"context"
	"errors"
	"fmt"
)

// namesEach is how many locks a caller uses in turn, as a service that locks one
// order after the other does.
const namesEach = 16

// pairs measures lock and unlock of locks that nobody else wants.
func pairs(callers int) measurement {
	f := figure{Name: fmt.Sprintf("lock + unlock pairs, %s", count(callers, "caller")), Unit: "pairs/s", Better: higher}
	run := func(ctx context.Context, b *bench, p peer) (_ []reading, err error) {
		l, err := p.open(b.addr, lease)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, l.Close()) }()

		work := make([]func(context.Context) error, callers)
		for i := range work {
			work[i] = pairsOf(l, i)
		}
		t := drive(ctx, b.settings.Window/4, b.settings.Window, work)
		return []reading{{f, t.perSecond()}}, t.problem()
	}
	return measurement{name: fmt.Sprintf("pairs/%d", callers), rounds: everyRound, fits: anyPeer, run: run}
}

// pairsOf is the work of one caller.
func pairsOf(l locker, caller int) func(context.Context) error {
	locks := make([]mutex, namesEach)
	for i := range locks {
		locks[i] = l.Named(fmt.Sprintf("pairs:%d:%d", caller, i))
	}
	next := 0
	return func(ctx context.Context) error {
		m := locks[next%len(locks)]
		next++
		if err := m.Lock(ctx); err != nil {
			return err
		}
		return m.Unlock(ctx)
	}
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
