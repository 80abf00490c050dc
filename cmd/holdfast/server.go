package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

type redisClient = redis.UniversalClient

// connectLimit bounds all that is asked of a server before the show begins.
const connectLimit = 4500 * time.Millisecond

// A server is the Redis of the show.
type server struct {
	url     string
	cluster bool
	label   string // for people: no password in it
	stop    func()

	members []string  // URLs of the servers of a quorum lock; url is none of them
	kill    func(int) // ends one of those
}

// ownServer starts a Redis inside this process, on a free port of the loopback.
func ownServer() (*server, error) {
	m, err := miniredis.Run()
	if err != nil {
		return nil, fmt.Errorf("start a Redis of my own: %w", err)
	}
	m.ClockTTL(true) // keys expire as time passes; by itself miniredis waits to be told
	return &server{url: "redis://" + m.Addr(), label: "miniredis inside, " + m.Addr(), stop: m.Close}, nil
}

// quorumServers is how many servers a quorum lock stands on.
const quorumServers = 5

// ownQuorum starts the servers of a quorum lock inside this process, and one more for
// the register, which the lock knows nothing of.
func ownQuorum() (*server, error) {
	s, err := ownServer()
	if err != nil {
		return nil, err
	}
	stops := []func(){s.stop}
	s.stop = func() {
		for _, stop := range stops {
			stop()
		}
	}
	var ports []string
	for range quorumServers {
		member, err := ownServer()
		if err != nil {
			s.stop()
			return nil, err
		}
		s.members, stops = append(s.members, member.url), append(stops, member.stop)
		ports = append(ports, member.url[strings.LastIndexByte(member.url, ':'):])
	}
	s.label = fmt.Sprintf("%d miniredis inside, 127.0.0.1%s", quorumServers, strings.Join(ports, " "))
	s.kill = func(i int) { stops[1+i]() }
	return s, nil
}

// foreignServer looks whether there is a server behind the URL, and of what kind.
func foreignServer(ctx context.Context, f demoFlags) (*server, error) {
	s := &server{url: f.redis, cluster: f.cluster || severalHosts(f.redis), label: redacted(f.redis), stop: func() {}}
	rdb, err := dial(s.url, s.cluster)
	if err != nil {
		return nil, err
	}
	defer rdb.Close()
	if s.cluster {
		err = rdb.Ping(ctx).Err()
	} else {
		s.cluster, err = askCluster(ctx, rdb)
	}
	if err != nil {
		return nil, unreachable(s.label, err)
	}
	if s.cluster {
		s.label += " (cluster)"
	}
	return s, nil
}

// askCluster tells whether the server is part of a cluster. A user who may not ask is
// taken to be on none; --cluster is for that case.
func askCluster(ctx context.Context, rdb redisClient) (bool, error) {
	if err := rdb.Ping(ctx).Err(); err != nil {
		return false, err
	}
	text, err := rdb.Info(ctx, "cluster").Result()
	var said redis.Error
	if err != nil && !errors.As(err, &said) {
		return false, err
	}
	return strings.Contains(text, "cluster_enabled:1"), nil
}

func unreachable(label string, err error) error {
	return fmt.Errorf("cannot use the Redis at %s: %w", label, err)
}

// within runs a task that may not heed ctx, as go-redis does not while a socket hangs.
func within[T any](ctx context.Context, label string, task func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() { // ends with the Redis client's own timeouts
		value, err := task()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return none, unreachable(label, fmt.Errorf("no answer in %v", connectLimit))
		}
		return none, ctx.Err()
	}
}

// dial makes a client for the URL; it sends nothing yet.
func dial(raw string, cluster bool) (redisClient, error) {
	parsed, err := parseURL(raw)
	if err != nil {
		return nil, fmt.Errorf("%q is no Redis URL: %w", redacted(raw), err)
	}
	if cluster {
		options, err := redis.ParseClusterURL(parsed)
		if err != nil {
			return nil, fmt.Errorf("%q is no Redis URL: %w", redacted(raw), err)
		}
		options.DialTimeout, options.DialerRetries = orDefault(options.DialTimeout), 1
		return redis.NewClusterClient(options), nil
	}
	options, err := redis.ParseURL(parsed)
	if err != nil {
		return nil, fmt.Errorf("%q is no Redis URL: %w", redacted(raw), err)
	}
	options.DialTimeout, options.DialerRetries = orDefault(options.DialTimeout), 1
	return redis.NewClient(options), nil
}

func orDefault(dialTimeout time.Duration) time.Duration {
	if dialTimeout == 0 {
		return 2 * time.Second
	}
	return dialTimeout
}

// parseURL refuses what go-redis would misread, with errors that repeat no part of the
// URL, and turns further hosts (a:7000,b:7000) into go-redis's addr parameters.
func parseURL(raw string) (string, error) {
	if raw == "" {
		return "", errors.New("it is empty")
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return "", errors.New(`it needs a scheme, as in "redis://localhost:6379"`)
	}
	before, hosts, after := splitHosts(rest)
	if strings.Contains(before, "/") || strings.ContainsAny(before, "?#") {
		return "", errors.New(`a "/", "?" or "#" in a user name or password must be written as %2F, %3F or %23`)
	}
	first, others, _ := strings.Cut(hosts, ",")
	u, err := url.Parse(scheme + "://" + before + first + after)
	if err != nil {
		return "", errors.New("host, port, user name or password are not as in redis://user:password@host:port/0")
	}
	if others != "" {
		query := u.Query()
		for host := range strings.SplitSeq(others, ",") {
			query.Add("addr", host)
		}
		u.RawQuery = query.Encode()
	}
	return u.String(), nil
}

// splitHosts cuts what follows the scheme into the part up to the last "@", the hosts,
// and the rest.
func splitHosts(rest string) (before, hosts, after string) {
	at := strings.LastIndexByte(rest, '@') + 1
	before, hosts = rest[:at], rest[at:]
	if end := strings.IndexAny(hosts, "/?#"); end >= 0 {
		hosts, after = hosts[:end], hosts[end:]
	}
	return before, hosts, after
}

// severalHosts tells whether the URL names more than one, which only a cluster has.
func severalHosts(raw string) bool {
	_, rest, _ := strings.Cut(raw, "://")
	_, hosts, after := splitHosts(rest)
	return strings.Contains(hosts, ",") || strings.Contains(after, "?addr=") || strings.Contains(after, "&addr=")
}

// redacted is the URL with everything left out that may be a secret: what stands before
// the last "@", a port that is none, and the parameters.
func redacted(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		scheme, rest = "", raw
	} else {
		scheme += "://"
	}
	before, hosts, after := splitHosts(rest)
	if before != "" {
		before = "***@"
	}
	if colon := strings.LastIndexByte(hosts, ':'); colon >= 0 && strings.Trim(hosts[colon+1:], "0123456789]") != "" {
		hosts = hosts[:colon+1] + "***"
	}
	if end := strings.IndexAny(after, "?#"); end >= 0 {
		after = after[:end]
	}
	return scheme + before + hosts + after
}

// silence keeps go-redis from writing to standard error, across the screen.
func silence() { redis.SetLogger(quiet{}) }

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
