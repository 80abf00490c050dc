package rlock

import (
	"context"
	"fmt"
	"regexp"
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
		op     func(i int, key string) script.Op // each has its own owner and lease
		single *script.Verb                      // of which there is none for several
		sent   string                            // by name, when there is
		all    bool
	}{
		"acquire all": {func(i int, key string) script.Op {
			return d.Acquire(key, mine(i), time.Duration(i+1)*20*second, 0)
		}, acquire, "rlock.acquire_all", true},
		"acquire all, nonsense": {func(i int, key string) script.Op {
			return d.Acquire(key, mine(i), time.Duration(i%2)*20*second, 0)
		}, acquire, "rlock.acquire_all", true},
		"release each":                  {func(i int, key string) script.Op { return d.Release(key, mine(i), 0, "RPUSH") }, release, "rlock.release_each", false},
		"release each, but tell nobody": {func(i int, key string) script.Op { return d.Release(key, mine(i), 0, "SHOUT") }, release, "rlock.release_each", false},
	} {
		t.Run(deed, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, rdb *redis.Client) {
				seen := &spy{}
				rdb.AddHook(seen)
				sender := newSender(t, rdb)
				var inOneGo, oneByOne []script.Op
				for i, name := range names {
					o := c.op(i, name)
					inOneGo = append(inOneGo, o)
					o.Verb = c.single
					oneByOne = append(oneByOne, o)
				}
				for n := range kinds * kinds * kinds {
					there := []int{n % kinds, n / kinds % kinds, n / kinds / kinds}
					setUp(t, rdb, there)
					want := answered(sender, oneByOne, c.all, false) + "\n" + left(rdb)
					for _, amongOthers := range []bool{false, true} {
						setUp(t, rdb, there)
						got := answered(sender, inOneGo, c.all, amongOthers) + "\n" + left(rdb)
						if !amongOthers && seen.verb != c.sent {
							t.Fatalf("sent %s, want %s", seen.verb, c.sent)
						}
						if got != want {
							t.Errorf("where there is %v, among others %v: got\n%s, want\n%s", there, amongOthers, got, want)
						}
					}
				}
			})
		})
	}
}

// The usual answers are numbers, which Redis writes fastest.
func TestTheUsualAnswersOfSeveral(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	sender := newSender(t, rdb)
	var acquires, releases []script.Op
	for i, name := range names {
		acquires = append(acquires, Driver{}.Acquire(name, mine(i), time.Minute, 0))
		releases = append(releases, Driver{}.Release(name, mine(i), 0, "PUBLISH"))
	}
	seen := &spy{}
	rdb.AddHook(seen)
	for _, c := range []struct {
		ops  []script.Op
		want any
	}{{[]script.Op{script.All(acquires)}, int64(1)}, {releases, int64(0)}} {
		<-sender.Start(c.ops...).Done()
		if seen.reply != c.want {
			t.Errorf("%s: got %v, want %v", seen.verb, seen.reply, c.want)
		}
	}
}

// A spy sees the verb of the last script, and the reply or the error of its call.
type spy struct {
	verb  string
	reply any
	err   error
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
			s.reply = cmd.(interface{ Val() any }).Val()
		}
		return err
	}
}

const kinds = 8

// place is where in a script Redis says an error happened: 6.2 before its text, later ones after it.
var place = regexp.MustCompile(`@user_script: *\d+: | script: .*`)

func mine(i int) string { return me + strconv.Itoa(i) }

