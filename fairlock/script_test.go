package fairlock

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/rlock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	key    = "order:7"
	second = time.Second
	// tell takes the place of PUBLISH: a message becomes an element of a list, for the
	// test to find.
	tell = "RPUSH"
)

// The owners are ours, j and k are Redisson's.
var (
	a, b, c = "0198f000-0000-7000-8000-000000000001:42", "0198f000-0000-7000-8000-000000000001:43", "0198f000-0000-7000-8000-000000000002:1"
	j, k    = "6e3d30b7-83b1-433a-9335-5e8b9916d3ac:42", "6e3d30b7-83b1-433a-9335-5e8b9916d3ac:43"

	letters = map[string]string{a: "a", b: "b", c: "c", j: "j", k: "k"}
)

// waits is a try of a waiter, renews its renewal, tries a TryLock without a wait.
func waits(owner string) script.Op { return waitsFor(owner, 15*second) }
func renews(owner string) script.Op {
	return stand(owner, engine.Place{Lease: 15 * second, Renew: true})
}
func tries(owner string) script.Op { return stand(owner, engine.Place{}) }
func frees(owner string) script.Op { return driver{}.Release(key, owner, 0, tell) }
func back(o script.Op) script.Op   { return script.Op{Verb: o.Verb.Undo, Keys: o.Keys, Args: o.Args} }
func forces() script.Op            { return driver{}.Force(key, tell) }

func waitsFor(owner string, lease time.Duration) script.Op {
	return stand(owner, engine.Place{Lease: lease, Mixed: true})
}

func stand(owner string, p engine.Place) script.Op {
	return driver{}.Stand(key, owner, 30*second, p, tell)
}

// A step is one script and what must come of it: the answer, the raw state of all three
// keys, and who was told.
//
// An answer is code, ms, position, length, mixed, entered; or the beginning of an error.
// A state is the holder, its count and the seconds of its lease, then the queue: who
// waits and for how many seconds each place is kept.
type step struct {
	op     any // a script.Op, or what the test does to the keys: func(raw)
	answer string
	state  string
	told   string
}

type raw struct {
	*testing.T
	rdb *redis.Client
}

// places puts entries in the queue as others have left them, with the seconds that
// their places are kept, below 0 for those whose time is over.
func places(entries ...any) func(raw) {
	return func(r raw) {
		now, err := r.rdb.Time(r.ctx()).Result()
		if err != nil {
			r.Fatal(err)
		}
		for i := 0; i < len(entries); i += 2 {
			r.do("RPUSH", keys.Queue(key), entries[i])
			r.do("ZADD", keys.Timeout(key), now.Add(time.Duration(entries[i+1].(int))*second).UnixMilli(), entries[i])
		}
	}
}

// does sends a command.
func does(args ...any) func(raw) { return func(r raw) { r.do(args...) } }

func (r raw) ctx() context.Context { return context.Background() }

func (r raw) do(args ...any) any {
	r.Helper()
	reply, err := r.rdb.Do(r.ctx(), args...).Result()
	if err != nil {
		r.Fatalf("%v: %v", args, err)
	}
	return reply
}

const zset, list = "redisson_lock_timeout:{order:7}", "redisson_lock_queue:{order:7}"

