// Package fairlock is the fair lock, Redisson's FairLock: whoever asked first gets it
// first.
//
// # What it promises
//
// All that a plain lock promises (package rlock), and the order: owners are granted the
// lock in the order in which their acquire scripts ran on the server, whichever
// goroutines, processes or clients they belong to, Go's and Java's alike. A waiter
// keeps its place for as long as it waits, also for hours. One that gives up, whatever
// the reason, is out of the queue as soon as Redis answers, and the next one is told.
//
// A waiter that dies keeps its place for its waiter lease (WithWaiterLease, 15 seconds).
// If it was the first one, the lock stands idle for at most that long; any number
// of dead waiters cost one waiter lease together, because their leases run side by side.
// Give all users of a lock the same waiter lease: who waits behind the dead learns that
// the lock is free when it renews its own place, a third of its lease or 5 seconds
// later at most.
//
// TryLock without waiting never queues and never jumps the queue: it takes a free
// lock only if nobody waits.
//
// What it does not promise, beside what a plain lock does not: the order among waiters
// of which one was cut off from Redis for longer than its waiter lease, or after a
// failover that lost entries of the queue. They enter it again, at its end.
//
// # In Redis
//
//	orders                                     hash        owner -> hold count, with the lease as TTL
//	redisson_lock_queue:{orders}               list        waiting owners, the next one first
//	redisson_lock_timeout:{orders}             sorted set  waiting owner -> until when it keeps its place
//	redisson_lock__channel:{orders}:<owner>    channel     "0" when this waiter is the next one and the lock is free
//
// These are Redisson's. What is left of dead waiters is removed by the next script that
// looks; without one it stays, as Redisson's does.
//
// # How a waiter waits
//
//	acquire -> told to wait -> subscribe -> confirmed -> acquire -> ... message or timer -> acquire
//	             |
//	             +-- from now on the watchdog renews the place, at a third of the waiter lease
//	                 or every 5 seconds, many waiters in one call
//
// The answer to a renewal tells the same as an acquire that has to wait. So a waiter
// that lost its message is told its turn by the next renewal, and one that only waits
// asks nothing itself. The first one's timer is the lease of the holder. The
// others come when those before them could all be dead: when the place of the first, and
// that of the one right before them, have run out. So behind a dead waiter only the
// next one comes, and asks once.
//
// A waiter keeps its owner id from try to try, because the id is its place. A try of
// unknown outcome may have been granted the lock, or may be executed late; leaving
// releases and leaves in one script, and is repeated until no try can arrive any more.
//
// # Places among Redisson's waiters
//
// A score in the sorted set says when a waiter may be dropped. Redisson's waiters compute
// theirs once, by their own clock: the predecessor's, plus a quota of their own
// (5 minutes, or the wait of a tryLock). When one of them is granted the lock or gives
// up, it takes its quota off the scores of all behind it. Ours are set anew at each
// renewal, by the server's clock:
//
//	now + waiter lease + quotas of Redisson's waiters before it
//
// so that what those take off leaves it a waiter lease. A quota is the difference of two
// neighbours' scores. That is exact between two of Redisson's, unless one of ours was between
// them and has left. Where one of ours, or
// nobody, stands before Redisson's waiter, the difference shrinks as time passes,
// so a large one counts as 5 minutes, or as twice what is left if that is more. A small one
// (below our waiter lease) is taken as it is. What was allowed at first stays allowed until
// it is taken off, also to those of ours that come later. Once no waiter of Redisson
// is before our entries, any waiter of ours that came behind Redisson's, and any that
// comes, cuts their scores to its waiter lease, or 15 seconds if that is more.
//
// What follows: a waiter of ours that lives keeps its place behind Redisson's, with long
// and short quotas; except behind one that had waited for nearly all of a quota longer
// than our waiter lease when ours came, or for half of one longer than 5 minutes; and behind two
// between which one of ours has left, if both go before ours is renewed the next time.
// One of ours that died costs its waiter lease, also if only Redisson's waiters are there
// to notice; if it died behind a waiter of Redisson with a quota longer than that, up to five
// minutes more, or as much more as the quota if that is longer, unless another client of
// ours looks. A dead waiter of Redisson costs what Redisson gives it.
//
// Redisson's waiters judge staleness by the clock of their own process: one that runs fast
// drops our places as it drops Redisson's own.
//
// # What is different from Redisson, and why
//
// A dead waiter costs seconds, not minutes (its issues 6150, 4595), and a long wait does
// not lose its place. Nobody polls at network speed while the first one is dead. Every
// way out leaves the queue, an interruption too. Staleness is judged by the server's clock.
// Unlocking what nobody holds is an error. A tryLock() of Redisson behaves as our
// TryLock without a wait; its tryLock(0, unit) enters and leaves the queue.
package fairlock
