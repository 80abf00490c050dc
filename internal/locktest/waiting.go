package locktest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// waiting: what wakes a waiter, and how it leaves.
var waiting = []promise{
	{"a waiter is woken by the unlock, not by the end of the lease", func(b *bed) {
		name := b.name()
		h := b.mustLock(b.lock(name), holdfast.WithLease(30*time.Second))
		next := b.start(b.ctx(), b.lock(name))
		b.raw(name).waits()
		b.mustUnlock(h)
		b.within(3*time.Second, "the waiter", next.done)
		b.want("Lock", next.err, nil)
	}},
	{"a waiter is woken by a forced unlock", func(b *bed) {
		name := b.name()
		b.mustLock(b.lock(name), holdfast.WithLease(30*time.Second))
		next := b.start(b.ctx(), b.lock(name))
		b.raw(name).waits()
		if forced, err := b.lock(name).ForceUnlock(b.ctx()); !forced || err != nil {
			b.Fatalf("ForceUnlock: got %v %v", forced, err)
		}
		b.within(3*time.Second, "the waiter", next.done)
		b.want("Lock", next.err, nil)
	}},
	{"the wait runs out with ErrNotAcquired, in time", func(b *bed) {
		name := b.name()
		b.mustLock(b.lock(name), holdfast.WithLease(30*time.Second))
		l := b.lock(name)
		for _, wait := range []time.Duration{500 * time.Millisecond, time.Second} {
			start := time.Now()
			_, err := l.TryLock(b.ctx(), wait, 0)
			b.want("TryLock", err, holdfast.ErrNotAcquired)
			if d := time.Since(start); d < wait || d > wait+2*time.Second {
				b.Errorf("TryLock with a wait of %v returned after %v", wait, d)
			}
		}
		_, err := l.Lock(b.ctx(), holdfast.WithWait(300*time.Millisecond))
		b.want("Lock with WithWait", err, holdfast.ErrNotAcquired)
	}},
	{"ctx ends the waiting with its own error", func(b *bed) {
		name := b.name()
		h := b.mustLock(b.lock(name), holdfast.WithLease(30*time.Second))
		l := b.lock(name)
		ctx, cancel := context.WithCancel(context.Background())
		r := b.start(ctx, l)
		b.raw(name).waits()
		cancel()
		b.within(time.Second, "the waiter", r.done)
		b.want("Lock", r.err, context.Canceled)
		if errors.Is(r.err, holdfast.ErrNotAcquired) {
			b.Errorf("got %v, which is ErrNotAcquired too", r.err)
		}
		deadline, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_, err := l.Lock(deadline)
		b.want("Lock", err, context.DeadlineExceeded)
		_, err = l.Lock(deadline)
		b.want("Lock with an ended ctx", err, context.DeadlineExceeded)
		b.mustUnlock(h)
		b.free(l)
	}},
	{"a waiter that gives up passes its place on", func(b *bed) {
		name := b.name()
		h := b.mustLock(b.lock(name), holdfast.WithLease(30*time.Second))
		l := b.lock(name)
		ctx, cancel := context.WithCancel(context.Background())
		front := b.start(ctx, l)
		b.raw(name).waits()
		var behind []*held
		for range 5 {
			behind = append(behind, b.start(b.ctx(), l))
		}
		cancel()
		b.within(time.Second, "the front", front.done)
		b.mustUnlock(h)
		for len(behind) > 0 {
			var got *held
			for _, r := range behind {
				select {
				case <-r.done:
					got = r
				default:
				}
			}
			if got == nil {
				if b.Context().Err() != nil {
					b.Fatal("a waiter was forgotten")
				}
				select {
				case <-behind[0].done:
				case <-behind[len(behind)-1].done:
				case <-time.After(10 * time.Millisecond):
				}
				continue
			}
			b.want("Lock", got.err, nil)
			if got.err != nil {
				return
			}
			b.mustUnlock(got.hold)
			behind = without(behind, got)
		}
	}},
	{"the waiters of one client are served in order of arrival", func(b *bed) {
		if b.kind.quorum() {
			b.Skip("a quorum lock's waiters stand in no line")
		}
		name := b.name()
		h := b.mustLock(b.lock(name), holdfast.WithLease(30*time.Second))
		l, inLine := b.countingLock(name)
		// Of several members that are not asked for at once each has a line of its own.
		ordered := b.kind.Group == "" || b.oneServer()
		order := make(chan int, 10)
		var wg sync.WaitGroup
		defer wg.Wait()
		for i := range 10 {
			wg.Go(func() {
				got, err := l.Lock(b.ctx())
				if err != nil {
					b.Errorf("Lock: %v", err)
				}
				order <- i
				if got != nil {
					b.mustUnlockAsync(got)
				}
			})
			redistest.Eventually(b.T, 5*time.Second, "a waiter is in line", func() bool { return inLine() == int64(i+1) })
		}
		b.mustUnlock(h)
		for want := range 10 {
			select {
			case got := <-order:
				if got != want && ordered {
					b.Errorf("got waiter %d, want %d", got, want)
				}
			case <-time.After(5 * time.Second):
				b.Fatalf("waiter %d was not served", want)
			}
		}
	}},
	{"nothing is left behind: no key, no subscription", func(b *bed) {
		name := b.name()
		raw := b.raw(name)
		l, other := b.lock(name), b.lock(name)
		for range 3 {
			h := b.mustLock(l)
			next := b.start(b.ctx(), other)
			raw.waits()
			b.mustUnlock(h)
			b.within(3*time.Second, "the waiter", next.done)
			b.want("Lock", next.err, nil)
			b.mustUnlock(next.hold)
		}
		raw.gone()
		redistest.Eventually(b.T, 10*time.Second, "no subscription is left", func() bool { return raw.subscribers() == 0 })
	}},
	{"Close wakes waiters, ends holds, leaves their keys, and Unlock still releases", func(b *bed) {
		name := b.name()
		clients, other := b.clients(), b.lock(name)
		l := b.of(clients, name)
		h := b.mustLock(l, holdfast.WithLease(30*time.Second))
		ctx := h.Context(b.ctx())
		var waiters []*held
		for range 3 {
			waiters = append(waiters, b.start(b.ctx(), l))
		}
		b.raw(name).waits()
		for _, c := range clients {
			b.want("Close", c.Close(), nil)
		}
		for _, w := range waiters {
			b.within(time.Second, "a waiter", w.done)
			b.want("Lock", w.err, holdfast.ErrClosed)
		}
		b.within(time.Second, "Done", h.Done())
		b.want("Err", h.Err(), holdfast.ErrClosed)
		b.want("cause", context.Cause(ctx), holdfast.ErrClosed)
		b.busy(other)
		_, err := l.Lock(b.ctx())
		b.want("Lock after Close", err, holdfast.ErrClosed)
		_, err = l.IsLocked(b.ctx())
		b.want("IsLocked after Close", err, holdfast.ErrClosed)
		b.want("second Close", clients[0].Close(), nil)
		b.want("Unlock after Close", h.Unlock(b.ctx()), nil)
		b.free(other)
	}},
}

func without(list []*held, gone *held) (rest []*held) {
	for _, r := range list {
		if r != gone {
			rest = append(rest, r)
		}
	}
	return rest
}

// mustUnlockAsync is mustUnlock for goroutines, which must not call Fatal.
func (b *bed) mustUnlockAsync(h holdfast.Hold) {
	if err := h.Unlock(b.ctx()); err != nil {
		b.Errorf("Unlock: %v", err)
	}
}