// TestScripts is the table of scripts: run on miniredis and on a real server alike.
func TestScripts(t *testing.T) {
	for name, steps := range map[string][]step{
		"a free lock is granted, and freed": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{frees(a), "1 0", "|", ""},
		},
		"who waits stands in the order of the scripts": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{waits(b), "0 30000 1 1 0 1", "a=1/30 | b:15", ""},
			{waits(c), "0 30000 2 2 0 1", "a=1/30 | b:15 c:15", ""},
			{frees(a), "1 0", "| b:15 c:15", "b"},
			{waits(c), "0 15000 2 2 0 0", "| b:15 c:15", ""},
			{waits(b), "1 1 0 1 0 0", "b=1/30 | c:15", ""},
			{waits(c), "0 30000 1 1 0 0", "b=1/30 | c:15", ""},
			{frees(b), "1 0", "| c:15", "c"},
			{waits(c), "1 1 0 0 0 0", "c=1/30 |", ""},
			{frees(c), "1 0", "|", ""},
		},
		"a newcomer does not pass those that wait for a free lock": {
			{places(b, 10), "", "| b:10", ""},
			{waits(a), "0 10000 2 2 0 1", "| b:10 a:15", ""},
			{waits(a), "0 10000 2 2 0 0", "| b:10 a:15", ""},
		},
		"TryLock takes a free lock only if nobody waits, and never stands": {
			{tries(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{tries(b), "0 30000 0 0 0 0", "a=1/30 |", ""},
			{frees(a), "1 0", "|", ""},
			{places(b, 10), "", "| b:10", ""},
			{tries(a), "0 0 0 1 0 0", "| b:10", ""},
			{tries(a), "0 0 0 1 0 0", "| b:10", ""},
		},
		"TryLock passes the dead": {
			{places(b, -1, c, -5), "", "| b:-1 c:-5", ""},
			{tries(a), "1 1 0 0 0 1", "a=1/30 |", ""},
		},
		"TryLock that meets a dead head tells the next one": {
			{places(b, -1, c, 5), "", "| b:-1 c:5", ""},
			{tries(a), "0 0 0 1 0 0", "| c:5", "c"},
			{tries(a), "0 0 0 1 0 0", "| c:5", ""},
		},
		"a renewal renews": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(b, 4, c, 3), "", "a=1/30 | b:4 c:3", ""},
			{renews(c), "0 30000 2 2 0 0", "a=1/30 | b:4 c:15", ""},
			{renews(b), "0 30000 1 2 0 0", "a=1/30 | b:15 c:15", ""},
		},
		"a try renews, too": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(b, 4), "", "a=1/30 | b:4", ""},
			{waits(b), "0 30000 1 1 0 0", "a=1/30 | b:15", ""},
		},
		"a renewal never takes the lock, and tells that it is free": {
			{places(b, 4), "", "| b:4", ""},
			{renews(b), "0 0 1 1 0 0", "| b:15", ""},
		},
		"a renewal never makes a place": {
			{renews(b), "-1 0 0 0 0 0", "|", ""},
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{renews(b), "-1 0 0 0 0 0", "a=1/30 |", ""},
			{places(c, 9), "", "a=1/30 | c:9", ""},
			{renews(b), "-1 0 0 1 0 0", "a=1/30 | c:9", ""},
			{does("ZADD", zset, "99999999999999", b), "", "a=1/30 | c:9 +b", ""}, // by hand
			{renews(b), "-1 0 0 1 0 0", "a=1/30 | c:9 +b", ""},
		},
		"a renewal of who has the lock by an unanswered try": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{renews(a), "0 0 0 0 0 0", "a=1/30 |", ""},
			{waits(a), "1 1 0 0 0 0", "a=1/30 |", ""},
		},
		"twice is once": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{waits(a), "1 1 0 0 0 0", "a=1/30 |", ""},
			{waits(b), "0 30000 1 1 0 1", "a=1/30 | b:15", ""},
			{waits(b), "0 30000 1 1 0 0", "a=1/30 | b:15", ""},
			{renews(b), "0 30000 1 1 0 0", "a=1/30 | b:15", ""},
			{renews(b), "0 30000 1 1 0 0", "a=1/30 | b:15", ""},
			{waits(c), "0 30000 2 2 0 1", "a=1/30 | b:15 c:15", ""},
			{frees(b), "1 0", "a=1/30 | c:15", ""},
			{frees(b), "-1 0", "a=1/30 | c:15", ""},
			{frees(a), "1 0", "| c:15", "c"},
			{frees(a), "-1 0", "| c:15", ""},
			{waits(c), "1 1 0 0 0 0", "c=1/30 |", ""},
			{waits(c), "1 1 0 0 0 0", "c=1/30 |", ""},
		},
		"the second copy of a grant never shortens the lease": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{driver{}.Renew(key, a, 60*second), "1 60000", "a=1/60 |", ""},
			{waits(a), "1 1 0 0 0 0", "a=1/60 |", ""},
		},
		"the dead are dropped by whoever looks": {
			{places(b, -1, c, -1), "", "| b:-1 c:-1", ""},
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(b, -1, c, 5), "", "a=1/30 | b:-1 c:5", ""},
			{renews(c), "0 30000 1 1 0 0", "a=1/30 | c:15", ""},
			{places(b, -1), "", "a=1/30 | c:15 b:-1", ""},
			{renews(c), "0 30000 1 2 0 0", "a=1/30 | c:15 b:-1", ""}, // not before it is the first
			{frees(c), "1 0", "a=1/30 |", ""},
			{frees(a), "1 0", "|", ""},
		},
		"a dead head hides nobody": {
			{places(b, -1, c, 5), "", "| b:-1 c:5", ""},
			{waits(a), "0 5000 2 2 0 1", "| c:5 a:15", "c"},
			{places(b, -1), "", "| c:5 a:15 b:-1", ""},
			{frees(c), "1 0", "| a:15 b:-1", "a"},
			{waits(a), "1 1 0 1 0 0", "a=1/30 | b:-1", ""},
		},
		"who looks is not dead": {
			{places(b, -1), "", "| b:-1", ""},
			{renews(b), "0 0 1 1 0 0", "| b:15", ""},
			{does("DEL", list, zset), "", "|", ""},
			{places(b, -1, c, 10), "", "| b:-1 c:10", ""},
			{waits(b), "1 1 0 1 0 0", "b=1/30 | c:10", ""},
		},
		"who leaves is out, and tells the next one if that is its turn": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(b, 9, c, 9), "", "a=1/30 | b:9 c:9", ""},
			{frees(b), "1 0", "a=1/30 | c:9", ""}, // the lock is held
			{frees(a), "1 0", "| c:9", "c"},
			{places(b, 9), "", "| c:9 b:9", ""},
			{frees(b), "1 0", "| c:9", ""}, // c has been told
			{places(b, 9), "", "| c:9 b:9", ""},
			{frees(c), "1 0", "| b:9", "b"},
		},
		"the same script frees what the one who leaves has got": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(a, 9, b, 9), "", "a=1/30 | a:9 b:9", ""}, // granted, and a copy that came late
			{frees(a), "1 0", "| b:9", "b"},
		},
		"taken back in its own call, an acquire is a release": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{waits(b), "0 30000 1 1 0 1", "a=1/30 | b:15", ""},
			{frees(a), "1 0", "| b:15", "b"},
			{waits(b), "1 1 0 0 0 0", "b=1/30 |", ""},
			{places(c, 9), "", "b=1/30 | c:9", ""},
			{back(waits(b)), "1 0", "| c:9", "c"},
		},
		"and a re-entry is one that tells nobody": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(b, 9), "", "a=1/30 | b:9", ""},
			{driver{}.Acquire(key, a, 30*second, 1), "1 2", "a=2/30 | b:9", ""},
			{back(driver{}.Acquire(key, a, 30*second, 1)), "1 0", "a=1/30 | b:9", ""},
		},
		"a force-unlock keeps the queue and tells the first one": {
			{forces(), "0 0", "|", ""},
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(b, 9, c, 9), "", "a=1/30 | b:9 c:9", ""},
			{forces(), "1 0", "| b:9 c:9", "b"},
			{forces(), "0 0", "| b:9 c:9", ""},
			{frees(a), "-1 0", "| b:9 c:9", ""},
		},
		"a force-unlock of a lock with dead waiters": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(b, -1, c, 9), "", "a=1/30 | b:-1 c:9", ""},
			{forces(), "1 0", "| c:9", "c"},
		},
		"unlocking what nobody holds is told": {
			{frees(a), "-1 0", "|", ""},
			{places(b, 9), "", "| b:9", ""},
			{frees(a), "-1 0", "| b:9", ""},
		},
		"an inner release leaves lock and queue alone": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{driver{}.Acquire(key, a, 30*second, 1), "1 2", "a=2/30 |", ""},
			{places(b, 9), "", "a=2/30 | b:9", ""},
			{driver{}.Release(key, a, 1, tell), "1 1", "a=1/30 | b:9", ""},
			{frees(a), "1 0", "| b:9", "b"},
		},
		"the list alone is a queue": { // somebody deleted the scores
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{does("RPUSH", list, b), "", "a=1/30 | b:?", ""},
			{renews(b), "0 30000 1 1 0 0", "a=1/30 | b:15", ""},
			{does("DEL", zset), "", "a=1/30 | b:?", ""},
			{waits(b), "0 30000 1 1 0 0", "a=1/30 | b:15", ""},
			{does("DEL", list), "", "a=1/30 | +b", ""},
			{waits(b), "0 30000 1 1 0 1", "a=1/30 | b:15", ""},
			{frees(b), "1 0", "a=1/30 |", ""},
		},
		"nonsense is refused before the first write": {
			{places(b, -1), "", "| b:-1", ""},
			{acquires("0", "0", "0", "0", "1"), "ERR lease", "| b:-1", ""},
			{acquires("-5", "0", "0", "0", "1"), "ERR lease", "| b:-1", ""},
			{acquires("0.5", "0", "0", "0", "1"), "ERR lease", "| b:-1", ""},
			{acquires("1e3", "0", "0", "0", "1"), "ERR lease", "| b:-1", ""},
			{acquires("", "0", "0", "0", "1"), "ERR lease", "| b:-1", ""},
			{acquires("9223372036854775807", "0", "0", "0", "1"), "ERR lease", "| b:-1", ""},
			{acquires("1000", "-1", "0", "0", "1"), "ERR lease", "| b:-1", ""},
			{acquires("1000", "", "0", "0", "1"), "ERR lease", "| b:-1", ""},
			{acquires("1000", "1.5", "0", "0", "1"), "ERR lease", "| b:-1", ""},
			{acquires("1000", "9223372036854775807", "0", "0", "1"), "ERR lease", "| b:-1", ""},
			{acquires("1000", "1000", "x", "0", "1"), "ERR time", "| b:-1", ""},
			{acquires("1000", "1000", "", "0", "1"), "ERR time", "| b:-1", ""},
			{acquires("1000", "1000", "-1", "0", "1"), "ERR time", "| b:-1", ""},
			{does("HSET", key, a, "no number"), "", "a=no number/0 | b:-1", ""},
			{waits(a), "ERR hash value", "a=no number/0 | b:-1", ""},
		},

		// Places among Redisson's waiters.
		"behind a waiter of Redisson a place is kept for its quota, too": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(j, 330), "", "a=1/30 | j:330", ""}, // lock()
			{waits(b), "0 330000 2 2 1 1", "a=1/30 | j:330 b:330", ""},
			{waits(c), "0 330000 3 3 1 1", "a=1/30 | j:330 b:330 c:330", ""},
		},
		"a long quota of Redisson's": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(j, 930), "", "a=1/30 | j:930", ""}, // tryLock(15 min)
			{waits(b), "0 930000 2 2 1 1", "a=1/30 | j:930 b:1830", ""},
		},
		"a short quota of Redisson's": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(j, 33, k, 36), "", "a=1/30 | j:33 k:36", ""}, // tryLock(3 s)
			{waits(b), "0 36000 3 3 1 1", "a=1/30 | j:33 k:36 b:21", ""},
		},
		"a quota that has been waited for counts as five minutes": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(j, 100), "", "a=1/30 | j:100", ""},
			{waits(b), "0 100000 2 2 1 1", "a=1/30 | j:100 b:330", ""},
			{places(k, 400), "", "a=1/30 | j:100 b:330 k:400", ""},
			{waits(c), "0 400000 4 4 1 1", "a=1/30 | j:100 b:330 k:400 c:645", ""},
		},
		"who came before has seen more of it": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(j, 35, b, 315), "", "a=1/30 | j:35 b:315", ""}, // j has waited for five minutes
			{waits(c), "0 315000 3 3 1 1", "a=1/30 | j:35 b:315 c:315", ""},
		},
		"a renewal keeps what was allowed at first, less what was taken off": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(j, 33, b, 315), "", "a=1/30 | j:33 b:315", ""},
			{renewsSince(b, 5), "0 33000 2 2 1 0", "a=1/30 | j:33 b:320", ""},
			{does("ZINCRBY", zset, "-300000", b), "", "a=1/30 | j:33 b:20", ""},
			{renewsSince(b, 1), "0 33000 2 2 1 0", "a=1/30 | j:33 b:21", ""},
		},
		"once no waiter of Redisson is before them, places are cut": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{places(b, 315, j, 600, c, 900), "", "a=1/30 | b:315 j:600 c:900", ""},
			{renewsSince(c, 0), "0 600000 3 3 1 0", "a=1/30 | b:15 j:600 c:900", ""},
			{frees(b), "1 0", "a=1/30 | j:600 c:900", ""},
			{frees(j), "1 0", "a=1/30 | c:900", ""},
			{renewsSince(c, 0), "0 30000 1 1 0 0", "a=1/30 | c:15", ""},
		},
		"who knows that none is before it leaves longer places alone": {
			{waits(a), "1 1 0 0 0 1", "a=1/30 |", ""},
			{waitsFor(b, 60*second), "0 30000 1 1 0 1", "a=1/30 | b:60", ""},
			{renews(b), "0 30000 1 1 0 0", "a=1/30 | b:15", ""},
			{does("DEL", zset), "", "a=1/30 | b:?", ""},
			{does("ZADD", zset, "99999999999999", b), "", "a=1/30 | b:far", ""},
			{places(c, 9), "", "a=1/30 | b:far c:9", ""},
			{renews(c), "0 far 2 2 0 0", "a=1/30 | b:far c:15", ""},
			{waits(c), "0 30000 2 2 0 0", "a=1/30 | b:15 c:15", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, rdb *redis.Client) {
				for i, s := range steps {
					(raw{t, rdb}).take(i+1, s)
				}
			})
		})
	}
}

