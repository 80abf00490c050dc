// Command soak runs lock clients in several processes against real Redis servers,
// spoils their links, servers and processes by a seeded schedule, and then checks
// from a recorded history that the promises of docs/guarantees.md were kept.
//
//	go run . -duration 2m -seed 7         rounds over all topologies
//	go run . check history.jsonl          the checks of one round again, without servers
//	go run . controls                     planted bugs, each must be caught by name
//
// # Parts
//
//	controller   runs servers and proxies, inflicts faults, checks, reports
//	worker       the same binary once more: one client, its goroutines, one record of what they saw
//	link         a worker's connections to one server; each leads through a proxy of its own
//	round        servers, links and workers made anew, one class of faults, one history
//	history      JSON lines, appended by all processes, all times from one monotonic clock
//
// # Two classes of rounds
//
// In a safe round no fault loses data that was acknowledged, and two holders at once
// are a violation. In a lossy round data is lost on purpose (a master is killed before
// it has replicated, a key is deleted); overlaps are expected, counted, and held
// against the bound that docs/guarantees.md states.
//
// # What is observed, and where
//
// A worker notes when Lock was called and returned, until when the hold said that it
// was held (the moment before the last Err that was nil), and what Unlock said. So the
// recorded interval lies within the one in which the hold was trusted, whatever the
// scheduler did in between. A hook in its Redis client notes each operation of each
// script with its answer; what was sent and not answered is unknown.
//
// An invariant register on a server of its own, which meets no faults, is entered
// inside of the lock and left before Unlock. It needs no clock to see two at once.
//
// # Seeds
//
// One seed gives a stream to each worker, link and schedule, and the n-th command of a
// link meets the same fate in each run. Real servers are not exact, so what a run
// finds is kept as a history; replay_test.go of the library runs the same scenes in
// virtual time, where a seed is exact.
package main
