package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// documentedACL reads the n-th ACL out of docs/security.md, as words.
func documentedACL(t *testing.T, n int) []string {
	t.Helper()
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "\n```\nACL SETUSER locker ")
	if len(blocks) <= n {
		t.Fatalf("docs/security.md has %d ACLs, want number %d", len(blocks)-1, n)
	}
	rules, _, _ := strings.Cut(blocks[n], "\n```")
	return strings.Fields(rules)
}

// optional are the rights without which locks still work, as the page says.
var optional = []string{"+unsubscribe", "+sunsubscribe", "+ping", "+info", "+pubsub|shardnumsub", "+asking"}

func setUser(t *testing.T, servers []*redistest.Server, rules []string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", "locker"}
	for _, rule := range rules {
		args = append(args, rule)
	}
	for _, s := range servers {
		for _, command := range [][]any{args, {"SCRIPT", "FLUSH"}} {
			if err := s.Do(t.Context(), command...).Err(); err != nil {
				t.Fatalf("%v: %v", command, err)
			}
		}
	}
}

// lifeUnderACL lives the life of a lock: two clients, a re-entry, a wait that a message ends,
// a renewal, questions, a forced end. It tells the first thing that did not work.
func lifeUnderACL(ctx context.Context, dial func() redis.UniversalClient) (err error) {
	var locks [2]holdfast.Lock
	for i := range locks {
		rdb := dial()
		defer rdb.Close()
		c, err := holdfast.New(rdb, holdfast.WithWatchdogTimeout(600*time.Millisecond),
			holdfast.WithLogger(slog.New(slog.DiscardHandler)),
			holdfast.WithNameMapper(func(name string) string { return "shop:" + name }))
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Check(ctx); err != nil {
			return err
		}
		locks[i] = c.RLock("orders")
	}
	mine, theirs := locks[0], locks[1]
	outer, err := mine.Lock(ctx)
	if err != nil {
		return err
	}
	inner, err := mine.Lock(outer.Context(ctx))
	if err != nil {
		return err
	}
	if err := inner.Extend(ctx, 2*time.Second); err != nil {
		return err
	}
	type result struct {
		hold holdfast.Hold
		err  error
	}
	waiting := make(chan result, 1)
	go func() { h, err := theirs.Lock(ctx); waiting <- result{h, err} }()
	select {
	case <-outer.Done():
		return fmt.Errorf("not renewed: %w", outer.Err())
	case r := <-waiting:
		return errors.Join(errors.New("did not wait"), r.err)
	case <-time.After(1200 * time.Millisecond): // renewals go out meanwhile
	}
	if err := errors.Join(inner.Unlock(ctx), outer.Unlock(ctx)); err != nil {
		return err
	}
	start := time.Now()
	r := <-waiting
	if r.err != nil {
		return r.err
	}
	if took := time.Since(start); took > 500*time.Millisecond {
		return fmt.Errorf("no message: it took %v", took)
	}
	if freed, err := mine.ForceUnlock(ctx); err != nil || !freed {
		return fmt.Errorf("ForceUnlock: %v, %v", freed, err)
	}
	if locked, err := mine.IsLocked(ctx); err != nil || locked {
		return fmt.Errorf("IsLocked: %v, %v", locked, err)
	}
	if err := r.hold.Unlock(ctx); !errors.Is(err, holdfast.ErrLost) {
		return fmt.Errorf("Unlock of what was forced: got %v, want ErrLost", err)
	}
	return nil
}

// The ACLs of docs/security.md are enough, and no right of them but the optional ones
// can be left out.
func TestDocumentedACLs(t *testing.T) {
	t.Parallel()
	t.Run("a single server", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		testACL(t, documentedACL(t, 1), []*redistest.Server{server}, func() redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "locker", Password: "CHANGE-ME"})
		})
	})
	t.Run("a cluster", func(t *testing.T) {
		t.Parallel()
		cluster := redistest.StartCluster(t, 3, 0)
		if major, _ := cluster.Nodes[0].Version(); major < 7 {
			t.Skip("sharded channels came with Redis 7.0")
		}
		testACL(t, documentedACL(t, 2), cluster.Nodes, func() redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), Username: "locker", Password: "CHANGE-ME"})
		})
	})
}

func testACL(t *testing.T, rules []string, servers []*redistest.Server, dial func() redis.UniversalClient) {
	live := func(rules []string) error {
		setUser(t, servers, rules)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return lifeUnderACL(ctx, dial)
	}
	if err := live(rules); err != nil {
		t.Fatalf("the ACL is not enough: %v", err)
	}
	for i, rule := range rules {
		if rule[0] != '+' && rule[0] != '~' && !strings.HasPrefix(rule, "&redisson_lock__channel:{") {
			continue // the second channel pattern is for names with braces
		}
		err := live(slices.Delete(slices.Clone(rules), i, i+1))
		switch needed := !slices.Contains(optional, rule); {
		case needed && err == nil:
			t.Errorf("the right %s can be left out, the page says it is needed", rule)
		case !needed && err != nil:
			t.Errorf("the right %s is needed, the page says it is not: %v", rule, err)
		}
	}
	setUser(t, servers, rules)
	rdb := dial()
	defer rdb.Close()
	for what, err := range map[string]error{
		"another's key": rdb.Eval(t.Context(), "return redis.call('DEL', KEYS[1])", []string{"other:orders"}).Err(),
		"SET":           rdb.Set(t.Context(), "shop:orders", "1", 0).Err(),
	} {
		if !redis.HasErrorPrefix(err, "NOPERM") {
			t.Errorf("%s: got %v, want NOPERM", what, err)
		}
	}
}

// A name with a "{" of its own has a channel of the second pattern.
func TestDocumentedACLWithBraces(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	setUser(t, []*redistest.Server{server}, documentedACL(t, 1))
	rdb := server.Client(t, func(o *redis.Options) { o.Username, o.Password = "locker", "CHANGE-ME" })
	c, err := holdfast.New(rdb)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	orders := c.RLock("shop:{42}")
	first, err := orders.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = first.Unlock(context.Background()) })
	start := time.Now()
	second, err := orders.TryLock(t.Context(), patience, 0)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("woken after %v, want at once", took)
	}
	if err := second.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}