// acquires is the script for a with arguments that no driver gives it.
func acquires(args ...any) script.Op {
	return op(acquire, key, append([]any{a, tell, prefix(key)}, args...)...)
}

// renewsSince renews a place that was renewed so many seconds ago.
func renewsSince(owner string, ago int) func(raw) script.Op {
	return func(r raw) script.Op {
		now, err := r.rdb.Time(r.ctx()).Result()
		if err != nil {
			r.Fatal(err)
		}
		since := now.Add(-time.Duration(ago) * second).UnixMicro()
		return stand(owner, engine.Place{Lease: 15 * second, Renew: true, Since: since, Mixed: true})
	}
}

func (r raw) take(n int, s step) {
	r.Helper()
	deed := fmt.Sprintf("step %d", n)
	switch op := s.op.(type) {
	case func(raw):
		op(r)
	case func(raw) script.Op:
		s.op = op(r)
	}
	if op, ok := s.op.(script.Op); ok {
		deed += fmt.Sprintf(", %s%v", op.Verb.Name, op.Args[:2])
		if got := r.run(op); !sameAnswer(got, s.answer) {
			r.Errorf("%s: got answer %q, want %q", deed, got, s.answer)
		}
	}
	if got := r.state(); got != s.state {
		r.Errorf("%s: got state %q, want %q", deed, got, s.state)
	}
	if got := r.told(); got != s.told {
		r.Errorf("%s: got messages to %q, want %q", deed, got, s.told)
	}
}

