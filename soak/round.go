package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const watchdogTimeout = 3 * time.Second

// A round is one scene: fresh servers, links and workers, and one class of faults.
type round struct {
	Name      string         `json:"name"`
	Topology  string         `json:"topology"`
	Lossy     bool           `json:"lossy,omitempty"` // some faults forget what was acknowledged
	Seed      uint64         `json:"seed"`
	Duration  time.Duration  `json:"duration"`
	Watchdog  time.Duration  `json:"watchdog"`
	Forgetful bool           `json:"forgetful,omitempty"` // the servers keep nothing on disk
	Workers   int            `json:"workers"`
	Mortals   int            `json:"mortals,omitempty"`  // so many more, which may be killed
	Alone     bool           `json:"alone,omitempty"`    // nobody takes the place of a worker that was killed
	Load      map[string]int `json:"load"`               // goroutines of each worker by workload
	OwnLoad   map[string]int `json:"own_load,omitempty"` // of the first worker alone
	Gentle    bool           `json:"gentle,omitempty"`   // no random faults of links
	Rate      float64        `json:"rate,omitempty"`     // so many times as many of them
	Faults    []string       `json:"faults,omitempty"`   // only these; otherwise all that suit
	Once      bool           `json:"once,omitempty"`     // each fault once and no more
	Pace      time.Duration  `json:"pace"`               // between two faults of one schedule
	Least     int            `json:"least,omitempty"`    // it lasts until each fault has happened so often, but twice its time at most
	Aborted   bool           `json:"aborted,omitempty"`  // Ctrl-C; how it ends says nothing
}

// A runner runs one round.
type runner struct {
	round
	binary    string // the workers'
	history   string
	world     *world
	team      *team
	record    *recorder
	faults    atomic.Int64
	impatient bool // what is left behind is of no interest

	mu        sync.Mutex
	inflicted map[string]int
	trouble   []error // of the harness itself: the round is invalid
}

// run runs the round until ctx ends or its time is over.
func (r *runner) run(ctx context.Context, dir string) (err error) {
	r.history = filepath.Join(dir, r.Name+".jsonl")
	_ = os.Remove(r.history)
	r.Watchdog = cmp.Or(r.Watchdog, watchdogTimeout)
	if r.record, err = record(r.history); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.record.close()) }()
	r.record.note(event{Kind: kindRound, Round: &r.round})
	if r.world, err = openWorld(r.Topology, r.fsync(), r.Lossy); err != nil {
		return err
	}
	defer r.world.close()
	team := &team{binary: r.binary, record: r.record, alone: r.Alone}
	defer team.end()
	r.mu.Lock()
	r.team = team
	r.mu.Unlock()
	if err := r.hire(); err != nil {
		return err
	}
	r.suffer(ctx)
	r.Aborted = ctx.Err() != nil
	r.record.note(event{Kind: kindRound, Round: &r.round}) // once more, with what has come of it
	r.finish()
	return errors.Join(append(r.trouble, r.team.failed())...)
}

// acquired is what the workers have told so far; they may not have started yet.
func (r *runner) acquired() int64 {
	r.mu.Lock()
	team := r.team
	r.mu.Unlock()
	if team == nil {
		return 0
	}
	return team.acquired()
}

// fsync is how the servers keep their append-only files, "" for not at all. A hundred thousand
// locks are more than a disk that others use takes in if each answer waits for it; a
// killed process loses nothing of what it has written.
func (r *runner) fsync() string {
	switch {
	case r.Forgetful:
		return ""
	case r.Load["held"] > 0:
		return "everysec"
	}
	return "always"
}

// hire starts the workers, each behind links of its own.
func (r *runner) hire() error {
	for i := range r.Workers + r.Mortals {
		name := fmt.Sprintf("w%d", i)
		links, err := r.world.link(name, r.Seed, chances(r.Gentle, r.Rate))
		if err != nil {
			return err
		}
		load := maps.Clone(r.Load)
		if i == 0 {
			maps.Copy(load, r.OwnLoad)
		}
		mortal := i >= r.Workers
		if mortal {
			delete(load, "patient") // its lease would outlive the round
		}
		if _, err := r.team.start(workerConfig{
			Name: name, Seed: r.Seed, History: r.history, Topology: r.Topology, Addrs: r.world.addrs(), Links: links,
			Register: r.world.register.Addr(), Watchdog: r.Watchdog, Mortal: mortal, Load: load,
		}); err != nil {
			return err
		}
	}
	return nil
}

