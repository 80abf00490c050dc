package watchdog

import "time"

// An Entry is a lease's place in the watchdog. The zero value is ready to use; it
// is embedded in the lease. Only the watchdog touches it.
type Entry struct {
	lease    Lease
	renewAt  time.Time // zero: never
	deadline time.Time
	retry    time.Duration
	life     uint32 // counts Puts of an entry that was not there: answers to earlier lives are dropped
	index    int32  // in the heap, from 1; 0: not there
	call     *call  // the latest copy; nil: none, or it was answered
}

// next is the moment that matters first.
func (e *Entry) next() time.Time {
	if !e.renewAt.IsZero() && e.renewAt.Before(e.deadline) {
		return e.renewAt
	}
	return e.deadline
}

// entries is a heap by next, for container/heap.
type entries []*Entry

func (h entries) Len() int           { return len(h) }
func (h entries) Less(i, j int) bool { return h[i].next().Before(h[j].next()) }

func (h entries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i+1), int32(j+1)
}

func (h *entries) Push(x any) {
	e := x.(*Entry)
	*h = append(*h, e)
	e.index = int32(len(*h))
}

func (h *entries) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	e.index = 0
	return e
}
