package script

import (
	"runtime"
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

	work  chan struct{} // for idle lanes
	stays bool          // lanes wait for work; otherwise they end, because the server's name does not last

	mu      sync.Mutex
	queue   []*Call // in order of arrival; withdrawn ones are passed over
	idle    int     // lanes that wait for work
	out     int     // lanes that are out, or about to go, and count
	coming  bool    // one of them is about to take the queue
	several bool    // the last one to go had more than one call
	hanging int     // lanes that are out and no longer count
	trips   []*trip // of all lanes that are out
	watched bool    // look is due
}

// start queues a call, for the lane that is about to take the queue.
func (l *lanes) start(c *Call) {
	l.mu.Lock()
	l.queue = append(l.queue, c)
	summoned, idle := l.summon()
	l.mu.Unlock()
	if summoned {
		l.wake(idle)
	}
}

// summon counts a lane out for what is in the queue, an idle one or a new one, unless one
// is coming or all are out. l.mu is held.
func (l *lanes) summon() (summoned, idle bool) {
	if l.coming || l.out >= laneCount || len(l.queue) == 0 {
		return false, false
	}
	l.coming = true
	l.out++
	if l.idle > 0 {
		l.idle--
		return true, true
	}
	return true, false
}

// wake has a lane come that was summoned.
func (l *lanes) wake(idle bool) {
	if idle {
		select {
		case l.work <- struct{}{}: // it is about to wait, if it does not yet
			return
		case <-l.sender.closed: // it may be gone
		}
	}
	go l.run() // ended by Close, or as one lane too many
}

// run is one lane: it sends batch after batch until nothing waits, then is idle.
func (l *lanes) run() {
	var t trip
	for {
		for l.depart(&t) {
			l.sender.send(t.batch, t.start) // who is told of an answer may take its time: the trip lasts until then, for look
			if !l.arrive(&t) {
				break
			}
		}
		if !l.rest() {
			return
		}
		select {
		case <-l.work:
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

// A trip is one way of a lane to the server and back. Each lane has one, again and again.
// Guarded by lanes.mu while it is in lanes.trips; batch is its lane's.
type trip struct {
	batch []*Call
	start time.Time
	hangs bool // its lane no longer counts
}

// depart begins a trip with what waits; false means that nothing does, and that the lane is free.
func (l *lanes) depart(t *trip) bool {
	if l.busy() {
		// Callers that have just got their answers are about to run, and to ask for more. Where the
		// processors have much else to do, this waits for its turn among that.
		runtime.Gosched()
	}
	l.mu.Lock()
	l.coming = false
	t.batch = l.take(t.batch)
	if len(t.batch) == 0 {
		l.out--
		l.mu.Unlock()
		return false
	}
	t.start, t.hangs = time.Now(), false
	l.several = len(t.batch) > 1
	l.trips = append(l.trips, t)
	if !l.watched {
		l.watched = true
		time.AfterFunc(slow/2, l.look)
	}
	summoned, idle := l.summon() // for what did not fit
	l.mu.Unlock()
	if summoned {
		l.wake(idle)
	}
	return true
}

// busy tells whether more than one caller is at work, or was a moment ago. One alone hardly ever waits for other
// goroutines: only if it asks for more before its lane has counted itself back.
func (l *lanes) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.several || len(l.trips) > 0
}

// look gives the places of lanes that have waited long to others, unless too many
// hang already. One look serves all lanes: a timer for each trip would cost more
// than the rest of it.
func (l *lanes) look() {
	l.mu.Lock()
	for _, t := range l.trips {
		if !t.hangs && l.hanging < maxSlow && time.Since(t.start) >= slow {
			t.hangs = true
			l.hanging++
			l.out--
		}
	}
	l.watched = len(l.trips) > 0
	if l.watched {
		time.AfterFunc(slow/2, l.look)
	}
	summoned, idle := l.summon()
	l.mu.Unlock()
	if summoned {
		l.wake(idle)
	}
}

// arrive ends a trip and tells whether the lane is to depart again. A lane whose
// place was given away goes on only if there is a place again.
func (l *lanes) arrive(t *trip) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.trips, t)
	l.trips = slices.Delete(l.trips, i, i+1)
	clear(t.batch)
	t.batch = t.batch[:0]
	if !t.hangs {
		l.out--
	} else {
		l.hanging--
	}
	if l.coming || l.out >= laneCount {
		return false
	}
	l.out++
	l.coming = true
	return true
}

// take moves the queue to a batch, up to the size of a call.
func (l *lanes) take(batch []*Call) []*Call {
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
		taken++
	}
	clear(l.queue[:taken])
	if taken == len(l.queue) {
		l.queue = l.queue[:0]
	} else {
		l.queue = l.queue[taken:]
	}
	return batch
}
