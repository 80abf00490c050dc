package main

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// A look is what Redis says of the lock, read from its key and not through the library.
type look struct {
	sent  time.Time
	owner string        // empty: free
	ttl   time.Duration // -2ns: free
	err   error
}

// lookEvery is the pause between two looks; lookLimit bounds one.
const (
	lookEvery = 50 * time.Millisecond
	lookLimit = 2 * time.Second
)

// lookAt reads owner and lease in one transaction. The lock is a hash of owner and hold
// count, with the lease as its TTL.
func lookAt(ctx context.Context, rdb redis.UniversalClient, key string) look {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	l := look{sent: time.Now()}
	var owners *redis.StringSliceCmd
	var ttl *redis.DurationCmd
	_, l.err = rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		owners = tx.HKeys(ctx, key)
		ttl = tx.PTTL(ctx, key)
		return nil
	})
	if l.err == nil && len(owners.Val()) > 0 {
		l.owner, l.ttl = owners.Val()[0], ttl.Val()
	}
	return l
}

// watch looks again and again until ctx ends.
func watch(ctx context.Context, rdb redis.UniversalClient, key string, looks chan<- look) {
	pause := time.NewTicker(lookEvery)
	defer pause.Stop()
	for {
		select {
		case looks <- lookAt(ctx, rdb, key):
		case <-ctx.Done():
			return
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
}
