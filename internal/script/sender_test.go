package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The verbs of these tests: add counts executions, so a second one shows.
var (
	add   = NewVerb("test.add", "return {redis.call('INCR', KEYS[1]), ARGV[1]}")
	size  = NewVerb("test.size", "return {redis.call('HLEN', KEYS[1])}")
	fault = NewVerb("test.fault", "local nothing = nil\nreturn nothing.field")
	set   = NewVerb("test.set", "redis.call('SET', KEYS[1], ARGV[1])\nreturn {1}")

	program = NewProgram(add, size, fault, set, drop, dropEach, grab, grabAll)
)

func newSender(t *testing.T, rdb redis.UniversalClient) *Sender {
	s := NewSender(rdb, program)
	t.Cleanup(s.Close)
	return s
}

func op(verb *Verb, key string, args ...any) Op {
	return Op{Verb: verb, Keys: []string{key}, Args: args}
}

// onEach runs a test against miniredis and a real server.
func onEach(t *testing.T, test func(t *testing.T, rdb redis.UniversalClient)) {
	t.Run("miniredis", func(t *testing.T) { test(t, redistest.StartMiniredis(t).Client(t)) })
	t.Run("redis", func(t *testing.T) { test(t, redistest.Start(t).Client(t)) })
	t.Run("cluster", func(t *testing.T) { test(t, redistest.StartCluster(t, 3, 0).Client(t)) })
}

func answers(t *testing.T, c *Call) []Answer {
	t.Helper()
	select {
	case <-c.Done():
		return c.Answers()
	case <-time.After(20 * time.Second):
		t.Fatal("no answer within 20s")
		return nil
	}
}

func TestOneCallManyOperations(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, rdb redis.UniversalClient) {
		if err := rdb.Set(t.Context(), "{tag}text", "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
		got := answers(t, newSender(t, rdb).Start(
			op(add, "{tag}a", "first"),
			op(size, "{tag}text"), // WRONGTYPE
			op(fault, "{tag}a"),
			op(add, "{tag}b", "second"),
			op(add, "{tag}a", "third"),
		))
		for i, want := range []string{"[1 first] <nil>", "[] WRONGTYPE", "[] ", "[1 second] <nil>", "[2 third] <nil>"} {
			if s := fmt.Sprint(got[i].Reply, " ", got[i].Err); !strings.HasPrefix(s, want) {
				t.Errorf("operation %d: got %s, want %s", i+1, s, want)
			}
		}
		if ClassOf(got[1].Err) != Refused {
			t.Errorf("WRONGTYPE: got class %d, want Refused", ClassOf(got[1].Err))
		}
	})
}

// Operations under load travel together, each with its own answer, none twice.
func TestManyCallersShareCalls(t *testing.T) {
	onEach(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSender(t, rdb)
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				key := "k" + strconv.Itoa(i)
				for n := 1; n <= 3; n++ {
					got := answers(t, s.Start(op(add, key, key)))
					if v := fmt.Sprint(got[0].Reply); got[0].Err != nil || v != fmt.Sprintf("[%d %s]", n, key) {
						t.Errorf("%s, time %d: got %v %v", key, n, v, got[0].Err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestNoScriptIsAnsweredWithTheText(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSender(t, rdb)
		for n := range 3 {
			flush(t, rdb)
			got := answers(t, s.Start(op(add, "{x}", ""), op(add, "{x}", "")))
			if got[0].Err != nil || got[1].Err != nil || got[1].Reply[0] != int64(2*n+2) {
				t.Errorf("got %v, want count %d", got, 2*n+2)
			}
		}
	})
}

// Two slots of one node are two commands in a pipeline, each with its own NOSCRIPT.
func TestNoScriptInAPipeline(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 1, 0)
	keys := on(cluster, cluster.Nodes[0], "a")
	rdb := cluster.Client(t)
	refused := &pipelines{}
	rdb.AddHook(refused)
	s := newSender(t, rdb)
	for n := range int64(3) {
		flush(t, rdb)
		got := answers(t, s.Start(op(add, keys[0], ""), op(add, keys[1], ""), op(add, keys[0], "")))
		for i, want := range []int64{2*n + 1, n + 1, 2*n + 2} {
			if got[i].Err != nil || got[i].Reply[0] != want {
				t.Errorf("operation %d: got %v %v, want count %d", i+1, got[i].Reply, got[i].Err, want)
			}
		}
		if refused.noScript != 2*(int(n)+1) {
			t.Errorf("got %d NOSCRIPT in pipelines of several commands, want two for each call", refused.noScript)
		}
	}
}

// pipelines is a hook that counts the commands that are refused with NOSCRIPT in a pipeline of several.
type pipelines struct{ noScript int }

func (p *pipelines) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (p *pipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (p *pipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			if len(cmds) > 1 && redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
				p.noScript++
			}
		}
		return err
	}
}

