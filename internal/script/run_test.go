package script

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// Verbs that have others which do several in one go. These write it down.
var (
	dropEach = NewVerb("test.drop_each", `if ARGV[2] == 'replica' then return {err = "READONLY You can't write against a read only replica."} end
redis.call('RPUSH', KEYS[1], 'each of ' .. ARGV[1])
local answers = {0}
for i = 1, tonumber(ARGV[1]) do
  redis.call('RPUSH', KEYS[i], 'drop ' .. ARGV[2 * i] .. ARGV[2 * i + 1])
  answers[i + 1] = ({bad = 'WRONGTYPE bad', gone = {-1, 0}, untold = {2, 'text'}})[ARGV[2 * i]] or 0
  if ARGV[2 * i] == 'torn' then answers[i + 1] = nil end
  if ARGV[2 * i] == 'alike' then return {1, 0} end
  if ARGV[2 * i] == 'foreign' then return {2, {0, 5}} end
end
return answers`)
	drop = NewVerb("test.drop", "redis.call('RPUSH', KEYS[1], 'drop ' .. ARGV[1] .. ARGV[2])\nreturn {1, 0}").With(nil, nil, dropEach)

	grabAll = NewVerb("test.grab_all", "redis.call('RPUSH', KEYS[1], 'all of ' .. ARGV[1] .. ARGV[2] .. ARGV[3])\nif ARGV[3] == 'no' then return {2, {0, 5}} end\nreturn {0, 1, {1, 7, 8}}")
	grab    = NewVerb("test.grab", "redis.call('RPUSH', KEYS[1], 'grab ' .. ARGV[1])\nreturn {1, 9}").With(drop, grabAll, nil)
)

// Operations of a verb that has an Each are sent in one go, before the others of the call. Each has its own answer.
func TestRuns(t *testing.T) {
	dropped := func(what string) Op { return op(drop, diary, what, "!") }
	added := op(add, "{tag}n", "x")
	const foreign = "[] unexpected reply"
	for _, c := range []struct {
		name    string
		ops     []Op
		wrote   []string
		answers []string // prefixes
	}{
		{"one", []Op{dropped("a")}, []string{"drop a!"}, []string{"[1 0] <nil>"}},
		{"one among others", []Op{added, dropped("a"), added}, []string{"drop a!"}, []string{"[1 x] <nil>", "[1 0] <nil>", "[2 x] <nil>"}},
		{"all", []Op{dropped("a"), dropped("b"), dropped("c")}, []string{"each of 3", "drop a!", "drop b!", "drop c!"},
			[]string{"[1 0] <nil>", "[1 0] <nil>", "[1 0] <nil>"}},
		{"several among others", []Op{added, dropped("a"), added, dropped("b")}, []string{"each of 2", "drop a!", "drop b!"},
			[]string{"[1 x] <nil>", "[1 0] <nil>", "[2 x] <nil>", "[1 0] <nil>"}},
		{"each has its own answer", []Op{dropped("a"), dropped("bad"), dropped("gone"), dropped("untold"), dropped("b")},
			[]string{"each of 5", "drop a!", "drop bad!", "drop gone!", "drop untold!", "drop b!"},
			[]string{"[1 0] <nil>", "[] WRONGTYPE bad", "[-1 0] <nil>", "[2 text] <nil>", "[1 0] <nil>"}},
		{"the same answer of each", []Op{dropped("a"), added, dropped("alike")}, []string{"each of 2", "drop a!", "drop alike!"},
			[]string{"[1 0] <nil>", "[1 x] <nil>", "[1 0] <nil>"}},
		{"too few answers are nobody's", []Op{dropped("a"), dropped("torn"), added}, []string{"each of 2", "drop a!", "drop torn!"},
			[]string{foreign, foreign, "[1 x] <nil>"}},
		{"none makes the others fail", []Op{dropped("a"), dropped("foreign")}, []string{"each of 2", "drop a!", "drop foreign!"}, []string{foreign, foreign}},
		{"a replica refuses all", []Op{added, dropped("replica"), dropped("a")}, nil,
			[]string{"[] READONLY", "[] READONLY", "[] READONLY"}},
		{"all or nothing", []Op{added, All([]Op{op(grab, diary, "a"), op(grab, diary, "b")})}, []string{"all of 2ab"},
			[]string{"[1 x] <nil>", "[0 1 [1 7 8]] <nil>"}},
		{"nothing", []Op{All([]Op{op(grab, diary, "a"), op(grab, diary, "no")})}, []string{"all of 2ano"}, []string{"[2 [0 5]] <nil>"}},
		{"with another one, one after the other", []Op{All([]Op{op(grab, diary, "a"), op(take, diary, "b", "1")})}, []string{"grab a", "take b"},
			[]string{"[0 9 [1 b]] <nil>"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, rdb redis.UniversalClient) {
				s := NewSender(rdb, NewProgram(add, take, drop, dropEach, grab, grabAll))
				t.Cleanup(s.Close)
				for i, a := range answers(t, s.Start(c.ops...)) {
					if got := fmt.Sprint(a.Reply, " ", a.Err); !strings.HasPrefix(got, c.answers[i]) {
						t.Errorf("operation %d: got %s, want %s", i+1, got, c.answers[i])
					}
				}
				wantWrote(t, rdb, c.wrote)
			})
		})
	}
}

