package pubsub

import (
	"math/rand/v2"
	"time"
)

// A router is the goroutine that gives wanted topics to sessions and drops idle
// ones. It is the only one that may have to wait for the cluster's picture.
type router struct {
	*Manager
	misses backoff // of the cluster's picture
}

// route runs until Close.
func (r *router) route() {
	defer r.wg.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		topics, wait := r.next(time.Now())
		r.place(topics)
		timer.Reset(wait)
		select {
		case <-r.rouse:
		case <-timer.C:
		case <-r.ctx.Done():
			return
		}
	}
}

// next takes the topics that are due, drops those that have had no subscription for
// long enough, and tells when to look again.
func (r *router) next(now time.Time) (due []*topic, wait time.Duration) {
	r.mu.Lock()
	defer r.unlock()
	wait = time.Hour // whatever comes earlier pokes
	for e := r.idle.Front(); e != nil; e = r.idle.Front() {
		t := e.Value.(*topic)
		if left := r.config.Linger - now.Sub(t.idleSince); left > 0 {
			wait = left
			break
		}
		r.idle.Remove(e)
		delete(r.topics, t.channel)
		if t.session != nil {
			t.session.drop(t)
		}
	}
	due = r.wanted
	r.wanted = nil
	if !r.restedAt.IsZero() && !r.restedAt.After(now) {
		due = append(due, r.rested(now)...)
	}
	if !r.restedAt.IsZero() {
		wait = min(wait, r.restedAt.Sub(now))
	}
	return due, wait
}

// rested takes the topics whose pauses are over. Under m.mu.
func (r *router) rested(now time.Time) (due []*topic) {
	resting := r.resting
	r.resting, r.restedAt = nil, time.Time{}
	for _, t := range resting {
		switch {
		case r.topics[t.channel] != t: // dropped meanwhile
		case t.rest.After(now):
			r.rest(t, t.rest)
		default:
			due = append(due, t)
		}
	}
	return due
}

// place finds a server for each topic. What cannot be found now rests.
func (r *router) place(topics []*topic) {
	for i, t := range topics {
		if time.Now().Before(r.misses.until) {
			r.restAll(topics[i:])
			return
		}
		server, err := r.find(r.ctx, t.channel)
		if err != nil { // the picture of the whole cluster is missing
			r.miss(err)
			r.restAll(topics[i:])
			return
		}
		r.misses = backoff{}
		r.give(t, server)
	}
}

func (r *router) miss(err error) {
	r.mu.Lock()
	defer r.unlock()
	if r.misses.fail() {
		r.warn("no server for channels", err)
	}
}

func (r *router) restAll(topics []*topic) {
	r.mu.Lock()
	defer r.unlock()
	for _, t := range topics {
		r.rest(t, r.misses.until)
	}
}

// give hands a topic to the session to its server, to a new one if there is none.
func (r *router) give(t *topic, server server) {
	r.mu.Lock()
	defer r.unlock()
	if r.closed || r.topics[t.channel] != t {
		return // dropped meanwhile
	}
	s := r.sessions[server.name]
	if s == nil {
		if f := r.failures[server.name]; f != nil && time.Now().Before(f.until) {
			r.rest(t, f.until)
			return
		}
		s = r.open(server)
	}
	s.add(t)
}

// A backoff is a pause that grows with each failure in a row.
type backoff struct {
	failures int
	until    time.Time
}

const (
	shortestPause = 10 * time.Millisecond
	longestPause  = time.Second
)

// fail counts one more failure, and tells whether it is worth a line in the log.
func (b *backoff) fail() (worthTelling bool) {
	d := b.pause()
	b.failures++
	b.until = time.Now().Add(d/2 + rand.N(d))
	return b.failures&(b.failures-1) == 0
}

// pause is what comes next, on average.
func (b *backoff) pause() time.Duration {
	return min(shortestPause<<min(b.failures, 10), longestPause)
}

// failed counts a failure of a session; lived is from its opening to the last thing it
// heard, nothing if it was never connected. One that lived longer than the pause before it counts as a good one, so that a connection that is lost now and then is
// back at once, while one that never lasts is not made in a loop. Under m.mu.
func (m *Manager) failed(server string, lived time.Duration) (worthTelling bool) {
	f := m.failures[server]
	if f == nil {
		m.forget()
		f = &backoff{}
		m.failures[server] = f
	}
	if lived > f.pause() {
		f.failures = 0
	}
	return f.fail()
}

// forget drops the failures of servers that are not tried any more. Under m.mu.
func (m *Manager) forget() {
	for name, f := range m.failures {
		if time.Since(f.until) > time.Minute && m.sessions[name] == nil {
			delete(m.failures, name)
		}
	}
}
