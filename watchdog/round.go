package watchdog

import (
	"cmp"
	"slices"
	"time"
)

const (
	mostOps   = 100                  // renewals in one call
	mostSlack = 5 * time.Millisecond // how much earlier than asked a renewal may be sent
	leastWait = time.Millisecond     // between two copies
	part      = 1000                 // of a round: entries between two looks at the clock, or at once under the mutex
)

// run waits for the earliest moment and does what is due, until Close.
func (w *Watchdog) run() {
	defer close(w.stopped)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-w.wake: // something matters earlier than the timer knows
		case <-w.stop:
			return
		}
		for due := w.collect(nil); len(due) > 0; {
			due = w.round(due)
		}
		w.arm(timer)
	}
}

// arm sets the timer to the earliest moment. It never puts it off: a lock that is
// taken and freed again and again costs one wake-up in all that time, not one each
// time it is taken.
//
// A Put may come between the mutex and the timer. It finds armed as it is here, so
// if its moment is earlier it leaves a wake-up, and the timer is set again.
func (w *Watchdog) arm(timer *time.Timer) {
	w.mu.Lock()
	next := never
	if len(w.queue) > 0 {
		next = w.queue[0].at
	}
	if w.armed > w.now() {
		next = min(next, w.armed)
	}
	w.armed = next
	w.mu.Unlock()
	if next == never {
		timer.Stop()
		return
	}
	timer.Reset(time.Duration(next - w.now()))
}

// A renewal is an entry that awaits its turn in a round.
type renewal struct {
	entry    *Entry
	deadline moment
}

// collect tells the leases that have lapsed, and adds to due what is to be renewed now.
func (w *Watchdog) collect(due []renewal) []renewal {
	for now := w.now(); ; {
		more, lapsed := w.take(now, &due)
		if lapsed != nil {
			lapsed.Lapsed()
		}
		if !more {
			return due
		}
	}
}

// take takes what matters by now from the queue, up to the first lease that has
// lapsed, and tells whether there may be more. A lease is lapsed rather than renewed
// if both are due. Renewals are taken before their time only to go with others.
func (w *Watchdog) take(now moment, due *[]renewal) (more bool, lapsed Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range part {
		if len(w.queue) == 0 {
			return false, nil
		}
		e := w.queue[0].entry
		switch {
		case e.deadline <= now:
			lapsed = e.lease
			w.drop(e)
			return true, lapsed
		case e.renewAt <= now, len(*due) > 0 && e.renewAt-e.slack() <= now:
			*due = append(*due, renewal{e, e.deadline})
			e.renewAt = awaited
			w.queue.put(e)
		default:
			return false, nil
		}
	}
	return true, nil
}

// round sends what is due, the earliest deadline first, and returns what became due
// meanwhile. In between it looks at the clock: no deadline waits until a long round
// is over.
func (w *Watchdog) round(due []renewal) (later []renewal) {
	slices.SortFunc(due, func(a, b renewal) int { return cmp.Compare(a.deadline, b.deadline) })
	for some := range slices.Chunk(due, part) {
		w.renew(some)
		later = w.collect(later)
	}
	return later
}

// renew sends renewals in calls by server.
func (w *Watchdog) renew(due []renewal) {
	var calls []*call // in the order of their first deadline
	open := map[string]*call{}
	for _, r := range due {
		lease, life, ok := w.begin(r.entry)
		if !ok {
			continue
		}
		op := lease.Renewal()
		server := w.server(op.Keys[0])
		c := open[server]
		if c == nil {
			c = &call{}
			open[server] = c
			calls = append(calls, c)
		}
		c.ops = append(c.ops, op)
		c.copies = append(c.copies, sentCopy{r.entry, life})
		if len(c.ops) == mostOps {
			w.start(c)
			delete(open, server)
		}
	}
	for _, c := range calls {
		if c.ops != nil {
			w.start(c)
		}
	}
}

// begin takes an entry's turn and sets the time of its next copy. It fails if the
// entry was removed or rescheduled since it was collected, if its deadline has passed,
// or if the latest copy still waits to be sent.
func (w *Watchdog) begin(e *Entry) (lease Lease, life uint32, ok bool) {
	w.mu.Lock()
	now := w.now() // not the round's: the process may have been stopped since
	if e.renewAt != awaited || e.deadline <= now {
		w.mu.Unlock()
		return nil, 0, false
	}
	e.renewAt = now + moment(max(e.retry, leastWait))
	w.queue.put(e)
	lease, life, latest := e.lease, e.life, e.call
	w.mu.Unlock()
	return lease, life, latest == nil || !latest.queued()
}
