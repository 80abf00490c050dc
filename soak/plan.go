package main

import (
	"fmt"
	"slices"
	"time"
)

// plan is one cycle of rounds: each topology with each class of faults.
func plan(s settings, cycle int) []round {
	scale := time.Duration(1)
	if !s.short {
		scale = 2
	}
	mixed := map[string]int{"hot": 6, "cold": 4, "reenter": 3, "storm": 2, "cancel": 1, "stay": 2, "patient": 2, "keep": 1, "fair": 2, "multi": 2}
	lossy := map[string]int{"hot": 4, "cold": 1, "victim": 3, "keep": 2}
	rounds := []round{
		{Name: "standalone", Topology: "standalone", Workers: 3, Mortals: 1, Load: mixed, Duration: 28 * time.Second, Pace: 350 * time.Millisecond},
		{Name: "cluster", Topology: "cluster", Workers: 3, Mortals: 1, Load: mixed, Duration: 22 * time.Second, Pace: 500 * time.Millisecond},
		{Name: "sentinel", Topology: "sentinel", Workers: 3, Mortals: 1, Load: mixed, Duration: 33 * time.Second, Pace: 300 * time.Millisecond},
		{Name: "lossy-standalone", Topology: "standalone", Lossy: true, Forgetful: true, Gentle: true, Workers: 3, Load: lossy,
			OwnLoad: map[string]int{"force": 1}, Duration: 10 * time.Second, Pace: 700 * time.Millisecond},
		{Name: "lossy-sentinel", Topology: "sentinel", Lossy: true, Gentle: true, Workers: 3, Load: lossy, Duration: 10 * time.Second, Pace: time.Second},
		{Name: "lossy-cluster", Topology: "cluster", Lossy: true, Gentle: true, Workers: 3, Load: lossy, Duration: 10 * time.Second, Pace: time.Second},
	}
	for i := range rounds {
		r := &rounds[i]
		r.Name = fmt.Sprintf("%02d-%s", cycle, r.Name)
		r.Seed = s.seed + uint64(cycle)
		r.Duration *= scale
	}
	return rounds
}

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
		least := 3
		switch what {
		case "Sentinel failover": // a round has time for few of these
			least = 2
		case "master killed", "cluster master killed":
			least = 1
		}
		floor("faults of the kind "+what, f.Faults[what], least)
	}
	floor("failovers", f.Faults["Sentinel failover"]+f.Faults["cluster failover"]+f.Faults["master killed"]+f.Faults["cluster master killed"], 2)
	floor("slot moves", f.Faults["slot move"], 10)
	floor("histories that porcupine decided", f.Histories-f.Undecided, 10)
}

// everyKind are the names of all faults.
func everyKind() (kinds []string) {
	for _, deck := range [][]fault{
		linkFaults, workerFaults, serverFaults, sentinelFaults, clusterFaults, lossyServerFaults, lossySentinelFaults, lossyClusterFaults,
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