// suffer lets the faults happen until the round's time is over and each has happened
// often enough. The last moments are without any, so that all that goes on in the
// background comes to its end.
func (r *runner) suffer(ctx context.Context) {
	const calm = 1500 * time.Millisecond
	began := time.Now()
	end, cancelEnd := context.WithCancel(ctx)
	defer cancelEnd()
	var watchers, schedules sync.WaitGroup
	defer watchers.Wait()
	defer cancelEnd()
	watchers.Go(func() {
		probe(func(from, to int64) {
			r.record.note(event{Kind: kindNoise, Call: from, Time: to, What: "controller late"})
		}, end.Done())
	})
	watchers.Go(func() { r.ask(end) })

	rough, cancel := context.WithCancel(end)
	defer cancel()
	decks := r.schedules()
	for name, deck := range decks {
		pace := r.Pace
		if name == "worker" {
			pace *= 4 // who is killed keeps a lock busy for a whole lease
		}
		if len(deck) > 0 {
			schedules.Go(func() { r.schedule(rough, ctx, name, deck, pace) })
		}
	}
	over := func(now time.Time) bool {
		passed := now.Sub(began)
		return passed > r.Duration-calm && (r.often(decks) || passed > 2*r.Duration) || r.team.failed() != nil
	}
	for tick := time.Tick(100 * time.Millisecond); rough.Err() == nil; {
		select {
		case now := <-tick:
			if over(now) {
				cancel()
			}
		case <-rough.Done():
		}
	}
	schedules.Wait()
	select {
	case <-time.After(calm):
	case <-ctx.Done():
	}
	r.Duration = time.Since(began)
}

// often tells whether each fault of the decks has been inflicted often enough.
func (r *runner) often(decks map[string][]fault) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, deck := range decks {
		for _, f := range deck {
			if r.inflicted[f.name] < r.Least {
				return false
			}
		}
	}
	return true
}

// schedules are the decks of faults that are inflicted side by side.
func (r *runner) schedules() map[string][]fault {
	decks := map[string][]fault{"link": linkFaults, "worker": workerFaults}
	switch {
	case r.Lossy:
		decks["link"] = nil // the bounds count on links that work
		decks["worker"] = nil
		decks["server"] = map[string][]fault{
			"standalone": lossyServerFaults, "sentinel": lossySentinelFaults, "cluster": lossyClusterFaults,
		}[r.Topology]
	default:
		decks["server"] = map[string][]fault{
			"standalone": serverFaults, "sentinel": sentinelFaults, "cluster": clusterFaults, "quorum": quorumFaults,
		}[r.Topology]
	}
	if r.Topology == "sentinel" && !r.Lossy { // a failover takes long, the others need not wait for it
		decks["failover"], decks["server"] = sentinelFaults[:1], sentinelFaults[1:]
	}
	if r.Mortals == 0 {
		decks["worker"] = nil
	}
	if r.Faults != nil { // empty: none
		for name, deck := range decks {
			decks[name] = slices.DeleteFunc(slices.Clone(deck), func(f fault) bool { return !slices.Contains(r.Faults, f.name) })
		}
	}
	return decks
}

// schedule goes through a shuffled deck of faults again and again, so that each kind
// comes equally often.
func (r *runner) schedule(ctx, abort context.Context, name string, deck []fault, pace time.Duration) {
	rng := stream(r.Seed, r.Name+"/"+name)
	f := &fate{ctx: ctx, abort: abort, world: r.world, team: r.team, rng: rng, record: r.record}
	for {
		for _, i := range rng.Perm(len(deck)) {
			f.last(pace/2, 3*pace/2)
			if ctx.Err() != nil {
				return
			}
			r.inflict(f, deck[i])
		}
		if r.Once {
			return
		}
	}
}

// inflict is one fault. Its first line is written before it begins, for a history that
// ends in the middle of it.
func (r *runner) inflict(f *fate, fault fault) {
	start := now()
	hit, err := fault.inflict(f)
	if errors.Is(err, errNobody) || errors.Is(err, errNoMaster) {
		return
	}
	e := event{Kind: kindFault, Call: start, Worker: hit.worker, Lock: hit.lock, What: fault.name, Tail: int64(fault.tail)}
	if err != nil {
		e.Err = err.Error()
		if f.abort.Err() == nil {
			r.troubled(fmt.Errorf("%s: %w", fault.name, err))
		}
	}
	r.record.note(e)
	r.faults.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inflicted == nil {
		r.inflicted = map[string]int{}
	}
	r.inflicted[fault.name]++
}

func (r *runner) troubled(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = append(r.trouble, err)
}

// ask pings the masters past the links and notes when one answers late: without a
// fault, that is the machine's doing.
func (r *runner) ask(ctx context.Context) {
	var group sync.WaitGroup
	for _, node := range r.world.nodes() {
		group.Go(func() {
			for ctx.Err() == nil {
				start := now()
				limit, cancel := context.WithTimeout(ctx, 2*time.Second)
				_ = node.Do(limit, "PING").Err()
				cancel()
				if end := now(); end-start > 25*ms {
					r.record.note(event{Kind: kindNoise, Call: start, Time: end, What: "server late"})
				}
				select {
				case <-time.After(15 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	group.Wait()
}
