package rlock

import (
	_ "embed"
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/script"
)

var (
	//go:embed acquire.lua
	acquireSource string
	//go:embed renew.lua
	renewSource string
	//go:embed release.lua
	releaseSource string
	//go:embed undo.lua
	undoSource string
	//go:embed acquire_all.lua
	acquireAllSource string
	//go:embed release_each.lua
	releaseEachSource string
	//go:embed force.lua
	forceSource string
	//go:embed inspect.lua
	inspectSource string

	acquire = script.NewVerb("rlock.acquire", acquireSource).With(undo, nil, nil)
	renew   = script.NewVerb("rlock.renew", renewSource)
	release = script.NewVerb("rlock.release", releaseSource)
	undo    = script.NewVerb("rlock.undo", undoSource)

	acquireAll  = script.NewVerb("rlock.acquire_all", acquireAllSource)
	releaseEach = script.NewVerb("rlock.release_each", releaseEachSource)

	enter = acquire.With(undo, acquireAll, nil) // of a new owner
	free  = release.With(nil, nil, releaseEach) // the last one

	force   = script.NewVerb("rlock.force", forceSource)
	inspect = script.NewVerb("rlock.inspect", inspectSource)
)

// Verbs are the scripts of this kind.
func Verbs() []*script.Verb {
	return []*script.Verb{acquire, acquireAll, renew, release, releaseEach, undo, force, inspect}
}

// Driver tells the engine how a plain lock is acquired, renewed and released. A fair
// lock is one with a queue before it.
type Driver struct{}

var _ engine.Driver = Driver{}

// Kind is "rlock".
func (Driver) Kind() string { return "rlock" }

// Channel names the channel on which every release is told, the same for all waiters.
func (Driver) Channel(key, _ string) string { return keys.Channel(key) }

// Acquire takes a free lock, or counts one more hold for the owner that has it:
// before is the count that it has reached, so executing it twice changes nothing.
func (Driver) Acquire(key, owner string, lease time.Duration, before int) script.Op {
	verb := acquire
	if before == 0 {
		verb = enter
	}
	return op(verb, key, engine.Milliseconds(lease), owner, before)
}

// Renew makes the lease at least that long from now, if the owner still has the lock.
func (Driver) Renew(key, owner string, lease time.Duration) script.Op {
	return op(renew, key, engine.Milliseconds(lease), owner)
}

// Release lowers the owner's count to after; at 0 it frees the lock and tells
// the waiters with publish (PUBLISH or SPUBLISH).
func (Driver) Release(key, owner string, after int, publish string) script.Op {
	if publish == "" {
		return op(release, key, owner, after, "", "")
	}
	verb := release
	if after == 0 {
		verb = free
	}
	return op(verb, key, owner, after, publish, keys.Channel(key))
}

// Force frees the lock whoever holds it.
func (Driver) Force(key, publish string) script.Op {
	return op(force, key, publish, keys.Channel(key))
}

// Inspect asks how long the lock is held, and how often by one owner.
func (Driver) Inspect(key, owner string) script.Op { return op(inspect, key, owner) }

func op(verb *script.Verb, key string, args ...any) script.Op {
	own := &struct { // in one piece
		keys [1]string
		args [4]any
	}{keys: [1]string{key}}
	return script.Op{Verb: verb, Keys: own.keys[:], Args: append(own.args[:0], args...)}
}
