package interop

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestFairQueue(t *testing.T) {
	runCases(t, []testCase{
		{"queue: served in order", "fair", servedInOrder},
		{"queue: order by first come, on each side", "fair", orderOfThree},
		{"queue: a waiter gives up", "fair", waiterGivesUp},
		{"queue: a waiter is interrupted", "fair", waiterIsInterrupted},
		{"queue: a single try does not jump", "fair", noJump},
		{"queue: scores", "fair", scores},
		{"queue: a place outlives a long wait", "fair", longWait},
	})
}

// A line is a fair lock's queue as the test has made it.
type line struct {
	b      *bout
	names  []string
	coming []<-chan answer
	hands  []*hand
}

// enter has one more waiter come, and returns once it stands in the queue.
func (l *line) enter(h *hand, op string, wait time.Duration) {
	l.b.Helper()
	before := l.b.queued(l.b.name)
	l.hands = append(l.hands, h)
	l.names = append(l.names, fmt.Sprintf("%s waiter %d", h.side, len(l.names)+1))
	l.coming = append(l.coming, h.begin(op, wait, 0))
	redistest.Eventually(l.b, 10*time.Second, l.names[len(l.names)-1]+" stands in the queue", func() bool {
		return l.b.queued(l.b.name) == before+1
	})
}

// wantServed waits for those waiters, each of which unlocks at once, and checks that
// they are served in this order; it returns how long each took after the one before.
func (l *line) wantServed(limit time.Duration, which ...int) (pauses []time.Duration) {
	l.b.Helper()
	type turn struct {
		waiter int
		got    answer
	}
	turns := make(chan turn, len(which))
	for _, i := range which {
		go func() { // ends with the call, which is limited
			got := <-l.coming[i]
			if got.err == nil {
				got.err = l.hands[i].do(call{"unlock", l.hands[i].lock, 0, 0}).err
			}
			turns <- turn{i, got}
		}()
	}
	var order []turn
	for range which {
		select {
		case next := <-turns:
			if next.got.err != nil || !next.got.ok {
				l.b.Errorf("%s: got %v, %v, want the lock", l.names[next.waiter], next.got.ok, next.got.err)
			}
			order = append(order, next)
		case <-time.After(limit):
			l.b.Fatalf("only %d of %d served within %v", len(order), len(which), limit)
		}
	}
	slices.SortFunc(order, func(a, b turn) int { return int(a.got.end - b.got.end) })
	var got []int
	last := now()
	for i, next := range order {
		got = append(got, next.waiter)
		if i > 0 {
			pauses = append(pauses, time.Duration(next.got.end-last))
		}
		last = next.got.end
	}
	if !slices.Equal(got, which) {
		l.b.Errorf("served in the order %v, want %v of %v", got, which, l.names)
	}
	return pauses
}

// Waiters of both sides by turns are served in the order in which they came.
func servedInOrder(b *bout) {
	holder := b.hand(b.first)
	holder.acquire(0)
	l := line{b: b}
	for i := range 8 {
		l.enter(b.hand([]party{b.second, b.first}[i%2]), "lock", 0)
	}
	holder.unlock()
	l.wantServed(20*time.Second, 0, 1, 2, 3, 4, 5, 6, 7)
	b.wantNothing()
}

// Several of one side behind several of the other, timed and untimed.
func orderOfThree(b *bout) {
	holder := b.hand(b.second)
	holder.acquire(0)
	l := line{b: b}
	l.enter(b.hand(b.first), "lock", 0)
	l.enter(b.hand(b.first), "tryLock", 30*time.Second)
	l.enter(b.hand(b.second), "tryLock", 30*time.Second)
	l.enter(b.hand(b.second), "lock", 0)
	l.enter(b.hand(b.first), "lock", 0)
	holder.unlock()
	l.wantServed(20*time.Second, 0, 1, 2, 3, 4)
	b.wantNothing()
}

// Waiters that give up, first, in the middle and last, leave the order as it is.
func waiterGivesUp(b *bout) {
	holder := b.hand(b.first)
	holder.acquire(0)
	l := line{b: b}
	for i := range 6 {
		h := b.hand([]party{b.second, b.first}[i%2])
		if i == 0 || i == 3 || i == 5 {
			l.enter(h, "tryLock", 1500*time.Millisecond)
		} else {
			l.enter(h, "lock", 0)
		}
	}
	for _, i := range []int{0, 3, 5} {
		if got := b.soon(l.coming[i], 10*time.Second); got.err != nil || got.ok {
			b.Errorf("%s: got %v, %v, want false", l.names[i], got.ok, got.err)
		}
	}
	redistest.Eventually(b, 5*time.Second, "who gave up is out of the queue", func() bool { return b.queued(b.name) == 3 })
	holder.unlock()
	if pauses := l.wantServed(20*time.Second, 1, 2, 4); slices.Max(pauses) > 2*time.Second {
		b.Errorf("between turns: got %v, want next to nothing", pauses)
	}
	b.wantNothing()
}