// onEach runs a test on miniredis and on a real server.
func onEach(t *testing.T, test func(t *testing.T, rdb *redis.Client)) {
	t.Run("miniredis", func(t *testing.T) { test(t, redistest.StartMiniredis(t).Client(t)) })
	t.Run("redis", func(t *testing.T) { test(t, redistest.Start(t).Client(t)) })
}

var program = script.NewProgram(append(Verbs(), rlock.Verbs()...)...)

// run gives the answer without the server's time.
func (r raw) run(op script.Op) string {
	sender := script.NewSender(r.rdb, program)
	defer sender.Close()
	call := sender.Start(op)
	<-call.Done()
	answer := call.Answers()[0]
	if answer.Err != nil {
		return answer.Err.Error()
	}
	fields := strings.Fields(strings.Trim(fmt.Sprint(answer.Reply), "[]"))
	if len(fields) == 7 {
		fields = append(fields[:2], fields[3:]...)
	}
	return strings.Join(fields, " ")
}

// sameAnswer lets an error match by its beginning, and ms by a second.
func sameAnswer(got, want string) bool {
	g, w := strings.Fields(got), strings.Fields(want)
	if len(w) < 2 || strings.HasPrefix(want, "ERR") {
		return strings.HasPrefix(got, want)
	}
	return len(g) == len(w) && g[0] == w[0] && slices.Equal(g[2:], w[2:]) && sameNumber(g[1], w[1])
}

