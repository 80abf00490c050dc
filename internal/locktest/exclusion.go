package locktest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast"
)

// exclusion: who holds, who does not, and for how long.
var exclusion = []promise{
	{"one owner at a time", func(b *bed) {
		name := b.name()
		mine, theirs := b.lock(name), b.lock(name)
		h := b.mustLock(mine)
		b.busy(theirs)
		b.busy(mine) // also for the same client: an owner is not a process
		b.mustUnlock(h)
		b.free(theirs)
	}},
	{"many workers never overlap, and each has its turn", func(b *bed) {
		name := b.name()
		var inside, overlaps, turns atomic.Int32
		counter := 0 // not atomic: the race detector watches the lock
		var wg sync.WaitGroup
		for range 4 {
			l := b.lock(name)
			for range 4 {
				wg.Go(func() {
					for range 5 {
						h, err := l.Lock(b.ctx())
						if err != nil {
							b.Errorf("Lock: %v", err)
							return
						}
						if inside.Add(1) > 1 {
							overlaps.Add(1)
						}
						counter++
						turns.Add(1)
						inside.Add(-1)
						if err := h.Unlock(b.ctx()); err != nil {
							b.Errorf("Unlock: %v", err)
						}
					}
				})
			}
		}
		wg.Wait()
		if overlaps.Load() != 0 || counter != int(turns.Load()) || turns.Load() != 80 {
			b.Errorf("got %d overlaps, counter %d, turns %d, want 0, 80, 80", overlaps.Load(), counter, turns.Load())
		}
	}},
	{"of ten that try without waiting exactly one gets it", func(b *bed) {
		name := b.name()
		var got atomic.Int32
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 10 {
			l := b.lock(name)
			wg.Go(func() {
				<-start
				switch _, err := l.TryLock(b.ctx(), 0, 10*time.Second); {
				case err == nil:
					got.Add(1)
				case !errors.Is(err, holdfast.ErrNotAcquired):
					b.Errorf("TryLock: %v", err)
				}
			})
		}
		close(start)
		wg.Wait()
		if got.Load() != 1 && !(b.kind.quorum() && got.Load() == 0) {
			b.Errorf("got %d acquisitions, want 1", got.Load())
		}
	}},
	{"re-entered through the hold's context, free after the last Unlock in any order", func(b *bed) {
		name := b.name()
		l, other := b.lock(name), b.lock(name)
		outer := b.mustLock(l)
		ctx := outer.Context(b.ctx())
		inner := b.mustLockIn(ctx, l)
		third := b.mustLockIn(inner.Context(b.ctx()), l)
		if outer.Count() != 1 || inner.Count() != 2 || third.Count() != 3 {
			b.Errorf("got counts %d %d %d, want 1 2 3", outer.Count(), inner.Count(), third.Count())
		}
		if inner.Owner() != outer.Owner() || third.Owner() != outer.Owner() {
			b.Errorf("got owners %s %s %s, want one", outer.Owner(), inner.Owner(), third.Owner())
		}
		if n, err := l.HoldCount(ctx); n != 3 || err != nil {
			b.Errorf("HoldCount: got %d %v, want 3", n, err)
		}
		b.mustUnlock(outer)
		b.busy(other)
		b.mustUnlock(third)
		b.busy(other)
		b.want("the hold that is left", inner.Err(), nil)
		b.mustUnlock(inner)
		b.free(other)
	}},
	{"re-entered by its own client and name only", func(b *bed) {
		name := b.name()
		c := b.clients()
		l, another, foreign := b.of(c, name), b.of(c, b.name()), b.lock(name)
		h := b.mustLock(l)
		ctx := h.Context(b.ctx())
		x, err := another.TryLock(ctx, 0, 0)
		b.want("another lock of this client", err, nil)
		if x != nil && (x.Count() != 1 || x.Owner() == h.Owner()) {
			b.Errorf("another lock: got count %d, owner %s, want 1 and an owner of its own", x.Count(), x.Owner())
		}
		_, err = foreign.TryLock(ctx, 0, 0)
		b.want("this lock of another client", err, holdfast.ErrNotAcquired)
		b.mustUnlock(h)
	}},
	{"a context of an ended hold names nobody", func(b *bed) {
		l := b.lock(b.name())
		h := b.mustLock(l)
		ctx := context.WithoutCancel(h.Context(b.ctx()))
		if held, err := l.IsHeld(ctx); !held || err != nil {
			b.Errorf("IsHeld: got %v %v, want true", held, err)
		}
		b.mustUnlock(h)
		if n, err := l.HoldCount(ctx); n != 0 || err != nil {
			b.Errorf("HoldCount once unlocked: got %d %v, want 0", n, err)
		}
		again, err := l.TryLock(ctx, 0, 0)
		b.want("Lock with it", err, nil)
		if again != nil && (again.Count() != 1 || again.Owner() == h.Owner()) {
			b.Errorf("got count %d and owner %s, want 1 and a new owner", again.Count(), again.Owner())
		}
	}},
	{"unlocking twice frees nobody else's hold", func(b *bed) {
		name := b.name()
		mine, theirs := b.lock(name), b.lock(name)
		h := b.mustLock(mine)
		b.mustUnlock(h)
		other := b.mustLock(theirs)
		b.want("second Unlock", h.Unlock(b.ctx()), nil)
		b.busy(mine)
		b.mustUnlock(other)
	}},
	{"an explicit lease ends, the hold with it, and the next one comes in without a message", func(b *bed) {
		name := b.name()
		mine, theirs := b.lock(name), b.lock(name)
		short := b.lease() * 2 / 3
		start := time.Now()
		h, err := mine.TryLock(b.ctx(), 3*time.Second, short) // a quorum's members have a twentieth of it to answer, and the next try if that was too short
		if err != nil {
			b.Fatalf("TryLock: %v", err)
		}
		next := b.start(b.ctx(), theirs)
		b.within(5*time.Second, "Done", h.Done())
		if d := time.Since(start); d > short {
			b.Logf("lost after %v", d)
		}
		b.want("Err", h.Err(), holdfast.ErrLost)
		b.within(5*time.Second, "the next one", next.done)
		b.want("the next Lock", next.err, nil)
		// A hold that lapses is given back, at the end of its trust window: a margin early.
		if d := next.at.Sub(start); d < short-max(20*time.Millisecond, short/50) {
			b.Errorf("the next one had the lock after %v of a lease of %v", d, short)
		}
		b.want("Unlock of a lapsed hold", h.Unlock(b.ctx()), holdfast.ErrLost)
		b.want("the hold of the next one", next.hold.Err(), nil)
		b.busy(mine)
		b.mustUnlock(next.hold)
	}},
	{"the watchdog keeps a hold far beyond its lease", func(b *bed) {
		name := b.name()
		mine, theirs := b.lock(name, b.ends()), b.lock(name, b.ends())
		h := b.mustLock(mine)
		_, err := theirs.TryLock(b.ctx(), 3*b.lease(), 0)
		b.want("TryLock for three leases", err, holdfast.ErrNotAcquired)
		b.want("the hold", h.Err(), nil)
		b.mustUnlock(h)
	}},
	{"WithMaxHold ends the renewal", func(b *bed) {
		name := b.name()
		h := b.mustLock(b.lock(name, b.ends()), holdfast.WithMaxHold(b.lease()/2))
		b.within(5*b.lease(), "Done", h.Done())
		b.want("Err", h.Err(), holdfast.ErrLost)
		next := b.start(b.ctx(), b.lock(name))
		b.within(5*time.Second, "the next one", next.done)
		b.want("the next Lock", next.err, nil)
	}},
}
