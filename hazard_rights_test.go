package holdfast_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// lockerRules are the rights that locks need, on single servers.
var lockerRules = []any{
	"reset", "on", ">secret", "~*", "&*", "+evalsha", "+eval", "+exists", "+hexists", "+hget", "+hset", "+hdel", "+hlen",
	"+pexpire", "+pttl", "+del", "+publish", "+subscribe", "+unsubscribe", "+ping", "+info",
}

// locker makes a user of that name with just these rights, and a client of his.
func (z *hazard) locker(opts ...holdfast.Option) *holdfast.Client {
	z.Helper()
	z.acl(lockerRules...)
	rdb := z.dial(z.proxy.Addr(), func(o *redis.Options) { o.Username, o.Password = "locker", "secret" })
	c := z.newClient(rdb, opts...)
	if _, err := c.RLock("warm-up").IsLocked(z.ctx()); err != nil {
		z.Fatal(err)
	}
	return c
}

func (z *hazard) acl(rules ...any) {
	z.Helper()
	z.redis(append([]any{"ACL", "SETUSER", "locker"}, rules...)...)
}

// Rights are taken away mid-run: callers, waiters and holders are all told.
func TestHazardRightsAreTaken(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		take func(z *hazard)
		says string
	}{
		{"scripts", func(z *hazard) { z.acl("-evalsha", "-eval") }, "NOPERM"},
		{"the user is deleted", func(z *hazard) { z.redis("ACL", "DELUSER", "locker") }, "WRONGPASS"},
		{"a new password", func(z *hazard) {
			z.acl("resetpass", ">another")
			z.redis("CLIENT", "KILL", "USER", "locker")
		}, "WRONGPASS"},
		{"the key", func(z *hazard) { z.acl("resetkeys", "~other:*") }, "ermission"}, // 6.2 and 7 word it differently
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			c := z.locker(holdfast.WithWatchdogTimeout(2 * time.Second))
			lock := c.RLock("orders")
			held := z.mustLock(z.other)
			w := z.waits(lock)
			mine := z.mustLock(c.RLock("more orders"))
			row.take(z)
			start := time.Now()

			_, err := c.RLock("free orders").TryLock(z.ctx(), 3*time.Second, 0)
			z.wantSaid("TryLock", err, row.says)
			z.wantWithin(3*time.Second, "TryLock", start)
			z.waitFor(6*time.Second, "the waiter is told", w.done)
			z.wantSaid("the waiter", w.err, row.says)
			z.waitFor(2*time.Second, "the holder is told", mine.Done())
			z.want("the hold", mine.Err(), holdfast.ErrLost)
			z.want("Unlock", mine.Unlock(z.ctx()), holdfast.ErrLost)
			z.wantCount(held, "1")
			z.mustUnlock(held)
		})
	}
}

// The server wants a password that the client does not have.
func TestHazardPasswordIsWanted(t *testing.T) {
	t.Parallel()
	z := newHazard(t, holdfast.WithWatchdogTimeout(2*time.Second))
	h := z.mustLock(z.lock)
	w := z.waits(z.other)
	z.wantsPassword()
	start := time.Now()
	_, err := z.client.RLock("more orders").TryLock(z.ctx(), 3*time.Second, 0)
	z.wantSaid("TryLock", err, "NOAUTH")
	z.wantWithin(3*time.Second, "TryLock", start)
	z.waitFor(6*time.Second, "the waiter is told", w.done)
	z.wantSaid("the waiter", w.err, "NOAUTH")
	z.waitFor(2*time.Second, "the holder is told", h.Done())
	z.want("the hold", h.Err(), holdfast.ErrLost)
}

// Before it has a password Redis reads no long command: it refuses one in other words, and hangs up.
func TestHazardPasswordIsWantedOfMany(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.mustUnlock(z.mustLock(z.lock))
	z.wantsPassword()
	for kind, lock := range map[string]func(c *holdfast.Client, i int) holdfast.Lock{
		"plain": func(c *holdfast.Client, i int) holdfast.Lock { return c.RLock(fmt.Sprint("orders ", i)) },
		"fair":  func(c *holdfast.Client, i int) holdfast.Lock { return c.FairLock(fmt.Sprint("orders ", i)) },
		"multi": func(c *holdfast.Client, i int) holdfast.Lock {
			name := fmt.Sprint("orders ", i)
			return c.MultiLock(c.RLock(name), c.RLock(name+" too"), c.FairLock(name+" three"))
		},
	} {
		fresh := func() *holdfast.Client { // it knows no connection that is hung up
			return z.newClient(z.dial(z.server.Addr(), func(o *redis.Options) { o.ReadTimeout = patience }))
		}
		_, err := lock(fresh(), 0).TryLock(z.ctx(), 0, 0)
		z.wantSaid("TryLock at once, "+kind, err, "NOAUTH")
		_, err = lock(fresh(), 0).ForceUnlock(z.ctx())
		z.wantSaid("ForceUnlock, "+kind, err, "NOAUTH")
		var all sync.WaitGroup
		for i := range 50 { // they travel together, and some on a connection that is hung up just then
			all.Go(func() {
				_, err := lock(z.client, i).TryLock(z.ctx(), 3*time.Second, 0)
				z.wantSaid("TryLock, "+kind, err, "NOAUTH")
			})
		}
		all.Wait()
	}
}

