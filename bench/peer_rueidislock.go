package main

import (
	"context"
	"time"

	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
)

// KeyMajority and NoLoopTracking are what its README says for one server of at least
// 7.0.5. It renews at half of the lease, its default.
var rueidislockPeer = peer{
	name:     "rueidislock",
	module:   "github.com/redis/rueidis",
	renews:   true,
	requests: []string{"evalsha"},
	open:     openRueidislock,
}

type rueidislockLocker struct{ locker rueidislock.Locker }

func openRueidislock(addr string, lease time.Duration) (locker, error) {
	l, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption:   rueidis.ClientOption{InitAddress: []string{addr}},
		KeyValidity:    lease,
		KeyMajority:    1,
		NoLoopTracking: true,
	})
	if err != nil {
		return nil, err
	}
	return &rueidislockLocker{l}, nil
}

func (l *rueidislockLocker) Named(name string) mutex {
	return &rueidislockMutex{locker: l.locker, name: name}
}

func (l *rueidislockLocker) Close() error {
	l.locker.Close()
	return nil
}

type rueidislockMutex struct {
	locker rueidislock.Locker
	name   string
	hold   context.Context
	cancel context.CancelFunc
}

func (m *rueidislockMutex) Lock(ctx context.Context) (err error) {
	m.hold, m.cancel, err = m.locker.WithContext(ctx, m.name)
	return err
}

// Unlock ignores ctx; cancel comes back when Redis has answered.
func (m *rueidislockMutex) Unlock(context.Context) error {
	m.cancel()
	return nil
}

func (m *rueidislockMutex) Held() bool { return m.hold != nil && m.hold.Err() == nil }