func flush(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	flushOne := func(ctx context.Context, node *redis.Client) error { return node.ScriptFlush(ctx).Err() }
	err := error(nil)
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(t.Context(), flushOne)
	} else {
		err = rdb.ScriptFlush(t.Context()).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// spoiled is a real server behind a proxy, and the client's own pool settings at
// their worst: go-redis may send again as it likes.
func spoiled(t *testing.T) (*faultproxy.Proxy, *redistest.Server, *redis.Client) {
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr(), 1)
	rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: 3, ReadTimeout: 200 * time.Millisecond})
	t.Cleanup(func() { _ = rdb.Close() })
	return proxy, server, rdb
}

// A command that may have been executed is not sent again, by nobody.
func TestNeverSentTwice(t *testing.T) {
	for name, d := range map[string]faultproxy.Decision{
		"reply lost":   faultproxy.DropReply,
		"reset after":  faultproxy.ResetAfter,
		"reset before": faultproxy.ResetBefore,
		"request lost": faultproxy.DropRequest,
	} {
		t.Run(name, func(t *testing.T) {
			proxy, server, rdb := spoiled(t)
			s := newSender(t, rdb)
			answers(t, s.Start(op(add, "warm", ""))) // the server knows the script now
			proxy.OnNext("EVALSHA", d)
			got := answers(t, s.Start(op(add, "k", "")))
			if ClassOf(got[0].Err) != Unknown {
				t.Errorf("got %v of class %d, want one of unknown outcome", got[0].Err, ClassOf(got[0].Err))
			}
			want := map[bool]string{true: "1", false: ""}[d == faultproxy.DropReply || d == faultproxy.ResetAfter]
			if n, _ := server.Do(t.Context(), "GET", "k").Text(); n != want {
				t.Errorf("executions: got %q, want %q", n, want)
			}
		})
	}
}

// What waits in the queue can be taken back, and is never executed then.
func TestWithdraw(t *testing.T) {
	server := redistest.Start(t)
	s := newSender(t, server.Client(t))
	l := s.lanesTo(s.Server("k"))
	l.mu.Lock() // as if all lanes were out
	l.out = laneCount
	l.mu.Unlock()
	c := s.Start(op(add, "k", "withdrawn"))
	if !c.Queued() {
		t.Fatal("the call is not queued")
	}
	c.Then(func(*Call) { t.Error("a withdrawn call is answered") })
	for range 2 {
		if !c.Withdraw() {
			t.Error("Withdraw of a queued call: got false")
		}
	}
	if c.hooks != nil || c.op[0].Keys != nil {
		t.Error("a withdrawn call keeps what was asked, or those who wait for it")
	}
	stays := s.Start(op(add, "k", "stays"))
	l.mu.Lock()
	l.out = 0
	_, idle := l.summon()
	l.mu.Unlock()
	l.wake(idle)
	if got := answers(t, stays); got[0].Err != nil || got[0].Reply[0] != int64(1) {
		t.Errorf("got %v, want the first execution", got)
	}
	if stays.Withdraw() {
		t.Error("Withdraw of an answered call: got true")
	}
	if n, _ := server.Do(t.Context(), "GET", "k").Text(); n != "1" {
		t.Errorf("executions: got %q, want 1", n)
	}
}

// One lane comes for all that waits; others for what it cannot take along.
func TestOneLaneTakesAllThatWaits(t *testing.T) {
	s := newSender(t, redistest.Start(t).Client(t))
	l := s.lanesTo(s.Server("k"))
	l.mu.Lock()
	l.out, l.coming = 1, true // this test is the lane
	l.watched = true          // and does not hang, however long it takes
	l.mu.Unlock()
	calls := make([]*Call, 2*maxOps+10)
	for i := range calls {
		calls[i] = s.Start(op(add, "k"+strconv.Itoa(i), ""))
	}
	l.mu.Lock()
	if l.out != 1 || len(l.queue) != len(calls) {
		t.Errorf("while a lane is coming: got %d lanes out and %d calls that wait, want 1 and %d", l.out, len(l.queue), len(calls))
	}
	l.mu.Unlock()
	var own trip
	if !l.depart(&own) || len(own.batch) != maxOps {
		t.Fatalf("got a batch of %d, want %d", len(own.batch), maxOps)
	}
	for _, c := range calls[maxOps:] {
		answers(t, c)
	}
	s.send(own.batch, time.Now())
	for l.arrive(&own) && l.depart(&own) {
		t.Error("something still waited")
	}
	for _, c := range calls {
		if got := answers(t, c); got[0].Err != nil || got[0].Reply[0] != int64(1) {
			t.Errorf("got %v, want the first execution", got)
		}
	}
}

