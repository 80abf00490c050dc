// Package holdfast gives Go the locks of Redisson, on Redis: reentrant, kept alive by
// a watchdog, handed over by message. Keys, fields and messages are Redisson's own, so
// Go and Java processes exclude each other on the same name.
//
//	client, err := holdfast.New(rdb) // rdb: a go-redis client of yours
//	...
//	defer client.Close()
//
//	orders := client.RLock("orders:42")
//	err = orders.Do(ctx, func(ctx context.Context) error {
//		return charge(ctx) // ctx ends, with a cause, the moment the hold is lost
//	})
//
// # Kinds
//
// RLock is the plain lock, and the one to take unless you need more. FairLock serves its
// waiters in the order in which they came, in whichever process. MultiLock is several
// locks as one, held if all are; it cannot deadlock, whatever the order. RedLock is one lock on
// several independent servers, held if a majority of them says so. All are a Lock, and give
// a Hold. README.md helps to choose; the packages fairlock and multilock say how they work.
//
// # Words
//
// A hold is one successful acquisition: what Lock and TryLock return, and what is
// unlocked. An owner is who holds in Redis, "<client uuid>:<number>": each Lock makes
// a new one, except with a context that Hold.Context made. Such a call re-enters: one
// more hold of the same owner, and the lock is free after the last of them is
// unlocked, in whatever order. All goroutines that are given that context are that
// one owner; nothing hangs on the goroutine that calls.
//
// The wait is how long a call is ready to wait for another owner. ctx bounds it too,
// and with it every command that is sent meanwhile; once the lock is held, the end of
// ctx changes nothing. The lease is how long Redis keeps the lock unless it is
// renewed. Without a lease of its own (WithLease, TryLock's last argument) a hold has
// the watchdog's, 30 seconds, and is renewed at a third of it until it is unlocked.
//
// # The end of a hold
//
// A hold ends by Unlock, or it is lost: its lease ran out without a confirmed
// renewal, or its key was deleted, force-unlocked or taken. Then Done is closed, Err
// returns ErrLost, and every context that Hold.Context made ends with that as its
// cause. No hold is reported as held outside of its trust window:
//
//	trusted until = sending of the confirmed acquire or renewal + lease - margin
//
// on the monotonic clock, where the margin is 1 % of the lease, at least 10 ms and at
// most a quarter of the lease. So guarded work should run with the hold's context, and
// must not go on after that has ended.
//
// Not getting the lock is an error, ErrNotAcquired, and never stands for a Redis that
// did not answer or refused: such an error says what Redis said.
//
// # Concurrency
//
// All methods of Client, Lock and Hold may be called at once. A Lock is stateless and
// cheap: keep it or make it anew. The waiters of one client for one plain lock are served
// in order of arrival; between clients whoever asks first after a release gets it. A
// FairLock has one order for all.
//
// # What it does not promise
//
// On one Redis master that loses no data, at most one owner trusts a lock at any
// time. A lock is no stronger than that Redis. After a failover that loses the
// acquisition there may be two holders until the old one's next renewal reaches the
// new master, or its trust window ends; while the old master, cut off, still takes
// its renewals, there is no such bound unless Redis has min-replicas-to-write. The
// same goes for a key that is deleted or evicted, and for a server whose clock jumps
// forward. Between the loss and the moment in which the guarded work looks at its
// context, that work runs unguarded. docs/guarantees.md has it in full.
//
// A RedLock does without failover, but its servers must not forget what they said, and their
// clocks must run alike. No lock here has a fencing token yet.
//
// # Close
//
// Close wakes every waiter with ErrClosed and ends open holds with ErrClosed. It does
// not release them, since the work that they guard may still be running: their leases
// run out. Unlock first what is finished; Unlock works after Close too. The Redis
// client is the caller's, and is to be closed last.
package holdfast
