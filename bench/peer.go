package main

import (
	"context"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"
)

// A peer is a lock library under comparison, used as its README recommends.
type peer struct {
	name   string
	module string // of its Go module, to tell the version
	renews bool   // it renews the lease of a held lock by itself

	// requests are the commands that the library sends to acquire and to release.
	// Commands inside of a script are not counted, so none of these may also be
	// called by a script of the library.
	requests []string

	// open makes a client whose locks have that lease.
	open func(addr string, lease time.Duration) (locker, error)

	// openQuorum makes one for several independent servers; nil: not measured there.
	openQuorum func(addrs []string, lease time.Duration) (locker, error)
}

// A locker is one client of a library, with its connections and whatever it runs in
// the background. All callers of a process share one.
type locker interface {
	Named(name string) mutex
	Close() error
}

// A mutex is one caller's way to one lock. It is not shared between callers.
type mutex interface {
	Lock(ctx context.Context) error // waits until it is acquired or ctx ends
	Unlock(ctx context.Context) error
	Held() bool // as far as the library knows
}

// subject is what the ratios compare with the best of the others.
const subject = "holdfast"

var peers = []peer{holdfastPeer, redislockPeer, redsyncPeer, rueidislockPeer}

func peersMatching(pattern *regexp.Regexp) []peer {
	var chosen []peer
	for _, p := range peers {
		if pattern.MatchString(p.name) {
			chosen = append(chosen, p)
		}
	}
	return chosen
}

func peerNamed(name string) (peer, bool) {
	for _, p := range peers {
		if p.name == name {
			return p, true
		}
	}
	return peer{}, false
}

// newRedis is the client of every library that stands on go-redis: its defaults, so
// the same pool for all (ten connections a CPU).
func newRedis(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr})
}
