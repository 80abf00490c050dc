package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest/loopback"
)

// failoverLimit is how long a new master may be awaited. It takes three seconds:
// one until the master counts as down, the vote, the promotion. A vote that is
// split is repeated after about two failover-timeouts, six seconds. A machine that
// stands still for two seconds puts the sentinels in tilt, in which they do
// nothing: for thirty seconds before Redis 7.0, for two after (see hurry). A
// minute covers one tilt and several votes. (A master that dies while a sentinel
// of Redis 6.2 is in tilt may never be replaced: they want a replica that was cut
// off at most ten down-after-milliseconds, ten seconds, before they noticed.)
const failoverLimit = time.Minute

// demotionLimit is how long the old master may take, after the new one is agreed
// on, until every sentinel counts it as a replica. A sentinel forgets what it knew
// of the old master, looks at it at once, still sees a master, and demotes it at a
// later look, if by then it has been one for four publish-periods and was never
// down meanwhile; that it has obeyed shows at the look after that. Before Redis 7.0
// a look comes each ten seconds, so a quiet machine takes a little more than
// twenty; from 7.0 on three to four (see hurry). One stall just before the second
// look costs thirty seconds of tilt and up to ten until the next look. Together
// that is a minute.
const demotionLimit = time.Minute

// A Sentinel is a master with replicas, watched by three sentinels of which two
// must agree. A server counts as down after one second. Its methods may be
// called from any goroutine.
type Sentinel struct {
	// Name is what the sentinels call the master.
	Name string
	// Nodes are the servers; Nodes[0] begins as the master.
	Nodes []*Server
	// Sentinels are the three watchers.
	Sentinels []*Server
}

// StartSentinel runs a master with so many replicas and three sentinels. Args
// are those of the master and the replicas. It returns once the sentinels know
// the replicas and each other, after about two seconds, so that a failover can
// begin at once. All are gone when the test is.
func StartSentinel(t testing.TB, replicas int, args ...string) *Sentinel {
	t.Helper()
	s, err := LaunchSentinel(replicas, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// LaunchSentinel is StartSentinel without a test: the caller must Close it.
func LaunchSentinel(replicas int, args ...string) (*Sentinel, error) {
	s := &Sentinel{Name: "holdfast", Nodes: make([]*Server, 1+replicas), Sentinels: make([]*Server, 3)}
	if err := s.launch(args); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sentinel) launch(args []string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), clusterLimit)
	defer cancel()
	if s.Nodes[0], err = Launch(args...); err != nil {
		return err
	}
	err = together(len(s.Nodes)-1, func(i int) (err error) {
		replica := append([]string{"--replicaof", "127.0.0.1", strconv.Itoa(s.Nodes[0].Port)}, args...)
		s.Nodes[1+i], err = Launch(replica...)
		return err
	})
	if err != nil {
		return err
	}
	// A sentinel that first looks when the replicas are there sees them at once;
	// those that come later it sees only at its next look.
	if err := until(ctx, s.replicasUp); err != nil {
		return err
	}
	if err := together(len(s.Sentinels), s.launchSentinel); err != nil {
		return err
	}
	return until(ctx, s.Healthy)
}

// launchSentinel starts the i-th watcher. Debian has no redis-sentinel; the
// server does the same with --sentinel, and wants a file that it may rewrite.
func (s *Sentinel) launchSentinel(i int) error {
	watcher, err := prepare(loopback.Hold)
	if err != nil {
		return err
	}
	config := fmt.Sprintf(`port %d
bind 127.0.0.1
dir %s
sentinel monitor %s 127.0.0.1 %d 2
sentinel down-after-milliseconds %[3]s 1000
sentinel failover-timeout %[3]s 3000
`, watcher.Port, watcher.dir, s.Name, s.Nodes[0].Port)
	file := filepath.Join(watcher.dir, "sentinel.conf")
	if err := watcher.launched(os.WriteFile(file, []byte(config), 0o600)); err != nil {
		return err
	}
	watcher.args = []string{file, "--sentinel"}
	s.Sentinels[i] = watcher
	if err := watcher.Restart(); err != nil {
		return err
	}
	return watcher.hurry()
}

// hurry has a sentinel look at its servers and greet the others more often than
// each ten and two seconds, which are fixed before Redis 7.0: a replaced master
// is made a replica only after such a look, and counts as one after the next (see
// demotionLimit). It also lets the sentinel act again two seconds after a stall, in
// place of thirty: on one busy machine a stall tells of no wrong clock, and after
// thirty seconds no replica of a master that died meanwhile would be good enough.
func (s *Server) hurry() error {
	if major, _ := s.Version(); major < 7 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return s.failed("hurry", s.Do(ctx, "SENTINEL", "DEBUG", "INFO-PERIOD", 500, "PUBLISH-PERIOD", 500, "TILT-PERIOD", 2000).Err())
}

// Close closes all servers, the sentinels first, lest they begin a failover.
func (s *Sentinel) Close() {
	closeAll(s.Sentinels)
	closeAll(s.Nodes)
}

