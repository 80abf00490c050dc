package script

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// The verbs of these tests write what they do to a list, so that the order shows.
var (
	take  = NewVerb("test.take", "redis.call('RPUSH', KEYS[1], 'take ' .. ARGV[1])\nreturn {tonumber(ARGV[2]), ARGV[1]}").With(back, nil, nil)
	back  = NewVerb("test.back", "redis.call('RPUSH', KEYS[1], 'back ' .. ARGV[1])\nreturn {0}")
	broke = NewVerb("test.trip", "redis.call('RPUSH', KEYS[1], 'trip ' .. ARGV[1])\nreturn redis.call('HGET', KEYS[1], 'x')").With(back, nil, nil)

	count = NewVerb("test.count", "redis.call('RPUSH', KEYS[1], 'take ' .. ARGV[1])\nreturn {1, 7}").With(back, nil, nil)

	groups = NewProgram(add, take, back, broke, count)
)

const diary = "{tag}diary"

// takes takes what is called name, or not: answer is 1 if it does.
func takes(name, answer string) Op { return op(take, diary, name, answer) }
func tripping(name string) Op      { return op(broke, diary, name) }
func counting(name string) Op      { return op(count, diary, name) }

func TestAll(t *testing.T) {
	for _, c := range []struct {
		name   string
		ops    []Op
		wrote  []string
		shares []string // prefixes
	}{
		{"all", []Op{takes("a", "1"), takes("b", "1"), takes("c", "1")},
			[]string{"take a", "take b", "take c"}, []string{"[1 a] <nil>", "[1 b] <nil>", "[1 c] <nil>"}},
		{"answers that travel as numbers", []Op{counting("a"), takes("b", "1"), counting("c")},
			[]string{"take a", "take b", "take c"}, []string{"[1 7] <nil>", "[1 b] <nil>", "[1 7] <nil>"}},
		{"all the same", []Op{counting("a"), counting("b"), counting("c")},
			[]string{"take a", "take b", "take c"}, []string{"[1 7] <nil>", "[1 7] <nil>", "[1 7] <nil>"}},
		{"and are taken back", []Op{counting("a"), counting("b"), takes("c", "0")},
			[]string{"take a", "take b", "take c", "back b", "back a"}, []string{undone, undone, "[0 c] <nil>"}},
		{"one of one", []Op{takes("a", "1")}, []string{"take a"}, []string{"[1 a] <nil>"}},
		{"the first is not possible", []Op{takes("a", "0"), takes("b", "1"), takes("c", "1")},
			[]string{"take a"}, []string{"[0 a] <nil>", undone, undone}},
		{"the last is not possible, and the others are taken back in reverse", []Op{takes("a", "1"), takes("b", "1"), takes("c", "-1")},
			[]string{"take a", "take b", "take c", "back b", "back a"}, []string{undone, undone, "[-1 c] <nil>"}},
		{"the one between is not possible", []Op{takes("a", "1"), takes("b", "0"), takes("c", "1")},
			[]string{"take a", "take b", "back a"}, []string{undone, "[0 b] <nil>", undone}},
		{"one fails: those before it are taken back, not what it has written itself", []Op{takes("a", "1"), takes("b", "1"), tripping("c"), takes("d", "1")},
			[]string{"take a", "take b", "trip c", "back b", "back a"}, []string{"[] WRONGTYPE", "[] WRONGTYPE", "[] WRONGTYPE", "[] WRONGTYPE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, rdb redis.UniversalClient) {
				s := NewSender(rdb, groups)
				t.Cleanup(s.Close)
				alone := answers(t, s.Start(All(c.ops)))
				wantShares(t, alone[0], c.shares)
				wantWrote(t, rdb, c.wrote)

				// Beside others each has its own keys and arguments, and its own answer.
				among := answers(t, s.Start(op(add, "{tag}n", "before"), All(c.ops), All(c.ops), op(add, "{tag}n", "after")))
				for i, want := range map[int]string{0: "[1 before] <nil>", 3: "[2 after] <nil>"} {
					if got := fmt.Sprint(among[i].Reply, " ", among[i].Err); got != want {
						t.Errorf("operation %d: got %s, want %s", i+1, got, want)
					}
				}
				wantShares(t, among[1], c.shares)
				wantShares(t, among[2], c.shares)
				wantWrote(t, rdb, slices.Concat(c.wrote, c.wrote))
			})
		})
	}
}

// What Redis writes fastest is a number, so that is what it is mostly asked to write: if each has answered the same, it is their answer.
func TestTheSameAnswerOfAll(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := NewSender(rdb, groups)
		t.Cleanup(s.Close)
		for _, c := range []struct {
			ops  []Op
			want string
		}{
			{[]Op{counting("a"), counting("b")}, "[1 7]"},
			{[]Op{counting("a")}, "[1 7]"},
			{[]Op{counting("a"), takes("b", "1")}, "[0 7 [1 b]]"},
			{[]Op{takes("a", "1"), takes("a", "1")}, "[0 [1 a] [1 a]]"},
			{[]Op{takes("a", "1")}, "[0 [1 a]]"},
		} {
			if got := fmt.Sprint(answers(t, s.Start(All(c.ops)))[0].Reply); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		}
	})
}