func sameNumber(got, want string) bool {
	g, err := strconv.Atoi(got)
	if want == "far" {
		return g > 1e9
	}
	w, _ := strconv.Atoi(want)
	return err == nil && (g == w || w >= 1000 && g < w+50 && g > w-950)
}

// state reads the three keys back.
func (r raw) state() string {
	r.Helper()
	fields, err := r.rdb.HGetAll(r.ctx(), key).Result()
	if err != nil {
		r.Fatal(err)
	}
	var parts []string
	for owner, count := range fields {
		parts = append(parts, fmt.Sprintf("%s=%s/%.0f", letters[owner], count, math.Max(0, r.rdb.PTTL(r.ctx(), key).Val().Seconds())))
	}
	parts = append(parts, "|")
	now, err := r.rdb.Time(r.ctx()).Result()
	if err != nil {
		r.Fatal(err)
	}
	scores := map[string]float64{}
	for _, z := range r.rdb.ZRangeWithScores(r.ctx(), zset, 0, -1).Val() {
		scores[z.Member.(string)] = z.Score
	}
	for _, owner := range r.rdb.LRange(r.ctx(), list, 0, -1).Val() {
		score, ok := scores[owner]
		switch left := math.Round((score - float64(now.UnixMilli())) / 1000); {
		case !ok:
			parts = append(parts, letters[owner]+":?")
		case left > 1e6:
			parts = append(parts, letters[owner]+":far")
		default:
			parts = append(parts, fmt.Sprintf("%s:%.0f", letters[owner], left))
		}
		delete(scores, owner)
	}
	for owner := range scores {
		parts = append(parts, "+"+letters[owner])
	}
	return strings.Join(parts, " ")
}

