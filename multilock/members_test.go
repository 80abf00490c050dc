package multilock_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/multilock"
)

// foreign is a lock of somebody else's making.
type foreign struct{ theirs }

type theirs = holdfast.Lock

// What cannot be is told by the first call, whichever it is, and nothing is locked.
func TestMembersThatCannotBe(t *testing.T) {
	server := redistest.Start(t)
	c, d, e := client(t, server.Addr()), client(t, server.Addr()), client(t, server.Addr())
	a, b := c.RLock("a"), c.RLock("b")
	f := client(t, server.Addr())
	for _, test := range []struct {
		name  string
		lock  holdfast.Lock
		words []string
	}{
		{"none", c.MultiLock(), []string{"multi lock", "no members"}},
		{"nil", c.MultiLock(a, nil), []string{"member 2", "nil"}},
		{"a nil lock", c.MultiLock(a, b, (*engine.Lock)(nil)), []string{"member 3", "nil"}},
		{"a nil multi lock", c.MultiLock((*multilock.Multi)(nil), b), []string{"member 1", "nil"}},
		{"a foreign one", c.MultiLock(a, foreign{b}), []string{"member 2", "foreign"}},
		{"one without a name", c.MultiLock(a, c.RLock("")), []string{"member 2", holdfast.ErrInvalidName.Error()}},
		{"an impossible multi lock", c.MultiLock(a, c.MultiLock()), []string{"member 2", "no members"}},
		{"plain and fair of one key", c.MultiLock(a, c.FairLock("a")), []string{`"a"`, "rlock", "fair"}},
		{"plain and fair of one key, nested", c.MultiLock(c.MultiLock(a, b), c.FairLock("b")), []string{`"b"`, "rlock", "fair"}},
		{"a quorum lock and a member of it", c.MultiLock(a, c.RedLock(a, d.RLock("a"), e.RLock("a"))), []string{`"a"`, "rlock", "a member of red(a, a, a)"}},
		{"two quorum locks with one member", c.MultiLock(c.RedLock(a, d.RLock("a"), e.RLock("a")), c.RedLock(b, d.RLock("b"), e.RLock("a"))), []string{`"a"`, "red(a, a, a)", "red(b, b, a)"}},
		{"an impossible quorum lock", c.MultiLock(b, c.RedLock(a)), []string{"member 2", "at least 3"}},
		{"a nil quorum lock", c.MultiLock((*multilock.Red)(nil), b), []string{"member 1", "nil"}},
		{"no quorum", c.RedLock(), []string{"quorum lock", "no members"}},
		{"a quorum of one", c.RedLock(a), []string{"at least 3", "got 1"}},
		{"of two", c.RedLock(a, d.RLock("a")), []string{"at least 3", "got 2"}},
		{"of four", c.RedLock(a, d.RLock("a"), e.RLock("a"), f.RLock("a")), []string{"odd", "got 4"}},
		{"a quorum with nil", c.RedLock(a, d.RLock("a"), nil), []string{"member 3", "nil"}},
		{"two of one client", c.RedLock(a, d.RLock("a"), d.RLock("b")), []string{"members 2 and 3", "one client"}},
		{"one twice", c.RedLock(a, d.RLock("a"), d.RLock("a")), []string{"members 2 and 3", "same", `"a"`}},
		{"a fair one in a quorum", c.RedLock(a, d.FairLock("a"), e.RLock("a")), []string{"member 2", "fair"}},
		{"a multi lock in a quorum", c.RedLock(a, d.RLock("a"), e.MultiLock(e.RLock("a"))), []string{"member 3", "multi lock"}},
		{"a quorum lock in a quorum", c.RedLock(a, c.RedLock(), e.RLock("a")), []string{"member 2", "Red"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := within(t)
			for deed, err := range firstCalls(ctx, test.lock) {
				if err == nil || errors.Is(err, holdfast.ErrNotAcquired) {
					t.Errorf("%s: got %v, want an error that says why", deed, err)
					continue
				}
				for _, word := range test.words {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("%s: got %q, want it to say %q", deed, err, word)
					}
				}
			}
			if n := server.Do(ctx, "DBSIZE").Val(); n != int64(0) {
				t.Errorf("got %v keys, want none", n)
			}
		})
	}
}

func firstCalls(ctx context.Context, l holdfast.Lock) map[string]error {
	calls := map[string]error{}
	_, calls["Lock"] = l.Lock(ctx)
	_, calls["TryLock"] = l.TryLock(ctx, 0, 0)
	calls["Do"] = l.Do(ctx, func(context.Context) error { return nil })
	_, calls["ForceUnlock"] = l.ForceUnlock(ctx)
	_, calls["IsLocked"] = l.IsLocked(ctx)
	_, calls["IsHeld"] = l.IsHeld(ctx)
	_, calls["HoldCount"] = l.HoldCount(ctx)
	_, calls["RemainingTTL"] = l.RemainingTTL(ctx)
	return calls
}

// Nested ones are their members, and one that is there twice counts once.
func TestNestedAndRepeatedMembers(t *testing.T) {
	server := redistest.Start(t)
	c := client(t, server.Addr())
	ctx := within(t)
	l := c.MultiLock(c.MultiLock(c.RLock("a"), c.FairLock("f")), c.RLock("b"), c.RLock("a"), c.FairLock("f"))
	if got, want := l.Name(), "multi(a, f, b)"; got != want {
		t.Errorf("Name: got %s, want %s", got, want)
	}
	h := lock(t, l)
	for _, key := range []string{"a", "f", "b"} {
		if got := server.Do(ctx, "HVALS", key).String(); !strings.HasSuffix(got, "[1]") {
			t.Errorf("%s: want one hold", got)
		}
	}
	unlock(t, h)
	empty(t, server)
}
