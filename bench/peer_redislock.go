package main

import (
	"context"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// A waiter polls every 100 ms: by default redislock does not wait at all, and that
// is what its own example of waiting does.
var redislockPeer = peer{
	name:     "redislock",
	module:   "github.com/bsm/redislock",
	requests: []string{"evalsha"},
	open:     openRedislock,
}

type redislockLocker struct {
	redis  *redis.Client
	client *redislock.Client
	lease  time.Duration
}

func openRedislock(addr string, lease time.Duration) (locker, error) {
	rdb := newRedis(addr)
	return &redislockLocker{redis: rdb, client: redislock.New(rdb), lease: lease}, nil
}

func (l *redislockLocker) Named(name string) mutex {
	return &redislockMutex{locker: l, name: name}
}

func (l *redislockLocker) Close() error { return l.redis.Close() }

type redislockMutex struct {
	locker *redislockLocker
	name   string
	lock   *redislock.Lock
	until  time.Time
}

func (m *redislockMutex) Lock(ctx context.Context) (err error) {
	m.lock, err = m.locker.client.Obtain(ctx, m.name, m.locker.lease, &redislock.Options{
		RetryStrategy: redislock.LinearBackoff(100 * time.Millisecond),
	})
	m.until = time.Now().Add(m.locker.lease)
	return err
}

func (m *redislockMutex) Unlock(ctx context.Context) error { return m.lock.Release(ctx) }

func (m *redislockMutex) Held() bool { return m.lock != nil && time.Now().Before(m.until) }
