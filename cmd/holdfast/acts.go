package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// An act is one thing that a lock service is for.
type act struct {
	title, text string
	renewals    bool // tell each one
	play        func(*stage, context.Context) error
}

// acts is the show.
var acts = []act{
	{"taking turns", "five processes, one lock: an Unlock wakes the waiters, and whoever asks first gets it", false, (*stage).takeTurns},
	{"a long job", "three times as long as its lease: the watchdog keeps the lock", true, (*stage).longJob},
	{"kill -9", "a holder dies and cannot unlock: its lease ends, and the next one takes over", false, (*stage).killHolder},
	{"force-unlock", "an operator takes a lock away: the holder is told, and stops", false, (*stage).forceHolder},
	{"rush", "holds of 3 ms, as fast as they come", false, (*stage).rush},
}

// actsOf is the show of a kind: what it promises is told in place of the plain lock's.
func actsOf(kind string) []act {
	show := slices.Clone(acts)
	switch kind {
	case fairKind:
		show[0].text = "five processes, one queue: who asked first gets it first, in whichever process"
	case multiKind:
		show[0].text = "each locks two or three of three names as one, in any order: any two share a name"
	case redKind:
		show[0].text = "one lock on five servers that know nothing of each other: three of them are enough"
		outage := act{"a server dies", "one of the five is killed while the workers come and go: the work goes on", false, (*stage).killServer}
		show = slices.Insert(show, 2, outage)
	}
	return show
}

// turn is a short stay inside.
const turn = 100 * time.Millisecond

// forever is longer than any act.
const forever = time.Minute

// play plays every act. A lock that was seen broken ends the show.
func (s *stage) play(ctx context.Context) error {
	if err := s.allDoing(ctx, ready, s.actors...); err != nil {
		return fmt.Errorf("the workers do not come up: %w", err)
	}
	for i, a := range s.acts {
		s.number, s.act = i+1, a
		s.out.act(fmt.Sprintf("%d of %d", i+1, len(s.acts)), a.title, a.text)
		if err := a.play(s, ctx); err != nil {
			return err
		}
		if s.sums.overlaps > 0 {
			s.say("the lock is broken, the show ends here")
			return nil
		}
		if err := s.pause(ctx, 400*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) takeTurns(ctx context.Context) error {
	if err := s.give(job{Hold: turn, Times: 4}, s.actors...); err != nil {
		return err
	}
	return s.finished(ctx)
}

func (s *stage) longJob(ctx context.Context) error {
	long, err := s.hold(ctx, 1, 3*s.lease, turn/2)
	if err != nil {
		return err
	}
	if err := s.finished(ctx); err != nil {
		return err
	}
	s.sums.longHold = long.visit.released.Sub(long.visit.acquired)
	return nil
}

func (s *stage) killHolder(ctx context.Context) error {
	victim, err := s.hold(ctx, 2, forever, turn/2)
	if err != nil {
		return err
	}
	if err := s.pause(ctx, s.lease/2); err != nil {
		return err
	}
	v := victim.visit
	victim.dead, victim.doing, victim.from = true, died, time.Now()
	victim.kill()
	l := s.look(ctx)
	if l.err != nil {
		return l.err
	}
	if l.owner != v.owner {
		l.ttl = 0 // without a lock there is no lease
	}
	v.end, v.leaseEnd, v.keys = killed, l.sent.Add(l.ttl), l.keys
	s.sums.kill = &takeover{from: victim.name, at: victim.from, leaseLeft: l.ttl}
	s.say("%s (pid %d) is killed by SIGKILL; its lease has %s left", victim.name, victim.cmd.Process.Pid, seconds(l.ttl))
	if err := s.finished(ctx); err != nil {
		return err
	}
	return s.register.leave(ctx, v.id)
}

func (s *stage) forceHolder(ctx context.Context) error {
	victim, err := s.hold(ctx, 3, forever, 3*turn)
	if err != nil {
		return err
	}
	if err := s.pause(ctx, s.lease/2); err != nil {
		return err
	}
	s.say("ForceUnlock takes the lock away from %s", victim.name)
	victim.visit.forced = true
	s.sums.force = &takeover{from: victim.name, at: time.Now()}
	if _, err := s.lock.ForceUnlock(ctx); err != nil {
		return err
	}
	if err := s.finished(ctx); err != nil {
		return err
	}
	s.sums.latest = s.book.lateFor(victim.visit)
	return nil
}

// hold lets one worker hold for long, the others wait behind it, and returns the one.
func (s *stage) hold(ctx context.Context, i int, long, short time.Duration) (*actor, error) {
	one := s.actors[i]
	if err := s.give(job{Hold: long, Times: 1}, one); err != nil {
		return nil, err
	}
	if err := s.allDoing(ctx, holds, one); err != nil {
		return nil, err
	}
	others := s.others(one)
	if err := s.give(job{Hold: short, Times: 1}, others...); err != nil {
		return nil, err
	}
	return one, s.until(ctx, actLimit, "the others wait", func() bool {
		return !slices.ContainsFunc(others, func(a *actor) bool { return !a.asked })
	})
}

// killServer ends a server of the quorum lock in the middle of a rush.
func (s *stage) killServer(ctx context.Context) error {
	const half, server = time.Second, 3
	s.quiet = true
	defer func() { s.quiet = false }()
	if err := s.give(job{Hold: 3 * time.Millisecond, For: 2 * half}, s.others(nil)...); err != nil {
		return err
	}
	began := len(s.book.visits)
	if err := s.pause(ctx, half); err != nil {
		return err
	}
	middle := len(s.book.visits)
	s.say("server %d of %d is killed, after %d acquisitions in this act", server, quorumServers, middle-began)
	s.server.kill(server - 1)
	if err := s.finished(ctx); err != nil {
		return err
	}
	after := len(s.book.visits) - middle
	s.sums.outage = &outage{server, middle - began, after}
	if after == 0 {
		return fmt.Errorf("nobody got the lock once a server of %d was dead", quorumServers)
	}
	s.say("%d more without it", after)
	return nil
}

// rush tells what happens in each half second: a line for each visit would be too much.
func (s *stage) rush(ctx context.Context) error {
	const parts, part = 4, 500 * time.Millisecond
	s.quiet = true
	if err := s.give(job{Hold: 3 * time.Millisecond, For: parts * part}, s.others(nil)...); err != nil {
		return err
	}
	visits, told := len(s.book.visits), len(s.book.handoffs())
	for range parts {
		if err := s.pause(ctx, part); err != nil {
			return err
		}
		all := durations(s.book.handoffs())
		s.say("%d acquisitions in %v; hand-offs to one that waited: %s", len(s.book.visits)-visits, part, measured(all[told:], ", "))
		visits, told = len(s.book.visits), len(all)
	}
	return s.finished(ctx)
}
