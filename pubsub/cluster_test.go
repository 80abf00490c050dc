package pubsub

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

func sharded(context.Context) (bool, error) { return true, nil }

// channelsOn finds n channels of different slots that a node serves.
func channelsOn(t *testing.T, cluster *redistest.Cluster, node *redistest.Server, n int) []string {
	t.Helper()
	var channels []string
	for i := 0; len(channels) < n && i < 1000; i++ {
		if c := fmt.Sprint("c", i); cluster.MasterOf(c) == node {
			channels = append(channels, c)
		}
	}
	if len(channels) < n {
		t.Fatalf("only %d channels on node %s", len(channels), node.Addr())
	}
	return channels
}

func slotOf(t *testing.T, node *redistest.Server, channel string) int {
	t.Helper()
	slot, err := node.Do(t.Context(), "CLUSTER", "KEYSLOT", channel).Int()
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

func shardNumsub(t *testing.T, node *redistest.Server, channel string) int64 {
	t.Helper()
	v, err := node.Do(t.Context(), "PUBSUB", "SHARDNUMSUB", channel).Slice()
	if err != nil {
		t.Fatal(err)
	}
	return v[1].(int64)
}

// spublish publishes at the channel's owner until its subscription is woken.
func spublish(t *testing.T, rdb *redis.ClusterClient, s *Subscription) {
	t.Helper()
	taken(s)
	if err := rdb.SPublish(t.Context(), s.topic.channel, "0").Err(); err != nil {
		t.Fatal(err)
	}
	awaitWake(t, s)
}

func pubsubClients(t *testing.T, node *redistest.Server) int {
	t.Helper()
	list, err := node.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(list, "\n")
}

func TestShardedChannels(t *testing.T) {
	t.Parallel()
	redistest.NeedRedis(t, 7, 0, "no sharded channels")
	cluster := redistest.StartCluster(t, 3, 0)
	rdb := cluster.Client(t)
	m := start(t, rdb, Config{Sharded: sharded, Linger: 50 * time.Millisecond})
	var subs []*Subscription
	kept := map[*redistest.Server]*Subscription{}
	for _, node := range cluster.Nodes {
		channels := channelsOn(t, cluster, node, 20)
		kept[node] = m.Subscribe(channels[0])
		for _, c := range channels[1:] {
			subs = append(subs, m.Subscribe(c))
		}
	}
	for _, s := range subs {
		awaitConfirmed(t, s)
		spublish(t, rdb, s)
	}
	for node, s := range kept {
		awaitConfirmed(t, s)
		if n := pubsubClients(t, node); n != 1 {
			t.Errorf("%d connections to node %s, want 1", n, node.Addr())
		}
	}
	for _, s := range subs {
		s.Close()
	}
	redistest.Eventually(t, patience, "unsubscribed", func() bool {
		for _, s := range subs {
			if shardNumsub(t, cluster.MasterOf(s.topic.channel), s.topic.channel) != 0 {
				return false
			}
		}
		return true
	})
	for node, s := range kept {
		spublish(t, rdb, s)
		if info := node.Do(t.Context(), "INFO", "errorstats").String(); strings.Contains(info, "CROSSSLOT") {
			t.Errorf("node %s was asked for channels of several slots in one command", node.Addr())
		}
	}
}

func TestSlotMoves(t *testing.T) {
	t.Parallel()
	redistest.NeedRedis(t, 7, 0, "no sharded channels")
	cluster := redistest.StartCluster(t, 3, 0)
	rdb := cluster.Client(t)
	m := start(t, rdb, Config{Sharded: sharded})
	from, to := cluster.Nodes[0], cluster.Nodes[1]
	channels := channelsOn(t, cluster, from, 2)
	moving, staying := m.confirmed(t, channels[0]), m.confirmed(t, channels[1])
	for range 3 {
		cluster.MoveSlot(t, slotOf(t, from, channels[0]), from, to)
		awaitWake(t, moving)
		redistest.Eventually(t, patience, "subscribed at the new owner", func() bool { return shardNumsub(t, to, channels[0]) == 1 })
		awaitConfirmed(t, moving)
		spublish(t, rdb, moving)
		from, to = to, from
	}
	spublish(t, rdb, staying)

	// The client's picture of the cluster is old: the answer to SSUBSCRIBE is MOVED.
	c := channelsOn(t, cluster, cluster.Nodes[2], 1)[0]
	cluster.MoveSlot(t, slotOf(t, to, c), cluster.Nodes[2], cluster.Nodes[0])
	late := m.confirmed(t, c)
	if n := shardNumsub(t, cluster.Nodes[0], c); n != 1 {
		t.Errorf("%d subscribers at the new owner, want 1", n)
	}
	spublish(t, rdb, late)
}

// While a master is dead its channels wait, the others do not; its replica takes over.
func TestMasterDies(t *testing.T) {
	t.Parallel()
	redistest.NeedRedis(t, 7, 0, "no sharded channels")
	cluster := redistest.StartCluster(t, 3, 1)
	rdb := cluster.Client(t)
	m := start(t, rdb, Config{Sharded: sharded})
	dead := cluster.Nodes[0]
	there, here := channelsOn(t, cluster, dead, 2), channelsOn(t, cluster, cluster.Nodes[1], 2)
	s, other := m.confirmed(t, there[0]), m.confirmed(t, here[0])
	dead.Kill()
	redistest.Eventually(t, patience, "noticed", func() bool { return !s.Confirmed() })
	waiting := m.Subscribe(there[1])
	began := time.Now()
	m.confirmed(t, here[1])
	if took := time.Since(began); took > slack {
		t.Errorf("a channel of another node was confirmed after %v", took)
	}
	if s.Confirmed() || !other.Confirmed() {
		t.Errorf("confirmed: dead node's %v, other node's %v", s.Confirmed(), other.Confirmed())
	}
	spublish(t, rdb, other)

	awaitConfirmed(t, s)
	t.Logf("subscribed at the promoted replica %v after the kill", time.Since(began).Round(10*time.Millisecond))
	awaitConfirmed(t, waiting)
	spublish(t, rdb, s)
}

// A node that accepts and says nothing delays no other node's channels.
func TestSilentNodeDelaysNoOther(t *testing.T) {
	t.Parallel()
	redistest.NeedRedis(t, 7, 0, "no sharded channels")
	cluster := redistest.StartCluster(t, 3, 0)
	proxy := faultproxy.New(t, cluster.Nodes[0].Addr(), 1)
	if err := cluster.Announce(t.Context(), cluster.Nodes[0], proxy.Addr()); err != nil {
		t.Fatal(err)
	}
	rdb := cluster.Client(t, func(o *redis.ClusterOptions) { o.ReadTimeout = time.Second })
	m := start(t, rdb, Config{Sharded: sharded, Silence: silence})
	there, here := channelsOn(t, cluster, cluster.Nodes[0], 2), channelsOn(t, cluster, cluster.Nodes[1], 20)
	s := m.confirmed(t, there[0])
	proxy.BlackHole(true)
	waiting := m.Subscribe(there[1])
	for _, c := range here {
		began := time.Now()
		m.confirmed(t, c)
		if took := time.Since(began); took > slack {
			t.Errorf("a channel of another node was confirmed after %v", took)
		}
	}
	redistest.Eventually(t, patience, "noticed", func() bool { return !s.Confirmed() })
	if waiting.Confirmed() {
		t.Error("confirmed by a silent node")
	}
	proxy.BlackHole(false)
	awaitConfirmed(t, s)
	awaitConfirmed(t, waiting)
}

// While a cluster does not serve a slot, its channel is asked for now and then.
func TestSlotOfNobody(t *testing.T) {
	t.Parallel()
	redistest.NeedRedis(t, 7, 0, "no sharded channels")
	cluster := redistest.StartCluster(t, 3, 0, "--cluster-require-full-coverage", "no")
	node := cluster.Nodes[0]
	channels := channelsOn(t, cluster, node, 2)
	rdb := cluster.Client(t)
	m := start(t, rdb, Config{Sharded: sharded})
	m.confirmed(t, channels[1])
	slot := slotOf(t, node, channels[0])
	each := func(args ...any) {
		for _, n := range cluster.Nodes {
			if err := n.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	each("CLUSTER", "DELSLOTS", slot)
	lines := node.Monitor(t)
	s := m.Subscribe(channels[0])
	redistest.Eventually(t, patience, "some refusals", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return s.topic.refusals.failures >= 6
	})
	if s.Confirmed() || taken(s) {
		t.Error("woken by a refusal that is not for good")
	}
	if n := len(lines()); n > 40 {
		t.Errorf("%d commands for 6 refusals", n)
	}
	if err := node.Do(t.Context(), "CLUSTER", "ADDSLOTS", slot).Err(); err != nil {
		t.Fatal(err)
	}
	awaitConfirmed(t, s)
}

// A cluster of servers before 7.0 has classic channels only: any node will do.
func TestClassicChannelsOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 1)
	m := start(t, cluster.Client(t), Config{})
	var subs []*Subscription
	for _, node := range cluster.Nodes[:3] {
		subs = append(subs, m.confirmed(t, channelsOn(t, cluster, node, 1)[0]))
	}
	for _, s := range subs {
		publish(t, cluster.Nodes[2], s.topic.channel)
		awaitWake(t, s)
	}
	for _, node := range cluster.Nodes[:3] {
		if pubsubClients(t, node) > 0 {
			node.Kill()
			break
		}
	}
	redistest.Eventually(t, patience, "noticed", func() bool { return !subs[0].Confirmed() })
	for _, s := range subs {
		awaitConfirmed(t, s)
	}
}
