package main

import (
	"fmt"
	"slices"
	"time"
)

// The loads of the rounds: goroutines of each worker by workload.
var (
	mixed  = map[string]int{"hot": 6, "cold": 4, "reenter": 3, "storm": 2, "cancel": 1, "stay": 2, "patient": 2, "keep": 1, "fair": 2, "multi": 2}
	lossy  = map[string]int{"hot": 4, "cold": 1, "victim": 3, "keep": 2}
	quorum = map[string]int{"red": 4, "both": 2}
)

// plan is one cycle of rounds: each topology with each class of faults. The longest
// comes first, as several run side by side. A long run has each twice as long, and now
// and then a round with 100,000 locks that are held.
func plan(s settings, cycle int) []round {
	rounds := []round{
		{Name: "standalone", Topology: "standalone", Workers: 3, Mortals: 1, Load: mixed, Duration: 30 * time.Second, Pace: 350 * time.Millisecond},
		{Name: "sentinel", Topology: "sentinel", Workers: 3, Mortals: 1, Load: mixed, Duration: 28 * time.Second, Pace: 300 * time.Millisecond},
		{Name: "cluster", Topology: "cluster", Workers: 3, Mortals: 1, Load: mixed, Duration: 24 * time.Second, Pace: 450 * time.Millisecond},
		{Name: "quorum", Topology: "quorum", Workers: 3, Mortals: 1, Load: quorum, Duration: 24 * time.Second, Pace: 400 * time.Millisecond},
		{Name: "lossy-sentinel", Topology: "sentinel", Lossy: true, Gentle: true, Workers: 3, Load: lossy, Duration: 16 * time.Second, Pace: 700 * time.Millisecond},
		{Name: "lossy-cluster", Topology: "cluster", Lossy: true, Gentle: true, Workers: 3, Load: lossy, Duration: 11 * time.Second, Pace: 700 * time.Millisecond},
		{Name: "lossy-standalone", Topology: "standalone", Lossy: true, Forgetful: true, Gentle: true, Workers: 3, Load: lossy,
			OwnLoad: map[string]int{"force": 1}, Duration: 10 * time.Second, Pace: 600 * time.Millisecond},
	}
	if !s.short && cycle%4 == 0 {
		rounds = append(rounds, round{Name: "held", Topology: "standalone", Gentle: true, Workers: 1, Load: map[string]int{"held": 100},
			Watchdog: 30 * time.Second, Faults: []string{"CLIENT KILL normal", "SCRIPT FLUSH", "SIGSTOP"}, Duration: 40 * time.Second, Pace: 2 * time.Second})
	}
	for i := range rounds {
		r := &rounds[i]
		r.Name = fmt.Sprintf("%02d-%s", cycle, r.Name)
		r.Seed = s.seed + uint64(cycle)
		if s.short {
			r.Least = leastOften
		} else {
			r.Duration *= 2
		}
	}
	return rounds
}

// leastOften is how often each kind of fault has to happen in a run.
const leastOften = 3

// floors make a run that shows too little invalid.
func (r *report) floors(s settings) {
	floor := func(what string, got, least int) {
		if got < least {
			r.Invalid = append(r.Invalid, fmt.Sprintf("%d %s, at least %d are needed", got, what, least))
		}
	}
	f := r.Total
	if s.short {
		floor("acquisitions", f.Acquired, 50_000)
		floor("faults", f.AllFaults, 300)
	} else {
		floor("acquisitions a minute", int(float64(f.Acquired)/f.Seconds*60), 20_000)
	}
	for _, what := range everyKind() {
		floor("faults of the kind "+what, f.Faults[what], leastOften)
	}
	floor("failovers", f.Faults["Sentinel failover"]+f.Faults["cluster failover"]+f.Faults["master killed"]+f.Faults["cluster master killed"], 2)
	floor("slot moves", f.Faults["slot move"], 10)
	floor("histories that porcupine decided", f.Histories-f.Undecided, 10)
}

// everyKind are the names of all faults.
func everyKind() (kinds []string) {
	for _, deck := range [][]fault{
		linkFaults, workerFaults, serverFaults, sentinelFaults, clusterFaults, quorumFaults, lossyServerFaults, lossySentinelFaults, lossyClusterFaults,
	} {
		for _, f := range deck {
			kinds = append(kinds, f.name)
		}
	}
	for _, list := range chances(false, 1) {
		for _, c := range list {
			kinds = append(kinds, c.Decision.String())
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}
