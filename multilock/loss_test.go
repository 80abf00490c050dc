package multilock_test

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// starts is a tracer provider that calls told when a span starts.
type starts struct {
	noop.TracerProvider
	told func(span string)
}

type startTracer struct {
	noop.Tracer
	told func(span string)
}

func (s starts) Tracer(string, ...trace.TracerOption) trace.Tracer { return startTracer{told: s.told} }

func (s startTracer) Start(ctx context.Context, span string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	s.told(span)
	return s.Tracer.Start(ctx, span, opts...)
}

// Unlock has found the hold alive, and a member is lost before anything is released: that is a
// loss, not an unlock of what is left, and the rest is free.
func TestALossDuringUnlock(t *testing.T) {
	for kind, group := range map[string]func(*holdfast.Client, ...holdfast.Lock) holdfast.Lock{
		"multi": (*holdfast.Client).MultiLock,
		"red":   (*holdfast.Client).RedLock,
	} {
		t.Run(kind, func(t *testing.T) {
			lose := func() {}
			provider := starts{told: func(span string) {
				if span == "lock.release" {
					lose()
				}
			}}
			var servers []*redistest.Server
			var members []holdfast.Lock
			var first *holdfast.Client
			for range 3 {
				s := redistest.Start(t)
				c := client(t, s.Addr(), holdfast.WithTracerProvider(provider))
				if first == nil {
					first = c
				}
				servers, members = append(servers, s), append(members, c.RLock("orders"))
			}
			h := lock(t, group(first, members...))
			for _, s := range servers {
				redistest.Eventually(t, 2*time.Second, "all have joined", func() bool { return keysOf(t, s, "orders") == 1 })
			}
			var alone []holdfast.Hold // of the same owners: they are told of the loss first
			for _, m := range members[:2] {
				alone = append(alone, lockIn(t, h.Context(within(t)), m))
			}
			lose = func() {
				lose = func() {}
				for i, inner := range alone {
					servers[i].Do(within(t), "DEL", "orders")
					want(t, "Extend", inner.Extend(within(t), time.Minute), holdfast.ErrLost)
				}
			}
			err := h.Unlock(within(t))
			want(t, "Unlock", err, holdfast.ErrLost)
			says(t, "Unlock", err, `member "orders"`)
			want(t, "Err", h.Err(), holdfast.ErrLost)
			want(t, "a second Unlock", h.Unlock(within(t)), nil)
			empty(t, servers...)
		})
	}
}

// Nobody has been told yet that a majority is gone: who re-enters is.
func TestReentryOfAQuorumWhoseMajorityIsGone(t *testing.T) {
	p := newParliament(t, 3)
	h := p.whole()
	for _, s := range p.servers[:2] {
		s.Do(within(t), "DEL", "orders")
	}
	_, err := p.lock.Lock(h.Context(within(t)))
	want(t, "the re-entry", err, holdfast.ErrLost)
	want(t, "the outer hold", h.Err(), holdfast.ErrLost)
	empty(t, p.servers...)
}

// A member's master dies, and the new one does not know the lock, which had not reached it. The hold is
// lost at the next renewal, or at the end of the trust window if no new master was there by then; the
// cause names the member, and the one on the other server is free for whoever waits for it.
func TestFailoverUnderAMultiHold(t *testing.T) {
	t.Parallel()
	const lease = 6 * time.Second
	sentinel, server := redistest.StartSentinel(t, 1), redistest.Start(t)
	behind := func() *holdfast.Client {
		c, err := holdfast.New(sentinel.Client(t), holdfast.WithWatchdogTimeout(lease))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	a, b, other := behind(), client(t, server.Addr(), holdfast.WithWatchdogTimeout(lease)), client(t, server.Addr())
	l := a.MultiLock(b.RLock("b"), a.RLock("a"))
	h := lock(t, l)
	ctx := h.Context(context.Background())
	waited := make(chan holdfast.Hold, 1)
	go func() {
		h, err := other.RLock("b").Lock(within(t))
		if err != nil {
			t.Errorf("the waiter: %v", err)
		}
		waited <- h
	}()
	old := sentinel.Master()
	old.Kill()
	sentinel.WaitNewMaster(t, old).Do(within(t), "DEL", "a") // as if it had not reached the replica
	signalled(t, lease+lease/2, "the loss", ctx.Done())
	for deed, err := range map[string]error{"cause": context.Cause(ctx), "Err": h.Err(), "Unlock": h.Unlock(within(t))} {
		want(t, deed, err, holdfast.ErrLost)
		says(t, deed, err, `member "a": `) // the client behind sentinels knows no address
	}
	if h := <-waited; h != nil {
		unlock(t, h)
	}
	unlock(t, lock(t, l))
	empty(t, server)
	if n := sentinel.Master().Do(within(t), "DBSIZE").Val(); n != int64(0) {
		t.Errorf("got %v keys on the new master, want none", n)
	}
}

// A hold is lost because one member is; the other one was given back, and somebody else has it. Who re-enters that one
// or the whole is told of the loss, and does not wait for that somebody.
func TestReentryIntoALostHoldIsErrLost(t *testing.T) {
	t.Parallel()
	p := newPair(t, holdfast.WithWatchdogTimeout(time.Second))
	l := p.a.MultiLock(p.a.RLock("a"), p.b.RLock("b"))
	h := lock(t, l)
	ctx := context.WithoutCancel(h.Context(within(t)))
	if _, err := p.otherB.RLock("b").ForceUnlock(within(t)); err != nil {
		t.Fatal(err)
	}
	signalled(t, 5*time.Second, "the loss", h.Done())
	next := lock(t, p.otherA.RLock("a"))
	for _, inner := range []holdfast.Lock{l, p.a.RLock("a"), p.b.RLock("b")} {
		_, err := inner.TryLock(ctx, 100*time.Millisecond, 0)
		want(t, "re-entry of "+inner.Name(), err, holdfast.ErrLost)
	}
	unlock(t, next)
	empty(t, p.first, p.second)
}
