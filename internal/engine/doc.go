// Package engine is the part that all lock kinds share: owners and holds, the
// trust window, outcomes that are unknown, the wait loop. A lock kind is a Driver:
// its scripts, its channel.
//
// # Owner, hold, attempt, undo
//
//	attempt   one call of Lock on its way: asks, waits, asks again
//	owner     who holds in Redis: one id, one hash field, one trust window
//	hold      one acquisition of an owner: the thing that is unlocked
//	undo      takes back in the background what an owner may have left in Redis
//	heir      the owner of the next caller in line, to whom a lock is handed over
//	turn      how an attempt waits: in line before a plain lock (front), or at a place
//	          in a queue in Redis (place)
//	bid       one lock's part in the acquisition of several
//
// # The trust window
//
//	trusted until = sending of the confirmed acquire or renewal + lease - margin
//
// on the monotonic clock. While it lasts, Redis cannot have given the lock to
// anybody else, whatever became of the network since: the server started to count
// the lease later than we did. When it passes the hold is lost, also if Redis still
// has the key. The watchdog watches it with its own timer, and every question to
// a hold looks at the clock too.
//
// # Rules
//
// They come from model checking; breaking any of them lets two owners in, or
// leaves a lock behind.
//
//  1. One acquire or release of an owner is in flight at a time (owner.take). A
//     release says how many holds are left. After the last one the owner's id is
//     never used again. An heir goes on with it only where no release was sent, nor will be
//     (handOver). An Unlock that has stopped waiting gives the turn back with its
//     release still on its way: its limit is over, or, of a quorum lock, enough others
//     were released. An undo follows it then, which says how many are left by that time.
//  2. An attempt whose outcome is unknown is followed by one with a fresh owner.
//     Only a definite "taken" keeps the id. A place in a queue keeps it too, because it
//     is the place; what may still arrive is undone when the owner has left (owner.late).
//     But not after a call that is all or nothing: a late copy of that could take back
//     what is a hold by then.
//  3. What may have been executed is undone: a first acquisition down to 0, a
//     re-entry down to the holds that there are. "Gone" is not the end of it, the
//     acquire may still arrive; one lease later it cannot have left anything.
//  4. The window counts from the sending of the copy that was answered, and never
//     moves back. Answers about holds that have ended are ignored.
//  5. "Gone" on an inner release is a loss. On the last one it is a loss if no
//     earlier copy of the release can have run, or if Unlock was called too late.
//  6. A hold that lapsed is not renewed any more, and is released in the background.
//  7. The margin is 1 % of the lease, at least 10 ms, at most a quarter of the lease.
//
// # Lock order
//
// undo.mu, owner.mu or place.mu first, then Engine.mu, then what the watchdog locks within
// its methods. lines.mu stands alone. Nobody holds one of them while waiting for
// Redis. The contexts of a hold are cancelled under owner.mu, so that they agree with
// Err and Done; who is told of its end (OnEnd) is told outside.
package engine
