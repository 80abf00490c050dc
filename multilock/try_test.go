package multilock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/rlock"
)

// oneLeft is a try of three in which this member has not answered yet. Its server is not asked.
func oneLeft(t *testing.T) (*try, *one) { return oneLeftAt(t, "127.0.0.1:1") }

func oneLeftAt(t *testing.T, addr string) (*try, *one) {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	e := engine.New(engine.Config{
		Redis: rdb, Program: script.NewProgram(rlock.Verbs()...), ID: "client", FirstOwner: 1, Watchdog: time.Minute,
		Retry: func() backoff.BackOff { return &backoff.StopBackOff{} }, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { _ = e.Close(); _ = rdb.Close() })
	bids, err := engine.NewBids(context.Background(), context.Background(), locking.Acquire{}, rlock.New(e, "orders", "orders"))
	if err != nil {
		t.Fatal(err)
	}
	b := bids[0]
	t.Cleanup(b.End)
	r := &race{red: &Red{quorum: 2}, runners: make([]*runner, 3), wait: context.Background(), done: func() {}}
	r.over.Store(2) // the member's, and the call's
	f := &one{runner: &runner{bid: b}}
	f.mu.Lock()
	return &try{r: r, bounded: context.Background(), left: 1, lit: 1, changed: make(chan struct{}, 1), unbound: func() bool { return true }, cancel: func() {}}, f
}

// A member that has not answered is named once, whether the limit finds it or the end of the try does.
func TestWhoIsSilentIsNamedOnce(t *testing.T) {
	x, f := oneLeft(t)
	x.asked = []*one{f}
	named := func(errs []error) bool {
		return len(errs) == 1 && errors.Is(errs[0], engine.ErrSilent) && strings.Contains(errs[0].Error(), `member "orders" on 127.0.0.1:1/0: `)
	}
	if errs := x.silent(); !named(errs) {
		t.Errorf("before the answer: got %v", errs)
	}
	x.note(f, false, f.bid.Lock.MemberError(engine.ErrSilent))
	if errs := x.silent(); len(errs) != 0 || !named(x.errs) {
		t.Errorf("after it: got %v and %v", errs, x.errs)
	}
}

// Whoever is woken by the last answer may try again at once, and asks that member too.
func TestAMemberThatHasAnsweredIsFreeForTheNextTry(t *testing.T) {
	x, f := oneLeft(t)
	free := false
	x.cancel = func() { // wakes the caller
		if free = f.mu.TryLock(); free {
			f.mu.Unlock()
		}
	}
	x.note(f, true, nil)
	if !free {
		t.Error("the caller is woken while the member is still in this try")
	}
}

// A member that answers late finds that the hold is over, which tells the caller's tracer: code that must
// not run under the try's mutex, for which other members' answers wait.
func TestALateMemberTellsOfTheEndUnderNoMutex(t *testing.T) {
	x, f := oneLeft(t)
	members := []*lapsing{{}, {}}
	x.over, x.hold = true, newHold(&group{name: "red(orders, orders, orders)"}, []engine.Held{members[0], members[1]}, 2, 0)
	var told, locked atomic.Bool
	x.hold.ended = func() {
		told.Store(true)
		if x.mu.TryLock() {
			x.mu.Unlock()
		} else {
			locked.Store(true)
		}
	}
	members[0].over, members[1].over = true, true
	x.note(f, false, nil)
	if !told.Load() {
		t.Fatal("nobody was told of the end")
	}
	if locked.Load() {
		t.Error("the end is told under the try's mutex")
	}
}

// A multi lock gives back what it was elected for. A late member that has joined that a moment ago goes with it,
// though its try has not let go of it yet.
func TestALateMemberIsGivenBackWithItsHold(t *testing.T) {
	server := redistest.Start(t)
	x, f := oneLeftAt(t, server.Addr())
	if err := f.bid.Prepare(); err != nil {
		t.Fatal(err)
	}
	if busy, err := engine.Ask([]*engine.Bid{f.bid}); busy != nil || err != nil {
		t.Fatal(busy, err)
	}
	h := newHold(&group{name: "red(orders, orders, orders)"}, []engine.Held{&lapsing{}, &lapsing{}}, 2, 0)
	h.members = append(h.members, f.bid.Won())
	x.r.runners = []*runner{f.runner}
	a := &acquisition{races: []*race{x.r}, single: true}
	done := make(chan struct{})
	go func() {
		a.giveBack([]*hold{h})
		close(done)
	}()
	select {
	case <-done:
		t.Error("it is left in the hold that is given back")
	case <-time.After(50 * time.Millisecond):
	}
	f.mu.Unlock()
	<-done
	redistest.Eventually(t, 5*time.Second, "it is released", func() bool { return server.Do(context.Background(), "EXISTS", "orders").Val() == int64(0) })
}

// A hold knows which members may be locked by it though it does not have them: those that this try or one before
// got no answer from, for as long as what was sent then may last.
func TestWhatAHoldOwes(t *testing.T) {
	for _, c := range []struct {
		name  string
		known bool
		stray time.Time
		owed  int
	}{
		{"an answer", true, time.Time{}, 0},
		{"no answer", false, time.Time{}, 1},
		{"an answer, but none in an earlier try", true, time.Now().Add(time.Minute), 1},
		{"an answer, and none in a try that is long over", true, time.Now().Add(-time.Second), 0},
	} {
		x, f := oneLeft(t)
		f.known = c.known
		f.stray.Store(c.stray.UnixNano())
		x.asked, x.r.runners, x.r.longest = []*one{f}, []*runner{f.runner}, time.Minute
		x.hold = newHold(&group{name: "red(orders, orders, orders)"}, []engine.Held{&lapsing{}, &lapsing{}}, 2, 0)
		x.owe()
		if n := x.hold.owed(); n != c.owed {
			t.Errorf("after %s: it owes %d members, want %d", c.name, n, c.owed)
		}
	}
}

// What a hold expects comes: who has answered before it began, whatever that was, is not on its way.
func TestWhatAHoldExpects(t *testing.T) {
	for _, early := range []bool{true, false} {
		x, f := oneLeft(t)
		f.owner = f.bid.Carrier()
		x.asked, x.r.runners, x.r.longest = []*one{f}, []*runner{f.runner}, time.Minute
		if early {
			x.note(f, false, engine.ErrSilent)
		}
		x.over, x.hold = true, newHold(&group{name: "red(orders, orders, orders)"}, []engine.Held{&lapsing{}, &lapsing{}}, 2, 0)
		x.owe()
		if n := len(x.hold.coming); n != 1 && !early {
			t.Errorf("without an answer: it expects %d, want 1", n)
		}
		if !early {
			x.note(f, false, engine.ErrSilent)
		}
		if n := len(x.hold.coming); n != 0 {
			t.Errorf("after the answer (before the hold: %v): it expects %d, want none", early, n)
		}
		if n := x.hold.owed(); n != 1 {
			t.Errorf("after the answer (before the hold: %v): it owes %d, want 1", early, n)
		}
	}
}

// Only who is silent is dark: not who said no or answered late, and not who was not asked.
func TestWhoIsDark(t *testing.T) {
	named := func(err error) error { return fmt.Errorf("member %q: %w", "orders", err) }
	for _, c := range []struct {
		name      string
		err       error
		dark, was bool
	}{
		{"an answer", nil, false, true},
		{"silence", named(engine.ErrSilent), true, false},
		{"a dial that is refused", named(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), true, false},
		{"a refusal for good", named(refused("")), false, true},
		{"a refusal for now", named(passing("")), false, true},
		{"a late yes", named(engine.ErrLate), false, true},
		{"a loss that was known", named(locking.ErrLost), false, false},
		{"a loss that was known, of one that is dark", named(locking.ErrLost), true, true},
	} {
		x, f := oneLeft(t)
		f.bid.Lock.SetDark(c.was)
		x.note(f, c.err == nil, c.err)
		if got := f.bid.Lock.IsDark(); got != c.dark {
			t.Errorf("after %s: dark is %v, want %v", c.name, got, c.dark)
		}
	}
}

// A passing is an error that Redis replies while it starts.
type passing string

func (passing) Error() string { return "LOADING Redis is loading the dataset in memory" }
func (passing) RedisError()   {}
