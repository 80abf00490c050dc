package holdfast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/fairlock"
	"github.com/holdfast-go/holdfast/rlock"
)

// checkLimit bounds Check where ctx does not.
const checkLimit = 10 * time.Second

// Check tells whether the servers suit, before anybody relies on them: the version
// (6.2 or later), that they are masters, that they evict no keys, and that this
// user may run every script, subscribe and publish. For that it runs the life of
// a lock on a name of its own, "holdfast-check-<uuid>" after the name mapper, so the
// user's ACL must allow that key and its channel. The rights of fair locks are tried if this client
// has made one before: make your locks, which sends nothing, then call Check. It leaves no key behind.
//
// The error joins all that is wrong, each in one sentence. What this user may not
// ask (INFO) is passed over. Where maybe only one side speaks TLS it says so. Bounded by ctx, and by 10 seconds.
func (c *Client) Check(ctx context.Context) error {
	if ctx == nil {
		return errors.New("holdfast: ctx is nil")
	}
	if c == nil || c.engine == nil {
		return errors.New("holdfast: the client is nil")
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	unsuitable, err := c.checkServers(ctx)
	if err != nil {
		err = c.suspectTLS(err)
	} else {
		name := "holdfast-check-" + uuid.NewString()
		err = rlock.New(c.engine, name, c.mapper(name)).Check(ctx)
		if c.fair.Load() {
			name := "holdfast-check-" + uuid.NewString()
			if fair := fairlock.New(c.engine, name, c.mapper(name)).Check(ctx); fair != nil {
				err = errors.Join(err, fmt.Errorf("fair lock: %w", fair))
			}
		}
	}
	if err := errors.Join(unsuitable, err); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	return nil
}

// suspectTLS adds to the error of a first question what it may come from if one side
// speaks TLS and the other does not. Redis says nothing of it: a TLS port closes a connection in the
// clear, and one in the clear takes the client's greeting for the beginning of a command.
func (c *Client) suspectTLS(err error) error {
	encrypted := false
	switch rdb := c.rdb.(type) {
	case *redis.Client:
		encrypted = rdb.Options().TLSConfig != nil
	case *redis.ClusterClient:
		encrypted = rdb.Options().TLSConfig != nil
	default:
		return err
	}
	var network net.Error
	switch {
	case !encrypted && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		return fmt.Errorf("%w: the server closed the connection; maybe it wants TLS, and this client has no TLSConfig", err)
	case encrypted && (errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()):
		return fmt.Errorf("%w; maybe it does not speak TLS, and this client does", err)
	}
	return err
}

// checkServers asks each master about itself: unsuitable is what it says, err why it
// could not be asked. go-redis does not heed ctx while a socket hangs, so it runs
// beside.
func (c *Client) checkServers(ctx context.Context) (unsuitable, err error) {
	done := make(chan struct{})
	var found, failed error
	go func() { // ends with the Redis client's own timeouts
		found, failed = c.askServers(ctx)
		close(done)
	}()
	select {
	case <-done:
		return found, failed
	case <-ctx.Done():
		return nil, fmt.Errorf("the server did not answer: %w", ctx.Err())
	}
}

func (c *Client) askServers(ctx context.Context) (unsuitable, err error) {
	cluster, ok := c.rdb.(*redis.ClusterClient)
	if !ok {
		return checkServer(ctx, c.rdb)
	}
	var (
		mu       sync.Mutex
		problems []error
	)
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		unsuitable, err := checkServer(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		if unsuitable != nil {
			problems = append(problems, fmt.Errorf("%s: %w", node.Options().Addr, unsuitable))
		}
		return err
	})
	return errors.Join(problems...), err
}

func checkServer(ctx context.Context, rdb redis.UniversalClient) (unsuitable, err error) {
	text, err := rdb.Info(ctx).Result()
	if redis.HasErrorPrefix(err, "NOPERM") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info := parseInfo(text)
	var problems []error
	if version := info["redis_version"]; older(version, 6, 2) {
		problems = append(problems, fmt.Errorf("version %s is too old, Redis 6.2 or later is needed", version))
	}
	if role := info["role"]; role != "" && role != "master" {
		problems = append(problems, fmt.Errorf("this server is a replica (role %s), locks need the master", role))
	}
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		problems = append(problems, fmt.Errorf("maxmemory-policy is %s: Redis may evict locks that are held, it must be noeviction", policy))
	}
	return errors.Join(problems...), nil
}

// parseInfo reads the "name:value" lines of INFO.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// older tells whether a version such as "7.0.15" comes before major.minor. One that
// is not to be read does not.
func older(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, err1 := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (a < major || a == major && b < minor)
}
