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
	blocks := strings.Split(string(text), "\n```\nACL SETUSER locker")
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

// fairLifeUnderACL lives the life of a fair lock: somebody gives up, two wait in the queue for longer
// than a place is kept, a message and a forced end hand it on.
func fairLifeUnderACL(ctx context.Context, dial func() redis.UniversalClient) (err error) {
	const name, waiterLease = "shop:tickets", 2 * time.Second
	var locks [2]holdfast.Lock
	var queue redis.UniversalClient
	for i := range locks {
		queue = dial()
		defer queue.Close()
		c, err := holdfast.New(queue, holdfast.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.RLock(name+"-plain").Do(ctx, func(context.Context) error { return nil }); err != nil {
			return err // the rights of the plain lock
		}
		locks[i] = c.FairLock(name, holdfast.WithWaiterLease(waiterLease))
	}
	length := func(want int64) error { // of the queue, soon
		var got int64
		for range 100 {
			if got, err = queue.LLen(ctx, "redisson_lock_queue:{"+name+"}").Result(); err != nil || got == want {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
		return fmt.Errorf("%d in the queue, want %d", got, want)
	}
	mine, theirs := locks[0], locks[1]
	held, err := mine.Lock(ctx)
	if err != nil {
		return err
	}
	if _, err := theirs.TryLock(ctx, 50*time.Millisecond, 0); !errors.Is(err, holdfast.ErrNotAcquired) {
		return fmt.Errorf("a wait that ran out: got %v, want ErrNotAcquired", err)
	}
	if err := length(0); err != nil {
		return err
	}
	type result struct {
		hold holdfast.Hold
		err  error
	}
	var waiting [2]chan result
	for i := range waiting {
		waiting[i] = make(chan result, 1)
		go func() { h, err := theirs.Lock(ctx); waiting[i] <- result{h, err} }()
		if err := length(int64(i + 1)); err != nil {
			return err
		}
	}
	select {
	case r := <-waiting[0]:
		return errors.Join(errors.New("the first did not wait"), r.err)
	case r := <-waiting[1]:
		return errors.Join(errors.New("the second did not wait"), r.err)
	case <-time.After(waiterLease + 100*time.Millisecond): // places are renewed meanwhile
	}
	start := time.Now()
	if err := held.Unlock(ctx); err != nil {
		return err
	}
	for i, w := range waiting {
		r := <-w
		if r.err != nil {
			return r.err
		}
		// Without a message the first one would find out by its renewal, at a third of its lease.
		if took := time.Since(start); took > waiterLease/4 {
			return fmt.Errorf("no message to waiter %d: it took %v", i+1, took)
		}
		start = time.Now()
		if i == 0 {
			if freed, err := mine.ForceUnlock(ctx); err != nil || !freed {
				return fmt.Errorf("ForceUnlock: %v, %v", freed, err)
			}
		} else if err := r.hold.Unlock(ctx); err != nil {
			return err
		}
	}
	locked, err := mine.IsLocked(ctx)
	if err != nil || locked {
		return fmt.Errorf("IsLocked: %v, %v", locked, err)
	}
	return length(0)
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
	t.Run("a fair lock", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		testFairACL(t, documentedACL(t, 1), []*redistest.Server{server}, func() redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "locker", Password: "CHANGE-ME"})
		})
	})
	t.Run("a fair lock on a cluster", func(t *testing.T) {
		t.Parallel()
		cluster := redistest.StartCluster(t, 3, 0)
		if major, _ := cluster.Nodes[0].Version(); major < 7 {
			t.Skip("sharded channels came with Redis 7.0")
		}
		testFairACL(t, documentedACL(t, 2), cluster.Nodes, func() redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), Username: "locker", Password: "CHANGE-ME"})
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

// The plain lock's ACL and the addition for fair locks are enough for one, and nothing of the addition
// can be left out, but for the patterns of names with braces.
func testFairACL(t *testing.T, plain []string, servers []*redistest.Server, dial func() redis.UniversalClient) {
	live := func(more []string) error {
		setUser(t, servers, append(slices.Clone(plain), more...))
		for _, s := range servers { // what a life cut short has left
			if err := s.Do(t.Context(), "FLUSHALL").Err(); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return fairLifeUnderACL(ctx, dial)
	}
	addition := documentedACL(t, 3)
	if err := live(addition); err != nil {
		t.Fatalf("the ACL is not enough: %v", err)
	}
	for i, rule := range addition {
		if rule[0] == '~' && !strings.Contains(rule, "{") {
			continue
		}
		if live(slices.Delete(slices.Clone(addition), i, i+1)) == nil {
			t.Errorf("the right %s can be left out, the page says it is needed", rule)
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
