package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A look is what Redis says of the lock, read from its keys and not through the library.
type look struct {
	sent  time.Time
	owner string        // as holderOf has it; empty: free
	ttl   time.Duration // of what keeps the others out; -2ns: free
	keys  int           // that the owner has
	queue []string      // of a fair lock: the owners that wait, the next one first
	err   error
}

// lookEvery is the pause between two looks; lookLimit bounds one.
const (
	lookEvery = 50 * time.Millisecond
	lookLimit = 2 * time.Second
)

// A lookout knows where the lock is.
type lookout struct {
	kind  string
	rdbs  []redisClient // of each server that the lock is on
	keys  []string      // on each
	queue string        // key of the fair lock's queue
}

func newLookout(kind, prefix string, rdbs []redisClient) *lookout {
	o := &lookout{kind: kind, rdbs: rdbs, queue: "redisson_lock_queue:" + prefix + lockName}
	for _, name := range namesOf(kind) {
		o.keys = append(o.keys, prefix+name)
	}
	return o
}

// look asks all servers at once. Those of a quorum lock that do not answer are left out
// as long as a majority does.
func (o *lookout) look(ctx context.Context) look {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	l := look{sent: time.Now()}
	answers := make([]answer, len(o.rdbs))
	var asked sync.WaitGroup
	for i, rdb := range o.rdbs {
		asked.Go(func() { answers[i] = o.ask(ctx, rdb) }) // ends within lookLimit
	}
	asked.Wait()
	leases := map[string][]time.Duration{}
	answered := 0
	for _, a := range answers {
		if a.err != nil {
			l.err = errors.Join(l.err, a.err)
			continue
		}
		answered++
		l.queue = a.queue
		for owner, ttls := range a.leases {
			leases[owner] = append(leases[owner], ttls...)
		}
	}
	if answered > len(o.rdbs)/2 {
		l.err = nil
	}
	l.owner, l.ttl = holderAmong(leases, len(o.rdbs)/2+1)
	l.keys = len(leases[l.owner])
	return l
}

// holderAmong finds who holds so many keys that it keeps the others out, and how long
// it still does. A minority of a quorum lock is nobody.
func holderAmong(leases map[string][]time.Duration, need int) (string, time.Duration) {
	for owner, ttls := range leases {
		if len(ttls) < need {
			continue
		}
		slices.Sort(ttls)
		if need == 1 {
			return owner, ttls[0] // of a multi lock: the first name that is free lets others in
		}
		return owner, ttls[len(ttls)-need]
	}
	return "", 0
}

// An answer is what one server says.
type answer struct {
	leases map[string][]time.Duration // by owner, one for each key
	queue  []string
	err    error
}

// ask reads owners and leases in one transaction. A lock is a hash of owner and hold
// count, with the lease as its TTL.
func (o *lookout) ask(ctx context.Context, rdb redisClient) answer {
	a := answer{leases: map[string][]time.Duration{}}
	owners := make([]*redis.StringSliceCmd, len(o.keys))
	ttls := make([]*redis.DurationCmd, len(o.keys))
	var queue *redis.StringSliceCmd
	_, a.err = rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		for i, key := range o.keys {
			owners[i], ttls[i] = tx.HKeys(ctx, key), tx.PTTL(ctx, key)
		}
		if o.kind == fairKind {
			queue = tx.LRange(ctx, o.queue, 0, -1)
		}
		return nil
	})
	if a.err != nil {
		return a
	}
	for i := range o.keys {
		for _, owner := range owners[i].Val() {
			holder := holderOf(o.kind, owner)
			a.leases[holder] = append(a.leases[holder], ttls[i].Val())
		}
	}
	if queue != nil {
		a.queue = queue.Val()
	}
	return a
}

// watch looks again and again until ctx ends.
func (o *lookout) watch(ctx context.Context, looks chan<- look) {
	pause := time.NewTicker(lookEvery)
	defer pause.Stop()
	for {
		select {
		case looks <- o.look(ctx):
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
