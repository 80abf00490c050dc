package rlock

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/internal/script"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	key     = "order:7"
	channel = "redisson_lock__channel:{order:7}"
	me, you = "0198f000-0000-7000-8000-000000000001:42", "6e3d30b7-83b1-433a-9335-5e8b9916d3ac:42"
	second  = time.Second
)

// A step is one script and what must come of it: the answer and the raw state of
// the key. A state is "owner=count ..." or "-" for no key; ttl is the lease that
// must be left, give or take a second, -1 for none.
type step struct {
	op     script.Op
	answer string
	state  string
	ttl    time.Duration
}

// back takes an acquire back.
func back(o script.Op) script.Op { return script.Op{Verb: o.Verb.Undo, Keys: o.Keys, Args: o.Args} }

// TestScripts is the table of scripts: run on miniredis and on a real server alike.
func TestScripts(t *testing.T) {
	d := Driver{}
	for name, steps := range map[string][]step{
		"acquire a free lock, release it": {
			{d.Acquire(key, me, 30*second, 0), "1 1", me + "=1", 30 * second},
			{d.Release(key, me, 0, "PUBLISH"), "1 0", "-", 0},
		},
		"rule 3: an acquire that is executed twice counts once": {
			{d.Acquire(key, me, 30*second, 0), "1 1", me + "=1", 30 * second},
			{d.Acquire(key, me, 30*second, 0), "1 1", me + "=1", 30 * second},
		},
		"taken tells the lease that is left": {
			{d.Acquire(key, you, 30*second, 0), "1 1", you + "=1", 30 * second},
			{d.Acquire(key, me, 90*second, 0), "0 30000", you + "=1", 30 * second},
		},
		"re-entry counts up, and counts once when it is executed twice": {
			{d.Acquire(key, me, 30*second, 0), "1 1", me + "=1", 30 * second},
			{d.Acquire(key, me, 30*second, 1), "1 2", me + "=2", 30 * second},
			{d.Acquire(key, me, 30*second, 1), "1 2", me + "=2", 30 * second},
			{d.Acquire(key, me, 30*second, 2), "1 3", me + "=3", 30 * second},
		},
		"re-entry never shortens the lease": {
			{d.Acquire(key, me, 60*second, 0), "1 1", me + "=1", 60 * second},
			{d.Acquire(key, me, 5*second, 1), "1 2", me + "=2", 60 * second},
			{d.Acquire(key, me, 90*second, 2), "1 3", me + "=3", 90 * second},
		},
		"re-entry of a hold that is gone takes nothing": {
			{d.Acquire(key, me, 30*second, 1), "-1 0", "-", 0},
			{d.Acquire(key, you, 30*second, 0), "1 1", you + "=1", 30 * second},
			{d.Acquire(key, me, 30*second, 1), "-1 0", you + "=1", 30 * second},
		},
		"a count lowered by a late compensation is raised again, not told taken": {
			{d.Acquire(key, me, 30*second, 0), "1 1", me + "=1", 30 * second},
			{d.Acquire(key, me, 30*second, 4), "1 5", me + "=5", 30 * second},
			{d.Acquire(key, me, 30*second, 1), "1 5", me + "=5", 30 * second},
		},
		"an inner release leaves the lease alone, and counts once when it is executed twice": {
			{d.Acquire(key, me, 60*second, 0), "1 1", me + "=1", 60 * second},
			{d.Acquire(key, me, 5*second, 1), "1 2", me + "=2", 60 * second},
			{d.Release(key, me, 1, "PUBLISH"), "1 1", me + "=1", 60 * second},
			{d.Release(key, me, 1, "PUBLISH"), "1 1", me + "=1", 60 * second},
		},
		"the last release frees the lock whatever the count": {
			{d.Acquire(key, me, 30*second, 0), "1 1", me + "=1", 30 * second},
			{d.Acquire(key, me, 30*second, 6), "1 7", me + "=7", 30 * second},
			{d.Release(key, me, 0, "PUBLISH"), "1 0", "-", 0},
			{d.Release(key, me, 0, "PUBLISH"), "-1 0", "-", 0},
		},
		"taken back in its own call, an acquire leaves what was there before, but for the longer lease": {
			{d.Acquire(key, me, 30*second, 0), "1 1", me + "=1", 30 * second},
			{back(d.Acquire(key, me, 30*second, 0)), "1 0", "-", 0},
			{d.Acquire(key, me, 30*second, 0), "1 1", me + "=1", 30 * second},
			{d.Acquire(key, me, 30*second, 1), "1 2", me + "=2", 30 * second},
			{d.Acquire(key, me, 90*second, 2), "1 3", me + "=3", 90 * second},
			{back(d.Acquire(key, me, 90*second, 2)), "1 0", me + "=2", 90 * second},
		},
		"release by another owner changes nothing": {
			{d.Acquire(key, you, 30*second, 0), "1 1", you + "=1", 30 * second},
			{d.Release(key, me, 0, "PUBLISH"), "-1 0", you + "=1", 30 * second},
			{d.Release(key, me, 1, "PUBLISH"), "-1 0", you + "=1", 30 * second},
		},
		"renew lengthens, never shortens, never creates": {
			{d.Renew(key, me, 30*second), "-1 0", "-", 0},
			{d.Acquire(key, me, 30*second, 0), "1 1", me + "=1", 30 * second},
			{d.Renew(key, me, 60*second), "1 60000", me + "=1", 60 * second},
			{d.Renew(key, me, 5*second), "1 60000", me + "=1", 60 * second},
			{d.Renew(key, you, 90*second), "-1 0", me + "=1", 60 * second},
			{d.Release(key, me, 0, "PUBLISH"), "1 0", "-", 0},
			{d.Renew(key, me, 30*second), "-1 0", "-", 0},
		},
		"force frees whoever holds it": {
			{d.Force(key, "PUBLISH"), "0 0", "-", 0},
			{d.Acquire(key, you, 30*second, 0), "1 1", you + "=1", 30 * second},
			{d.Force(key, "PUBLISH"), "1 0", "-", 0},
		},
		"inspect tells lease and count": {
			{d.Inspect(key, ""), "-2 0", "-", 0},
			{d.Acquire(key, me, 30*second, 1), "-1 0", "-", 0},
			{d.Acquire(key, me, 30*second, 0), "1 1", me + "=1", 30 * second},
			{d.Inspect(key, me), "30000 1", me + "=1", 30 * second},
			{d.Inspect(key, you), "30000 0", me + "=1", 30 * second},
		},
		"nonsense is refused before the first write": {
			{op(acquire, key, "0", me, "0"), "ERR lease", "-", 0},
			{op(acquire, key, "-5", me, "0"), "ERR lease", "-", 0},
			{op(acquire, key, "0.5", me, "0"), "ERR lease", "-", 0},
			{op(acquire, key, "1e3", me, "0"), "ERR lease", "-", 0},
			{op(acquire, key, "", me, "0"), "ERR lease", "-", 0},
			{op(acquire, key, "9223372036854775807", me, "0"), "ERR lease", "-", 0},
			{op(renew, key, "0", me), "ERR lease", "-", 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, rdb *redis.Client) {
				for i, s := range steps {
					if got := run(t, rdb, s.op); !sameAnswer(got, s.answer) {
						t.Errorf("step %d, %s%v: got answer %q, want %q", i+1, s.op.Verb.Name, s.op.Args, got, s.answer)
					}
					if got := state(t, rdb); got != s.state {
						t.Errorf("step %d, %s%v: got state %q, want %q", i+1, s.op.Verb.Name, s.op.Args, got, s.state)
					}
					checkTTL(t, rdb, i+1, s.ttl)
				}
			})
		})
	}
}

