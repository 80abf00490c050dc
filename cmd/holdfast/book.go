package main

import (
	"slices"
	"time"
)

// How a visit ended.
type ending int

const (
	open     ending = iota // it has not
	unlocked               // the worker held the lock to the end
	wasLost                // the worker was told that it does not hold it any more
	killed                 // the process was killed while inside
)

// A visit is one worker's stay inside.
type visit struct {
	id, worker, owner string

	since    time.Time // asked for the lock
	acquired time.Time // had it
	released time.Time // began to unlock; zero until then
	trusted  time.Time // last found its hold good

	end      ending
	forced   bool      // somebody else force-unlocked it
	leaseEnd time.Time // killed: when Redis frees the lock, or the first of its names
	keys     int       // killed: how many it had
}

// A meeting is two visits that were inside at the same time, by the register.
type meeting struct {
	earlier string
	later   *visit
}

// A verdict tells what a meeting means.
type verdict int

const (
	undecided verdict = iota // the earlier visit has not ended
	harmless                 // the earlier one was dead, or knew, before the later one came
	late                     // the earlier one was forced out and had not been told yet
	overlap                  // both relied on the lock: it is broken
)

// A book keeps every visit of the show and judges those that met.
type book struct {
	visits   []*visit // in the order of acquisition
	byID     map[string]*visit
	meetings []meeting
	queue    map[[2]string]bool // owners that were seen side by side in a fair lock's queue
}

func newBook() *book { return &book{byID: map[string]*visit{}, queue: map[[2]string]bool{}} }

// queued writes down who stands before whom.
func (b *book) queued(owners []string) {
	for i := range len(owners) - 1 {
		b.queue[[2]string{owners[i], owners[i+1]}] = true
	}
}

// order counts the neighbours in the queue of which both were granted the lock, and
// those of them that were granted it the other way round. Whenever a queue is not
// granted in its order, some two neighbours are among the latter.
func (b *book) order() (neighbours, inversions int) {
	granted := map[string]time.Time{}
	for _, v := range b.visits {
		granted[v.owner] = v.acquired
	}
	for pair := range b.queue {
		first, ok := granted[pair[0]]
		second, also := granted[pair[1]]
		if !ok || !also {
			continue // one of them gave up, or died
		}
		neighbours++
		if second.Before(first) {
			inversions++
		}
	}
	return neighbours, inversions
}

// enter writes a visit down, and whom it found inside.
func (b *book) enter(v *visit, inside []string) {
	after := len(b.visits)
	for after > 0 && b.visits[after-1].acquired.After(v.acquired) {
		after--
	}
	b.visits = slices.Insert(b.visits, after, v)
	b.byID[v.id] = v
	for _, other := range inside {
		b.meetings = append(b.meetings, meeting{other, v})
	}
}

// before returns the visit that came before v, or nil.
func (b *book) before(v *visit) *visit {
	if i := slices.Index(b.visits, v); i > 0 {
		return b.visits[i-1]
	}
	return nil
}

// judge tells what a meeting means.
//
// A worker that unlocked in good order relied on the lock to its end, so whoever was
// inside with it should not have been. One that lost its hold may be slow to leave, and
// that does no harm as long as it knew: what counts is the last moment at which the
// library still told it that it held the lock. A dead one does nothing, but its lock is
// to stay shut until its lease ends; the register is cleared of it only after that.
func (b *book) judge(m meeting) verdict {
	const rounding = 2 * time.Millisecond // Redis tells whole milliseconds
	earlier := b.byID[m.earlier]
	switch {
	case earlier == nil || earlier.end == open:
		return undecided
	case earlier.end == killed && m.later.acquired.Before(earlier.leaseEnd.Add(-rounding)):
		return overlap
	case earlier.end == killed:
		return harmless
	case earlier.end == unlocked:
		return overlap
	case !earlier.trusted.After(m.later.acquired):
		return harmless
	case earlier.forced:
		return late
	}
	return overlap
}

// overlaps counts the meetings that should not have been. At the end of the show an
// undecided one counts too: nobody explained it.
func (b *book) overlaps(ended bool) (n int) {
	for _, m := range b.meetings {
		if v := b.judge(m); v == overlap || ended && v == undecided {
			n++
		}
	}
	return n
}

// lateFor tells how long a visit that was forced out went on beside its successors.
func (b *book) lateFor(v *visit) (longest time.Duration) {
	for _, m := range b.meetings {
		if m.earlier == v.id && b.judge(m) == late {
			longest = max(longest, v.trusted.Sub(m.later.acquired))
		}
	}
	return longest
}
