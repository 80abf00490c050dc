package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast"
)

// An actor is one worker on the stage.
type actor struct {
	*process
	doing    string    // what it last told: waits, holds, lost, idle, died
	from     time.Time // since when
	busy     bool      // has a job that it has not told the end of
	dead     bool
	visit    *visit // the one that it is in, or was last
	asked    bool   // has asked for the lock, for its present job
	acquired int
}

// A stage is where the show takes place. All of it runs in one goroutine: events and
// looks are taken in only while an act waits for something.
type stage struct {
	began    time.Time
	server   *server
	kind     string // of the lock
	lease    time.Duration
	out      output
	lock     holdfast.Lock
	register *register
	look     func(context.Context) look
	events   <-chan event
	looks    <-chan look

	actors  []*actor
	book    *book
	now     look // the latest
	number  int  // of the act
	act     act
	acts    []act
	sums    summary
	quiet   bool // so much happens that single visits are not told
	failure error
}

// until takes in what happens until cond is true, at most for limit.
func (s *stage) until(ctx context.Context, limit time.Duration, what string, cond func() bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	frame := time.NewTicker(lookEvery)
	defer frame.Stop()
	for !cond() {
		select {
		case e := <-s.events:
			s.hear(e)
		case l := <-s.looks:
			s.see(l)
		case <-frame.C:
			s.out.draw(s.view(time.Now()))
		case <-timer.C:
			return fmt.Errorf("act %d, %q: after %v still not: %s", s.number, s.act.title, limit, what)
		case <-ctx.Done():
			return ctx.Err()
		}
		if s.failure != nil {
			return s.failure
		}
	}
	return nil
}

// pause lets the show go on for a while.
func (s *stage) pause(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	return s.until(ctx, d+time.Minute, "a pause is over", func() bool { return !time.Now().Before(end) })
}

// give sends a job to workers that have none.
func (s *stage) give(j job, actors ...*actor) error {
	for _, a := range actors {
		a.busy, a.asked = true, false
		if err := tell(a.stdin, j); err != nil {
			return fmt.Errorf("send a job to %s: %w", a.name, err)
		}
	}
	return nil
}

// actLimit is how long an act may take before the show is given up.
const actLimit = 10 * time.Second

// allDoing waits until each of these actors does that.
func (s *stage) allDoing(ctx context.Context, doing string, actors ...*actor) error {
	return s.until(ctx, actLimit, "all do: "+doing, func() bool {
		return !slices.ContainsFunc(actors, func(a *actor) bool { return a.doing != doing })
	})
}

// finished waits until every job is done.
func (s *stage) finished(ctx context.Context) error {
	return s.until(ctx, actLimit, "all jobs are done", func() bool {
		return !slices.ContainsFunc(s.actors, func(a *actor) bool { return a.busy && !a.dead })
	})
}

// others are the living actors but one.
func (s *stage) others(one *actor) []*actor {
	return slices.DeleteFunc(slices.Clone(s.actors), func(a *actor) bool { return a.dead || a == one })
}

// hear takes in what a worker told.
func (s *stage) hear(e event) {
	i := slices.IndexFunc(s.actors, func(a *actor) bool { return a.name == e.Worker })
	if i < 0 {
		s.failure = errors.New(e.Text)
		return
	}
	a := s.actors[i]
	switch e.Kind {
	case failed:
		s.failure = fmt.Errorf("%s: %s", a.name, e.Text)
		return
	case died:
		if !a.dead && s.failure == nil {
			s.failure = fmt.Errorf("%s has ended: %s", a.name, e.Text)
		}
		return
	}
	if a.dead {
		return // it told this before it was killed
	}
	switch e.Kind {
	case waits:
		a.asked = true
	case holds:
		s.enter(a, e)
	case lost:
		s.lose(a, e)
	case leaves:
		a.visit.released, a.visit.trusted = e.At, e.Trusted
	case left:
		s.leave(a, e)
	case idle:
		a.busy = false
	}
	if e.Kind != leaves && e.Kind != left {
		a.doing, a.from = e.Kind, e.At
	}
}

func (s *stage) enter(a *actor, e event) {
	v := &visit{id: e.Visit, worker: a.name, owner: e.Owner, since: a.from, acquired: e.At}
	a.visit = v
	a.acquired++
	s.book.enter(v, e.Inside)
	before := s.book.before(v)
	if t := s.sums.kill; t != nil && t.to == "" {
		t.to, t.took = a.name, v.acquired.Sub(t.at)
		s.say("%s takes over %s after the kill, %s after the lease ended", a.name,
			seconds(t.took), millis(v.acquired.Sub(before.leaseEnd)))
		return
	}
	if t := s.sums.force; t != nil && t.to == "" {
		t.to, t.took = a.name, v.acquired.Sub(t.at)
		s.say("%s holds, %s after the force-unlock; %s has not been told yet", a.name, millis(t.took), before.worker)
		return
	}
	if !s.quiet {
		s.say("%s holds, %s", a.name, s.howCame(before, v))
	}
}

// howCame tells how a visit came to the lock after the one before, which may be nil.
func (s *stage) howCame(before, v *visit) string {
	if before == nil {
		return "it was free"
	}
	if handsOff(before, v) {
		return fmt.Sprintf("%s after %s let go (it waited for %s)",
			millis(v.acquired.Sub(before.released)), before.worker, millis(v.acquired.Sub(v.since)))
	}
	woken := func(a *actor) bool { return a.doing == waits && a.visit != v && a.from.Before(before.released) }
	if slices.ContainsFunc(s.actors, woken) {
		return "it came before those who were being woken"
	}
	return "it was free"
}

func (s *stage) lose(a *actor, e event) {
	if !a.visit.forced {
		s.say("%s lost its hold: %s", a.name, e.Text)
		return
	}
	s.sums.learned, s.sums.cause = e.At.Sub(s.sums.force.at), e.Text
	s.say("%s is told %s after the force-unlock, its context ends with %q, and it stops", a.name,
		millis(s.sums.learned), e.Text)
}

func (s *stage) leave(a *actor, e event) {
	a.visit.end = unlocked
	if e.Lost {
		a.visit.end = wasLost
		if !a.visit.forced {
			s.sums.surprises++
		}
	}
	if n := s.book.overlaps(false); n > s.sums.overlaps {
		s.sums.overlaps = n
		s.say("OVERLAP: %s was inside together with another worker", a.name)
	}
}

// see takes in what Redis says. The same owner with a longer lease has been renewed.
func (s *stage) see(l look) {
	if l.err != nil {
		return // the workers have errors of their own to tell
	}
	before := s.now
	s.now = l
	s.book.queued(l.queue)
	v := s.holder(l.owner)
	if v == nil || l.owner != before.owner {
		return
	}
	if v.end == killed {
		// What it sent before it died may have arrived since. But where the first of its
		// names is free, the others have nothing to say.
		if l.keys >= v.keys {
			v.leaseEnd = later(v.leaseEnd, l.sent.Add(l.ttl))
		}
		return
	}
	if l.ttl > before.ttl+s.lease/10 && s.act.renewals { // less is what a look takes, one name after the other
		s.sums.renewals++
		s.say("the watchdog renews %s's lease: %s were left, now %s", v.worker, seconds(before.ttl), seconds(l.ttl))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// holder is the latest visit of that owner, or nil.
func (s *stage) holder(owner string) *visit {
	for _, v := range slices.Backward(s.book.visits) {
		if owner != "" && v.owner == owner {
			return v
		}
	}
	return nil
}

func (s *stage) say(format string, args ...any) {
	s.out.line(time.Since(s.began), fmt.Sprintf(format, args...))
}