// Connections that hang delay nobody else.
func TestHangingLanesGiveTheirPlaceAway(t *testing.T) {
	proxy, _, rdb := spoiled(t)
	s := newSender(t, rdb)
	answers(t, s.Start(op(add, "warm", "")))
	open := make(chan struct{})
	var mu sync.Mutex
	gated := 0
	proxy.Decide(func(c faultproxy.Command) faultproxy.Decision {
		mu.Lock()
		defer mu.Unlock()
		if c.Name == "EVALSHA" && gated < laneCount {
			gated++
			return faultproxy.Gate(open)
		}
		return faultproxy.Pass
	})
	var hanging []*Call
	for n := range laneCount {
		hanging = append(hanging, s.Start(op(add, "k", "")))
		redistest.Eventually(t, 5*time.Second, "a lane hangs", func() bool { mu.Lock(); defer mu.Unlock(); return gated > n })
	}
	if got := answers(t, s.Start(op(add, "other", ""))); got[0].Err != nil {
		t.Errorf("an operation beside hanging lanes: %v", got[0].Err)
	}
	close(open)
	for _, c := range hanging {
		answers(t, c)
	}
}

// Who is told of an answer and takes its time keeps a lane from nobody else for long.
func TestWhoIsToldSlowlyGivesTheirLanesAway(t *testing.T) {
	proxy, _, rdb := spoiled(t)
	s := newSender(t, rdb)
	answers(t, s.Start(op(add, "warm", "")))
	told, goOn := make(chan struct{}, laneCount), make(chan struct{})
	defer close(goOn)
	for range laneCount {
		open := make(chan struct{})
		proxy.OnNext("EVALSHA", faultproxy.Gate(open))
		s.Start(op(add, "k", "")).Then(func(*Call) {
			told <- struct{}{}
			<-goOn
		})
		close(open)
		<-told // so each has a lane of its own
	}
	if got := answers(t, s.Start(op(add, "other", ""))); got[0].Err != nil {
		t.Errorf("an operation beside them: %v", got[0].Err)
	}
}

// A dead node of a cluster delays nobody on the others.
func TestDeadNodeDelaysNobodyElse(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0, "--cluster-require-full-coverage", "no")
	rdb := cluster.Client(t)
	s := newSender(t, rdb)
	answers(t, s.Start(op(add, "warm", "")))
	dead := cluster.MasterOf("a")
	var alive []string
	for _, key := range []string{"b", "c", "d", "e", "f", "g"} {
		if cluster.MasterOf(key) != dead {
			alive = append(alive, key)
		}
	}
	if err := dead.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dead.Resume() }()
	var hanging []*Call
	for range 20 {
		hanging = append(hanging, s.Start(op(add, "a", "")))
	}
	for _, key := range alive {
		c := s.Start(op(add, key, ""))
		select {
		case <-c.Done():
		case <-time.After(2 * time.Second):
			t.Errorf("%s: no answer while another node hangs", key)
		}
	}
	if err := dead.Resume(); err != nil {
		t.Fatal(err)
	}
	for _, c := range hanging {
		answers(t, c)
	}
}

// A plain client may talk to a cluster through a proxy: after the first CROSSSLOT
// calls are split by slot.
func TestCrossSlotIsSplit(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 1, 0)
	rdb := cluster.Nodes[0].Client(t)
	s := newSender(t, rdb)
	got := answers(t, s.Start(op(add, "a", ""), op(add, "b", ""), op(add, "a", "")))
	if got[0].Err != nil || got[1].Err != nil || got[2].Err != nil || got[2].Reply[0] != int64(2) {
		t.Errorf("got %v, want three answers", got)
	}
	if !s.bySlot.Load() {
		t.Error("the sender has not learned to split by slot")
	}
}

