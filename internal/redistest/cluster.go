package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest/loopback"
)

// slotCount is the number of hash slots of a cluster.
const slotCount = 16384

// clusterLimit is how long a cluster or a set of sentinels may take to come up.
const clusterLimit = 30 * time.Second

// lookLimit is how long one look at the servers of a cluster or at sentinels may
// take. It takes milliseconds; on a busy machine a second was too short. A paused
// server uses it up.
const lookLimit = 3 * time.Second

// A Cluster is a Redis Cluster on this machine. A node counts as failed after
// one second. Its methods may be called from any goroutine.
type Cluster struct {
	// Nodes are the servers: first those that began as masters, in the order
	// of their slots, then the replicas of the first master, of the second, …
	Nodes []*Server

	ids       map[string]*Server // by node id
	mu        sync.Mutex
	announced map[*Server]string // see Announce
}

// StartCluster runs a cluster with so many masters, so many replicas for each,
// and the slots divided evenly. It returns once every node says that the
// cluster is ok and every replica follows its master; Redis takes two seconds
// for that. The cluster is gone when the test is.
func StartCluster(t testing.TB, masters, replicas int, args ...string) *Cluster {
	t.Helper()
	c, err := LaunchCluster(masters, replicas, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// LaunchCluster is StartCluster without a test: the caller must Close the cluster.
func LaunchCluster(masters, replicas int, args ...string) (*Cluster, error) {
	c := &Cluster{
		Nodes:     make([]*Server, masters*(1+replicas)),
		ids:       map[string]*Server{},
		announced: map[*Server]string{},
	}
	args = append([]string{
		"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000",
		"--cluster-announce-ip", "127.0.0.1", // a lone node has nobody to learn it from
		"--cluster-replica-validity-factor", "0", // a replica stands for election however old its data
	}, args...)
	err := together(len(c.Nodes), func(i int) (err error) {
		c.Nodes[i], err = launch(loopback.HoldWithBus, nil, args)
		return err
	})
	if err == nil {
		err = c.form(masters, replicas)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close closes every node.
func (c *Cluster) Close() { closeAll(c.Nodes) }

// form makes a cluster of nodes that do not know each other.
func (c *Cluster) form(masters, replicas int) error {
	ctx, cancel := context.WithTimeout(context.Background(), clusterLimit)
	defer cancel()
	for i, node := range c.Nodes {
		id, err := node.Do(ctx, "CLUSTER", "MYID").Text()
		if err != nil {
			return node.failed("identify", err)
		}
		c.ids[id] = node
		// Distinct epochs from the start; otherwise the nodes must first agree on some.
		if err := node.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return node.failed("set the epoch of", err)
		}
		if i < masters {
			err = node.addSlots(ctx, i*slotCount/masters, (i+1)*slotCount/masters)
		}
		if err != nil {
			return err
		}
	}
	if err := c.meet(ctx); err != nil {
		return err
	}
	for i, replica := range c.Nodes[masters:] {
		id, _ := c.id(c.Nodes[i/replicas])
		if err := replica.Do(ctx, "CLUSTER", "REPLICATE", id).Err(); err != nil {
			return replica.failed("make a replica of", err)
		}
	}
	return until(ctx, c.Healthy)
}

// addSlots gives the node the slots from first up to but without end. ADDSLOTSRANGE
// would be shorter, but is missing in 6.2.
func (s *Server) addSlots(ctx context.Context, first, end int) error {
	command := []any{"CLUSTER", "ADDSLOTS"}
	for slot := first; slot < end; slot++ {
		command = append(command, slot)
	}
	return s.failed("give slots to", s.Do(ctx, command...).Err())
}

// meetAgain is how long an introduction may take. A node forgets one that the other node
// has not answered within the node timeout, as on a machine that stands still for a moment,
// and never takes it up again by itself.
const meetAgain = 5 * time.Second

// meet introduces every node to every other; gossip alone would take longer.
func (c *Cluster) meet(ctx context.Context) error {
	var met time.Time
	return until(ctx, func() error {
		if time.Since(met) > meetAgain {
			if err := c.introduce(ctx); err != nil {
				return giveUp{err}
			}
			met = time.Now()
		}
		return c.eachRunning(c.knowsAll)
	})
}

func (c *Cluster) introduce(ctx context.Context) error {
	for i, node := range c.Nodes {
		for _, other := range c.Nodes[i+1:] {
			if err := node.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", other.Port).Err(); err != nil {
				return node.failed("introduce", err)
			}
		}
	}
	return nil
}

// Healthy tells what keeps the cluster from serving every key: nil once each
// running node reports cluster_state:ok, knows all the others, and follows its
// master if it is a replica. Killed nodes are not asked.
func (c *Cluster) Healthy() error {
	return c.eachRunning(func(ctx context.Context, node *Server) error {
		if err := c.knowsAll(ctx, node); err != nil {
			return err
		}
		info, err := node.Do(ctx, "CLUSTER", "INFO").Text()
		if err == nil && !strings.Contains(info, "cluster_state:ok") {
			err = errors.New("the cluster is not ok")
		}
		if err == nil {
			err = node.linkUp(ctx)
		}
		return node.failed("find healthy", err)
	})
}

func (c *Cluster) eachRunning(check func(context.Context, *Server) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
	return together(len(c.Nodes), func(i int) error {
		if !c.Nodes[i].Running() {
			return nil
		}
		return check(ctx, c.Nodes[i])
	})
}

// knowsAll checks that the node has a name and a role for every running other.
func (c *Cluster) knowsAll(ctx context.Context, node *Server) error {
	known, err := node.view(ctx)
	if err != nil {
		return err
	}
	settled := map[*Server]bool{}
	for _, line := range known {
		if !line.has("handshake") && !line.has("noaddr") && !line.has("fail") && !line.has("fail?") {
			settled[c.ids[line.id]] = true
		}
	}
	for _, other := range c.Nodes {
		if other.Running() && !settled[other] {
			return fmt.Errorf("redistest: %s does not know %s", node.Addr(), other.Addr())
		}
	}
	return nil
}

// linkUp checks that a replica has its master's data. A master passes.
func (s *Server) linkUp(ctx context.Context) error {
	info, err := s.Do(ctx, "INFO", "replication").Text()
	if err == nil && strings.Contains(info, "role:slave") && !strings.Contains(info, "master_link_status:up") {
		err = errors.New("the link to its master is down")
	}
	return err
}

func (c *Cluster) id(node *Server) (string, bool) {
	for id, s := range c.ids {
		if s == node {
			return id, true
		}
	}
	return "", false
}

// Addrs are the nodes' addresses for a client: those announced, or their own.
func (c *Cluster) Addrs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	addrs := make([]string, len(c.Nodes))
	for i, node := range c.Nodes {
		addrs[i] = node.Addr()
		if announced := c.announced[node]; announced != "" {
			addrs[i] = announced
		}
	}
	return addrs
}

// Client gives a client that knows all nodes and is closed when the test ends.
// Its options are go-redis's defaults unless mutate changes them.
func (c *Cluster) Client(t testing.TB, mutate ...func(*redis.ClusterOptions)) *redis.ClusterClient {
	t.Helper()
	options := &redis.ClusterOptions{Addrs: c.Addrs()}
	for _, change := range mutate {
		change(options)
	}
	client := redis.NewClusterClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Announce makes the cluster tell clients this address for the node, that of a
// proxy in front of it on 127.0.0.1. It returns once every running node tells
// it, or an error after thirty seconds. Replicas follow their master through the
// announced address too. A restart of the node keeps it.
//
// It needs Redis 7.0 and fails on an older one: a node of 6.2 that runs already
// takes the new port, tells it to the other nodes, and goes on giving clients
// the old one for itself.
func (c *Cluster) Announce(ctx context.Context, node *Server, addr string) error {
	if major, minor := node.Version(); major < 7 {
		return node.failed("announce", fmt.Errorf("a running node of Redis %d.%d keeps its announced port, 7.0 is needed", major, minor))
	}
	ctx, cancel := context.WithTimeout(ctx, clusterLimit)
	defer cancel()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if err := node.Do(ctx, "CONFIG", "SET", "cluster-announce-port", port).Err(); err != nil {
		return node.failed("announce", err)
	}
	node.addArgs("--cluster-announce-port", port)
	c.mu.Lock()
	c.announced[node] = addr
	c.mu.Unlock()
	return until(ctx, func() error {
		return c.eachRunning(func(ctx context.Context, other *Server) error {
			known, err := other.view(ctx)
			if err == nil && !slices.ContainsFunc(known, func(l nodeLine) bool { return l.port == port }) {
				err = fmt.Errorf("redistest: %s does not yet announce %s", other.Addr(), addr)
			}
			return err
		})
	})
}

// A nodeLine is what a node says of itself or of another in CLUSTER NODES.
type nodeLine struct {
	id, port, master string
	flags            []string
	epoch            int
	slots            []string // "0-5460", "7000", "[93-<-292f…]"
}

func (l nodeLine) has(flag string) bool { return slices.Contains(l.flags, flag) }

func (l nodeLine) serves(slot int) bool {
	return slices.ContainsFunc(l.slots, func(part string) bool {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		return err == nil && err2 == nil && from <= slot && slot <= to
	})
}

// view asks a node for all it knows.
// https://redis.io/docs/latest/commands/cluster-nodes/
func (s *Server) view(ctx context.Context) ([]nodeLine, error) {
	text, err := s.Do(ctx, "CLUSTER", "NODES").Text()
	if err != nil {
		return nil, s.failed("ask", err)
	}
	var lines []nodeLine
	for line := range strings.Lines(text) {
		fields := strings.Fields(line) // id ip:port@bus[,name] flags master ping pong epoch link slots…
		if len(fields) < 8 {
			return nil, fmt.Errorf("redistest: CLUSTER NODES of %s: %q", s.Addr(), line)
		}
		addr, _, _ := strings.Cut(fields[1], "@")
		epoch, err := strconv.Atoi(fields[6])
		if err != nil {
			return nil, fmt.Errorf("redistest: CLUSTER NODES of %s: %q", s.Addr(), line)
		}
		lines = append(lines, nodeLine{
			id: fields[0], port: addr[strings.LastIndexByte(addr, ':')+1:], master: fields[3],
			flags: strings.Split(fields[2], ","), epoch: epoch, slots: fields[8:],
		})
	}
	return lines, nil
}