// onEach runs a test on miniredis and on a real server.
func onEach(t *testing.T, test func(t *testing.T, rdb *redis.Client)) {
	t.Run("miniredis", func(t *testing.T) { test(t, redistest.StartMiniredis(t).Client(t)) })
	t.Run("redis", func(t *testing.T) { test(t, redistest.Start(t).Client(t)) })
}

func run(t *testing.T, rdb redis.UniversalClient, op script.Op) string {
	t.Helper()
	sender := script.NewSender(rdb, script.NewProgram(Verbs()...))
	defer sender.Close()
	call := sender.Start(op)
	<-call.Done()
	answer := call.Answers()[0]
	if answer.Err != nil {
		return answer.Err.Error()
	}
	return strings.Trim(fmt.Sprint(answer.Reply), "[]")
}

// sameAnswer lets an error match by its beginning, and a lease by a second.
func sameAnswer(got, want string) bool {
	var code, ms, wantCode, wantMS int
	if n, _ := fmt.Sscanf(want, "%d %d", &wantCode, &wantMS); n == 2 {
		_, err := fmt.Sscanf(got, "%d %d", &code, &ms)
		return err == nil && (code == wantCode && ms <= wantMS && ms > wantMS-1000 ||
			ms == wantMS && code <= wantCode && code > wantCode-1000)
	}
	return strings.HasPrefix(got, want)
}