// A slot on the move serves single keys: what is there, and by ASK what is not.
func TestSlotOnTheMove(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2, 0)
	rdb := cluster.Client(t)
	s := newSender(t, rdb)
	answers(t, s.Start(op(add, "{s}here", "")))
	from := cluster.MasterOf("{s}")
	to := cluster.Nodes[0]
	if to == from {
		to = cluster.Nodes[1]
	}
	slot, err := from.Do(t.Context(), "CLUSTER", "KEYSLOT", "{s}").Int()
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.BeginMove(t.Context(), slot, from, to); err != nil {
		t.Fatal(err)
	}
	got := answers(t, s.Start(op(add, "{s}here", ""), op(add, "{s}there", "")))
	if got[0].Err != nil || got[1].Err != nil {
		t.Errorf("got %v, want two answers", got)
	}
}

func TestClasses(t *testing.T) {
	for text, want := range map[string]Class{
		"LOADING Redis is loading the dataset in memory":                                   NotExecuted,
		"BUSY Redis is busy running a script":                                              NotExecuted,
		"CLUSTERDOWN The cluster is down":                                                  NotExecuted,
		"TRYAGAIN Multiple keys request during rehashing of slot":                          NotExecuted,
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": NotExecuted,
		"MOVED 3999 127.0.0.1:6381":                                                        NotExecuted,
		"ASK 3999 127.0.0.1:6381":                                                          NotExecuted,
		"NOSCRIPT No matching script.":                                                     NotExecuted,
		"ERR Script attempted to access a non local key in a cluster node":                 Unknown,
		"READONLY You can't write":                                                         NotExecuted,
		"NOREPLICAS Not enough good replicas to write.":                                    NotExecuted,
		"ERR max number of clients reached":                                                NotExecuted,
		"NOPERM no":                                                                        Refused,
		"WRONGTYPE no":                                                                     Refused,
		"OOM command not allowed":                                                          Refused,
		"MISCONF no":                                                                       Refused,
	} {
		if got := ClassOf(newReplyError(text)); got != want {
			t.Errorf("%s: got class %d, want %d", text, got, want)
		}
		if got := newReplyError("@user_script: 6: -" + text).Error(); got != text {
			t.Errorf("got text %q, want %q", got, text)
		}
	}
	for err, want := range map[error]Class{nil: Done, io.EOF: Unknown, errReply: Unknown, redis.ErrClosed: Refused, redis.ErrPoolTimeout: NotExecuted, errors.New("other"): Unknown} {
		if got := ClassOf(err); got != want {
			t.Errorf("%v: got class %d, want %d", err, got, want)
		}
	}
	refused := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer refused.Close()
	if got := ClassOf(refused.Ping(t.Context()).Err()); got != NotExecuted {
		t.Errorf("dial error: got class %d, want NotExecuted", got)
	}
}

// A script that answers nothing has been executed: nobody may take that for a refusal.
func TestNoAnswerIsNoRefusal(t *testing.T) {
	mute := NewVerb("test.mute", "redis.call('INCR', KEYS[1])")
	onEach(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := NewSender(rdb, NewProgram(add, mute))
		t.Cleanup(s.Close)
		for _, ops := range [][]Op{{op(mute, "{tag}n")}, {op(add, "{tag}n", "x"), op(mute, "{tag}n"), op(add, "{tag}n", "x")}} {
			for i, a := range answers(t, s.Start(ops...)) {
				if ops[i].Verb == mute && ClassOf(a.Err) != Unknown {
					t.Errorf("%d of %d: got %v %v of class %d, want Unknown", i+1, len(ops), a.Reply, a.Err, ClassOf(a.Err))
				}
			}
		}
	})
}

// Whatever a foreign server replies: an error, not a panic.
func FuzzAnswer(f *testing.F) {
	f.Add(int64(1), "x", 2)
	f.Add(int64(1)<<32, "x", 3)
	f.Fuzz(func(t *testing.T, n int64, s string, size int) {
		replies := []any{nil, n, s, []any{}, []any{n}, []any{s, n}, []any{[]any{n}, s}, []any{[]any{s}, nil}, errReply}
		for _, reply := range replies {
			units := make([]unit, 1+size>>2&1)
			for i := range units {
				units[i] = unit{&Op{Verb: []*Verb{add, drop}[size>>3&1]}, &Answer{}} // each by itself, or in one go
			}
			deliver(units, reply)
			for _, u := range units {
				if _, err := u.answer.Ints(1 + size&3); err == nil && len(u.answer.Reply) == 0 {
					t.Errorf("%v became numbers", reply)
				}
			}
		}
	})
}
