package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A world is the servers of a round, the register, and the links that lead to them.
type world struct {
	topology string
	single   *redistest.Server
	sentinel *redistest.Sentinel
	cluster  *redistest.Cluster
	members  []*redistest.Server // of a quorum
	register *redistest.Server

	mu    sync.Mutex
	links map[string]map[string]*faultproxy.Proxy // worker -> server's address -> proxy
}

// serverArgs are those of every server that keeps locks.
func serverArgs(fsync string) []string {
	args := []string{
		"--lua-time-limit", "20", "--slowlog-log-slower-than", "10000", "--slowlog-max-len", "1000",
	}
	if fsync != "" {
		args = append(args, "--appendonly", "yes", "--appendfsync", fsync)
	}
	return args
}

// quorumServers are the independent servers of a quorum.
const quorumServers = 5

// account is the user of the workers, whose rights a fault takes away.
var account = []string{"--user", user, "on", ">" + secret, "~*", "&*", "+@all"}

// openWorld starts the servers. Unless the round is lossy, no sentinel and no replica
// replaces a master on its own: a busy machine alone would make them do it, and what the
// replica lacks would be lost. The faults do it in order.
func openWorld(topology, fsync string, lossy bool) (w *world, err error) {
	w = &world{topology: topology, links: map[string]map[string]*faultproxy.Proxy{}}
	args := serverArgs(fsync)
	switch topology {
	case "standalone":
		w.single, err = redistest.Launch(append(args, account...)...)
	case "quorum":
		for range quorumServers {
			var server *redistest.Server
			if server, err = redistest.Launch(append(args, account...)...); err != nil {
				break
			}
			w.members = append(w.members, server)
		}
	case "sentinel":
		if w.sentinel, err = redistest.LaunchSentinel(1, args...); err == nil && !lossy {
			err = w.calm()
		}
	case "cluster":
		if !lossy {
			args = append(args, "--cluster-replica-no-failover", "yes")
		}
		w.cluster, err = redistest.LaunchCluster(3, 1, args...)
	default:
		err = fmt.Errorf("no topology is called %q", topology)
	}
	if err == nil {
		w.register, err = redistest.Launch()
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// calm has the sentinels replace no master on their own.
func (w *world) calm() (err error) {
	ctx, cancel := limited()
	defer cancel()
	for _, watcher := range w.sentinel.Sentinels {
		err = errors.Join(err, watcher.Do(ctx, "SENTINEL", "SET", w.sentinel.Name, "down-after-milliseconds", 60000).Err())
	}
	return err
}

func (w *world) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, links := range w.links {
		for _, link := range links {
			link.Close()
		}
	}
	switch {
	case w.single != nil:
		w.single.Close()
	case w.sentinel != nil:
		w.sentinel.Close()
	case w.cluster != nil:
		w.cluster.Close()
	}
	for _, server := range w.members {
		server.Close()
	}
	if w.register != nil {
		w.register.Close()
	}
}

// nodes are the servers that keep locks.
func (w *world) nodes() []*redistest.Server {
	switch {
	case w.single != nil:
		return []*redistest.Server{w.single}
	case w.sentinel != nil:
		return w.sentinel.Nodes
	case w.cluster != nil:
		return w.cluster.Nodes
	default:
		return w.members
	}
}

// addrs are what a client is given.
func (w *world) addrs() []string {
	switch {
	case w.single != nil:
		return []string{w.single.Addr()}
	case w.sentinel != nil:
		return w.sentinel.Addrs()
	case w.cluster != nil:
		return w.cluster.Addrs()
	}
	var addrs []string
	for _, server := range w.members {
		addrs = append(addrs, server.Addr())
	}
	return addrs
}

// link puts a proxy of the worker's own before each server, once.
func (w *world) link(worker string, seed uint64, chances map[string][]faultproxy.Chance) (map[string]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.links[worker] == nil {
		w.links[worker] = map[string]*faultproxy.Proxy{}
		for i, node := range w.nodes() {
			link, err := faultproxy.Listen(node.Addr(), seed+streamID(fmt.Sprintf("%s/%d", worker, i)))
			if err != nil {
				return nil, err
			}
			w.links[worker][node.Addr()] = link
			for name, list := range chances {
				link.Random(name, list...)
			}
		}
	}
	addrs := map[string]string{}
	for server, link := range w.links[worker] {
		addrs[server] = link.Addr()
	}
	return addrs, nil
}

// linksOf are a worker's proxies, always in the same order.
func (w *world) linksOf(worker string) (links []*faultproxy.Proxy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, node := range w.nodes() {
		if link := w.links[worker][node.Addr()]; link != nil {
			links = append(links, link)
		}
	}
	return links
}

// linksTo are all workers' proxies before one server.
func (w *world) linksTo(server *redistest.Server) (links []*faultproxy.Proxy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, worker := range sortedKeys(w.links) {
		if link := w.links[worker][server.Addr()]; link != nil {
			links = append(links, link)
		}
	}
	return links
}

// heal ends all faults of all links.
func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, links := range w.links {
		for _, link := range links {
			link.BlackHole(false)
			link.BlackHolePubSub(false)
			for _, name := range spoiled {
				link.Random(name)
			}
		}
	}
}

// masters are the servers that answer for locks now.
func (w *world) masters() (masters []*redistest.Server) {
	for _, node := range w.nodes() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		role, err := node.Do(ctx, "ROLE").Slice()
		cancel()
		if err == nil && len(role) > 0 && role[0] == "master" {
			masters = append(masters, node)
		}
	}
	return masters
}

// left lists what is still there: keys, and channels that somebody listens on.
func (w *world) left() (left []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, node := range w.masters() {
		for _, command := range [][]any{{"KEYS", "*"}, {"PUBSUB", "CHANNELS", "redisson*"}, {"PUBSUB", "SHARDCHANNELS", "redisson*"}} {
			names, e := node.Do(ctx, command...).StringSlice()
			if e != nil && !strings.Contains(e.Error(), "nknown subcommand") { // no sharded channels before 7.0
				err = errors.Join(err, e)
			}
			for _, name := range names {
				if name != ballast {
					left = append(left, name)
				}
			}
		}
	}
	slices.Sort(left)
	return slices.Compact(left), err
}

// slowest is the longest run of a script that the servers remember, apart from those
// that the faults ran themselves.
func (w *world) slowest() time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	longest := int64(0)
	for _, node := range w.nodes() {
		entries, err := node.Do(ctx, "SLOWLOG", "GET", "-1").Slice()
		if err != nil {
			continue
		}
		for _, entry := range entries {
			fields, ok := entry.([]any)
			if !ok || len(fields) < 4 {
				continue
			}
			micros, _ := fields[2].(int64)
			command, _ := fields[3].([]any)
			if len(command) > 3 && strings.HasPrefix(strings.ToLower(fmt.Sprint(command[0])), "eval") && fmt.Sprint(command[2]) != "0" {
				longest = max(longest, micros)
			}
		}
	}
	return time.Duration(longest) * time.Microsecond
}

// ballast is a key of the faults' own.
const ballast = "soak-ballast"