// told tells who was sent a message since the last time, with a number if more than one.
func (r raw) told() string {
	r.Helper()
	var all []string
	for _, owner := range []string{a, b, c, j, k} {
		channel := driver{}.Channel(key, owner)
		messages, err := r.rdb.LRange(r.ctx(), channel, 0, -1).Result()
		if err != nil {
			r.Fatal(err)
		}
		r.do("DEL", channel)
		for _, m := range messages {
			if m != "0" {
				r.Errorf("message: got %q, want %q", m, "0")
			}
			all = append(all, letters[owner])
		}
	}
	return strings.Join(all, " ")
}

// A call drops no more than 32, so that no script takes long; who comes next drops more.
func TestDeadHeadsAreDroppedInPortions(t *testing.T) {
	for deed, op := range map[string]script.Op{
		"try": waits(a), "TryLock": tries(a), "renewal": renews(b), "release": frees(b), "force": forces(),
	} {
		t.Run(deed, func(t *testing.T) {
			onEach(t, func(t *testing.T, rdb *redis.Client) {
				r := raw{t, rdb}
				for i := range 70 {
					places(fmt.Sprintf("0198f000-0000-7000-8000-00000000000f:%d", i), -1)(r)
				}
				for _, want := range []int64{38, 6, 0} {
					r.run(op)
					got := rdb.LLen(r.ctx(), list).Val()
					if deed == "try" && rdb.Exists(r.ctx(), key).Val() == 0 {
						want++ // its own
					}
					if got != want {
						t.Errorf("got %d entries left, want %d", got, want)
					}
					if deed == "try" {
						r.run(frees(a))
						break
					}
				}
			})
		})
	}
}

// With PUBLISH it is a message, on Redisson's channel of that waiter.
func TestMessages(t *testing.T) {
	onEach(t, func(t *testing.T, rdb *redis.Client) {
		r := raw{t, rdb}
		sub := rdb.Subscribe(r.ctx(), "redisson_lock__channel:{order:7}:"+b)
		defer sub.Close()
		if _, err := sub.Receive(r.ctx()); err != nil {
			t.Fatal(err)
		}
		r.run(waits(a))
		r.run(waits(b))
		r.run(driver{}.Release(key, a, 0, "PUBLISH"))
		message, err := sub.ReceiveMessage(r.ctx())
		if err != nil || message.Payload != "0" {
			t.Errorf("got message %v, %v, want %q", message, err, "0")
		}
	})
}