// wantsPassword has the server want a password from now on, and from everybody.
func (z *hazard) wantsPassword() {
	z.Helper()
	z.redis("CONFIG", "SET", "requirepass", "secret")
	z.redis("CLIENT", "KILL", "TYPE", "normal")
	z.redis("CLIENT", "KILL", "TYPE", "pubsub")
}

// Who may not publish still frees the lock, and the waiter finds out by itself.
func TestHazardPublishIsForbidden(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string][]any{
		"the command": {"-publish"},
		"the channel": {"resetchannels", "&other:*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			h := z.mustLock(z.locker().RLock("orders"))
			w := z.waits(z.other)
			z.acl(rules...)
			z.mustUnlock(h)
			z.want("Err", h.Err(), holdfast.ErrUnlocked)
			z.gets(6*time.Second, w)
		})
	}
}

// Who may not subscribe is told why it cannot wait, instead of waiting deaf.
func TestHazardSubscribeIsForbidden(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string][]any{
		"the command": {"-subscribe"},
		"the channel": {"resetchannels", "&other:*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			lock := z.locker().RLock("orders")
			z.acl(rules...)
			held := z.mustLock(z.other)
			w := wait(z.ctx(), lock)
			z.waitFor(3*time.Second, "the waiter is told", w.done)
			z.wantSaid("the waiter", w.err, "NOPERM")
			z.wantCount(held, "1")
			z.mustUnlock(held)
		})
	}
}

// Check names what is wrong, and leaves nothing behind.
func TestHazardCheck(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		spoil func(z *hazard)
		says  []string // nothing: all is well
	}{
		{"all is well", func(*hazard) {}, nil},
		{"without the right to ask", func(z *hazard) { z.acl("-info") }, nil},
		{"no scripts", func(z *hazard) { z.acl("-eval", "-evalsha") }, []string{"acquire", "NOPERM"}},
		{"no keys", func(z *hazard) { z.acl("resetkeys", "~other:*") }, []string{"acquire"}},
		{"no SUBSCRIBE", func(z *hazard) { z.acl("-subscribe") }, []string{"subscribe", "NOPERM"}},
		{"no PUBLISH", func(z *hazard) { z.acl("-publish") }, []string{"publish"}},
		{"no channel", func(z *hazard) { z.acl("resetchannels", "&other:*") }, []string{"subscribe", "publish"}},
		{"no renewal", func(z *hazard) { z.acl("-hexists") }, []string{"renew"}},
		{"no force-unlock", func(z *hazard) { z.acl("-hlen") }, []string{"force-unlock"}},
		{"no leases", func(z *hazard) { z.acl("-pexpire") }, []string{"acquire"}},
		{"eviction", func(z *hazard) { z.redis("CONFIG", "SET", "maxmemory-policy", "volatile-lru") },
			[]string{"maxmemory-policy", "volatile-lru", "noeviction"}},
		{"a replica", func(z *hazard) { z.redis("REPLICAOF", "127.0.0.1", strconv.Itoa(redistest.Start(z).Port)) },
			[]string{"replica"}},
		{"too little memory", func(z *hazard) { z.redis("CONFIG", "SET", "maxmemory", "100kb") }, []string{"OOM"}},
		{"a black hole", func(z *hazard) { z.proxy.BlackHole(true) }, []string{"timeout"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			z := newHazard(t)
			c := z.locker()
			row.spoil(z)
			ctx, cancel := context.WithTimeout(z.ctx(), 4*time.Second)
			defer cancel()
			start := time.Now()
			err := c.Check(ctx)
			z.wantWithin(4*time.Second, "Check", start)
			if (err == nil) != (row.says == nil) {
				z.Fatalf("Check: got %v, want one that says %q", err, row.says)
			}
			for _, word := range row.says {
				if !strings.Contains(err.Error(), word) {
					z.Errorf("Check: got %q, want it to say %q", err, word)
				}
			}
			if n := z.server.Do(z.ctx(), "DBSIZE").Val(); n != int64(0) {
				z.Errorf("Check left %v keys", n)
			}
		})
	}
}

// queueRights are those that a fair lock needs beside.
var queueRights = []string{"time", "llen", "lrange", "lindex", "lpos", "rpush", "lpop", "lrem", "zscore", "zadd", "zrem", "zrevrange"}

