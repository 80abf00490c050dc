package multilock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

func lock(t *testing.T, l holdfast.Lock, opts ...holdfast.AcquireOption) holdfast.Hold {
	t.Helper()
	return lockIn(t, within(t), l, opts...)
}

func lockIn(t *testing.T, ctx context.Context, l holdfast.Lock, opts ...holdfast.AcquireOption) holdfast.Hold {
	t.Helper()
	h, err := l.Lock(ctx, opts...)
	if err != nil {
		t.Fatalf("Lock: %v", err)
	}
	return h
}

func unlock(t *testing.T, h holdfast.Hold) {
	t.Helper()
	if err := h.Unlock(within(t)); err != nil {
		t.Errorf("Unlock: %v", err)
	}
}

func want(t *testing.T, deed string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got error %v, want %v", deed, err, target)
	}
}

func says(t *testing.T, deed string, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: got error %v, want one that says %q", deed, err, word)
		}
	}
}

func signalled(t *testing.T, d time.Duration, what string, signal <-chan struct{}) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(d):
		t.Fatalf("%s: not within %v", what, d)
	}
}

// keysOf counts those of these keys that exist.
func keysOf(t *testing.T, s *redistest.Server, keys ...any) int {
	t.Helper()
	n, err := s.Do(within(t), append([]any{"EXISTS"}, keys...)...).Int()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// empty waits until nothing is left on the servers: no key, no subscription.
func empty(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool {
			channels, err := s.Do(within(t), "PUBSUB", "CHANNELS").StringSlice()
			return err == nil && len(channels) == 0 && s.Do(within(t), "DBSIZE").Val() == int64(0)
		})
	}
}

func TestALostMemberEndsTheHoldAndFreesTheOthers(t *testing.T) {
	p := newPair(t, holdfast.WithWatchdogTimeout(600*time.Millisecond))
	h := lock(t, p.both())
	ctx := h.Context(within(t))
	p.second.Do(within(t), "DEL", "b")
	signalled(t, 2*time.Second, "Done", ctx.Done())
	for deed, err := range map[string]error{"cause": context.Cause(ctx), "Err": h.Err(), "Unlock": h.Unlock(within(t))} {
		want(t, deed, err, holdfast.ErrLost)
		says(t, deed, err, `member "b"`)
	}
	empty(t, p.first, p.second)
}

// Nobody has been told yet that a member is gone.
func TestUnlockWithALostMember(t *testing.T) {
	for _, lost := range []string{"a", "b"} {
		p := newPair(t)
		h := lock(t, p.both(), holdfast.WithLease(20*time.Second))
		for _, s := range []*redistest.Server{p.first, p.second} {
			s.Do(within(t), "DEL", lost)
		}
		want(t, "Err", h.Err(), nil)
		err := h.Unlock(within(t))
		want(t, "Unlock", err, holdfast.ErrLost)
		says(t, "Unlock", err, `member "`+lost+`" on 127.0.0.1:`)
		want(t, "Err", h.Err(), holdfast.ErrLost)
		empty(t, p.first, p.second)
	}
}

func TestRollBackWhenAMemberIsBusy(t *testing.T) {
	p := newPair(t)
	busy := lock(t, p.otherB.RLock("b"))
	for range 3 {
		_, err := p.both().TryLock(within(t), 0, 0)
		want(t, "TryLock", err, holdfast.ErrNotAcquired)
	}
	redistest.Eventually(t, time.Second, "the first one is free", func() bool { return keysOf(t, p.first, "a") == 0 })
	unlock(t, busy)
	empty(t, p.first, p.second)
}

