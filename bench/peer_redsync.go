package main

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/go-redsync/redsync/v4"
	pool "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

// A waiter polls: after a random pause of 50 to 250 ms, redsync's default, it tries
// again. By default it gives up after 32 tries; here it may not, like the others.
var redsyncPeer = peer{
	name:     "redsync",
	module:   "github.com/go-redsync/redsync/v4",
	requests: []string{"set", "evalsha"},
	open:     func(addr string, lease time.Duration) (locker, error) { return openRedsync([]string{addr}, lease) },

	openQuorum: openRedsync,
}

type redsyncLocker struct {
	redis []*redis.Client
	sync  *redsync.Redsync
	lease time.Duration
}

func openRedsync(addrs []string, lease time.Duration) (locker, error) {
	l := &redsyncLocker{lease: lease}
	var pools []pool.Pool
	for _, addr := range addrs {
		rdb := newRedis(addr)
		l.redis, pools = append(l.redis, rdb), append(pools, goredis.NewPool(rdb))
	}
	l.sync = redsync.New(pools...)
	return l, nil
}

func (l *redsyncLocker) Named(name string) mutex {
	return &redsyncMutex{l.sync.NewMutex(name, redsync.WithExpiry(l.lease), redsync.WithTries(math.MaxInt))}
}

func (l *redsyncLocker) Close() (err error) {
	for _, rdb := range l.redis {
		err = errors.Join(err, rdb.Close())
	}
	return err
}

type redsyncMutex struct{ *redsync.Mutex }

func (m *redsyncMutex) Lock(ctx context.Context) error { return m.LockContext(ctx) }

func (m *redsyncMutex) Unlock(ctx context.Context) error {
	ok, err := m.UnlockContext(ctx)
	if err == nil && !ok {
		err = errors.New("redsync: the lock was not held")
	}
	return err
}

func (m *redsyncMutex) Held() bool { return time.Now().Before(m.Until()) }
