// Package watchdog keeps leases alive: one scheduler for all of a client, one
// goroutine, one timer. It knows no lock kind.
//
// # Two moments
//
// Each lease has two moments that matter: when it is renewed next, and its deadline,
// when it can be trusted no longer:
//
//	sent      RenewAt                             Deadline     expires in Redis
//	 |-----------|------|------|------|-- ... -------|-----------|
//	      1/3 lease     retries, while no answer came    margin
//
// Both stand in one heap, ordered by whichever comes first, and the timer is set to
// the earliest of all. So a deadline is noticed when it passes and not at the next
// tick, and 100,000 leases cost one goroutine and one timer. A goroutine a lease would
// send each renewal by itself, and cost a stack for a lease that sleeps all its life.
//
// # Three outcomes
//
// A renewal is answered "renewed" or "gone", or not at all. What the first two mean
// is the lease's business: it calls Put with a later deadline, or Remove. Without an
// answer, or after an error, the watchdog sends another copy after a pause, and
// another: renewing twice does no harm, and the deadline keeps running. A copy that
// has not left its queue yet is not doubled. An answer belongs to one life of an
// entry, from the Put that added it to its removal; later it is dropped.
//
// # Rounds
//
// What is due together is sent together: grouped by server, at most 100 renewals a
// call, the earliest deadline first. A renewal due within the next 5 ms (or 1 % of its
// remaining time, if that is less) goes along with one that is due; alone it is never
// early. Sending never waits, so a server that hangs, or a call that fails, delays no
// other. A long round is worked off in parts, and after each part the deadlines
// that passed meanwhile are told.
//
// # After a stop
//
// A process that was stopped for longer than a lease finds deadlines and renewals
// due at once. Deadlines come first: what can be trusted no longer is not renewed.
//
// # Idle clients
//
// The goroutine starts with the first Put and stays until Close. While nothing is
// kept it has no timer. The timer is only ever set earlier, so locks that are taken
// and freed at once do not wake it each time.
//
// # Lock order
//
// The watchdog calls its leases, Send and queued with no mutex held: from its own
// goroutine (Renewal, Lapsed, Send, queued) or from that of the answer (Renewed). So
// leases may call Put, Remove and Len with their own mutex held; theirs comes first.
// Close waits for the goroutine, and so for the lease that it is calling.
//
// # Files
//
//	watchdog.go   the contract; Put, Remove, Close
//	round.go      the goroutine: what is due, in which order, when next
//	call.go       a call and its answers
//	entry.go      an entry, and the heap
package watchdog