func (s *Sentinel) replicasUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
	for _, node := range s.Nodes {
		if !node.Running() {
			continue
		}
		if err := node.linkUp(ctx); err != nil {
			return node.failed("find healthy", err)
		}
	}
	return nil
}

// Healthy tells what would stand in the way of a failover: nil once every
// running replica follows its master and every running sentinel knows a master
// that is up, all the replicas and the other sentinels.
func (s *Sentinel) Healthy() error {
	if err := s.replicasUp(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
	for _, watcher := range s.Sentinels {
		if !watcher.Running() {
			continue
		}
		if err := s.watches(ctx, watcher); err != nil {
			return watcher.failed("find healthy", err)
		}
	}
	return nil
}

func (s *Sentinel) watches(ctx context.Context, watcher *Server) error {
	fields, err := watcher.Do(ctx, "SENTINEL", "MASTER", s.Name).StringSlice()
	if err != nil {
		return err
	}
	state := pairs(fields)
	if state["flags"] != "master" || state["num-other-sentinels"] != strconv.Itoa(len(s.Sentinels)-1) {
		return fmt.Errorf("master %s, %s other sentinels", state["flags"], state["num-other-sentinels"])
	}
	replicas, err := watcher.Do(ctx, "SENTINEL", "REPLICAS", s.Name).Slice()
	if err != nil {
		return err
	}
	up := 0
	for _, replica := range replicas {
		list, _ := replica.([]any)
		state := pairs(list)
		if state["flags"] == "slave" && state["master-link-status"] == "ok" {
			up++
		}
	}
	if want := s.running() - 1; up != want {
		return fmt.Errorf("%d replicas up, want %d", up, want)
	}
	return nil
}

func (s *Sentinel) running() (n int) {
	for _, node := range s.Nodes {
		if node.Running() {
			n++
		}
	}
	return n
}

// pairs makes a map of name, value, name, value, …
func pairs[T any](list []T) map[string]string {
	m := map[string]string{}
	for pair := range slices.Chunk(list, 2) {
		if len(pair) == 2 {
			m[fmt.Sprint(pair[0])] = fmt.Sprint(pair[1])
		}
	}
	return m
}

// Addrs are the sentinels' addresses.
func (s *Sentinel) Addrs() []string {
	addrs := make([]string, len(s.Sentinels))
	for i, watcher := range s.Sentinels {
		addrs[i] = watcher.Addr()
	}
	return addrs
}

// Client gives a client that asks the sentinels for the master and is closed
// when the test ends. Its options are go-redis's defaults unless mutate changes them.
func (s *Sentinel) Client(t testing.TB, mutate ...func(*redis.FailoverOptions)) *redis.Client {
	t.Helper()
	options := &redis.FailoverOptions{MasterName: s.Name, SentinelAddrs: s.Addrs()}
	for _, change := range mutate {
		change(options)
	}
	client := redis.NewFailoverClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Master is the server that every running sentinel names as the master, if it
// sees itself as one: nil otherwise, as during a failover.
func (s *Sentinel) Master() *Server {
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
	named := ""
	for _, watcher := range s.Sentinels {
		if !watcher.Running() {
			continue
		}
		addr, err := watcher.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name).StringSlice()
		if err != nil || len(addr) != 2 {
			return nil
		}
		if host := net.JoinHostPort(addr[0], addr[1]); named == "" || named == host {
			named = host
		} else {
			return nil
		}
	}
	for _, node := range s.Nodes {
		if node.Addr() == named && node.isMaster(ctx) {
			return node
		}
	}
	return nil
}

func (s *Server) isMaster(ctx context.Context) bool {
	role, err := s.Do(ctx, "ROLE").Slice()
	return err == nil && len(role) > 0 && role[0] == "master"
}

// Failover has the sentinels replace the master and returns the new one once they
// agree on it. The old master lives on: as a second master at first, which the
// sentinels make a replica after some seconds, ten before Redis 7.0. For the death
// of a master, Kill it and WaitNewMaster.
func (s *Sentinel) Failover(t testing.TB) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), failoverLimit)
	defer cancel()
	old := s.Master()
	if old == nil {
		t.Fatal("redistest: failover: there is no master to replace")
	}
	if err := until(ctx, func() error {
		err := s.Sentinels[0].Do(ctx, "SENTINEL", "FAILOVER", s.Name).Err()
		if err != nil && !strings.HasPrefix(err.Error(), "INPROG") && !strings.HasPrefix(err.Error(), "NOGOODSLAVE") {
			return giveUp{err}
		}
		return err
	}); err != nil {
		t.Fatalf("redistest: failover: %v", err)
	}
	return s.WaitNewMaster(t, old)
}

// WaitNewMaster waits until the sentinels agree on a master other than old, at
// most a minute, and returns it.
func (s *Sentinel) WaitNewMaster(t testing.TB, old *Server) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), failoverLimit)
	defer cancel()
	var master *Server
	if err := until(ctx, func() error {
		if master = s.Master(); master == nil || master == old {
			return errors.New("no new master yet")
		}
		return nil
	}); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return master
}
