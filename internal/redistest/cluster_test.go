package redistest

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// keySlot asks Redis for the slot of a key.
func keySlot(t *testing.T, c *Cluster, key string) int {
	t.Helper()
	slot, err := c.Nodes[0].Do(t.Context(), "CLUSTER", "KEYSLOT", key).Int()
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

func TestClusterMovesSlots(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := StartCluster(t, 3, 0)
	client := c.Client(t)
	if err := client.Set(ctx, "orders", "v", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	slot, from := keySlot(t, c, "orders"), c.MasterOf("orders")
	to := c.Nodes[0]
	if to == from {
		to = c.Nodes[1]
	}

	if err := c.BeginMove(ctx, slot, from, to); err != nil {
		t.Fatal(err)
	}
	if err := from.Do(ctx, "GET", "{orders}2").Err(); err == nil || !strings.HasPrefix(err.Error(), "ASK ") {
		t.Errorf("a free key of a slot on the move: got %v, want ASK", err)
	}
	// Redis 6.2 sends a client that names a key it has and one that it has not to the
	// new node, which answers what 7.0 answers at once.
	want := "TRYAGAIN "
	if major, _ := from.Version(); major < 7 {
		want = "ASK "
	}
	half := []any{"MGET", "orders", "{orders}2"}
	if err := from.Do(ctx, half...).Err(); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("half the keys of a slot on the move: got %v, want %s", err, want)
	}
	asking := to.Client(t, once).Pipeline()
	asking.Do(ctx, "ASKING")
	if err := asking.Do(ctx, half...).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := asking.Exec(ctx); err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN ") {
		t.Errorf("the same of the new node: got %v, want TRYAGAIN", err)
	}
	if err := c.FinishMove(ctx, slot, from, to); err != nil {
		t.Fatal(err)
	}
	if got := c.MasterOf("orders"); got != to {
		t.Errorf("master after the move: got %v, want %v", got.Addr(), to.Addr())
	}
	if got, err := client.Get(ctx, "orders").Result(); err != nil || got != "v" {
		t.Errorf("key after the move: got %q, %v, want v", got, err)
	}
	c.MoveSlot(t, slot, to, from)
	if got := c.MasterOf("orders"); got != from {
		t.Errorf("master after the move back: got %v, want %v", got.Addr(), from.Addr())
	}
}

func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := StartCluster(t, 3, 1)
	master := c.MasterOf("orders")
	replicas := c.ReplicasOf(master)
	if len(replicas) != 1 {
		t.Fatalf("replicas: got %d, want 1", len(replicas))
	}
	master.Kill()
	Eventually(t, 20*time.Second, "the replica takes over", func() bool {
		return c.MasterOf("orders") == replicas[0] && c.Healthy() == nil
	})
	if err := c.Client(t).Set(ctx, "orders", "v", 0).Err(); err != nil {
		t.Error(err)
	}
	if err := master.Restart(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 20*time.Second, "the old master follows the new one", func() bool {
		return len(c.ReplicasOf(replicas[0])) == 1 && c.Healthy() == nil
	})
}

func TestClusterAnnounces(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 1, 0)
	const proxy = "127.0.0.1:7"
	err := c.Announce(t.Context(), c.Nodes[0], proxy)
	if major, _ := c.Nodes[0].Version(); major < 7 {
		if err == nil || !strings.Contains(err.Error(), "7.0 is needed") {
			t.Errorf("announce before Redis 7.0: got %v, want an error that says what is needed", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Addrs()[0]; got != proxy {
		t.Errorf("address for clients: got %s, want %s", got, proxy)
	}
	direct := redis.NewClient(&redis.Options{Addr: c.Nodes[0].Addr()})
	defer direct.Close()
	//lint:ignore SA1019 Redis 6.2 has no CLUSTER SHARDS
	slots, err := direct.ClusterSlots(t.Context()).Result()
	if err != nil || slots[0].Nodes[0].Addr != proxy {
		t.Errorf("address in CLUSTER SLOTS: got %v, %v, want %s", slots, err, proxy)
	}
}
