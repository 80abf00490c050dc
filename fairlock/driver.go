package fairlock

import (
	_ "embed"
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/rlock"
)

var (
	//go:embed acquire.lua
	acquireSource string
	//go:embed release.lua
	releaseSource string

	acquire = script.NewVerb("fairlock.acquire", acquireSource).With(release, nil, nil) // whose arguments are the first three
	release = script.NewVerb("fairlock.release", releaseSource)
)

// Verbs are the scripts of this kind, beside those of the plain lock.
func Verbs() []*script.Verb { return []*script.Verb{acquire, release} }

// driver is the plain lock's, with a queue before it: what a hold does (re-enter,
// renew, release but for the last one) is the same.
type driver struct{ rlock.Driver }

var _ engine.Queue = driver{}

func (driver) Kind() string { return "fair" }

// Channel is each waiter's own: only the next one is told.
func (driver) Channel(key, owner string) string { return prefix(key) + owner }

// Stand takes a free lock if nobody stands before the owner; otherwise it takes a
// place in the queue, renews it, or neither, as p says.
func (driver) Stand(key, owner string, lease time.Duration, p engine.Place, publish string) script.Op {
	return op(acquire, key, owner, publish, prefix(key), engine.Milliseconds(lease), engine.Milliseconds(p.Lease), p.Since,
		flag(p.Renew), flag(p.Mixed))
}

// Release lowers the owner's hold count. At 0 it frees the lock, or leaves the queue, and
// tells the next one.
func (d driver) Release(key, owner string, after int, publish string) script.Op {
	if after > 0 {
		return d.Driver.Release(key, owner, after, publish)
	}
	return op(release, key, owner, publish, prefix(key))
}

// Force frees the lock whoever holds it. The queue stays, its first one is told.
func (driver) Force(key, publish string) script.Op { return op(release, key, "", publish, prefix(key)) }

// Probes has those of both scripts.
func (driver) Probes(key string) [][]any {
	queue, timeout := keys.Queue(key), keys.Timeout(key)
	return [][]any{
		{"TIME"}, {"LLEN", queue}, {"LRANGE", queue, 0, 0}, {"LINDEX", queue, 0}, {"LPOS", queue, ""},
		{"RPUSH", queue, ""}, {"LPOP", queue}, {"LREM", queue, 0, ""},
		{"ZSCORE", timeout, ""}, {"ZADD", timeout, 0, ""}, {"ZREM", timeout, ""}, {"ZREVRANGE", timeout, 0, 0},
	}
}

func op(verb *script.Verb, key string, args ...any) script.Op {
	return script.Op{Verb: verb, Keys: []string{key, keys.Queue(key), keys.Timeout(key)}, Args: args}
}

// prefix is the channel of a waiter without its owner.
func prefix(key string) string { return keys.Channel(key) + ":" }

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