func state(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	fields, err := rdb.HGetAll(context.Background(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(fields) == 0 {
		return "-"
	}
	var parts []string
	for owner, count := range fields {
		parts = append(parts, owner+"="+count)
	}
	return strings.Join(parts, " ")
}

func checkTTL(t *testing.T, rdb *redis.Client, step int, want time.Duration) {
	t.Helper()
	got, err := rdb.PTTL(context.Background(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	if want > 0 && (got > want || got < want-second) || want == 0 && got >= 0 {
		t.Errorf("step %d: got TTL %v, want %v", step, got, want)
	}
}

// A message is "0" on Redisson's channel, once, when the lock is freed and at no
// other time.
func TestMessages(t *testing.T) {
	onEach(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		sub := rdb.Subscribe(ctx, channel)
		defer sub.Close()
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		d := Driver{}
		for _, op := range []script.Op{
			d.Acquire(key, me, 30*second, 0),
			d.Acquire(key, me, 30*second, 1),
			d.Release(key, me, 1, "PUBLISH"),
			d.Release(key, you, 0, "PUBLISH"),
			d.Renew(key, me, 30*second),
			d.Release(key, me, 0, "PUBLISH"), // 1
			d.Release(key, me, 0, "PUBLISH"),
			d.Force(key, "PUBLISH"),
			d.Acquire(key, you, 30*second, 0),
			d.Force(key, "PUBLISH"), // 2
		} {
			run(t, rdb, op)
		}
		if err := rdb.Publish(ctx, channel, "end").Err(); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"0", "0", "end"} {
			message, err := sub.ReceiveMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if message.Payload != want {
				t.Fatalf("got message %q, want %q", message.Payload, want)
			}
		}
	})
}

// A key of another type is an error, and stays.
func TestForeignKeyStays(t *testing.T) {
	onEach(t, func(t *testing.T, rdb *redis.Client) {
		ctx := context.Background()
		if err := rdb.Set(ctx, key, "theirs", 0).Err(); err != nil {
			t.Fatal(err)
		}
		d := Driver{}
		for _, op := range []script.Op{
			d.Acquire(key, me, second, 0), d.Acquire(key, me, second, 1), d.Renew(key, me, second),
			d.Release(key, me, 0, "PUBLISH"), d.Release(key, me, 1, "PUBLISH"), d.Force(key, "PUBLISH"), d.Inspect(key, me),
		} {
			if got := run(t, rdb, op); !strings.HasPrefix(got, "WRONGTYPE") {
				t.Errorf("%s: got %q, want WRONGTYPE", op.Verb.Name, got)
			}
		}
		if got := rdb.Get(ctx, key).Val(); got != "theirs" {
			t.Errorf("the foreign key: got %q, want %q", got, "theirs")
		}
	})
}
