package holdfast_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/locktest"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

var rlocks = locktest.Kind{
	Name: "rlock",
	New:  func(c []*holdfast.Client, names []string) holdfast.Lock { return c[0].RLock(names[0]) },
}

var fairs = locktest.Kind{
	Name: "fair", Queues: true,
	New: func(c []*holdfast.Client, names []string) holdfast.Lock { return c[0].FairLock(names[0]) },
}

// multis are of three names, which are in three slots on a cluster.
var multis = locktest.Kind{
	Name: "multi", Group: "multi", New: multiOf, Lease: time.Second,
	Names: func(name string) []string { return []string{name, name + "-b", name + "-a"} },
}

// slotted are of two names in one slot.
var slotted = locktest.Kind{
	Name: "multi in one slot", Group: "multi", New: multiOf, Lease: time.Second,
	Names: func(name string) []string { return []string{name, "{" + name + "}"} },
}

// mixed are of a plain and a fair lock.
var mixed = locktest.Kind{
	Name: "multi of a plain and a fair lock", Group: "multi", Queues: true, Lease: time.Second,
	New: func(c []*holdfast.Client, names []string) holdfast.Lock {
		return c[0].MultiLock(c[0].RLock(names[0]), c[0].FairLock(names[1]))
	},
	Names: func(name string) []string { return []string{name, name + "-fair"} },
}

// spread are of a name on each of two servers.
var spread = locktest.Kind{
	Name: "multi on two servers", Group: "multi", Servers: 2, Lease: time.Second,
	New: func(c []*holdfast.Client, names []string) holdfast.Lock {
		return c[0].MultiLock(c[1].RLock(names[0]), c[0].RLock(names[0]))
	},
}

var reds = locktest.Kind{
	Name: "red", Group: "red", Servers: 3,
	Lease: 4 * time.Second, Calm: 10 * time.Second, // a member may take a twentieth of it to answer
	New: func(c []*holdfast.Client, names []string) holdfast.Lock {
		return c[0].RedLock(c[0].RLock(names[0]), c[1].RLock(names[0]), c[2].RLock(names[0]))
	},
}

// elected are of a name on each of three servers and of a quorum lock over these.
var elected = locktest.Kind{
	Name: "multi of plain locks and a quorum lock", Group: "multi", Servers: 3,
	Lease: 4 * time.Second, Calm: 10 * time.Second,
	New: func(c []*holdfast.Client, names []string) holdfast.Lock {
		red := c[0].RedLock(c[0].RLock(names[1]), c[1].RLock(names[1]), c[2].RLock(names[1]))
		return c[0].MultiLock(red, c[2].RLock(names[0]), c[1].RLock(names[0]), c[0].RLock(names[0]))
	},
	Names: func(name string) []string { return []string{name, name + "-red"} },
	Title: func(name string) string {
		return fmt.Sprintf("multi(red(%[1]s-red, %[1]s-red, %[1]s-red), %[1]s, %[1]s, %[1]s)", name)
	},
}

func multiOf(c []*holdfast.Client, names []string) holdfast.Lock {
	var locks []holdfast.Lock
	for _, name := range names {
		locks = append(locks, c[0].RLock(name))
	}
	return c[0].MultiLock(locks...)
}

var backends = []locktest.Backend{miniRedis, oneRedis, clusters, sentinels}

var (
	miniRedis = locktest.Backend{Name: "miniredis", Start: func(t *testing.T) func() redis.UniversalClient {
		server := redistest.StartMiniredis(t)
		return func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: server.Addr()}) }
	}}
	oneRedis = locktest.Backend{Name: "redis", Start: func(t *testing.T) func() redis.UniversalClient {
		server := redistest.Start(t)
		return func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: server.Addr()}) }
	}}
	clusters = locktest.Backend{Name: "cluster", Start: func(t *testing.T) func() redis.UniversalClient {
		cluster := redistest.StartCluster(t, 3, 0)
		return func() redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
		}
	}}
	sentinels = locktest.Backend{
		Name:   "sentinel",
		Start:  func(t *testing.T) func() redis.UniversalClient { return deploy(t).Dial },
		Deploy: deploy,
	}
)

// deploy starts a master with a replica, watched by sentinels.
func deploy(t *testing.T) locktest.Deployment {
	sentinel := redistest.StartSentinel(t, 1)
	return locktest.Deployment{
		Dial: func() redis.UniversalClient {
			return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: sentinel.Name, SentinelAddrs: sentinel.Addrs()})
		},
		Failover: func(t *testing.T) *redis.Client {
			redistest.Eventually(t, patience, "the deployment is healthy", func() bool {
				return sentinel.Healthy() == nil && sentinel.Master() != nil
			})
			everythingIsReplicated(t, sentinel.Master())
			return sentinel.Failover(t).Client(t)
		},
	}
}

// everythingIsReplicated waits until a replica has all that its master has had until now.
func everythingIsReplicated(t *testing.T, master *redistest.Server) {
	t.Helper()
	conn := master.Client(t).Conn() // WAIT is for what its own connection has written
	defer conn.Close()
	if err := conn.Set(t.Context(), "marker", "", time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Wait(t.Context(), 1, 3*time.Second).Result(); n != 1 || err != nil {
		t.Fatalf("WAIT: got %d, %v, want 1", n, err)
	}
}

// The one suite of promises, for each kind on every backend that it can be on.
func TestRLockPromises(t *testing.T)     { promises(t, rlocks, backends) }
func TestFairLockPromises(t *testing.T)  { promises(t, fairs, backends) }
func TestMultiLockPromises(t *testing.T) { promises(t, multis, backends) }
func TestMultiLockOfASlotPromises(t *testing.T) {
	promises(t, slotted, []locktest.Backend{miniRedis, clusters})
}
func TestMultiLockOfKindsPromises(t *testing.T) {
	promises(t, mixed, []locktest.Backend{miniRedis, oneRedis, clusters})
}
func TestMultiLockOfServersPromises(t *testing.T) {
	promises(t, spread, []locktest.Backend{miniRedis, oneRedis})
}

func TestMultiLockWithAQuorumLockPromises(t *testing.T) {
	promises(t, elected, []locktest.Backend{oneRedis})
}
func TestRedLockPromises(t *testing.T) { promises(t, reds, []locktest.Backend{miniRedis, oneRedis}) }

// promises has miniredis alone, because it runs Lua so slowly that others would wait for a processor, and
// then the other backends side by side.
func promises(t *testing.T, kind locktest.Kind, backends []locktest.Backend) {
	for _, backend := range backends {
		t.Run(backend.Name, func(t *testing.T) {
			if backend.Name != miniRedis.Name {
				t.Parallel()
			}
			locktest.Run(t, kind, backend)
		})
	}
}
