// Package multilock has the locks that are made of others: a multi lock (Redisson's
// MultiLock), held if all its members are, and a quorum lock (Redisson's RedLock), held if a
// majority of them is. Neither has a key of its own in Redis: whoever locks a member alone
// is excluded too, and a hold's context re-enters the members.
//
// # The multi lock
//
// What it promises: all that its members promise, together. There is no moment in which a
// caller has it without all members, or is left with some. The hold is lost as soon as one
// member is, the cause names that member, and the others are released. Members may be any locks of this
// library: RLocks, FairLocks, quorum locks, and other multi locks, whose members count as its own; the same
// lock twice counts once. A plain and a fair lock of one name are refused, they are one key and would wait
// for each other; so are a quorum lock and a member of it. That is seen within one client only: name no key
// twice through two clients of one server, that lock would wait for itself.
//
// What it does not promise: an order among those who wait, also where all members are fair
// locks, see below. Nor more than its servers: if one of them is down, unless it is one of a quorum lock's
// minority, it cannot be acquired, and its holds are lost at the end of a trust window.
//
// How it acquires:
//
//	ask for all, batch by batch -> all won -> a try of each quorum lock -> a majority of each -> a hold
//	      ^                          |                     |
//	      |                          +---------------------+-- one is busy: give back what was won, in reverse
//	      +-- its turn has come <-- wait for that one alone, holding nothing
//
// Members are asked in one order wherever they are used, whatever order they were given in: by
// server, by slot on a cluster, by key. A server is known by the address and database that the
// Redis client was told, so name it alike in all processes; a client behind Sentinel
// tells neither its sentinels nor its master's name, so all those count as one server, and locks of
// one key in two such deployments are asked for in the order in which the holdfast clients were
// made: make them alike too. Members of one client that are
// on one server, or in one slot of a cluster, make a batch: one script takes all of them if all are free (where there
// are fair locks or re-entries it asks for one after the other, and takes back those before the first that is not
// free), so that nobody sees a part of it. They are released in one call too.
//
// It cannot deadlock, because it holds nothing while it waits; and of those that meet,
// the one that has the last of the locks in question, in the common order, gets the rest too (quorum locks are
// another matter, see below).
// The first try goes to all servers at once, since mostly nothing is taken. Every later one goes
// from server to server, and so does a TryLock without waiting, whose first try is its
// only one: asking at once, those that meet could all fail.
//
// A member that is busy is waited for by messages: in line, or at a place in the
// queue of a fair lock. The policy of a member with WithPolling is not asked, here and in a
// quorum lock. That place is kept while this member is the one that is waited for, and
// is given up when another member turns out to be busy, so that nobody stands still behind
// somebody who waits elsewhere. So a fair member gives its turn in order, but may have
// to be waited for again. A try that does not wait takes a fair member only if nobody stands
// in its queue.
//
// A lease of the caller's starts anew once all are held, where there is more than one batch:
// or the members that were acquired first would have less of it. Without one the watchdog
// renews each member.
//
// Quorum locks come last, each with one try at a time, while the others are held: for the round trip to its servers,
// or up to a try's short limit where one of them is silent. A try without a majority has everything given
// back, and then the pause is the quorum lock's own: for a message of a member that is taken, or for a random time
// where the votes were split. So it takes longer than by itself where many want that quorum lock, and there nobody is
// certain to get it in the end, as with every quorum lock: of many that try without waiting, none may. While a majority
// of its servers is silent each try holds the others for the short limit, up to half a second, in
// vain; who wants only those has to wait for that long. A hold with
// a lease starts it anew for all at the end, for which a server that is silent is waited for up to 3 seconds, and the
// quorum lock's validity is checked before that.
//
// What is not known is undone: a member whose answer was lost is released in the background
// until that is confirmed, or one lease is over. Unlock tries every member, and joins the
// errors.
//
// A client that is closed ends the hold with ErrClosed, whichever member it had, unless it was of a quorum
// lock's minority. As the work
// may go on, nothing is released: the members of all clients stay until their leases run
// out, or Unlock comes before. The same goes for a quorum hold that is left without a majority.
//
// # The quorum lock
//
// It is the published Redlock algorithm
// (https://redis.io/docs/latest/develop/use/patterns/distributed-locks/): the same lock on
// an odd number of independent servers, at least 3. It is held if a majority is. So it does
// without a minority of the servers, whether they are dead, slow or cut off, and does not
// depend on replication.
//
// Its members are RLocks, each of a client of its own. Two members of one client would be one
// server, which would vote twice; whether two clients have two servers is yours to see to. An
// even number stands no more failures than the odd one below it. A fair lock is refused:
// a turn in one queue is no turn in the others.
//
// A try asks all members at the same time, each with a short limit: a twentieth of the lease,
// but at least 100 ms or half the lease, and at most 500 ms. It is won if a majority says yes and
//
//	validity = lease - elapsed - drift > 0, drift = 1 % of the lease + 2 ms
//
// The hold begins with that majority. The others join it as they answer, mostly within a
// millisecond, and are given back if it has ended by then; a context of the hold knows them from the
// beginning, and who locks one inside of it waits for its answer. Only a re-entry, whose count is that of most
// members, a quorum lock that is one of a multi lock's, which may have to give everything back and ask
// again, and the first call of a cluster's client, which has to ask how releases are told, wait for all that are alive.
//
// Without a majority every member is given back, also those that did not answer. Who finds a majority taken and wins no member waits
// for a message of any of them, for the first lease to end or for 5 seconds. Where the
// votes were split, or servers were silent, there is a random pause, longer from try to try.
//
// A member that was silent for a whole limit is dark until it answers again, and one whose server
// refuses to be dialled is at once: it is asked with the others, but where all are waited for it is not,
// once a majority is won. So dead servers cost the first Lock nothing, and a re-entry the limit once.
//
// Each member is a hold with a trust window of its own, counted from the sending of its own
// command. The quorum hold is trusted as long as a majority of them is, and is lost at the
// moment when that ends, not when somebody asks next.
//
// Under the watchdog a keeper asks for what is missing, every third of a lease: members that
// were dark, or that came back without the lock. This gives nothing away. While the hold has
// a majority nobody else can win one, so a free member can only be of use to those who are
// about to fail; and one that somebody else has is left to them. A hold with a lease or
// with WithMaxHold has no keeper. The keeper cannot tell a server that forgot from a
// ForceUnlock: it may take the freed members back, one after the other, before the hold has found
// a majority of them gone, and then the hold lives on.
//
// What it does not promise:
//
//   - A server that lost its data has forgotten its yes, and may give another one while the
//     first still counts. Start it again no sooner than one lease, the longest that is used, after it
//     went down; or keep the append-only file with fsync always. The library cannot see it.
//   - Clocks that run apart by more than the drift and the members' margins. A server's clock that jumps
//     forward is a member that says yes twice.
//   - Work that does not look. A process that was stopped finds out when it runs again, but
//     a write that is on its way then is not called back.
//   - A fencing token.
//   - An order, or that somebody gets it soon: of many that ask at once none may have a majority.
//
// Martin Kleppmann's critique
// (https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html) is that
// Redlock's safety rests on bounds for clocks, pauses and networks, and that without a fencing token a
// holder that was paused can still write after another one. That is true here too: where
// two writers for a moment would be a disaster, the resource has to refuse the older one.
//
// # What is different from Redisson, and why
//
// A lease is a time.Duration from the call to the end, so no round that has to be
// repeated makes it longer; in Redisson 4.7.0 a MultiLock with a lease converts it anew
// in each round, and holds for hours. A failure gives back all members and tells all errors, where
// Redisson stops at the first one and leaves the others locked. Members are acquired in one order for
// all, where two MultiLocks of Redisson in opposite orders can hinder each other for
// long. The wait and ctx bound the commands too, not only the waiting: TryLock with
// 200 ms returns after 200 ms also if a server hangs.
//
// Redisson's RedLock takes any number of members on any servers, and has no validity; it asks one
// member after the other. Both of Redisson's groups, given a wait and a lease, acquire their
// members for twice the wait; ours have the lease from the start.
package multilock
