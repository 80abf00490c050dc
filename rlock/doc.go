// Package rlock is the plain reentrant lock, Redisson's RLock. (The name has
// nothing to do with Go's read lock.)
//
// # What it promises
//
// On one Redis master that loses no data: at most one owner trusts the lock at any
// time; an owner that acquired n times frees it with the n-th Unlock and not
// before; a hold that ends in any other way says so no later than its trust
// window; and nothing stays locked longer than one lease when a process dies or an
// answer is lost. It is not fair: whoever asks first after a release gets it,
// though the waiters of one client ask in order of arrival, and hand the lock over among
// themselves for up to a millisecond.
//
// What it does not promise: exclusion after a failover that loses the
// acquisition, after the key was deleted or evicted, or when the server's clock
// jumps forward. The hold then learns of it at its next renewal.
//
// # In Redis
//
//	orders                              hash     owner -> hold count, with the lease as TTL
//	redisson_lock__channel:{orders}     channel  "0" when the lock is freed
//
// A name with a "{" keeps its own hash tag: shop:{7} has the channel
// redisson_lock__channel:shop:{7}. An owner is "<client uuid>:<number>". These are
// the very keys of a Redisson 4 RLock, so a Java process and a Go process exclude
// and wake each other.
//
// # The scripts
//
// acquire.lua, renew.lua, release.lua, force.lua and inspect.lua are one verb each
// and can be run by hand with redis-cli --eval. Each may be executed twice without
// harm, because it carries the hold count that is to be reached instead of adding to
// the one that is there; each checks its arguments before its first write; and
// releasing works while Redis refuses memory.
//
// acquire_all.lua and release_each.lua do what acquire.lua and release.lua do for several
// locks in one go: the members of a multi lock, and releases that share a call. undo.lua
// takes an acquire back in the call that made it.
//
// # What is different from Redisson, and why
//
// Redisson adds to the count, so a command that is sent again after a lost reply
// counts twice (its issue 7367). Its acquire replaces the lease even by a shorter
// one; ours keeps the longer, since the outer hold counts on it. Its holder is not
// told when a renewal finds the lock gone (issue 4698); ours sees its context end.
// Its spin lock frees without a message; ours publishes always, so that waiters of
// either kind may be mixed. And there is no thread: an owner is a hold and whoever
// was given its context.
package rlock
