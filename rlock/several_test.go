package rlock

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/internal/script"
)

var names = []string{"{s}a", "{s}b", "{s}c"}

// The scripts that do several in one go answer and leave what the scripts for one do, one after the other: for each
// combination of what may be there of three locks.
func TestSeveralInOneGo(t *testing.T) {
	d := Driver{}
	for deed, c := range map[string]struct {
		op     func(key string) script.Op
		single *script.Verb // of which there is none for several
		sent   string       // by name, when there is
		all    bool
	}{
		"acquire all":                   {func(key string) script.Op { return d.Acquire(key, me, 30*second, 0) }, reenter, "rlock.acquire_all", true},
		"acquire all, nonsense":         {func(key string) script.Op { return d.Acquire(key, me, 0, 0) }, reenter, "rlock.acquire_all", true},
		"release each":                  {func(key string) script.Op { return d.Release(key, me, 0, "RPUSH") }, release, "rlock.release_each", false},
		"release each, but tell nobody": {func(key string) script.Op { return d.Release(key, me, 0, "SHOUT") }, release, "rlock.release_each", false},
	} {
		t.Run(deed, func(t *testing.T) {
			onEach(t, func(t *testing.T, rdb *redis.Client) {
				seen := &spy{}
				rdb.AddHook(seen)
				sender := newSender(t, rdb)
				var inOneGo, oneByOne []script.Op
				for _, name := range names {
					o := c.op(name)
					inOneGo = append(inOneGo, o)
					o.Verb = c.single
					oneByOne = append(oneByOne, o)
				}
				const kinds = 6
				for n := range kinds * kinds * kinds {
					there := []int{n % kinds, n / kinds % kinds, n / kinds / kinds}
					setUp(t, rdb, there)
					want := answered(sender, oneByOne, c.all) + "\n" + left(rdb)
					setUp(t, rdb, there)
					got := answered(sender, inOneGo, c.all) + "\n" + left(rdb)
					if seen.verb != c.sent {
						t.Fatalf("sent %s, want %s", seen.verb, c.sent)
					}
					if got != want {
						t.Errorf("where there is %v: got\n%s, want\n%s", there, got, want)
					}
				}
			})
		})
	}
}

// A spy sees the verb of the last script, and the error of its call.
type spy struct {
	verb string
	err  error
}

func (*spy) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*spy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (s *spy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if args := cmd.Args(); strings.HasPrefix(cmd.Name(), "eval") {
			s.verb, s.err = fmt.Sprint(args[len(args)-1]), err
		}
		return err
	}
}

// setUp makes of each lock: 0 free, 1 ours, 2 ours twice with a longer lease, 3 somebody else's, 4 of another type, 5 ours
// with a count that is none.
func setUp(t *testing.T, rdb *redis.Client, there []int) {
	ctx := context.Background()
	pipe := rdb.Pipeline()
	pipe.FlushAll(ctx)
	for i, name := range names {
		switch there[i] {
		case 1:
			pipe.HSet(ctx, name, me, 1)
			pipe.PExpire(ctx, name, 5*second)
		case 2:
			pipe.HSet(ctx, name, me, 2)
			pipe.PExpire(ctx, name, 60*second)
		case 3:
			pipe.HSet(ctx, name, you, 1)
			pipe.PExpire(ctx, name, 60*second)
		case 4:
			pipe.Set(ctx, name, "theirs", 0)
		case 5:
			pipe.HSet(ctx, name, me, "x")
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
}

func newSender(t *testing.T, rdb *redis.Client) *script.Sender {
	sender := script.NewSender(rdb, script.NewProgram(Verbs()...))
	t.Cleanup(sender.Close)
	return sender
}

// answered sends operations in one call and tells the answers, with leases to the second.
func answered(sender *script.Sender, ops []script.Op, all bool) string {
	n := len(ops)
	if all {
		ops = []script.Op{script.All(ops)}
	}
	call := sender.Start(ops...)
	<-call.Done()
	answers := call.Answers()
	if all {
		answers = answers[0].Shares(n)
	}
	var told []string
	for _, a := range answers {
		if len(a.Reply) == 2 && a.Reply[0] == int64(0) {
			ms, _ := a.Reply[1].(int64)
			a.Reply = []any{int64(0), (ms + 999) / 1000}
		}
		told = append(told, strings.Split(fmt.Sprint(a.Reply, " ", a.Err), " script:")[0])
	}
	return strings.Join(told, "; ")
}

// left tells all that is in Redis, with leases to the second.
func left(rdb *redis.Client) string {
	ctx := context.Background()
	keys := rdb.Keys(ctx, "*").Val()
	slices.Sort(keys)
	for i, key := range keys {
		keys[i] = fmt.Sprint(key, " ", rdb.HGetAll(ctx, key).Val(), rdb.Get(ctx, key).Val(), rdb.LRange(ctx, key, 0, -1).Val(), " ", (rdb.PTTL(ctx, key).Val()+second-1)/second)
	}
	return strings.Join(keys, "; ")
}

// Only a master says what is locked, whatever a replica sees: by an error of the whole call, from which the client learns that
// it has to look for the master.
func TestSeveralOnAReplica(t *testing.T) {
	master := redistest.Start(t)
	replica := redistest.Start(t, "--replicaof", "127.0.0.1", strconv.Itoa(master.Port)).Client(t)
	seen := &spy{}
	replica.AddHook(seen)
	sender := newSender(t, replica)
	d := Driver{}
	all := []script.Op{script.All([]script.Op{d.Acquire(names[0], me, second, 0), d.Acquire(names[1], me, second, 0)})}
	for there, ops := range map[string][]script.Op{
		"nothing":           all,
		"somebody else's":   all,
		"a lock":            {d.Release(names[1], you, 0, "PUBLISH"), d.Release(names[1], you, 0, "PUBLISH")},
		"nothing to unlock": {d.Release(names[0], me, 0, "PUBLISH"), d.Release(names[0], me, 0, "PUBLISH")},
	} {
		setUp(t, master.Client(t), []int{0, 0, 0})
		if there == "somebody else's" || there == "a lock" {
			setUp(t, master.Client(t), []int{0, 3, 0})
		}
		redistest.Eventually(t, 10*time.Second, "the replica has it", func() bool {
			return replica.Keys(t.Context(), "*").String() == master.Client(t).Keys(t.Context(), "*").String()
		})
		call := sender.Start(ops...)
		<-call.Done()
		for _, a := range call.Answers() {
			if a.Err == nil || !strings.HasPrefix(a.Err.Error(), "READONLY") || script.ClassOf(a.Err) != script.NotExecuted {
				t.Errorf("where there is %s: got %v %v, want READONLY", there, a.Reply, a.Err)
			}
		}
		if !redis.HasErrorPrefix(seen.err, "READONLY") {
			t.Errorf("where there is %s: the call's own error is %v", there, seen.err)
		}
	}
}

// A lock without a lease would be immortal. If one cannot be set, nothing is left of all.
func TestAllWithoutTheRightToALease(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	d := Driver{}
	setUp(t, rdb, []int{0, 0, 0})
	if err := rdb.Do(t.Context(), "ACL", "SETUSER", "default", "-pexpire").Err(); err != nil {
		t.Fatal(err)
	}
	all := []script.Op{d.Acquire(names[0], me, second, 0), d.Acquire(names[1], me, second, 0)}
	if got := answered(newSender(t, rdb), all, true); !strings.HasPrefix(got, "[] ") || left(rdb) != "" {
		t.Errorf("got %s, and left %q, want an error and nothing", got, left(rdb))
	}
}
