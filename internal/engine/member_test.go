package engine_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/rlock"
)

// A member's error names its server as the Redis client was told it, if it was told.
func TestMemberErrorNamesTheServer(t *testing.T) {
	failover := &redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{"127.0.0.1:1"}}
	for _, c := range []struct {
		rdb  redis.UniversalClient
		want string
	}{
		{redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", DB: 3}), `member "orders" on 127.0.0.1:1/3: holdfast: hold lost`},
		{redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:2", "127.0.0.1:1"}}),
			`member "orders" on 127.0.0.1:1,127.0.0.1:2: holdfast: hold lost`},
		{redis.NewFailoverClient(failover), `member "orders": holdfast: hold lost`},
		{redis.NewFailoverClusterClient(failover), `member "orders": holdfast: hold lost`},
	} {
		e := engine.New(engine.Config{
			Redis: c.rdb, Program: script.NewProgram(rlock.Verbs()...), ID: "client", FirstOwner: 1, Watchdog: time.Minute,
			Retry: func() backoff.BackOff { return &backoff.StopBackOff{} }, Logger: slog.New(slog.DiscardHandler),
		})
		t.Cleanup(func() { _ = e.Close(); _ = c.rdb.Close() })
		lock := rlock.New(e, "orders", "orders")
		if err := lock.MemberError(locking.ErrLost); !errors.Is(err, locking.ErrLost) || err.Error() != c.want {
			t.Errorf("got %q, want %q", err, c.want)
		}
		if err := lock.MemberError(nil); err != nil {
			t.Errorf("of no error: got %v", err)
		}
	}
}
