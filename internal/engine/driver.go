package engine

import (
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
)

// A Driver is what makes a lock kind: its scripts and its channel. It has no
// state and sends nothing.
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

	Acquire(key, owner string, lease time.Duration, before int) script.Op
	Renew(key, owner string, lease time.Duration) script.Op
	Release(key, owner string, after int, publish string) script.Op
	Force(key, publish string) script.Op
	Inspect(key, owner string) script.Op
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