// Where the keys of a call turn out to be in several slots, those of one slot still go together, from the next call on.
func TestRunsInSeveralSlots(t *testing.T) {
	t.Parallel()
	rdb := cluster(t)
	s := NewSender(rdb, NewProgram(add, drop, dropEach))
	t.Cleanup(s.Close)
	call := []Op{op(drop, diary, "a", ""), op(drop, "{other}diary", "b", ""), op(drop, diary, "c", ""), op(add, "elsewhere", "x")}
	for _, wrote := range [][]string{{"drop a", "drop c"}, {"each of 2", "drop a", "drop c"}} { // when it is not known yet that slots matter, and when it is
		for i, a := range answers(t, s.Start(call...)) {
			if _, err := a.Ints(1); err != nil {
				t.Errorf("operation %d: %v", i+1, err)
			}
		}
		wantWrote(t, rdb, wrote)
		if got := rdb.LRange(context.Background(), "{other}diary", 0, -1).Val(); !slices.Equal(got, []string{"drop b"}) {
			t.Errorf("the other diary: got %q", got)
		}
		rdb.Del(context.Background(), "{other}diary")
	}
}

// An All whose verb does all in one go is told of several slots like any other.
func TestAllInOneGoInSeveralSlots(t *testing.T) {
	t.Parallel()
	s := NewSender(cluster(t), NewProgram(grab, grabAll))
	t.Cleanup(s.Close)
	got := answers(t, s.Start(All([]Op{op(grab, diary, "a"), op(grab, "{other}diary", "b")})))[0]
	if !errors.Is(got.Err, ErrSplit) || ClassOf(got.Err) != NotExecuted {
		t.Errorf("got %v of class %v, want ErrSplit", got.Err, ClassOf(got.Err))
	}
}

// Redis refuses a whole call for one key that the user may not touch. The neighbours get their answers all the same.
func TestAForbiddenKeyIsNobodyElses(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	if err := server.Do(t.Context(), "ACL", "SETUSER", "u", "on", ">p", "~ok:*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "u", Password: "p"})
	t.Cleanup(func() { _ = rdb.Close() })
	s := newSender(t, rdb)
	for range 2 { // when Redis does not know the program, and when it does
		got := answers(t, s.Start(op(add, "ok:n", "x"), op(drop, "ok:a", "a", ""), op(drop, "no:b", "b", ""), op(drop, "ok:c", "c", "")))
		for i, a := range got {
			if _, err := a.Ints(1); (i == 2) != (err != nil && strings.HasPrefix(err.Error(), "NOPERM")) {
				t.Errorf("operation %d: got %v %v", i+1, a.Reply, err)
			}
		}
	}
	if n := server.Do(t.Context(), "GET", "ok:n").Val(); n != "2" {
		t.Errorf("what may have been done was done %v times, want 2", n)
	}
}
