package multilock_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestAMemberReentersInAMultiHold(t *testing.T) {
	p := newPair(t)
	a, l := p.a.RLock("a"), p.both()
	outer := lock(t, l)
	ctx := outer.Context(within(t))
	inner := lockIn(t, ctx, a)
	if inner.Count() != 2 {
		t.Errorf("the member's count: got %d, want 2", inner.Count())
	}
	if n, err := l.HoldCount(ctx); n != 1 || err != nil {
		t.Errorf("HoldCount: got %d %v, want 1, the smallest", n, err)
	}
	unlock(t, outer)
	if a, b := keysOf(t, p.first, "a"), keysOf(t, p.second, "b"); a != 1 || b != 0 {
		t.Errorf("after the multi lock's Unlock: got keys %d and %d, want the member's", a, b)
	}
	want(t, "the member's hold", inner.Err(), nil)
	unlock(t, inner)
	empty(t, p.first, p.second)
}

func TestAMultiLockReentersInAMembersHold(t *testing.T) {
	p := newPair(t)
	outer := lock(t, p.a.RLock("a"))
	ctx := outer.Context(within(t))
	l := p.both()
	if held, err := l.IsHeld(ctx); held || err != nil {
		t.Errorf("IsHeld with one member: got %v %v, want false", held, err)
	}
	inner := lockIn(t, ctx, l)
	if inner.Count() != 1 {
		t.Errorf("count: got %d, want 1, the smallest", inner.Count())
	}
	unlock(t, outer)
	want(t, "the multi hold", inner.Err(), nil)
	if a, b := keysOf(t, p.first, "a"), keysOf(t, p.second, "b"); a != 1 || b != 1 {
		t.Errorf("after the member's Unlock: got keys %d and %d, want both", a, b)
	}
	unlock(t, inner)
	empty(t, p.first, p.second)
}

// On one server the releases of all members travel together, and those that only lower a count do no more than that.
func TestReentriesOnOneServer(t *testing.T) {
	server := redistest.Start(t)
	c := client(t, server.Addr())
	names := []string{"a", "b", "c"}
	l := c.MultiLock(c.RLock("a"), c.RLock("b"), c.RLock("c"))
	counts := func() (all []string) {
		for _, name := range names {
			count, _ := server.Do(within(t), "HVALS", name).StringSlice()
			all = append(all, strings.Join(count, "+"))
		}
		return all
	}
	expect := func(want ...string) {
		t.Helper()
		if got := counts(); !slices.Equal(got, want) {
			t.Errorf("holds in Redis: got %q, want %q", got, want)
		}
	}
	outer := lock(t, l)
	inner := lockIn(t, outer.Context(within(t)), l)
	alone := lockIn(t, inner.Context(within(t)), c.RLock("b"))
	expect("2", "3", "2")
	unlock(t, inner)
	expect("1", "2", "1")
	unlock(t, outer)
	expect("", "1", "")
	both := lockIn(t, alone.Context(within(t)), l)
	expect("1", "2", "1")
	unlock(t, both)
	expect("", "1", "")
	want(t, "the member's own hold", alone.Err(), nil)
	unlock(t, alone)
	empty(t, server)
}

// A member that re-enters keeps the holds that it had when another one is busy.
func TestRollBackOfAReentryKeepsTheHold(t *testing.T) {
	p := newPair(t)
	outer := lock(t, p.a.RLock("a"))
	busy := lock(t, p.otherB.RLock("b"))
	inOne := lock(t, p.otherA.RLock("c"))
	ctx := outer.Context(within(t))
	for _, l := range []holdfast.Lock{p.both(), p.a.MultiLock(p.a.RLock("c"), p.a.RLock("a"))} {
		_, err := l.TryLock(ctx, 0, 0)
		want(t, "TryLock", err, holdfast.ErrNotAcquired)
		redistest.Eventually(t, 2*time.Second, "it has one hold", func() bool {
			return strings.HasSuffix(p.first.Do(within(t), "HVALS", "a").String(), "[1]")
		})
	}
	want(t, "the hold", outer.Err(), nil)
	unlock(t, outer)
	unlock(t, busy)
	unlock(t, inOne)
	empty(t, p.first, p.second)
}