// setUp makes of each lock: 0 free, 1 ours, 2 ours twice with a longer lease, 3 somebody else's, 4 of another type, 5 ours
// with a count that is none, 6 with one that is too low, 7 somebody else's without a lease.
func setUp(t *testing.T, rdb *redis.Client, there []int) {
	ctx := context.Background()
	pipe := rdb.Pipeline()
	pipe.FlushAll(ctx)
	for i, name := range names {
		switch there[i] {
		case 1:
			pipe.HSet(ctx, name, mine(i), 1)
			pipe.PExpire(ctx, name, 10*second)
		case 2:
			pipe.HSet(ctx, name, mine(i), 2)
			pipe.PExpire(ctx, name, 90*second)
		case 3:
			pipe.HSet(ctx, name, you, 1)
			pipe.PExpire(ctx, name, 70*second)
		case 4:
			pipe.Set(ctx, name, "theirs", 0)
		case 5:
			pipe.HSet(ctx, name, mine(i), "x")
		case 6:
			pipe.HSet(ctx, name, mine(i), 0)
			pipe.PExpire(ctx, name, 90*second)
		case 7:
			pipe.HSet(ctx, name, you, 1)
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

// answered sends operations in one call, maybe among others, and tells their answers.
func answered(sender *script.Sender, ops []script.Op, all, amongOthers bool) string {
	n := len(ops)
	if all {
		ops = []script.Op{script.All(ops)}
	}
	if amongOthers {
		ops = slices.Concat([]script.Op{Driver{}.Inspect("{s}other", me)}, ops, []script.Op{Driver{}.Renew("{s}other", me, second)})
	}
	call := sender.Start(ops...)
	<-call.Done()
	answers := call.Answers()
	if amongOthers {
		answers = answers[1 : len(answers)-1]
	}
	if all {
		answers = answers[0].Shares(n)
	}
	var told []string
	for _, a := range answers {
		if len(a.Reply) == 2 && a.Reply[0] == int64(0) {
			ms, _ := a.Reply[1].(int64)
			a.Reply = []any{int64(0), about(time.Duration(ms) * time.Millisecond)}
		}
		told = append(told, place.ReplaceAllString(fmt.Sprint(a.Reply, " ", a.Err), ""))
	}
	return strings.Join(told, "; ")
}

// about is a lease of this test, all of which are multiples of 10 s, as long as it has lost less than 5 s.
func about(ttl time.Duration) time.Duration {
	if ttl > 0 {
		ttl = ttl.Round(10 * second)
	}
	return ttl
}

// left tells all that is in Redis.
func left(rdb *redis.Client) string {
	ctx := context.Background()
	keys, err := rdb.Keys(ctx, "*").Result()
	if err != nil {
		return err.Error()
	}
	slices.Sort(keys)
	for i, key := range keys {
		keys[i] = fmt.Sprint(key, " ", rdb.HGetAll(ctx, key).Val(), rdb.Get(ctx, key).Val(), rdb.LRange(ctx, key, 0, -1).Val(), " ", about(rdb.PTTL(ctx, key).Val()))
	}
	return strings.Join(keys, "; ")
}

// Only a master says what is locked, whatever a replica sees: by an error of the whole call, from which the client learns that
// it has to look for the master.
func TestSeveralOnAReplica(t *testing.T) {
	server := redistest.Start(t)
	master, replica := server.Client(t), redistest.Start(t, "--replicaof", "127.0.0.1", strconv.Itoa(server.Port)).Client(t)
	seen := &spy{}
	replica.AddHook(seen)
	sender := newSender(t, replica)
	d := Driver{}
	all := []script.Op{script.All([]script.Op{d.Acquire(names[0], mine(0), second, 0), d.Acquire(names[1], mine(1), second, 0)})}
	for there, ops := range map[string][]script.Op{
		"nothing":           all,
		"somebody else's":   all,
		"ours":              all,
		"a lock":            {d.Release(names[1], you, 0, "PUBLISH"), d.Release(names[1], you, 0, "PUBLISH")},
		"nothing to unlock": {d.Release(names[0], me, 0, "PUBLISH"), d.Release(names[0], me, 0, "PUBLISH")},
	} {
		setUp(t, master, map[string][]int{"somebody else's": {0, 3, 0}, "a lock": {0, 3, 0}, "ours": {2, 2, 0}, "nothing": {0, 0, 0}, "nothing to unlock": {0, 0, 0}}[there])
		redistest.Eventually(t, 10*time.Second, "the replica has it", func() bool {
			return left(replica) == left(master)
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
	if got := answered(newSender(t, rdb), all, true, false); !strings.HasPrefix(got, "[] ") || left(rdb) != "" {
		t.Errorf("got %s, and left %q, want an error and nothing", got, left(rdb))
	}
}
