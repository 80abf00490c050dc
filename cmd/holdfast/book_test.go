package main

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is so many milliseconds after the epoch.
func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

func TestMeetingsAreJudged(t *testing.T) {
	for _, c := range []struct {
		name    string
		earlier *visit // inside from 0 on; the later one has the lock at 100
		want    verdict
	}{
		{"both unlocked in good order", &visit{end: unlocked}, overlap},
		{"the earlier one has not ended", &visit{end: open}, undecided},
		{"nobody knows the earlier one", nil, undecided},
		{"lost, and known before", &visit{end: wasLost, trusted: at(99)}, harmless},
		{"lost, but relied on afterwards", &visit{end: wasLost, trusted: at(101)}, overlap},
		{"forced out, and not told yet", &visit{end: wasLost, trusted: at(300), forced: true}, late},
		{"forced out, and known before", &visit{end: wasLost, trusted: at(90), forced: true}, harmless},
		{"killed, and its lease had ended", &visit{end: killed, leaseEnd: at(100)}, harmless},
		{"killed, and its lease went on", &visit{end: killed, leaseEnd: at(150)}, overlap},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook()
			if c.earlier != nil {
				c.earlier.id = "a/1"
				c.earlier.acquired = at(0)
				b.enter(c.earlier, nil)
			}
			b.enter(&visit{id: "b/1", acquired: at(100)}, []string{"a/1"})
			if got := b.judge(b.meetings[0]); got != c.want {
				t.Errorf("verdict: got %v, want %v", got, c.want)
			}
			atEnd := c.want == overlap || c.want == undecided
			if got := b.overlaps(true) == 1; got != atEnd {
				t.Errorf("counted at the end: got %v, want %v", got, atEnd)
			}
			if got := b.overlaps(false) == 1; got != (c.want == overlap) {
				t.Errorf("counted before the end: got %v, want %v", got, c.want == overlap)
			}
		})
	}
}

func TestLateHolderIsMeasured(t *testing.T) {
	b := newBook()
	v := &visit{id: "a/1", acquired: at(0), forced: true, end: wasLost, trusted: at(330)}
	b.enter(v, nil)
	b.enter(&visit{id: "b/1", acquired: at(100)}, []string{"a/1"})
	b.enter(&visit{id: "c/1", acquired: at(250)}, []string{"a/1"})
	if got, want := b.lateFor(v), 230*time.Millisecond; got != want {
		t.Errorf("late for: got %v, want %v", got, want)
	}
}

// Two visits to a real register: the later one is told of the earlier one, however
// they are sent, until that has left.
func TestRegisterTellsWhoIsInside(t *testing.T) {
	ctx := context.Background()
	for name, backend := range map[string]redistest.Backend{
		"miniredis": redistest.StartMiniredis(t), "redis": redistest.Start(t),
	} {
		t.Run(name, func(t *testing.T) {
			rdb := backend.Client(t)
			r := newRegister(rdb, "show:")
			want := func(visit string, want ...string) {
				t.Helper()
				got, err := r.enter(ctx, visit)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%s enters: got %q, %v, want %q", visit, got, err, want)
				}
			}
			want("a/1")
			want("b/1", "a/1")
			want("b/1", "a/1") // sent again
			if err := r.leave(ctx, "a/1"); err != nil {
				t.Fatal(err)
			}
			want("c/1", "b/1")
			if ttl := rdb.PTTL(ctx, r.key).Val(); ttl <= 0 || ttl > registerTTL {
				t.Errorf("TTL of the register: got %v, want up to %v", ttl, registerTTL)
			}
			ended, cancel := context.WithCancel(ctx)
			cancel()
			for _, visit := range []string{"b/1", "c/1"} {
				if err := r.leave(ended, visit); err != nil {
					t.Errorf("leave with a ctx that has ended: %v", err)
				}
			}
			if n := rdb.Exists(ctx, r.key).Val(); n != 0 {
				t.Errorf("the register of nobody: got %d keys, want none", n)
			}
		})
	}
}

func TestHandoffs(t *testing.T) {
	b := newBook()
	for _, v := range []*visit{
		{id: "a/1", acquired: at(0), released: at(10), end: unlocked},
		{id: "b/1", since: at(5), acquired: at(12), released: at(20), end: unlocked},       // handed on: 2 ms
		{id: "c/1", since: at(30), acquired: at(31), released: at(40), end: unlocked},      // nobody waited
		{id: "d/1", since: at(32), acquired: at(44), end: killed},                          // handed on: 4 ms
		{id: "e/1", since: at(45), acquired: at(900), released: at(1000), end: wasLost},    // after a death
		{id: "f/1", since: at(901), acquired: at(1001), released: at(1002), end: unlocked}, // after a loss
	} {
		b.enter(v, nil)
	}
	if got, want := durations(b.handoffs()), []time.Duration{2 * time.Millisecond, 4 * time.Millisecond}; !slices.Equal(got, want) {
		t.Errorf("hand-offs: got %v, want %v", got, want)
	}
}

