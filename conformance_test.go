package holdfast_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/locktest"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

var rlocks = locktest.Kind{
	Name: "rlock",
	New: func(c *holdfast.Client, name string, opts ...holdfast.LockOption) holdfast.Lock {
		return c.RLock(name, opts...)
	},
}

var fairs = locktest.Kind{
	Name: "fair", Queues: true,
	New: func(c *holdfast.Client, name string, opts ...holdfast.LockOption) holdfast.Lock {
		return c.FairLock(name, opts...)
	},
}

var backends = []locktest.Backend{
	{Name: "miniredis", Start: func(t *testing.T) func() redis.UniversalClient {
		server := redistest.StartMiniredis(t)
		return func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: server.Addr()}) }
	}},
	{Name: "redis", Start: func(t *testing.T) func() redis.UniversalClient {
		server := redistest.Start(t)
		return func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: server.Addr()}) }
	}},
	{Name: "cluster", Start: func(t *testing.T) func() redis.UniversalClient {
		cluster := redistest.StartCluster(t, 3, 0)
		return func() redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
		}
	}},
	{Name: "sentinel", Start: func(t *testing.T) func() redis.UniversalClient {
		sentinel := redistest.StartSentinel(t, 1)
		return func() redis.UniversalClient {
			return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: sentinel.Name, SentinelAddrs: sentinel.Addrs()})
		}
	}},
}

// The one suite of promises, for each kind on every backend.
func TestRLockPromises(t *testing.T)    { promises(t, rlocks) }
func TestFairLockPromises(t *testing.T) { promises(t, fairs) }

func promises(t *testing.T, kind locktest.Kind) {
	for _, backend := range backends {
		t.Run(backend.Name, func(t *testing.T) { locktest.Run(t, kind, backend) })
	}
}
