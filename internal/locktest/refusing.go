package locktest

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// refusing: what nonsense gets. Nothing is sent, nothing stays locked.
var refusing = []promise{
	{"durations that make no sense are ErrInvalidDuration, and nothing is locked", func(b *bed) {
		name := b.name()
		l := b.lock(name)
		for _, d := range []time.Duration{-1, -time.Second, 1, 500 * time.Microsecond, time.Millisecond - 1, 11 * 365 * 24 * time.Hour, math.MaxInt64, math.MinInt64} {
			_, err := l.TryLock(b.ctx(), 0, d)
			b.want("TryLock with a lease of "+d.String(), err, holdfast.ErrInvalidDuration)
			_, err = l.TryLock(b.ctx(), d, 0)
			b.want("TryLock with a wait of "+d.String(), err, holdfast.ErrInvalidDuration)
			_, err = l.Lock(b.ctx(), holdfast.WithLease(d))
			b.want("WithLease", err, holdfast.ErrInvalidDuration)
			_, err = l.Lock(b.ctx(), holdfast.WithWait(d))
			b.want("WithWait", err, holdfast.ErrInvalidDuration)
			_, err = l.Lock(b.ctx(), holdfast.WithMaxHold(d))
			b.want("WithMaxHold", err, holdfast.ErrInvalidDuration)
			if err == nil || !strings.Contains(err.Error(), "max hold") || !strings.Contains(err.Error(), name) {
				b.Errorf("got %q, want an error that names the option and the lock", err)
			}
		}
		h := b.mustLock(l)
		for _, d := range []time.Duration{0, -1, 1, math.MaxInt64} {
			b.want("Extend by "+d.String(), h.Extend(b.ctx(), d), holdfast.ErrInvalidDuration)
		}
		b.mustUnlock(h)
		b.raw(name).gone()
	}},
	{"a lease of a millisecond and one of ten years are possible", func(b *bed) {
		l := b.lock(b.name())
		// One millisecond may be over before the answer is there: then it is no hold,
		// and says so. What matters is that it neither stays nor is refused as invalid.
		if h, err := l.TryLock(b.ctx(), 0, time.Millisecond); err == nil {
			b.within(time.Second, "Done", h.Done())
		}
		h := b.mustLock(l, holdfast.WithLease(10*365*24*time.Hour))
		b.mustUnlock(h)
	}},
	{"short leases are held, to their margin", func(b *bed) {
		l := b.lock(b.name())
		h := b.mustLock(l, holdfast.WithLease(b.kind.short()))
		b.want("Err", h.Err(), nil)
		b.within(time.Second, "Done", h.Done())
	}},
	{"names that make no sense are ErrInvalidName, at the first call", func(b *bed) {
		clients := b.clients()
		for _, name := range []string{"", strings.Repeat("x", 513)} {
			l := b.of(clients, name)
			_, err := l.Lock(b.ctx())
			b.want("Lock", err, holdfast.ErrInvalidName)
			_, err = l.TryLock(b.ctx(), 0, 0)
			b.want("TryLock", err, holdfast.ErrInvalidName)
			b.want("Do", l.Do(b.ctx(), func(context.Context) error { return nil }), holdfast.ErrInvalidName)
			_, err = l.ForceUnlock(b.ctx())
			b.want("ForceUnlock", err, holdfast.ErrInvalidName)
			_, err = l.IsLocked(b.ctx())
			b.want("IsLocked", err, holdfast.ErrInvalidName)
		}
	}},
	{"hostile names are names like any other", func(b *bed) {
		for _, suffix := range []string{"\n", "\x00\xff", "'; return redis.call('FLUSHALL') --", " ", "naïve ☃", `"`, "{tag}", strings.Repeat("x", 480)} {
			name := b.name() + suffix
			h := b.mustLock(b.lock(name))
			b.busy(b.lock(name))
			b.mustUnlock(h)
		}
	}},
	{"a name mapper changes the key, not the name", func(b *bed) {
		name := b.name()
		l := b.lock(name, holdfast.WithNameMapper(func(name string) string { return "team:" + name }))
		h := b.mustLock(l)
		raw := b.raw(name)
		redistest.Eventually(b.T, 2*time.Second, "all keys have the mapped name", func() bool { return raw.keys("team:") == raw.all() })
		if h.Name() != b.kind.title(name) {
			b.Errorf("got name %q, want %q", h.Name(), b.kind.title(name))
		}
		b.mustUnlock(h)
	}},
	{"nil is refused, not dereferenced", func(b *bed) {
		l := b.lock(b.name())
		_, err := l.Lock(b.ctx(), nil)
		b.want("a nil option", nonNil(err), errAny)
		var none context.Context
		_, err = l.Lock(none)
		b.want("a nil ctx", nonNil(err), errAny)
		_, err = l.IsHeld(none)
		b.want("a nil ctx", nonNil(err), errAny)
		h := b.mustLock(l)
		b.want("Extend with a nil ctx", nonNil(h.Extend(none, time.Second)), errAny)
		b.want("Unlock with a nil ctx", h.Unlock(none), nil)
		if ctx := h.Context(none); ctx.Err() == nil {
			b.Error("a context of an ended hold goes on")
		}
	}},
}
