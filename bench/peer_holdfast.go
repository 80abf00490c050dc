package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
)

var holdfastPeer = peer{
	name:     subject,
	module:   "github.com/holdfast-go/holdfast",
	renews:   true,
	requests: []string{"evalsha"},
	open:     openHoldfast,
}

type holdfastLocker struct {
	redis  *redis.Client
	client *holdfast.Client
}

func openHoldfast(addr string, lease time.Duration) (locker, error) {
	rdb := newRedis(addr)
	client, err := holdfast.New(rdb, holdfast.WithWatchdogTimeout(lease), holdfast.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	return &holdfastLocker{redis: rdb, client: client}, nil
}

func (l *holdfastLocker) Named(name string) mutex {
	return &holdfastMutex{lock: l.client.RLock(name)}
}

func (l *holdfastLocker) Close() error {
	return errors.Join(l.client.Close(), l.redis.Close())
}

type holdfastMutex struct {
	lock holdfast.Lock
	hold holdfast.Hold
}

func (m *holdfastMutex) Lock(ctx context.Context) (err error) {
	m.hold, err = m.lock.Lock(ctx)
	return err
}

func (m *holdfastMutex) Unlock(ctx context.Context) error { return m.hold.Unlock(ctx) }

func (m *holdfastMutex) Held() bool { return m.hold != nil && m.hold.Err() == nil }