// Of three on two servers, two that were had are given back, not just one.
func TestRollBackIsComplete(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	third := redistest.Start(t)
	c, other := client(t, third.Addr()), client(t, third.Addr())
	for _, where := range []struct {
		name string
		hold *holdfast.Client
		key  string
	}{{"first", p.otherA, "a"}, {"second", p.otherB, "b"}, {"third", other, "c"}} {
		busy := lock(t, where.hold.RLock(where.key))
		l := p.a.MultiLock(p.a.RLock("a"), p.b.RLock("b"), c.RLock("c"))
		_, err := l.TryLock(within(t), 100*time.Millisecond, 0) // at once, and then in order
		want(t, "TryLock", err, holdfast.ErrNotAcquired)
		_, err = l.TryLock(within(t), 0, 0)
		want(t, "TryLock", err, holdfast.ErrNotAcquired)
		unlock(t, busy)
		empty(t, p.first, p.second, third)
	}
}

// On one server a member that is busy leaves nothing to give back.
func TestOneServerLeavesNothingWhenAMemberIsBusy(t *testing.T) {
	server := redistest.Start(t)
	c, other := client(t, server.Addr()), client(t, server.Addr())
	busy := lock(t, other.FairLock("c"))
	_, err := c.MultiLock(c.RLock("a"), c.FairLock("b"), c.FairLock("c"), c.RLock("d")).TryLock(within(t), 0, 0)
	want(t, "TryLock", err, holdfast.ErrNotAcquired)
	if n := server.Do(within(t), "DBSIZE").Val(); n != int64(1) {
		t.Errorf("got %v keys, want the busy one's only", n)
	}
	unlock(t, busy)
	empty(t, server)
}

// What may have been acquired is given back, also when nobody knows whether it was.
func TestRollBackWhenAnOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	for _, d := range []faultproxy.Decision{faultproxy.DropReply, faultproxy.DropRequest} {
		t.Run(d.String(), func(t *testing.T) {
			p := newPair(t)
			for name, l := range map[string]holdfast.Lock{
				"two servers": p.both(),
				"one server":  p.b.MultiLock(p.b.RLock("c"), p.b.RLock("b")),
			} {
				p.proxy.OnNext("EVALSHA", d)
				_, err := l.TryLock(within(t), 0, 0)
				if err == nil || errors.Is(err, holdfast.ErrNotAcquired) {
					t.Errorf("%s: got %v, want an error that says so", name, err)
				}
				says(t, name, err, `member "b"`)
				empty(t, p.first, p.second)

				p.proxy.OnNext("EVALSHA", d) // one that waits tries again
				h := lock(t, l)
				if h.Count() != 1 {
					t.Errorf("%s: got count %d, want 1", name, h.Count())
				}
				unlock(t, h)
				empty(t, p.first, p.second)
			}
		})
	}
}

// One that waits has nothing, and leaves nothing when it goes.
func TestHoldsNothingWhileItWaits(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	busy := lock(t, p.otherB.RLock("b"))
	ctx, cancel := context.WithCancel(within(t))
	got := make(chan error, 1)
	go func() {
		_, err := p.both().Lock(ctx)
		got <- err
	}()
	redistest.Eventually(t, 5*time.Second, "it waits", func() bool {
		channels, err := p.second.Do(within(t), "PUBSUB", "CHANNELS").StringSlice()
		return err == nil && len(channels) > 0
	})
	redistest.Eventually(t, time.Second, "it has nothing", func() bool { return keysOf(t, p.first, "a") == 0 })
	for range 20 {
		h, err := p.otherA.RLock("a").TryLock(within(t), 0, 0)
		want(t, "TryLock of the member that is free", err, nil)
		if h != nil {
			unlock(t, h)
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("Lock: got %v, want context.Canceled", err)
	}
	unlock(t, busy)
	empty(t, p.first, p.second)
}

// An acquisition that is on its way when ctx ends is taken back.
func TestRollBackWhenCtxIsOver(t *testing.T) {
	p := newPair(t)
	gate := make(chan struct{})
	p.proxy.OnNext("EVALSHA", faultproxy.Gate(gate))
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := p.both().Lock(ctx)
	want(t, "Lock", err, context.DeadlineExceeded)
	close(gate)
	empty(t, p.first, p.second)
}

// A lease counts from when all are held: the first member, which waited for the others,
// has not less of it.
func TestEveryMemberHasTheLease(t *testing.T) {
	const lease = 3 * time.Second
	p := newPair(t)
	rdb := redis.NewClient(&redis.Options{Addr: p.proxy.Addr(), ReadTimeout: 10 * time.Second})
	patient, err := holdfast.New(rdb)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = patient.Close(); _ = rdb.Close() }()
	l := p.a.MultiLock(p.a.RLock("a"), patient.RLock("b"))
	p.proxy.OnNext("EVALSHA", faultproxy.DelayReply(time.Second))
	start := time.Now()
	h := lock(t, l, holdfast.WithLease(lease))
	if took := time.Since(start); took < time.Second {
		t.Errorf("Lock took %v: the second member was not late", took)
	}
	ttl := func(s *redistest.Server, key string) time.Duration {
		ms, err := s.Do(within(t), "PTTL", key).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(ms) * time.Millisecond
	}
	if a, b := ttl(p.first, "a"), ttl(p.second, "b"); min(a, b) < lease-700*time.Millisecond {
		t.Errorf("got leases %v and %v, want %v", a, b, lease)
	}
	unlock(t, h)
	empty(t, p.first, p.second)
}

