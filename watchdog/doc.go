// Package watchdog keeps leases alive: one scheduler for all of a client, one
// goroutine, one timer. It knows no lock kind.
//
// # Two moments
//
// Each lease has two moments that matter: when it is renewed next, and when it can
// be trusted no longer. Both stand in one heap, ordered by whichever comes first,
// and the timer is set to the earliest of all. So a deadline is noticed when it
// passes and not at the next round, and a client with 100,000 leases costs one timer.
//
// # Three outcomes
//
// A renewal is answered "renewed" or "gone", or not at all. What the first two mean
// is the lease's business. Without an answer the watchdog sends another copy after a
// short pause, and another: renewing twice does no harm, and the deadline keeps
// running. A copy that has not left its queue yet is not doubled.
//
// # Calls
//
// What is due together is sent together: grouped by server, at most 100 renewals a
// call, the earliest deadline first. Sending never waits, so a server that hangs, or
// a call that fails, delays no other.
//
// # After a stop
//
// A process that was stopped for longer than a lease finds deadlines and renewals
// due at once. Deadlines come first: what can be trusted no longer is not renewed.
//
// # Lock order
//
// The watchdog calls its leases with no mutex held, from its own goroutine (Renewal,
// Lapsed) or from that of the answer (Renewed). They may call it with their own held.
package watchdog
