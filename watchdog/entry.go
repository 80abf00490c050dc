package watchdog

import (
	"math"
	"time"
)

// A moment is a number of nanoseconds since the watchdog was made, on the monotonic
// clock: a third of a time.Time, and one comparison.
type moment int64

const (
	never moment = math.MaxInt64
	// awaited is the next renewal of an entry whose turn in the present round has
	// not come yet. Put and Remove call it off by overwriting it.
	awaited = never - 1
)

// An Entry is a lease's place in the watchdog. The zero value is ready to use; it
// is embedded in the lease, and must not be copied while it is there. Only the
// watchdog touches it.
type Entry struct {
	lease    Lease
	call     *call // with the latest copy; nil: none, or it was answered
	renewAt  moment
	deadline moment
	retry    time.Duration
	life     uint32 // counts Puts of an entry that was not there: answers to earlier lives are dropped
	index    int32  // in the queue, from 1; 0: not there
}

// next is the moment that matters first.
func (e *Entry) next() moment { return min(e.renewAt, e.deadline) }

// slack is how much earlier than asked a renewal may be sent, to go with others.
func (e *Entry) slack() moment { return max(0, min((e.deadline-e.renewAt)/100, moment(mostSlack))) }

// A queue is a heap of entries by their next moment. It is written out because its
// moments stand in the heap itself and each place has four children: a step looks
// at one or two cache lines and not at four entries all over memory.
type queue []place

type place struct {
	at    moment
	entry *Entry
}

const children = 4

// put adds an entry, or moves it to where its next moment belongs.
func (q *queue) put(e *Entry) {
	if e.index == 0 {
		*q = append(*q, place{})
		e.index = int32(len(*q))
	}
	q.settle(int(e.index-1), place{e.next(), e})
}

// remove takes an entry out.
func (q *queue) remove(e *Entry) {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = place{}
	*q = (*q)[:last]
	if i := int(e.index - 1); i < last {
		q.settle(i, p)
	}
	e.index = 0
}

// settle fills the gap at i: p goes there, or others move into the gap until it is
// where p belongs.
func (q queue) settle(i int, p place) {
	for i > 0 {
		parent := (i - 1) / children
		if q[parent].at <= p.at {
			break
		}
		q.set(i, q[parent])
		i = parent
	}
	for {
		child, ok := q.leastChild(i)
		if !ok || p.at <= q[child].at {
			break
		}
		q.set(i, q[child])
		i = child
	}
	q.set(i, p)
}

func (q queue) leastChild(i int) (child int, ok bool) {
	first := children*i + 1
	if first >= len(q) {
		return 0, false
	}
	child = first
	for c := first + 1; c < min(first+children, len(q)); c++ {
		if q[c].at < q[child].at {
			child = c
		}
	}
	return child, true
}

func (q queue) set(i int, p place) {
	q[i] = p
	p.entry.index = int32(i + 1)
}