// The wait is one for all members, not one for each.
func TestOneWaitForAllMembers(t *testing.T) {
	const wait = time.Second
	p := newPair(t)
	a, b := lock(t, p.otherA.RLock("a")), lock(t, p.otherB.RLock("b"))
	free := time.AfterFunc(wait*3/4, func() { _ = a.Unlock(context.Background()) })
	defer free.Stop()
	start := time.Now()
	_, err := p.both().TryLock(within(t), wait, 0)
	want(t, "TryLock", err, holdfast.ErrNotAcquired)
	if took := time.Since(start); took < wait || took > wait+wait/2 {
		t.Errorf("TryLock with a wait of %v took %v", wait, took)
	}
	unlock(t, b)
	empty(t, p.first, p.second)
}

// Members are acquired in one order, whatever the order in which they were given: while
// the first one is busy the second server hears nothing.
func TestOneOrderOfAcquisition(t *testing.T) {
	p := newPair(t)
	a, b := p.a.RLock("a"), p.b.RLock("b")
	busy := lock(t, p.otherA.RLock("a"))
	for _, l := range []holdfast.Lock{p.a.MultiLock(a, b), p.a.MultiLock(b, a)} {
		monitor := p.second.Monitor(t)
		_, err := l.TryLock(within(t), 0, 0)
		want(t, "TryLock", err, holdfast.ErrNotAcquired)
		for _, line := range monitor() {
			if strings.Contains(line, `"b"`) {
				t.Errorf("%s: the second server heard %s", l.Name(), line)
			}
		}
	}
	unlock(t, busy)
	empty(t, p.first, p.second)
}

// If one of two clients is closed its waiters and holds end; the other one's members
// are freed by Unlock.
func TestOneOfTwoClientsCloses(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	l := p.both()
	h := lock(t, l)
	got := make(chan error, 1)
	go func() {
		_, err := p.both().Lock(within(t))
		got <- err
	}()
	redistest.Eventually(t, 5*time.Second, "it waits", func() bool {
		channels, err := p.first.Do(within(t), "PUBSUB", "CHANNELS").StringSlice()
		return err == nil && len(channels) > 0
	})
	if err := p.b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, holdfast.ErrClosed) {
		t.Errorf("Lock: got %v, want ErrClosed", err)
	}
	signalled(t, time.Second, "Done", h.Done())
	want(t, "Err", h.Err(), holdfast.ErrClosed)
	if a, b := keysOf(t, p.first, "a"), keysOf(t, p.second, "b"); a != 1 || b != 1 {
		t.Errorf("after Close: got keys %d and %d, want both", a, b)
	}
	unlock(t, h)
	empty(t, p.first, p.second)
}