const undone = "undone"

func wantShares(t *testing.T, answer Answer, want []string) {
	t.Helper()
	for i, share := range answer.Shares(len(want)) {
		got := fmt.Sprint(share.Reply, " ", share.Err)
		switch {
		case want[i] == undone && !errors.Is(share.Err, ErrUndone):
			t.Errorf("share %d: got %s, want ErrUndone", i+1, got)
		case want[i] == undone && ClassOf(share.Err) != NotExecuted:
			t.Errorf("share %d: got class %v, want NotExecuted", i+1, ClassOf(share.Err))
		case want[i] != undone && (len(got) < len(want[i]) || got[:len(want[i])] != want[i]):
			t.Errorf("share %d: got %s, want %s", i+1, got, want[i])
		}
	}
}

func wantWrote(t *testing.T, rdb redis.UniversalClient, want []string) {
	t.Helper()
	got, err := rdb.LRange(t.Context(), diary, 0, -1).Result()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("the diary: got %q %v, want %q", got, err, want)
	}
	if err := rdb.Del(t.Context(), diary).Err(); err != nil {
		t.Fatal(err)
	}
}

// What was done is written before what fails: a diary that is no list fails at once, and
// nothing of the others is left then either.
func TestAllWithAKeyOfAnotherType(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	s := NewSender(rdb, groups)
	t.Cleanup(s.Close)
	if err := rdb.Set(t.Context(), "{tag}text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	bad := op(take, "{tag}text", "b", "1")
	got := answers(t, s.Start(All([]Op{takes("a", "1"), bad, takes("c", "1")})))[0]
	if ClassOf(got.Err) != Refused {
		t.Errorf("got %v, want WRONGTYPE", got.Err)
	}
	wantWrote(t, rdb, []string{"take a", "back a"})
}

func TestSharesOfForeignAnswers(t *testing.T) {
	boom := errors.New("boom")
	for _, answer := range []Answer{
		{Err: boom},
		{},
		{Reply: []any{}},
		{Reply: []any{"0"}},
		{Reply: []any{int64(0), []any{int64(1)}}},
		{Reply: []any{int64(3), []any{int64(1)}}},
		{Reply: []any{int64(-1), []any{int64(1)}}},
		{Reply: []any{int64(1)}},
		{Reply: []any{int64(1), "7"}},
		{Reply: []any{int64(2), int64(7)}},
		{Reply: []any{int64(1), int64(7), int64(8)}},
		{Reply: []any{int64(0), "a", "b"}},
		{Reply: []any{int64(0), "WRONGTYPE a", int64(1)}},
		{Reply: []any{int64(2), "WRONGTYPE b"}},
		{Reply: []any{int64(1), []any{int64(1), int64(1)}}}, // failed, and done
	} {
		for i, share := range answer.Shares(2) {
			if share.Err == nil || errors.Is(share.Err, ErrUndone) || answer.Err != nil && !errors.Is(share.Err, boom) {
				t.Errorf("share %d of %v: got %v, want an error that says so", i+1, answer, share)
			}
		}
	}
}

// cluster looks like one server.
func cluster(t *testing.T) *redis.Client { return redistest.StartCluster(t, 1, 0).Nodes[0].Client(t) }

// Through a proxy a cluster looks like one server until it says CROSSSLOT, and that to
// everybody who is in the call: an All of one slot is done all the same, and one of several
// is to be asked again in parts. Only who has keys of his own in two slots is refused.
func TestAllAmongOthersInSeveralSlots(t *testing.T) {
	t.Parallel()
	rdb := cluster(t)
	s := NewSender(rdb, groups)
	t.Cleanup(s.Close)
	there := op(take, "{other}diary", "b", "1")
	torn := takes("c", "1")
	torn.Keys = append(torn.Keys, "{other}queue")
	for range 2 { // when it is not known yet that slots matter, and when it is
		got := answers(t, s.Start(op(add, "elsewhere", ""), All([]Op{takes("a", "1"), takes("a", "1")}), All([]Op{takes("a", "1"), there}), All([]Op{torn})))
		wantShares(t, got[1], []string{"[1 a] <nil>", "[1 a] <nil>"})
		if err := got[2].Err; !errors.Is(err, ErrSplit) || ClassOf(err) != NotExecuted {
			t.Errorf("several slots: got %v of class %v, want ErrSplit", err, ClassOf(err))
		}
		if err := got[3].Err; ClassOf(err) != Refused || !strings.Contains(err.Error(), "{other}queue") || !strings.Contains(err.Error(), "CROSSSLOT") {
			t.Errorf("one lock in two slots: got %v of class %v, want a refusal that names its keys", err, ClassOf(err))
		}
		wantWrote(t, rdb, []string{"take a", "take a"})
	}
	if !s.Slots() {
		t.Error("the sender has not learned to split by slot")
	}
}
