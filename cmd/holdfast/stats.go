package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A handoff is one release that a waiter was woken by.
type handoff struct {
	from, to *visit
	took     time.Duration // from the beginning of Unlock to the return of Lock
}

// handoffs are all of them, in order. A visit that nobody waited behind hands nothing
// off, nor does one that ended otherwise than by its own Unlock.
func (b *book) handoffs() (all []handoff) {
	for i, to := range b.visits {
		if i == 0 {
			continue
		}
		if from := b.visits[i-1]; handsOff(from, to) {
			all = append(all, handoff{from, to, to.acquired.Sub(from.released)})
		}
	}
	return all
}

func handsOff(from, to *visit) bool {
	return !from.released.IsZero() && from.end != wasLost && to.since.Before(from.released) && to.acquired.After(from.released)
}

// overtaken counts the visits that had the lock before somebody who waited for it, though
// they asked after it was let go: who lets go is often the next to ask, while those who
// waited are still being told. These are no hand-offs. A quorum lock has many of them,
// since it is had only once a majority of the servers was asked.
func (b *book) overtaken() (n int) {
	for i, to := range b.visits {
		if i == 0 {
			continue
		}
		from := b.visits[i-1]
		if from.released.IsZero() || from.end == wasLost || !to.since.After(from.released) {
			continue
		}
		if slices.ContainsFunc(b.visits[i+1:], func(v *visit) bool { return v.since.Before(from.released) }) {
			n++
		}
	}
	return n
}

func durations(handoffs []handoff) []time.Duration {
	all := make([]time.Duration, len(handoffs))
	for i, h := range handoffs {
		all[i] = h.took
	}
	return all
}

// percentile is the smallest value that at least p percent of all are no greater than;
// 0 of none.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// measured is how many there were and, unless there were none, what they took.
func measured(all []time.Duration, separator string) string {
	if len(all) == 0 {
		return "0"
	}
	return strings.Join([]string{
		strconv.Itoa(len(all)), "p50 " + millis(percentile(all, 50)), "p99 " + millis(percentile(all, 99)),
	}, separator)
}

// A summary is what the show has come to.
type summary struct {
	kind      string
	workers   int
	visits    int
	handoffs  []time.Duration
	overtaken int
	longHold  time.Duration
	renewals  int
	lease     time.Duration
	kill      *takeover
	force     *takeover
	latest    time.Duration // how long the one that was forced out went on beside its successor
	learned   time.Duration // from the force-unlock until its context ended
	cause     string
	surprises int // holds lost though nobody forced them
	overlaps  int

	outage                 *outage
	neighbours, inversions int // in a fair lock's queue
}

// An outage is a server of a quorum lock that was killed.
type outage struct{ server, before, after int } // visits in the same act

// A takeover is how a lock went on after a holder that did not release it.
type takeover struct {
	from, to  string
	at        time.Time     // of the kill or the force-unlock
	took      time.Duration // from then to the return of Lock
	leaseLeft time.Duration // at the kill
}

func (s summary) lines() []string {
	lines := []string{
		"summary",
		fmt.Sprintf("  %-14s %d by %d processes", "acquisitions", s.visits, s.workers),
		fmt.Sprintf("  %-14s %s (to one that waited: Unlock called until its Lock returns)", "hand-offs", measured(s.handoffs, ", ")),
	}
	if s.overtaken > 0 {
		lines = append(lines, fmt.Sprintf("  %-14s %d (asked after an Unlock, and had the lock before those who waited)",
			"newcomers", s.overtaken))
	}
	if s.longHold > 0 {
		lines = append(lines, fmt.Sprintf("  %-14s %s on a lease of %s, renewed %d times", "long job",
			seconds(s.longHold), seconds(s.lease), s.renewals))
	}
	if o := s.outage; o != nil {
		lines = append(lines, fmt.Sprintf("  %-14s number %d of %d: %d acquisitions in the second before, %d in that after", "server killed",
			o.server, quorumServers, o.before, o.after))
	}
	if k := s.kill; k != nil {
		lines = append(lines,
			fmt.Sprintf("  %-14s %s died with %s of its lease left, %s had the lock after %s", "kill -9",
				k.from, seconds(k.leaseLeft), k.to, seconds(k.took)))
	}
	if f := s.force; f != nil {
		lines = append(lines,
			fmt.Sprintf("  %-14s %s had the lock after %s, %s was told after %s: %q", "force-unlock",
				f.to, millis(f.took), f.from, millis(s.learned), s.cause),
			fmt.Sprintf("  %-14s it worked on beside its successor for %s: a holder learns of a force-unlock", "late holder",
				millis(s.latest)),
			fmt.Sprintf("  %-14s at its next renewal, at most %s later", "", millis(s.lease/3)))
	}
	if s.surprises > 0 {
		lines = append(lines, fmt.Sprintf("  %-14s %d, forced by nobody (as when this machine or Redis stands still for longer than the lease)",
			"holds lost", s.surprises))
	}
	if s.kind == fairKind {
		lines = append(lines, fmt.Sprintf("  %-14s %d, of %d neighbours seen in the queue (granted the other way round)", "inversions",
			s.inversions, s.neighbours))
	}
	meaning := "besides that one, no two workers relied on the lock at once"
	if s.overlaps > 0 {
		meaning = "THE LOCK IS BROKEN: two workers relied on it at once"
	}
	return append(lines, fmt.Sprintf("  %-14s %d (%s)", "overlaps", s.overlaps, meaning))
}

func (s summary) String() string { return strings.Join(s.lines(), "\n") }

func millis(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
