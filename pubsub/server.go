package pubsub

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// A server is where a session goes.
type server struct {
	name    string
	sharded bool
	open    func(ctx context.Context) wire // makes a wire that has not dialled yet
}

// A wire is what a session uses of a redis.PubSub.
type wire interface {
	Subscribe(ctx context.Context, channels ...string) error
	Unsubscribe(ctx context.Context, channels ...string) error
	SSubscribe(ctx context.Context, channels ...string) error
	SUnsubscribe(ctx context.Context, channels ...string) error
	Ping(ctx context.Context, payload ...string) error
	ReceiveTimeout(ctx context.Context, timeout time.Duration) (any, error)
	Close() error
}

// A finder tells which server has a channel. Only the router uses it.
type finder struct {
	rdb            redis.UniversalClient
	ask            func(ctx context.Context) (bool, error) // Config.Sharded
	known, sharded bool                                    // what it has told
}

// serverOf may have to wait for the network.
func (f *finder) serverOf(ctx context.Context, channel string) (server, error) {
	if !f.known && f.ask != nil {
		sharded, err := f.ask(ctx)
		if err != nil {
			return server{}, err
		}
		f.known, f.sharded = true, sharded
	}
	cluster, ok := f.rdb.(*redis.ClusterClient)
	if !f.sharded || !ok {
		return server{open: func(ctx context.Context) wire { return f.rdb.Subscribe(ctx) }}, nil
	}
	node, err := cluster.MasterForKey(ctx, channel)
	if err != nil {
		return server{}, err
	}
	open := func(ctx context.Context) wire { return node.SSubscribe(ctx) }
	return server{name: node.Options().Addr, sharded: true, open: open}, nil
}

// reload makes a cluster client look again who serves which slot. It only begins
// that, so it is done under m.mu.
func (m *Manager) reload() {
	if cluster, ok := m.rdb.(*redis.ClusterClient); ok {
		cluster.ReloadState(m.ctx)
	}
}
