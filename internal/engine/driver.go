package engine

import (
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
)

// A Driver is what makes a lock kind: its scripts and its channel. It has no
// state and sends nothing.
//
// Waiters of a kind that stand in line hand a lock over among themselves (handOver). That is right
// while one acquisition is as good as another: not with a fencing token, or where holds are shared.
//
// The answers of all kinds read alike. Acquire: {1, count} acquired, {0, ttl in
// ms} held by another owner, {-1, 0} the owner's hold is gone. Renew: {1, ttl},
// {-1, 0} gone. Release: {1, count} released down to count, {-1, 0} gone, {2, text}
// freed but the waiters could not be told. Force: as Release, {0, 0} when nobody
// held it. Inspect: {ttl, count of the owner}.
type Driver interface {
	// Kind names the lock kind for people: errors, spans, metrics.
	Kind() string
	// Channel names the channel on which this owner is told of a release while it waits.
	Channel(key, owner string) string

	Acquire(key, owner string, lease time.Duration, before int) script.Op // with an Undo that tells nobody
	Renew(key, owner string, lease time.Duration) script.Op
	Release(key, owner string, after int, publish string) script.Op
	Force(key, publish string) script.Op
	Inspect(key, owner string) script.Op
}

// A Queue is a Driver whose waiters stand in a queue in Redis, in the order in which
// they came. Release down to 0 also takes the owner out of the queue.
type Queue interface {
	Driver
	// Stand acquires for an owner that does not have the lock yet, or takes a place in
	// the queue. The answer is {1, count, ...} acquired, {0, ms, ...} wait for a message
	// but at most that long, {-1, 0, ...} no place to renew; followed by the server's time
	// in us, position and length of the queue, Mixed for the next time, and 1 if
	// this call decided the order. Its Undo tells the next one, who may have been the owner itself.
	Stand(key, owner string, lease time.Duration, p Place, publish string) script.Op
	// Probes are commands, one for each that the queue's scripts use and a plain lock's do not:
	// Redis names the one that is forbidden, where it tells a script only that one is. They may
	// spoil the queue of that key.
	Probes(key string) [][]any
}

// A Place is what a waiter wants of the queue.
type Place struct {
	Lease time.Duration // how long it is kept without being renewed; 0: none is taken
	Since int64         // when it was renewed last, the server's time in us; 0: never
	Mixed bool          // others than ours may stand before it
	Renew bool          // only renew it, the lock is not wanted now
}

// The first number of an answer.
const (
	gone   = -1
	taken  = 0
	done   = 1
	untold = 2
)

// noTTL is how Redis tells the TTL of a key that has none.
const noTTL = -1

// Milliseconds writes a duration for Redis, rounded up: a lease of 1.5 ms must not
// end before the holder thinks so.
func Milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