// Of a client that makes fair locks Check tries their rights as well: it names the one that is
// missing, whichever it is, and leaves neither lock nor queue behind.
func TestHazardCheckOfFairLocks(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	c := z.locker()
	z.want("Check without a fair lock, and without its rights", c.Check(z.ctx()), nil)
	c.FairLock("orders")
	left := func(deed string) {
		if n := z.server.Do(z.ctx(), "DBSIZE").Val(); n != int64(0) {
			z.Errorf("%s: Check left %v keys: %v", deed, n, z.server.Do(z.ctx(), "KEYS", "*").Val())
		}
	}
	check := func(deed string, words ...string) {
		err := c.Check(z.ctx())
		for _, word := range append([]string{"fair lock: "}, words...) {
			if err == nil || !strings.Contains(err.Error(), word) {
				z.Errorf("%s: got %v, want it to say %q", deed, err, word)
			}
		}
		left(deed)
	}
	check("without any of its rights", "acquire")
	for _, right := range queueRights {
		z.acl("+" + right)
	}
	z.want("with all rights", c.Check(z.ctx()), nil)
	left("with all rights")
	for _, right := range queueRights {
		z.acl("-" + right)
		check("without "+right, "NOPERM", "'"+right+"'") // 7.0 says it like that to a command, to a script only that one is forbidden
		z.acl("+" + right)
	}
	z.acl("resetkeys", "~holdfast-check-*")
	check("without its keys", "NOPERM")
	z.acl("resetkeys", "~*", "resetchannels", "&redisson_lock__channel:{holdfast-check-????????-????-????-????-????????????}") // the plain lock's
	check("without its channels", "publish", "subscribe")
	z.acl("allchannels")
	z.want("with all rights", c.Check(z.ctx()), nil)
	left("with all rights")
}

func TestHazardCheckOfFairLocksOnACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2, 0)
	z := &hazard{T: t}
	c := z.newClient(cluster.Client(t))
	c.FairLock("orders")
	z.want("Check", c.Check(z.ctx()), nil)
	for _, node := range cluster.Nodes {
		if n := node.Do(z.ctx(), "DBSIZE").Val(); n != int64(0) {
			t.Errorf("Check left %v keys", n)
		}
	}
}

// ofFairCheck tells whether Check has come to subscribe for the fair lock: its channel is named after that of the
// plain lock, and the owner.
func ofFairCheck(cmd faultproxy.Command) bool {
	return cmd.Name == "SUBSCRIBE" && strings.Contains(cmd.Args[0], "}:")
}

// allButLpop has the client make a fair lock, for which it has all rights but one.
func (z *hazard) allButLpop(c *holdfast.Client) {
	z.Helper()
	c.FairLock("orders")
	for _, right := range queueRights {
		z.acl("+" + right)
	}
	z.acl("-lpop")
}

// A client that is closed during its Check is told so, whatever else is wrong.
func TestHazardCloseDuringCheckOfFairLocks(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	c := z.locker()
	z.allButLpop(c)
	closed := make(chan error, 1)
	z.proxy.Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if ofFairCheck(cmd) {
			go func() { closed <- c.Close() }() // ends with the client
			return faultproxy.DropRequest
		}
		return faultproxy.Pass
	})
	err := c.Check(z.ctx())
	z.want("Check", err, holdfast.ErrClosed)
	if err == nil || !strings.Contains(err.Error(), "NOPERM") {
		z.Errorf("Check: got %v, want it to name the right that is missing too", err)
	}
	z.want("Close", <-closed, nil)
}

// The server falls silent when a right is missing and they are tried, and the Redis client's own patience is long.
func TestHazardCheckOfFairLocksEndsWithItsContext(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	z.allButLpop(z.locker())
	open := make(chan struct{})
	t.Cleanup(func() { close(open) })
	c := z.newClient(z.dial(z.proxy.Addr(), func(o *redis.Options) {
		o.Username, o.Password, o.ReadTimeout = "locker", "secret", patience
	}))
	c.FairLock("orders")
	z.proxy.Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if cmd.Name == "TIME" { // the first of them
			return faultproxy.GateRequest(open)
		}
		return faultproxy.Pass
	})
	ctx, cancel := context.WithTimeout(z.ctx(), 2*time.Second)
	defer cancel()
	start := time.Now()
	err := c.Check(ctx)
	z.wantWithin(2*time.Second, "Check", start)
	if err == nil || !strings.Contains(err.Error(), "fair lock: ") {
		z.Errorf("Check: got %v, want it to say what was found until then", err)
	}
	if z.proxy.Seen()["TIME"] == 0 {
		t.Fatal("the rights were not tried")
	}
}

// The context ends while the rights are tried, which leaves a queue: that has no lease, and is deleted all the same.
func TestHazardCheckOfFairLocksLeavesNoQueue(t *testing.T) {
	t.Parallel()
	z := newHazard(t)
	c := z.locker()
	z.allButLpop(c)
	ctx, cancel := context.WithCancel(z.ctx())
	defer cancel()
	z.proxy.Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if cmd.Name == "LPOP" {
			cancel()
			return faultproxy.DropReply
		}
		return faultproxy.Pass
	})
	if err := c.Check(ctx); err == nil {
		z.Error("Check: got no error, want that of a right that is missing")
	}
	if ctx.Err() == nil {
		t.Fatal("the rights were not tried")
	}
	redistest.Eventually(t, 5*time.Second, "nothing is left", func() bool { return z.server.Do(z.ctx(), "DBSIZE").Val() == int64(0) })
}
