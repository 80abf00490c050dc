package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"
)

// lease is that of every lock, but for the measurement of renewals.
const lease = 30 * time.Second

// settings are the sizes of a run.
type settings struct {
	Rounds      int           // of every measurement but the held locks
	HeldRounds  int           // those take long
	Window      time.Duration // counted time of one measurement
	Held        int           // locks held at once
	HeldLease   time.Duration // and their lease
	Waiters     int           // on one lock in one client
	Releases    int           // to watch while they wait
	WaitersCome time.Duration // until all of them wait
}

func fullSettings(rounds int, window time.Duration) settings {
	return settings{
		Rounds:      rounds,
		HeldRounds:  min(rounds, 2),
		Window:      window,
		Held:        100_000,
		HeldLease:   15 * time.Second,
		Waiters:     10_000,
		Releases:    1_000,
		WaitersCome: 3 * time.Second,
	}
}

// quickSettings only show that everything works.
func quickSettings() settings {
	return settings{
		Rounds:      1,
		HeldRounds:  1,
		Window:      100 * time.Millisecond,
		Held:        500,
		HeldLease:   1500 * time.Millisecond,
		Waiters:     100,
		Releases:    20,
		WaitersCome: 300 * time.Millisecond,
	}
}

// A figure is one line of the table.
type figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Better direction `json:"better"`
}

type direction string

const (
	higher direction = "higher"
	lower  direction = "lower"
)

// A reading is one value of a figure: of one peer in one round.
type reading struct {
	figure figure
	value  float64
}

// A measurement is run for one peer at a time.
type measurement struct {
	name   string
	rounds func(settings) int
	fits   func(peer) bool
	run    func(ctx context.Context, b *bench, p peer) ([]reading, error)
}

func everyRound(s settings) int { return s.Rounds }

func anyPeer(peer) bool { return true }

var measurements = []measurement{
	pairs(1), pairs(16), pairs(128), pairs(512), hotLock, handOff, heldLocks, manyWaiters,
	hotFair, multiPairs(1), multiPairs(16), quorumPairs(1), quorumPairs(16), quorumPairs(128),
}

// A bench is one run.
type bench struct {
	settings settings
	addr     string    // of its Redis
	servers  []*server // of quorum locks
	progress io.Writer
}

// measure runs each measurement in rounds, the peers taking turns within a round and
// starting one further in each, so that whatever else the machine does meanwhile
// meets all of them alike.
func (b *bench) measure(ctx context.Context, chosen []measurement, peers []peer) (*report, error) {
	r := &report{Settings: b.settings}
	for _, m := range chosen {
		for round := range m.rounds(b.settings) {
			for i := range peers {
				p := peers[(round+i)%len(peers)]
				if !m.fits(p) {
					continue
				}
				if err := ctx.Err(); err != nil {
					return r, err
				}
				fmt.Fprintf(b.progress, "%s, round %d: %s\n", m.name, round+1, p.name)
				readings, err := b.once(ctx, m, p)
				if err != nil {
					r.problem(p, fmt.Sprintf("%s, %s, round %d: %v", p.name, m.name, round+1, err))
				}
				r.add(round, p, readings)
			}
		}
	}
	return r, nil
}

// once is one measurement of one peer, on an empty Redis and a swept heap.
func (b *bench) once(ctx context.Context, m measurement, p peer) ([]reading, error) {
	if err := flush(ctx, b.addr); err != nil {
		return nil, err
	}
	runtime.GC()
	return m.run(ctx, b, p)
}
