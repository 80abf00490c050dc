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

	openQuorum: openHoldfastQuorum,
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

// A holdfastQuorum has a client for each server.
type holdfastQuorum struct{ members []*holdfastLocker }

func openHoldfastQuorum(addrs []string, lease time.Duration) (locker, error) {
	q := &holdfastQuorum{}
	for _, addr := range addrs {
		l, err := openHoldfast(addr, lease)
		if err != nil {
			return nil, errors.Join(err, q.Close())
		}
		q.members = append(q.members, l.(*holdfastLocker))
	}
	return q, nil
}

func (q *holdfastQuorum) Named(name string) mutex {
	locks := make([]holdfast.Lock, len(q.members))
	for i, l := range q.members {
		locks[i] = l.client.RLock(name)
	}
	return &holdfastMutex{lock: q.members[0].client.RedLock(locks...)}
}

func (q *holdfastQuorum) Close() (err error) {
	for _, l := range q.members {
		err = errors.Join(err, l.Close())
	}
	return err
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
