package locktest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast"
)

// holding: what a hold tells, how it ends, what Do makes of it.
var holding = []promise{
	{"a hold tells its name, owner and count", func(b *bed) {
		name := b.name()
		l := b.lock(name, holdfast.WithClientID("a-client"))
		h := b.mustLock(l)
		if title := b.kind.title(name); h.Name() != title || l.Name() != title || h.Count() != 1 || len(h.Owner()) < len("a-client:1") || h.Owner()[:9] != "a-client:" {
			b.Errorf("got name %q, count %d, owner %q", h.Name(), h.Count(), h.Owner())
		}
		b.mustUnlock(h)
	}},
	{"Unlock ends hold, Done and contexts, with the cause ErrUnlocked", func(b *bed) {
		l := b.lock(b.name())
		h := b.mustLock(l)
		type key struct{}
		parent, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "value"))
		defer cancel()
		ctx, sibling := h.Context(parent), h.Context(parent)
		if ctx.Value(key{}) != "value" || ctx.Err() != nil || h.Err() != nil {
			b.Errorf("while held: got value %v, ctx %v, Err %v", ctx.Value(key{}), ctx.Err(), h.Err())
		}
		select {
		case <-h.Done():
			b.Error("Done is closed while the lock is held")
		default:
		}
		b.mustUnlock(h)
		b.within(time.Second, "Done", h.Done())
		b.within(time.Second, "ctx", ctx.Done())
		b.within(time.Second, "sibling", sibling.Done())
		b.want("Err", h.Err(), holdfast.ErrUnlocked)
		b.want("cause", context.Cause(ctx), holdfast.ErrUnlocked)
		after := h.Context(parent)
		b.within(time.Second, "a context made after the end", after.Done())
		b.want("its cause", context.Cause(after), holdfast.ErrUnlocked)
		b.want("parent", parent.Err(), nil)
	}},
	{"a context of a hold ends with its parent, the hold does not", func(b *bed) {
		h := b.mustLock(b.lock(b.name()))
		parent, cancel := context.WithCancel(context.Background())
		ctx := h.Context(parent)
		cancel()
		b.within(time.Second, "ctx", ctx.Done())
		b.want("cause", context.Cause(ctx), context.Canceled)
		b.want("the hold", h.Err(), nil)
		b.mustUnlock(h)
	}},
	{"ctx bounds the waiting, not the hold, and Unlock works when it has ended", func(b *bed) {
		name := b.name()
		mine, theirs := b.lock(name, b.ends()), b.lock(name, b.ends())
		ctx, cancel := context.WithCancel(context.Background())
		h, err := mine.Lock(ctx)
		b.want("Lock", err, nil)
		cancel()
		_, err = theirs.TryLock(b.ctx(), 2*b.lease(), 0)
		b.want("TryLock while it is held", err, holdfast.ErrNotAcquired)
		b.want("the hold", h.Err(), nil)
		b.want("Unlock with a cancelled ctx", h.Unlock(ctx), nil)
		b.free(theirs)
	}},
	{"a forced unlock frees, wakes, and ends the watchdog's hold as lost", func(b *bed) {
		name := b.name()
		mine, theirs := b.lock(name), b.lock(name)
		if forced, err := theirs.ForceUnlock(b.ctx()); forced || err != nil {
			b.Errorf("ForceUnlock of a free lock: got %v %v, want false", forced, err)
		}
		h := b.mustLock(mine)
		ctx := h.Context(b.ctx())
		if forced, err := theirs.ForceUnlock(b.ctx()); !forced || err != nil {
			b.Errorf("ForceUnlock: got %v %v, want true", forced, err)
		}
		next := b.mustLock(theirs)
		b.within(5*time.Second, "the context of the forced hold", ctx.Done())
		b.want("its cause", context.Cause(ctx), holdfast.ErrLost)
		b.want("Err", h.Err(), holdfast.ErrLost)
		b.want("Unlock", h.Unlock(b.ctx()), holdfast.ErrLost)
		b.want("Extend", h.Extend(b.ctx(), time.Second), holdfast.ErrLost)
		_, err := mine.Lock(ctx)
		b.want("re-entry", err, holdfast.ErrLost)
		_, err = mine.Lock(context.WithoutCancel(ctx))
		b.want("re-entry without its cancellation", err, holdfast.ErrLost)
		b.want("the next one's hold", next.Err(), nil)
		b.mustUnlock(next)
	}},
	{"Unlock straight after a forced unlock is ErrLost, and Err agrees", func(b *bed) {
		name := b.name()
		l, other := b.lock(name), b.lock(name)
		h := b.mustLock(l, holdfast.WithLease(10*time.Second))
		if _, err := other.ForceUnlock(b.ctx()); err != nil {
			b.Fatal(err)
		}
		theirs := b.mustLock(other)
		b.want("the hold, which nothing has told yet", h.Err(), nil)
		b.want("Unlock", h.Unlock(b.ctx()), holdfast.ErrLost)
		b.want("Err", h.Err(), holdfast.ErrLost)
		b.within(time.Second, "Done", h.Done())
		b.want("the other hold", theirs.Err(), nil)
		b.busy(l)
	}},
	{"an inner Unlock that finds the lock gone ends every hold of the owner", func(b *bed) {
		name := b.name()
		l, other := b.lock(name), b.lock(name)
		outer := b.mustLock(l, holdfast.WithLease(10*time.Second))
		inner, err := l.Lock(outer.Context(b.ctx()), holdfast.WithLease(10*time.Second))
		b.want("re-entry", err, nil)
		if _, err := other.ForceUnlock(b.ctx()); err != nil {
			b.Fatal(err)
		}
		b.want("inner Unlock", inner.Unlock(b.ctx()), holdfast.ErrLost)
		b.want("inner", inner.Err(), holdfast.ErrLost)
		b.want("outer", outer.Err(), holdfast.ErrLost)
	}},
	{"re-entry after the lock was lost is ErrLost, though nobody was told", func(b *bed) {
		name := b.name()
		l := b.lock(name)
		h := b.mustLock(l, holdfast.WithLease(10*time.Second))
		b.raw(name).lose()
		_, err := l.Lock(h.Context(b.ctx()))
		b.want("re-entry", err, holdfast.ErrLost)
		b.want("the outer hold", h.Err(), holdfast.ErrLost)
		b.free(b.lock(name))
	}},
	{"a deleted key shows at the next renewal", func(b *bed) {
		name := b.name()
		h := b.mustLock(b.lock(name, b.ends()))
		b.raw(name).lose()
		b.within(b.lease(), "Done", h.Done())
		b.want("Err", h.Err(), holdfast.ErrLost)
		b.raw(name).gone() // and the renewal has not created it again
	}},
	{"Extend lengthens the lease and never shortens it", func(b *bed) {
		name := b.name()
		l := b.lock(name)
		h := b.mustLock(l, holdfast.WithLease(time.Second))
		b.want("Extend", h.Extend(b.ctx(), 30*time.Second), nil)
		b.want("Extend by less", h.Extend(b.ctx(), time.Second), nil)
		if ttl, err := l.RemainingTTL(b.ctx()); err != nil || ttl < 25*time.Second || ttl > 30*time.Second {
			b.Errorf("RemainingTTL: got %v %v, want about 30s", ttl, err)
		}
		b.mustUnlock(h)
		b.want("Extend of an ended hold", h.Extend(b.ctx(), time.Second), holdfast.ErrUnlocked)
	}},
	{"questions: locked, held, count, lease", func(b *bed) {
		name := b.name()
		l, other := b.lock(name), b.lock(name)
		if locked, err := l.IsLocked(b.ctx()); locked || err != nil {
			b.Errorf("IsLocked of a free lock: got %v %v", locked, err)
		}
		_, err := l.RemainingTTL(b.ctx())
		b.want("RemainingTTL of a free lock", err, holdfast.ErrNotHeld)
		h := b.mustLock(l, holdfast.WithLease(20*time.Second))
		if locked, err := other.IsLocked(b.ctx()); !locked || err != nil {
			b.Errorf("IsLocked: got %v %v", locked, err)
		}
		if held, err := l.IsHeld(b.ctx()); held || err != nil {
			b.Errorf("IsHeld without the hold's context: got %v %v", held, err)
		}
		if held, err := other.IsHeld(h.Context(b.ctx())); held || err != nil {
			b.Errorf("IsHeld of another client: got %v %v", held, err)
		}
		if n, err := l.HoldCount(h.Context(b.ctx())); n != 1 || err != nil {
			b.Errorf("HoldCount: got %d %v, want 1", n, err)
		}
		if ttl, err := other.RemainingTTL(b.ctx()); err != nil || ttl < 15*time.Second || ttl > 20*time.Second {
			b.Errorf("RemainingTTL: got %v %v, want about 20s", ttl, err)
		}
		b.mustUnlock(h)
	}},
	{"Do releases, and joins what fn, Unlock and a loss say", func(b *bed) {
		name := b.name()
		l, other := b.lock(name), b.lock(name)
		ran := false
		b.want("Do", l.Do(b.ctx(), func(ctx context.Context) error {
			held, err := l.IsHeld(ctx)
			ran = held && err == nil
			return l.Do(ctx, func(context.Context) error { return nil }) // re-enters
		}), nil)
		if !ran {
			b.Error("fn did not run with the hold's context")
		}
		b.free(other)
		boom := errors.New("boom")
		b.want("Do of a failing fn", l.Do(b.ctx(), func(context.Context) error { return boom }), boom)
		b.free(other)
		for _, said := range []error{nil, boom} {
			err := l.Do(b.ctx(), func(ctx context.Context) error {
				if _, err := other.ForceUnlock(ctx); err != nil {
					return err
				}
				<-ctx.Done()
				return said
			})
			b.want(fmt.Sprintf("Do whose hold was lost, of an fn that returned %v", said), err, holdfast.ErrLost)
			if said != nil {
				b.want("Do whose hold was lost, of a failing fn", err, said)
			}
		}
		b.want("Do without fn", nonNil(l.Do(b.ctx(), nil)), errAny)
	}},
	{"Do releases when fn panics", func(b *bed) {
		name := b.name()
		l := b.lock(name)
		func() {
			defer func() {
				if recover() == nil {
					b.Error("the panic was swallowed")
				}
			}()
			_ = l.Do(b.ctx(), func(context.Context) error { panic("boom") })
		}()
		b.free(b.lock(name))
	}},
}

// errAny stands for any error, see nonNil.
var errAny = errors.New("any error")

func nonNil(err error) error {
	if err != nil {
		return errAny
	}
	return nil
}
