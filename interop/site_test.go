package interop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A site is where the locks are.
type site struct {
	name    string // "Redis 7.0", the column of the table
	version string // of its servers
	cluster *redistest.Cluster
	server  *redistest.Server     // without a cluster
	admin   redis.UniversalClient // for looking at raw keys

	mu      sync.Mutex
	parties map[string]party // shared by the cases; see party
}

// wheelServer is the second redis-server, which scripts/interop.sh fetches.
var wheelServer = filepath.Join(".servers", "redis-server")

// startSites starts them all. They are closed by closeSites.
func startSites() (sites []*site, err error) {
	single := func(binary string) error {
		restore, err := useServer(binary)
		if err != nil {
			return err
		}
		defer restore()
		server, err := redistest.Launch()
		if err != nil {
			return err
		}
		sites = append(sites, &site{server: server, admin: redis.NewClient(&redis.Options{Addr: server.Addr()})})
		return nil
	}
	if err := single(""); err != nil {
		return sites, err
	}
	if err := single(wheelServer); err != nil {
		return sites, err
	}
	cluster, err := redistest.LaunchCluster(3, 1)
	if err != nil {
		fmt.Fprintln(os.Stderr, "once more, because of:", err)
		cluster, err = redistest.LaunchCluster(3, 1)
	}
	if err != nil {
		return sites, err
	}
	sites = append(sites, &site{cluster: cluster, admin: redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})})
	for _, s := range sites {
		s.parties = map[string]party{}
		if err := s.identify(); err != nil {
			return sites, err
		}
	}
	return sites, nil
}

// useServer makes redistest start that binary, until restore.
func useServer(binary string) (restore func(), err error) {
	const variable = "HOLDFAST_REDIS_SERVER"
	before, was := os.LookupEnv(variable)
	if binary == "" {
		return func() {}, nil
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf(`the second redis-server is missing: run "make interop": %w`, err)
	}
	return func() {
		if was {
			_ = os.Setenv(variable, before)
		} else {
			_ = os.Unsetenv(variable)
		}
	}, os.Setenv(variable, binary)
}

func closeSites(sites []*site) {
	for _, s := range sites {
		for _, p := range s.parties {
			p.close()
		}
		_ = s.admin.Close()
		if s.cluster != nil {
			s.cluster.Close()
		} else {
			s.server.Close()
		}
	}
}

var versionPattern = regexp.MustCompile(`redis_version:(\d+\.\d+)(\.\d+)`)

func (s *site) identify() error {
	info, err := s.nodes()[0].Do(context.Background(), "INFO", "server").Text()
	if err != nil {
		return err
	}
	found := versionPattern.FindStringSubmatch(info)
	if found == nil {
		return fmt.Errorf("no version in %q", info)
	}
	s.version = found[1] + found[2]
	s.name = "Redis " + found[1]
	if s.cluster != nil {
		s.name = "Cluster " + found[1]
	}
	return nil
}

func (s *site) nodes() []*redistest.Server {
	if s.cluster != nil {
		return s.cluster.Nodes
	}
	return []*redistest.Server{s.server}
}

// addresses are redis:// URLs for Java.
func (s *site) addresses() []string {
	var urls []string
	for _, node := range s.nodes() {
		urls = append(urls, "redis://"+node.Addr())
	}
	return urls
}

// of gives the server that has the key.
func (s *site) of(key string) *redistest.Server {
	if s.cluster != nil {
		return s.cluster.MasterOf(key)
	}
	return s.server
}

// rdb makes a go-redis client for one Go party.
func (s *site) rdb() redis.UniversalClient {
	if s.cluster != nil {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: s.cluster.Addrs()})
	}
	return redis.NewClient(&redis.Options{Addr: s.server.Addr()})
}

// subscribers counts who listens to the channel, on a cluster to the sharded one.
func (s *site) subscribers(t testing.TB, key, channel string) int64 {
	t.Helper()
	verb := "NUMSUB"
	if s.cluster != nil {
		verb = "SHARDNUMSUB"
	}
	counts, err := s.of(key).Do(t.Context(), "PUBSUB", verb, channel).Slice()
	if err != nil {
		t.Fatal(err)
	}
	return counts[1].(int64)
}