// What cannot be told is freed all the same.
func TestReleaseWhoseMessageIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, rdb *redis.Client) {
		r := raw{t, rdb}
		r.run(waits(a))
		r.run(waits(b))
		if got := r.run(driver{}.Release(key, a, 0, "NOTACOMMAND")); !strings.HasPrefix(got, "2 ") {
			t.Errorf("got %q, want 2 and the reason", got)
		}
		if got := r.state(); got != "| b:15" {
			t.Errorf("got state %q, want %q", got, "| b:15")
		}
	})
}

// A key of another type is an error of every script, and stays; and so do the others.
func TestForeignKeysStay(t *testing.T) {
	for _, foreign := range []string{key, list, zset} {
		t.Run(foreign, func(t *testing.T) {
			onEach(t, func(t *testing.T, rdb *redis.Client) {
				r := raw{t, rdb}
				for _, others := range []string{"none", "dead"} {
					r.do("FLUSHALL")
					if others == "dead" {
						r.do("HSET", key, a, 1)
						places(b, -1, c, 9)(r)
						r.do("DEL", foreign)
					}
					r.do("SET", foreign, "theirs")
					before := r.dump()
					for _, op := range []script.Op{
						waits(a), waits(b), renews(b), tries(a), tries(c), frees(a), frees(b), forces(),
					} {
						if got := r.run(op); !strings.Contains(got, "WRONGTYPE") && !(foreign != key && op.Args[0] == "" && others == "none") {
							t.Errorf("%s, %s%v: got %q, want WRONGTYPE", others, op.Verb.Name, op.Args, got)
						}
						if after := r.dump(); after != before {
							t.Errorf("%s, %s%v: got %q, want it untouched: %q", others, op.Verb.Name, op.Args, after, before)
						}
					}
				}
			})
		})
	}
}

// dump is everything there is.
func (r raw) dump() string {
	r.Helper()
	var all []string
	for _, name := range r.rdb.Keys(r.ctx(), "*").Val() {
		switch r.rdb.Type(r.ctx(), name).Val() {
		case "string":
			all = append(all, name+"="+r.rdb.Get(r.ctx(), name).Val())
		case "hash":
			all = append(all, fmt.Sprint(name, r.rdb.HGetAll(r.ctx(), name).Val()))
		case "list":
			all = append(all, fmt.Sprint(name, r.rdb.LRange(r.ctx(), name, 0, -1).Val()))
		case "zset":
			all = append(all, fmt.Sprint(name, r.rdb.ZRangeWithScores(r.ctx(), name, 0, -1).Val()))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// Out of memory, nobody gets in, and everybody gets out.
func TestOutOfMemory(t *testing.T) {
	r := raw{t, redistest.Start(t).Client(t)}
	for _, op := range []script.Op{waits(a), waits(b), waits(c)} {
		r.run(op)
	}
	steps := []step{
		{does("CONFIG", "SET", "maxmemory", "1"), "", "a=1/30 | b:15 c:15", ""},
		{waits(j), "OOM", "a=1/30 | b:15 c:15", ""},
		{frees(c), "1 0", "a=1/30 | b:15", ""},
		{driver{}.Release(key, a, 0, "PUBLISH"), "1 0", "| b:15", ""},
		{tries(j), "0 0 0 1 0 0", "| b:15", ""},
		{waits(b), "1 1 0 0 0 0", "b=1/30 |", ""},
		{driver{}.Force(key, "PUBLISH"), "1 0", "|", ""},
		{waits(c), "OOM", "|", ""},
		{does("CONFIG", "SET", "maxmemory", "0"), "", "|", ""},
	}
	for i, s := range steps {
		if s.answer == "OOM" {
			if got := r.run(s.op.(script.Op)); !strings.Contains(got, "OOM") {
				t.Errorf("step %d: got answer %q, want OOM", i+1, got)
			}
			s.op = func(raw) {}
		}
		r.take(i+1, s)
	}
}