// A Go waiter whose ctx ends leaves the queue at once. Java's place stays when its
// thread is interrupted, until its score has passed; nobody behind it waits longer
// than that, and the order is kept.
func waiterIsInterrupted(b *bout) {
	short := settings{watchdog: 1500 * time.Millisecond, fairWait: 3 * time.Second}
	first, second := b.again(b.first, short), b.again(b.second, short)
	holder := b.hand(first)
	holder.acquire(0)
	l := line{b: b}
	l.enter(b.hand(second), "lock", 0)
	l.enter(b.hand(first), "lockInterruptibly", 0) // the one to be interrupted
	l.enter(b.hand(second), "lock", 0)
	l.enter(b.hand(first), "lock", 0)
	l.hands[1].interrupt()
	if got := b.soon(l.coming[1], 5*time.Second); got.err == nil {
		b.Errorf("interrupted: got %v, want an error", got.ok)
	}
	if l.hands[1].side == "Go" {
		redistest.Eventually(b, 5*time.Second, "the Go waiter is out of the queue", func() bool { return b.queued(b.name) == 3 })
	}
	stays := b.staysFor(l.hands[1].owner())
	holder.unlock()
	pauses := l.wantServed(20*time.Second, 0, 2, 3)
	if pauses[0] > stays+1500*time.Millisecond {
		b.Errorf("the one behind the interrupted one waited %v, its place was kept for %v", pauses[0], stays)
	}
	b.wantNothing()
}

// staysFor tells for how long this waiter's place is kept from now on.
func (b *bout) staysFor(owner string) time.Duration {
	b.Helper()
	scores, err := b.site.admin.ZRangeWithScores(b.Context(), companion("redisson_lock_timeout", b.name), 0, -1).Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, z := range scores {
		if z.Member == owner {
			return time.Until(time.UnixMilli(int64(z.Score)))
		}
	}
	return 0
}

// A single try takes a free lock only if nobody stands in the queue, and leaves no
// place behind.
func noJump(b *bout) {
	holder := b.hand(b.first)
	holder.acquire(0)
	l := line{b: b}
	l.enter(b.hand(b.second), "lock", 0)
	for _, p := range []party{b.first, b.second} {
		b.hand(p).wantTry(false)
	}
	if n := b.queued(b.name); n != 1 {
		b.Errorf("queue: got %d, want 1", n)
	}
	holder.unlock()
	l.wantServed(5*time.Second, 0)
	b.wantNothing()
}

// A Go place of two seconds is renewed for as long as its waiter waits, with Java
// before and behind it.
func longWait(b *bout) {
	with := settings{waiterLease: 2 * time.Second}
	holder := b.hand(b.first)
	holder.acquire(0)
	l := line{b: b}
	goes := b.site.party(b.T, "Go", with)
	l.enter(b.hand(goes), "lock", 0)
	l.enter(b.hand(b.site.party(b.T, "Java", settings{})), "lock", 0)
	l.enter(b.hand(goes), "lock", 0)
	pause(5 * time.Second)
	if n := b.queued(b.name); n != 3 {
		b.Errorf("queue after 5 s: got %d, want 3", n)
	}
	holder.unlock()
	if pauses := l.wantServed(10*time.Second, 0, 1, 2); slices.Max(pauses) > 2*time.Second {
		b.Errorf("between turns: got %v, want next to nothing", pauses)
	}
	b.wantNothing()
}

// A place of ours is kept for the waiter lease from now on, and for what Java's
// waiters before it will take off, and at most one more waiter lease for each of
// those. Java's place is computed from the one before it, which may be ours.
func scores(b *bout) {
	const (
		javaQuota = 5 * time.Minute
		goPlace   = 15 * time.Second
	)
	holder := b.hand(b.first)
	holder.acquire(0)
	l := line{b: b}
	before, javas := 30*time.Second, 0 // the holder's lease
	for i := range 4 {
		h := b.hand([]party{b.second, b.first}[i%2])
		l.enter(h, "lock", 0)
		least := goPlace + time.Duration(javas)*javaQuota
		most := least + time.Duration(javas)*goPlace
		if h.side == "Java" {
			least, most = before+javaQuota, before+javaQuota
			javas++
		}
		before = b.staysFor(b.lastQueued())
		if before > most+200*time.Millisecond || before < least-2*time.Second {
			b.Errorf("%s: its place is kept for %v, want %v to %v", l.names[i], before, least, most)
		}
	}
	holder.unlock()
	l.wantServed(10*time.Second, 0, 1, 2, 3)
	b.wantNothing()
}

// lastQueued is the owner at the end of the queue.
func (b *bout) lastQueued() string {
	owner, _ := b.site.admin.LIndex(b.Context(), companion("redisson_lock_queue", b.name), -1).Result()
	return owner
}
