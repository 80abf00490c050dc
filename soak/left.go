package main

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
)

// finish stops the workers and looks for what is left.
func (r *runner) finish() {
	r.world.heal()
	r.record.note(event{Kind: kindStop})
	limit := 20 * time.Second
	if r.impatient {
		limit = 4 * time.Second
	}
	for _, name := range r.team.stop(limit) {
		r.record.note(event{Kind: kindGhost, Worker: name, What: "calls", Err: "not returned 20 s after the end"})
	}
	r.noteLinks()
	if r.Aborted || r.impatient {
		return
	}
	if r.Load["fair"] > 0 && r.Mortals > 0 {
		time.Sleep(waiterLease) // then nobody keeps the places of those who were killed
	}
	r.team.sweep()
	r.noteLeft()
	r.record.note(event{Kind: kindFigure, What: "slowest script", Value: int64(r.world.slowest())})
	r.team.close(20 * time.Second)
	r.noteConnections()
}

// noteLinks writes down what the links did to single commands.
func (r *runner) noteLinks() {
	for _, worker := range slices.Sorted(maps.Keys(r.world.links)) {
		for _, link := range r.world.linksOf(worker) {
			for _, e := range link.Log() {
				if strings.HasPrefix(e.Decision.String(), "gate") {
					continue // the schedule has noted it
				}
				r.noteLink(worker, e)
			}
		}
	}
}

// noteLink writes down one spoiled command: it explains what happens to its locks, or,
// if it has none, to its worker.
func (r *runner) noteLink(worker string, e faultproxy.Event) {
	at := monotonic(e.At)
	line := event{Kind: kindFault, Call: at - int64(readTimeout), Time: at, Worker: worker, What: e.Decision.String(), Tail: int64(tailOf(e))}
	if strings.HasSuffix(e.Name, "SUBSCRIBE") {
		line.What += " of a subscription"
	}
	seen := map[string]bool{}
	for _, op := range operations(append([]string{e.Name}, e.Args...)) {
		if op.Lock != "" && !seen[op.Lock] {
			seen[op.Lock] = true
			line.Lock = op.Lock
			line.Worker = "" // others wait for it too
			r.record.note(line)
			line.Value = 1 // counted once
		}
	}
	if len(seen) == 0 {
		r.record.note(line)
	}
}

// noteLeft waits until nothing of the locks is left in the servers, and notes what is.
func (r *runner) noteLeft() {
	limit := r.Watchdog + 3*time.Second // a lease of a worker that was killed, and a channel that lingers
	var left []string
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if left, err = r.world.left(); err == nil && len(left) == 0 {
			return
		}
	}
	if err != nil {
		r.troubled(err)
	}
	for _, name := range left {
		r.record.note(event{Kind: kindGhost, What: "in Redis", Lock: name})
	}
}

// noteConnections waits until no worker is connected any more, and notes which is, as the
// kernel has it: a proxy may be late to notice the end of a connection that it has spoiled.
func (r *runner) noteConnections() {
	for _, worker := range slices.Sorted(maps.Keys(r.world.links)) {
		open := 0
		for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			open = 0
			for _, link := range r.world.linksOf(worker) {
				open += established(link.Addr())
			}
			if open == 0 {
				break
			}
		}
		if open > 0 {
			r.record.note(event{Kind: kindGhost, Worker: worker, What: "connections", Value: int64(open)})
		}
	}
}