// Only those count that were quicker than one who waited.
func TestNewcomersAreCounted(t *testing.T) {
	for _, c := range []struct {
		name                        string
		end                         ending // of one that lets go at 10
		secondSince, secondAcquired int
		thirdSince                  int // has it at 50, lets go at 60
		want                        int
	}{
		{"asked after it, before one that waited", unlocked, 11, 12, 5, 1},
		{"asked after it, nobody waited", unlocked, 11, 12, 13, 0},
		{"waited itself", unlocked, 4, 12, 5, 0},
		{"the one that waited had it", unlocked, 11, 90, 5, 0},
		{"the first one was lost", wasLost, 11, 12, 5, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook()
			b.enter(&visit{acquired: at(0), released: at(10), end: c.end}, nil)
			b.enter(&visit{since: at(c.secondSince), acquired: at(c.secondAcquired)}, nil)
			b.enter(&visit{since: at(c.thirdSince), acquired: at(50), released: at(60), end: unlocked}, nil)
			if got := b.overtaken(); got != c.want {
				t.Errorf("newcomers: got %d, want %d", got, c.want)
			}
		})
	}
}

// What two workers tell may arrive out of order.
func TestVisitsAreInTheOrderOfAcquisition(t *testing.T) {
	b := newBook()
	for _, ms := range []int{10, 30, 20} {
		b.enter(&visit{acquired: at(ms)}, nil)
	}
	if !slices.IsSortedFunc(b.visits, func(x, y *visit) int { return x.acquired.Compare(y.acquired) }) {
		t.Errorf("visits: got %v, want them sorted", b.visits)
	}
	if got := b.before(b.visits[1]); got != b.visits[0] {
		t.Errorf("before the second: got %v, want the first", got)
	}
}

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i))
	}
	for _, c := range []struct {
		of   []time.Duration
		p    int
		want time.Duration
	}{
		{nil, 50, 0}, {hundred[:1], 50, 100}, {hundred[:1], 99, 100}, {hundred, 50, 50}, {hundred, 99, 99}, {hundred, 100, 100},
		{[]time.Duration{3, 1, 2}, 99, 3}, {[]time.Duration{3, 1, 2}, 50, 2},
	} {
		if got := percentile(c.of, c.p); got != c.want {
			t.Errorf("percentile %d of %d: got %d, want %d", c.p, len(c.of), got, c.want)
		}
	}
}

// Only neighbours that were both granted count.
func TestInversionsAreCounted(t *testing.T) {
	for _, c := range []struct {
		name       string
		granted    []string
		neighbours int
		inversions int
	}{
		{"in the order of the queue", []string{"a", "b", "c"}, 2, 0},
		{"the last one first", []string{"c", "a", "b"}, 2, 1},
		{"backwards", []string{"c", "b", "a"}, 2, 2},
		{"one gave up", []string{"c", "a"}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook()
			b.queued([]string{"a", "b", "c"})
			b.queued([]string{"b", "c"})
			for i, owner := range c.granted {
				b.enter(&visit{id: owner, owner: owner, acquired: at(i)}, nil)
			}
			if neighbours, inversions := b.order(); neighbours != c.neighbours || inversions != c.inversions {
				t.Errorf("got %d of %d, want %d of %d", inversions, neighbours, c.inversions, c.neighbours)
			}
		})
	}
}

// A quorum keeps others out until a majority of all servers is not its own any more.
func TestHolderIsWhoKeepsTheOthersOut(t *testing.T) {
	ms := func(all ...int) (ttls []time.Duration) {
		for _, n := range all {
			ttls = append(ttls, time.Duration(n)*time.Millisecond)
		}
		return ttls
	}
	for _, c := range []struct {
		name   string
		leases map[string][]time.Duration
		need   int
		owner  string
		ttl    time.Duration
	}{
		{"free", nil, 1, "", 0},
		{"one name", map[string][]time.Duration{"a": ms(700)}, 1, "a", 700 * time.Millisecond},
		{"several names", map[string][]time.Duration{"a": ms(700, 650)}, 1, "a", 650 * time.Millisecond},
		{"a majority", map[string][]time.Duration{"a": ms(500, 900, 700, 800), "b": ms(900)}, 3, "a", 700 * time.Millisecond},
		{"two minorities", map[string][]time.Duration{"a": ms(500, 900), "b": ms(900, 900)}, 3, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if owner, ttl := holderAmong(c.leases, c.need); owner != c.owner || ttl != c.ttl {
				t.Errorf("got %q, %v, want %q, %v", owner, ttl, c.owner, c.ttl)
			}
		})
	}
}

// The names of a dead holder's multi lock need not run out at the same moment. The first one
// that does ends what its death keeps shut, not the last.
func TestADeadHoldersLeaseEndsWithItsFirstName(t *testing.T) {
	v := &visit{id: "1", owner: "a", end: killed, leaseEnd: at(900), keys: 3}
	s := &stage{book: newBook()}
	s.book.enter(v, nil)
	for _, c := range []struct {
		keys int
		sent time.Time
		want time.Time
	}{
		{3, at(0), at(900)},
		{3, at(100), at(1000)}, // a late renewal
		{1, at(950), at(1000)}, // two of its names are free
	} {
		s.now.owner = "a"
		s.see(look{sent: c.sent, owner: "a", ttl: 900 * time.Millisecond, keys: c.keys})
		if !v.leaseEnd.Equal(c.want) {
			t.Errorf("%d names at %v: got an end of %v, want %v", c.keys, c.sent, v.leaseEnd, c.want)
		}
	}
}
