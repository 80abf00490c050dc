package script

import (
	"slices"
	"sync"
	"time"
)

const (
	laneCount = 6                     // lanes to one server
	maxOps    = 128                   // operations in one call
	slow      = 50 * time.Millisecond // a lane that has been out for longer no longer counts
	maxSlow   = 10                    // so many lanes may hang at once, each on a connection of its own
)

// lanes are the lanes to one server, and the queue before them.
type lanes struct {
	sender *Sender

	work  chan []*Call // for idle lanes
	stays bool         // lanes wait for work; otherwise they end, because the server's name does not last

	mu      sync.Mutex
	queue   []*Call // in order of arrival; withdrawn ones are passed over
	idle    int     // lanes that wait for work
	out     int     // lanes that are out and count
	hanging int     // lanes that are out and no longer count
	trips   []*trip // of all lanes that are out
	watched bool    // look is due
}

// start sends a call on a free lane, or queues it.
func (l *lanes) start(c *Call) {
	l.mu.Lock()
	if l.out >= laneCount {
		l.queue = append(l.queue, c)
		l.mu.Unlock()
		return
	}
	l.out++
	c.state = out
	idle := l.idle > 0
	if idle {
		l.idle--
	}
	l.mu.Unlock()
	l.goOut([]*Call{c}, idle)
}

// goOut sends a batch on an idle lane that was counted out of them, or on a new one.
func (l *lanes) goOut(batch []*Call, idle bool) {
	if idle {
		select {
		case l.work <- batch: // it is about to wait, if it does not yet
			return
		case <-l.sender.closed: // it may be gone
		}
	}
	go l.run(batch) // ended by Close, or as one lane too many
}

// run is one lane: it sends batch after batch until nothing waits, then is idle.
func (l *lanes) run(batch []*Call) {
	for {
		for len(batch) > 0 {
			t := l.depart()
			l.sender.send(batch)
			batch = l.arrive(t)
		}
		if !l.rest() {
			return
		}
		select {
		case batch = <-l.work:
		case <-l.sender.closed:
			return
		}
	}
}

// rest counts a lane among the idle ones, unless there are enough.
func (l *lanes) rest() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stays || l.idle >= laneCount {
		return false
	}
	l.idle++
	return true
}

// A trip is one way of a lane to the server and back. Guarded by lanes.mu.
type trip struct {
	start time.Time
	hangs bool // its lane no longer counts
}

func (l *lanes) depart() *trip {
	t := &trip{start: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trips = append(l.trips, t)
	if !l.watched {
		l.watched = true
		time.AfterFunc(slow/2, l.look)
	}
	return t
}

// look gives the places of lanes that have waited long to others, unless too many
// hang already. One look serves all lanes: a timer for each trip would cost more
// than the rest of it.
func (l *lanes) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.trips {
		if t.hangs || l.hanging >= maxSlow || time.Since(t.start) < slow {
			continue
		}
		t.hangs = true
		l.hanging++
		l.out--
		if batch := l.take(); len(batch) > 0 {
			l.out++
			go l.run(batch) // ended by Close, or as one lane too many
		}
	}
	l.watched = len(l.trips) > 0
	if l.watched {
		time.AfterFunc(slow/2, l.look)
	}
}

// arrive tells what to send next; nothing means that the lane is free. A lane whose
// place was given away goes on only if there is a place again.
func (l *lanes) arrive(t *trip) []*Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.trips, t)
	l.trips = slices.Delete(l.trips, i, i+1)
	if t.hangs {
		l.hanging--
		if l.out >= laneCount {
			return nil
		}
		l.out++
	}
	batch := l.take()
	if len(batch) == 0 {
		l.out--
	}
	return batch
}

// take empties the queue up to the size of a call.
func (l *lanes) take() []*Call {
	var batch []*Call
	size, taken := 0, 0
	for _, c := range l.queue {
		if c.state == queued {
			if size > 0 && size+len(c.ops) > maxOps {
				break
			}
			size += len(c.ops)
			c.state = out
			batch = append(batch, c)
		}
		l.queue[taken] = nil
		taken++
	}
	l.queue = l.queue[taken:]
	if len(l.queue) == 0 {
		l.queue = nil
	}
	return batch
}
