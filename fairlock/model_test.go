package fairlock

import (
	flags "flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/script"
)

// A queue is what the three keys say, all times in ms of the server.
type queue struct {
	owner  string
	until  int64 // when the lease runs out
	line   []string
	scores map[string]int64
}

func (q queue) clone() queue {
	q.line, q.scores = slices.Clone(q.line), maps.Clone(q.scores)
	return q
}

func (q *queue) out(entry string) {
	q.line = slices.DeleteFunc(q.line, func(e string) bool { return e == entry })
	delete(q.scores, entry)
}

func (q *queue) drop(now int64, but string) (dropped bool) {
	for n := 0; n < 32 && len(q.line) > 0 && q.line[0] != but && q.scores[q.line[0]] <= now; n++ {
		q.out(q.line[0])
		dropped = true
	}
	return dropped
}

func (q queue) head() string {
	if len(q.line) == 0 {
		return ""
	}
	return q.line[0]
}

func (q queue) ttl(now int64) int64 {
	if q.owner == "" {
		return 0
	}
	return q.until - now
}

func ofRedisson(entry string) bool { return entry[14] == '4' }

// stood is what acquire.lua is to do, in Go: the answer without the server's time, and
// who is told.
func (q *queue) stood(us int64, owner string, lease int64, p engine.Place) (answer [6]int64, told string) {
	now, wants := us/1000, p.Lease.Milliseconds()
	dropped := q.drop(now, owner)
	length := func() int64 { return int64(len(q.line)) }
	if q.owner == owner {
		if p.Renew {
			return [6]int64{0, 0, 0, length()}, ""
		}
		q.until = max(q.until, now+lease)
		return [6]int64{1, 1, 0, length()}, ""
	}
	position := slices.Index(q.line, owner)
	if q.owner == "" && !p.Renew && (q.head() == "" || q.head() == owner) {
		q.out(owner)
		q.owner, q.until = owner, now+lease
		return [6]int64{1, 1, 0, length(), 0, number(position < 0)}, ""
	}
	if q.owner == "" && dropped && q.head() != owner {
		told = q.head()
	}
	if wants == 0 {
		return [6]int64{0, q.ttl(now), 0, length()}, told
	}
	if position < 0 && p.Renew {
		return [6]int64{-1, 0, 0, length()}, told
	}
	entered := position < 0
	if entered {
		position = len(q.line)
		q.line = append(q.line, owner)
	}
	looks := entered || p.Mixed
	before := q.line[:position]
	till, mixed := now+wants, looks && slices.ContainsFunc(before, ofRedisson)
	if mixed {
		till += q.allowance(now, wants, before)
		if !entered && p.Since > 0 {
			till = max(till, q.scores[owner]+(us-p.Since)/1000)
		}
	}
	q.scores[owner] = till
	if looks {
		for _, entry := range q.line {
			if ofRedisson(entry) {
				break
			}
			q.scores[entry] = min(q.scores[entry], now+max(wants, 15000))
		}
	}
	wait := q.ttl(now)
	if position > 0 {
		wait = max(wait, q.scores[q.head()]-now, q.scores[before[position-1]]-now)
	}
	return [6]int64{0, wait, int64(position + 1), length(), number(mixed), number(entered)}, told
}

// allowance is for how much longer than its lease a place behind these is kept.
func (q *queue) allowance(now, lease int64, before []string) (allowed int64) {
	behind := false // one of Redisson's
	for i, entry := range before {
		if !ofRedisson(entry) {
			if behind {
				allowed = max(allowed, q.scores[entry]-now-lease)
			}
			continue
		}
		behind = true
		from := max(q.until, now)
		if q.owner == "" {
			from = now
		}
		if i > 0 {
			from = q.scores[before[i-1]]
		}
		quota := q.scores[entry] - from
		if quota > lease {
			if i == 0 || !ofRedisson(before[i-1]) {
				quota = counted(quota, lease)
			}
			quota += lease
		}
		allowed += max(quota, 0)
	}
	return allowed
}

// counted is what a quota of which that is left counts as, beside our waiter lease.
func counted(left, lease int64) int64 {
	if left > 300000+lease {
		return 2 * left
	}
	return 300000
}

// freed is what release.lua is to do; owner "" is a force-unlock.
func (q *queue) freed(now int64, owner string) (code int64, told string) {
	first := q.head()
	held := q.owner != "" && (owner == "" || q.owner == owner)
	left := slices.Contains(q.line, owner)
	q.out(owner)
	q.drop(now, "")
	if held {
		q.owner = ""
	}
	if q.owner == "" && (held || q.head() != first) {
		told = q.head()
	}
	switch {
	case held || left:
		return 1, told
	case owner == "":
		return 0, told
	default:
		return -1, told
	}
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// What Redisson's clients do, by the arithmetic that Redisson documents in its scripts.
var (
	redissonTries = redis.NewScript(`
local hash, line, scores, lease, me, now, quota = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local first = redis.call('lindex', line, 0)
while first do
  local score = redis.call('zscore', scores, first)
  if not score or tonumber(score) > now then break end
  redis.call('zrem', scores, first)
  redis.call('lpop', line)
  first = redis.call('lindex', line, 0)
end
if redis.call('exists', hash) == 0 and (not first or first == me) then
  redis.call('lpop', line)
  redis.call('zrem', scores, me)
  for _, other in ipairs(redis.call('zrange', scores, 0, -1)) do redis.call('zincrby', scores, -quota, other) end
  redis.call('hset', hash, me, 1)
  redis.call('pexpire', hash, lease)
  return 1
end
if redis.call('zscore', scores, me) then return 0 end
local last, wait = redis.call('lindex', line, -1), redis.call('pttl', hash)
if last and redis.call('zscore', scores, last) then wait = redis.call('zscore', scores, last) - now end
redis.call('zadd', scores, string.format('%.0f', now + wait + quota), me)
redis.call('rpush', line, me)
return 0`)

	redissonAbandons = redis.NewScript(`
local line, scores, me, quota = KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2])
local behind = false
for _, entry in ipairs(redis.call('lrange', line, 0, -1)) do
  if behind then redis.call('zincrby', scores, -quota, entry) end
  behind = behind or entry == me
end
redis.call('zrem', scores, me)
redis.call('lrem', line, 0, me)
return 1`)

	redissonReleases = redis.NewScript(`
local hash, line, scores, me, now, channel, tell = KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local first = redis.call('lindex', line, 0)
while first do
  local score = redis.call('zscore', scores, first)
  if not score or tonumber(score) > now then break end
  redis.call('zrem', scores, first)
  redis.call('lpop', line)
  first = redis.call('lindex', line, 0)
end
if redis.call('hexists', hash, me) == 0 then return -1 end
redis.call('del', hash)
if first then redis.call(tell, channel .. first, '0') end
return 1`)

	// Where time cannot be moved, everything else is.
	moves = redis.NewScript(`
local ttl = redis.call('pttl', KEYS[1])
if ttl >= 0 then redis.call('pexpire', KEYS[1], ttl - ARGV[1]) end
for _, entry in ipairs(redis.call('zrange', KEYS[3], 0, -1)) do redis.call('zincrby', KEYS[3], -ARGV[1], entry) end
return 1`)
)

const modelLease = 30 * second

// A party is one acquisition, ours or of Redisson.
type party struct {
	id    string
	quota int64 // of Redisson's: what it takes off
	lease int64 // of ours
	state string
	came  int // in which order it entered the queue; 0: it has not

	last, until int64 // of ours: when it was renewed, when it tries again
	since       int64 // what it was told last
	mixed       bool
	excused     bool // it entered behind one of Redisson's that had waited for most of its quota
	dead        bool
}

// A world is one history: parties, the server and what the model says of it.
type world struct {
	*rapid.T
	raw
	mini    *miniredis.Miniredis // nil: a real server
	sender  *script.Sender
	offset  int64 // the history's time is the server's and that much more
	parties []*party
	q       queue
	entered int
	number  int
	lease   int64 // of our waiters
	every   int64 // how often they renew
	quotas  []int64
	idle    int64 // ms for which the lock has been free, and ours the first living waiter
	idler   *party
	calls   int
}

// Random histories, the scripts' doings compared with the model's at each step, and the
// promises with both: list and scores name the same; a waiter of ours that is renewed in
// time is never out of the queue, nor passed by one that came later (but for the known
// limit, see excuses); any number of dead ones cost one waiter lease together; whoever
// becomes the first one of a free lock is told, once, and nobody else is.
//
// -rapid.checks makes it thousands.
func TestQueueIsTheModels(t *testing.T) {
	onEach(t, func(t *testing.T, rdb *redis.Client) {
		sometimes(t, 300)
		var mini *miniredis.Miniredis
		if strings.HasSuffix(t.Name(), "miniredis") {
			sometimes(t, 150)        // it runs Lua slowly
			mini = miniredis.RunT(t) // one whose clock can be set
			mini.ClockTTL(true)
			rdb = redis.NewClient(&redis.Options{Addr: mini.Addr()})
			t.Cleanup(func() { _ = rdb.Close() })
		}
		sender := script.NewSender(rdb, script.NewProgram(Verbs()...))
		t.Cleanup(sender.Close)
		histories, calls := 0, 0
		rapid.Check(t, func(rt *rapid.T) {
			w := &world{T: rt, raw: raw{t, rdb}, mini: mini, sender: sender}
			w.run()
			histories++
			calls += w.calls
		})
		t.Logf("%d histories, %d scripts", histories, calls)
	})
}

// sometimes sets how many histories there are, unless the command line says it.
func sometimes(t *testing.T, n int) {
	given := false
	flags.Visit(func(f *flags.Flag) { given = given || f.Name == "rapid.checks" })
	if given {
		return
	}
	checks := flags.Lookup("rapid.checks")
	before := checks.Value.String()
	if testing.Short() {
		n /= 5
	}
	_ = checks.Value.Set(fmt.Sprint(n))
	t.Cleanup(func() { _ = checks.Value.Set(before) })
}

func (w *world) run() {
	if err := w.rdb.FlushAll(w.ctx()).Err(); err != nil {
		w.Fatal(err)
	}
	if w.mini != nil {
		w.mini.SetTime(time.UnixMilli(1_800_000_000_000))
	}
	w.lease = rapid.SampledFrom([]int64{15000, 15000, 15000, 2000, 60000}).Draw(w.T, "waiter lease")
	w.every = min(w.lease/3, 5000)
	w.quotas = rapid.SampledFrom([][]int64{{}, {300_000}, {900_000}, {3000}, {3000, 300_000, 900_000}, {20_000}}).Draw(w.T, "Redisson's quotas")
	w.q.scores = map[string]int64{}
	actions := map[string]func(*rapid.T){
		"":        func(*rapid.T) { w.check() },
		"lock":    func(*rapid.T) { w.comes(w.newParty(0)) },
		"lock ":   func(*rapid.T) { w.comes(w.newParty(0)) },
		"TryLock": func(*rapid.T) { w.triesOnce() },
		"retry":   func(*rapid.T) { w.stands(w.one("waits", false), false) },
		"renew":   func(*rapid.T) { w.stands(w.one("waits", false), true) },
		"retry, the answer is lost": func(*rapid.T) {
			p := w.one("waits", false)
			unheard := *p
			w.stands(&unheard, false)
			p.until = w.now() + 100
		},
		"leave":   func(*rapid.T) { w.leaves(w.one("waits", false)) },
		"unlock":  func(*rapid.T) { w.unlocks() },
		"unlock ": func(*rapid.T) { w.unlocks() },
		"force":   func(*rapid.T) { w.frees("") },
		"die":     func(*rapid.T) { w.dies(w.one("waits", false)) },
		"the holder dies": func(*rapid.T) {
			if h := w.holder(); h != nil {
				h.dead = true
			}
		},
		"a late try of one that left": func(*rapid.T) {
			p := w.one("left", false)
			if p.came == 0 || slices.ContainsFunc(w.parties, func(o *party) bool { return o.id == p.id && o.dead }) {
				w.T.Skip("it is back already")
			}
			ghost := &party{id: p.id, lease: p.lease, dead: true, state: "waits"}
			w.parties = append(w.parties, ghost)
			w.stands(ghost, false)
		},
		"a moment passes":  func(rt *rapid.T) { w.passes(rapid.Int64Range(1, 5000).Draw(rt, "ms")) },
		"time passes":      func(rt *rapid.T) { w.passes(rapid.Int64Range(1, 40000).Draw(rt, "ms")) },
		"much time passes": func(rt *rapid.T) { w.passes(rapid.Int64Range(1, 200000).Draw(rt, "ms")) },
	}
	if len(w.quotas) > 0 {
		actions["Redisson's lock"] = func(rt *rapid.T) { w.redissonTries(w.newParty(rapid.SampledFrom(w.quotas).Draw(rt, "quota"))) }
		actions["Redisson's retry"] = func(*rapid.T) { w.redissonTries(w.one("waits", true)) }
		actions["Redisson's head retries"] = func(*rapid.T) { w.redissonTries(w.find(w.q.head(), true)) }
		actions["Redisson's abandon"] = func(*rapid.T) { w.redissonAbandons(w.one("waits", true)) }
		actions["Redisson's dies"] = func(*rapid.T) { w.dies(w.one("waits", true)) }
	}
	w.T.Repeat(actions)
}

func (w *world) Helper()                           { w.T.Helper() }
func (w *world) Fatal(args ...any)                 { w.T.Fatal(args...) }
func (w *world) Fatalf(format string, args ...any) { w.T.Fatalf(format, args...) }
func (w *world) Errorf(format string, args ...any) { w.T.Errorf(format, args...) }
func (w *world) Log(args ...any)                   { w.T.Log(args...) }
func (w *world) Logf(format string, args ...any)   { w.T.Logf(format, args...) }

func (w *world) newParty(quota int64) *party {
	w.number++
	p := &party{quota: quota, lease: w.lease, state: "left"}
	if quota > 0 {
		p.id = fmt.Sprintf("6e3d30b7-83b1-433a-9335-5e8b9916d3a%d:%d", w.number%3, w.number)
	} else {
		p.id = fmt.Sprintf("0198f000-0000-7000-8000-00000000000%d:%d", w.number%3, w.number)
	}
	w.parties = append(w.parties, p)
	return p
}

// one draws a living party.
func (w *world) one(state string, redissons bool) *party {
	var all []*party
	for _, p := range w.parties {
		if p.state == state && !p.dead && p.quota > 0 == redissons {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		w.T.Skip("nobody " + state)
	}
	return rapid.SampledFrom(all).Draw(w.T, state)
}

func (w *world) find(id string, redissons bool) *party {
	for _, p := range w.parties {
		if p.id == id && !p.dead && p.quota > 0 == redissons {
			return p
		}
	}
	w.T.Skip("not there")
	return nil
}

func (w *world) holder() *party {
	for _, p := range w.parties {
		if p.state == "holds" && p.id == w.q.owner {
			return p
		}
	}
	return nil
}

func (w *world) now() int64 {
	now, err := w.rdb.Time(w.ctx()).Result()
	if err != nil {
		w.Fatal(err)
	}
	return now.UnixMilli() + w.offset
}

// read reads the three keys, and checks that list and scores name the same.
func (w *world) read() queue {
	pipe := w.rdb.Pipeline()
	fields, ttl := pipe.HGetAll(w.ctx(), key), pipe.PTTL(w.ctx(), key)
	line, scores := pipe.LRange(w.ctx(), keys.Queue(key), 0, -1), pipe.ZRangeWithScores(w.ctx(), keys.Timeout(key), 0, -1)
	time := pipe.Time(w.ctx())
	if _, err := pipe.Exec(w.ctx()); err != nil {
		w.Fatal(err)
	}
	q := queue{line: line.Val(), scores: map[string]int64{}}
	for owner, count := range fields.Val() {
		if count != "1" || q.owner != "" {
			w.Fatalf("in the hash: %v", fields.Val())
		}
		q.owner, q.until = owner, time.Val().UnixMilli()+ttl.Val().Milliseconds()+w.offset
	}
	for _, z := range scores.Val() {
		q.scores[z.Member.(string)] = int64(z.Score) + w.offset
	}
	names := slices.Sorted(slices.Values(q.line))
	if !slices.Equal(names, slices.Sorted(maps.Keys(q.scores))) || len(slices.Compact(names)) != len(q.line) {
		w.Fatalf("list and scores differ: %v and %v", q.line, q.scores)
	}
	return q
}

func (w *world) runs(op script.Op) []int64 {
	w.calls++
	call := w.sender.Start(op)
	<-call.Done()
	answer := call.Answers()[0]
	if answer.Err != nil {
		w.Fatalf("%s%v: %v", op.Verb.Name, op.Args, answer.Err)
	}
	var all []int64
	for _, n := range answer.Reply {
		all = append(all, n.(int64))
	}
	return all
}

func (w *world) messages() (told []string) {
	pipe := w.rdb.Pipeline()
	boxes := map[string]*redis.IntCmd{}
	for _, p := range w.parties {
		boxes[p.id] = pipe.LLen(w.ctx(), driver{}.Channel(key, p.id))
	}
	if _, err := pipe.Exec(w.ctx()); err != nil {
		w.Fatal(err)
	}
	for id, box := range boxes {
		if box.Val() > 0 {
			w.rdb.Del(w.ctx(), driver{}.Channel(key, id))
		}
		for range box.Val() {
			told = append(told, id)
		}
	}
	return told
}

// same compares what a script did with what the model did. A real server's clock moves on between
// two commands of a script.
func (w *world) same(deed string, got, want queue) bool {
	near := func(a, b int64) bool { return a-b <= w.tolerance() && b-a <= w.tolerance() }
	ok := got.owner == want.owner && slices.Equal(got.line, want.line) && (got.owner == "" || near(got.until, want.until))
	for entry, score := range got.scores {
		ok = ok && near(score, want.scores[entry])
	}
	return ok
}

func (w *world) tolerance() int64 {
	if w.mini != nil {
		return 0
	}
	return 20
}

// stands runs one script of a waiter of ours, and the model beside it.
func (w *world) stands(p *party, renew bool) []int64 {
	place := engine.Place{
		Lease: time.Duration(p.lease) * time.Millisecond, Renew: renew,
		Mixed: p.since == 0 || p.mixed,
	}
	if p.since != 0 {
		place.Since = p.since - w.offset*1000
	}
	before := w.q.clone()
	answer := w.runs(driver{}.Stand(key, p.id, modelLease, place, tell))
	us := answer[2] + w.offset*1000
	got := append(slices.Clone(answer[:2]), answer[3:]...)
	want := before.clone()
	place.Since = p.since
	if before.owner != "" && before.until <= us/1000 {
		before.owner, want.owner = "", ""
	}
	wantAnswer, wantTold := want.stood(us, p.id, modelLease.Milliseconds(), place)
	w.compare(fmt.Sprintf("%d %s renew %v mixed %v", us/1000%10_000_000, short(p.id), renew, place.Mixed), want, got, wantAnswer[:], wantTold)
	w.heard(before, p.id, us/1000)
	w.hears(p, before, answer, us)
	return answer
}

// hears is what a waiter does with an answer.
func (w *world) hears(p *party, before queue, answer []int64, us int64) {
	if p.lease == 0 {
		return
	}
	if answer[6] == 1 {
		w.entered++
		p.came = w.entered
		p.excused = w.excuses(before, us/1000, p)
	}
	switch answer[0] {
	case 1:
		w.granted(p)
	case 0:
		p.state = "waits"
		p.last, p.since, p.mixed = us/1000, us, answer[5] == 1
		p.until = us/1000 + max(answer[1], 10)
		if answer[1] == 0 || answer[3] == 0 {
			p.until = us / 1000 // again, at once
		}
	case -1:
		if !p.dead && !p.excused {
			w.Fatalf("%s was renewed in time, and has no place", p.id)
		}
		p.until = us / 1000
	}
}

// excuses tells whether one of Redisson's that had waited when p came looks as if its
// quota were much smaller than it is: the known limit.
func (w *world) excuses(q queue, now int64, p *party) bool {
	for i, entry := range q.line {
		j := slices.IndexFunc(w.parties, func(o *party) bool { return o.id == entry })
		if entry == p.id || w.parties[j].quota <= p.lease {
			continue
		}
		from, theirs := now+max(q.ttl(now), 0), false
		if i > 0 {
			from, theirs = q.scores[q.line[i-1]], ofRedisson(q.line[i-1])
		}
		left := q.scores[entry] - from
		small := counted(left, p.lease) < w.parties[j].quota
		if theirs { // one of ours that was between them may have left
			small = left+p.lease < w.parties[j].quota
		}
		if left <= p.lease || small {
			return true
		}
	}
	return false
}

func (w *world) compare(deed string, want queue, got, wantAnswer []int64, wantTold string) {
	state := w.read()
	if !w.same(deed, state, want) {
		w.Fatalf("%s\n got state %s\nwant       %s", deed, state, want)
	}
	ok := len(got) == len(wantAnswer)
	for i := range got {
		diff := got[i] - wantAnswer[i]
		ok = ok && (diff == 0 || i == 1 && -w.tolerance() <= diff && diff <= w.tolerance())
	}
	if !ok {
		w.Fatalf("%s: got answer %v, want %v", deed, got, wantAnswer)
	}
	told := strings.Join(w.messages(), " ")
	if told != wantTold {
		w.Fatalf("%s: got messages to %q, want %q", deed, told, wantTold)
	}
	if told != "" {
		if p := slices.IndexFunc(w.parties, func(p *party) bool { return p.id == told && p.quota == 0 && !p.dead && p.state == "waits" }); p >= 0 {
			w.parties[p].until = w.now()
		}
	}
	w.q = state
	w.Logf("%s: %v, told %q; %s", deed, got, told, w.q)
}

// String is short: g5 is one of ours, j6 of Redisson's, and times are in ms without
// their first digits.
func (q queue) String() string {
	text := fmt.Sprintf("%s:%d |", short(q.owner), q.until%10_000_000)
	for _, entry := range q.line {
		text += fmt.Sprintf(" %s:%d", short(entry), q.scores[entry]%10_000_000)
	}
	return text
}

func short(id string) string {
	if id == "" {
		return "-"
	}
	_, number, _ := strings.Cut(id, ":")
	if ofRedisson(id) {
		return "j" + number
	}
	return "g" + number
}

// heard checks that whoever has become the first one of a free lock by this script
// was told, or is the one who ran it.
func (w *world) heard(before queue, caller string, now int64) {
	head := w.q.head()
	turn := w.q.owner == "" && head != "" && (before.owner != "" && before.until > now || before.head() != head)
	if !turn || head == caller {
		return
	}
	// compare has seen that it was told where the model says so; here the model is
	// checked: a party that waits for its turn has been woken.
	for _, p := range w.parties {
		if p.id == head && p.quota == 0 && !p.dead && p.state == "waits" && p.until > w.now() {
			w.Fatalf("%s is the first one and was not told", head)
		}
	}
}

func (w *world) granted(p *party) {
	for _, o := range w.parties {
		if o.state == "waits" && !o.dead && !o.excused && o.quota == 0 && o != p && o.id != p.id && o.came < p.came && slices.Contains(w.q.line, o.id) {
			w.Fatalf("%s (%d) is granted before %s (%d)", short(p.id), p.came, short(o.id), o.came)
		}
	}
	p.state = "holds"
	p.last = w.now()
}

func (w *world) comes(p *party) { w.stands(p, false) }

func (w *world) triesOnce() {
	p := w.newParty(0)
	p.lease = 0
	waits := slices.ContainsFunc(w.parties, func(o *party) bool {
		return o.state == "waits" && !o.dead && o.quota == 0 && !o.excused && slices.Contains(w.q.line, o.id)
	})
	answer := w.stands(p, false)
	switch {
	case answer[0] == 1 && waits:
		w.Fatalf("TryLock jumped the queue")
	case answer[0] == 1:
		p.state = "holds"
		p.lease = w.lease
	}
}

func (w *world) frees(owner string) int64 {
	if owner == "" {
		for _, p := range w.parties {
			p.excused = p.excused || p.id == w.q.owner && p.state == "waits" // its grant was not answered, and is taken away
		}
	}
	before, at := w.q.clone(), w.now()
	if before.owner != "" && before.until <= at {
		before.owner = ""
	}
	verb := driver{}.Release(key, owner, 0, tell)
	if owner == "" {
		verb = driver{}.Force(key, tell)
	}
	answer := w.runs(verb)
	want := before.clone()
	code, told := want.freed(at, owner)
	if now := w.now(); now != at && !w.same("", w.read(), want) { // a place ran out in between
		want = before.clone()
		if want.owner != "" && want.until <= now {
			want.owner = ""
		}
		code, told = want.freed(now, owner)
	}
	w.compare("release of "+owner, want, answer, []int64{code, 0}, told)
	w.heard(before, owner, at)
	return code
}

func (w *world) leaves(p *party) {
	w.frees(p.id)
	p.state = "left"
	if slices.Contains(w.q.line, p.id) || w.q.owner == p.id {
		w.Fatalf("%s has left and is still there: %+v", p.id, w.q)
	}
}

func (w *world) unlocks() {
	h := w.holder()
	if h == nil || h.dead {
		w.T.Skip("nobody holds it")
	}
	h.state = "left"
	if h.quota == 0 {
		if w.frees(h.id) != 1 {
			w.Fatalf("%s had the lock, and was told that it had not", h.id)
		}
		return
	}
	w.redisson(redissonReleases, h.id, w.now()-w.offset, prefix(key), tell)
}

func (w *world) dies(p *party) { p.dead = true }

func (w *world) redisson(s *redis.Script, args ...any) int64 {
	w.calls++
	n, err := s.Run(w.ctx(), w.rdb, []string{key, keys.Queue(key), keys.Timeout(key)}, args...).Int64()
	if err != nil {
		w.Fatal(err)
	}
	w.q = w.read()
	w.Logf("%d Redisson's %.60v: %d; %s", w.now()%10_000_000, fmt.Sprint(args...), n, w.q)
	for _, told := range w.messages() {
		for _, p := range w.parties {
			if p.id == told && p.quota == 0 && !p.dead && p.state == "waits" {
				p.until = w.now()
			}
		}
	}
	return n
}

func (w *world) redissonTries(p *party) {
	there := slices.Contains(w.q.line, p.id)
	n := w.redisson(redissonTries, modelLease.Milliseconds(), p.id, w.now()-w.offset, p.quota)
	if !there || n == 0 && p.came == 0 {
		w.entered++
		p.came = w.entered
	}
	p.state = "waits"
	if n == 1 {
		w.granted(p)
	}
}

func (w *world) redissonAbandons(p *party) {
	w.redisson(redissonAbandons, p.id, p.quota)
	p.state = "left"
}

// passes lets time pass, in which those who live do what their timers tell them.
func (w *world) passes(ms int64) {
	for end := w.now() + ms; ; {
		now := w.now()
		next, act := end, func() {}
		for _, p := range w.parties {
			switch {
			case p.dead || p.quota > 0 && p.state != "holds":
			case p.state == "waits":
				if p.until < next {
					next, act = p.until, func() { w.stands(p, false) }
				}
				if p.last+w.every < next {
					next, act = p.last+w.every, func() { w.stands(p, true) }
				}
			case p.state == "holds" && w.q.owner == p.id && p.last+10000 < next:
				next, act = p.last+10000, func() {
					w.do("PEXPIRE", key, modelLease.Milliseconds())
					p.last, w.q = w.now(), w.read()
				}
			}
		}
		w.moves(next - now)
		act()
		w.check()
		if w.now() >= end {
			return
		}
	}
}

func (w *world) moves(ms int64) {
	w.movesOnce(ms)
	for w.mini == nil && w.edge() {
		w.movesOnce(50)
	}
	for _, p := range w.parties {
		if p.state == "holds" && p.id != w.q.owner {
			p.state = "left" // its lease has run out
		}
	}
}

// edge tells whether something runs out in these ms: a real server's clock does not
// stand still, and it would not be certain whether it has.
func (w *world) edge() bool {
	now := w.now()
	near := func(at int64) bool { return at > now-w.tolerance() && at < now+w.tolerance() }
	for _, score := range w.q.scores {
		if near(score) {
			return true
		}
	}
	return w.q.owner != "" && near(w.q.until)
}

func (w *world) movesOnce(ms int64) {
	if ms > 0 {
		w.waited(ms)
		if w.mini != nil {
			w.mini.SetTime(time.UnixMilli(w.now() + ms))
		} else {
			if err := moves.Run(w.ctx(), w.rdb, []string{key, keys.Queue(key), keys.Timeout(key)}, ms).Err(); err != nil {
				w.Fatal(err)
			}
			w.offset += ms
		}
	}
	w.q = w.read()
}

// waited counts for how long a free lock has waited for one of ours, behind dead ones
// of ours only.
func (w *world) waited(ms int64) {
	var first *party
	for _, entry := range w.q.line {
		i := slices.IndexFunc(w.parties, func(p *party) bool { return p.id == entry && p.state == "waits" && !p.dead })
		if i >= 0 {
			first = w.parties[i]
			break
		}
		if ofRedisson(entry) {
			break
		}
	}
	now := w.now()
	free := w.q.owner == "" || w.q.until <= now+ms
	if !free || first == nil || first.quota > 0 || first != w.idler {
		w.idler, w.idle = first, 0
		return
	}
	if w.q.owner != "" {
		ms -= max(0, w.q.until-now)
	}
	w.idle += ms
	most := w.lease + 200
	if len(w.quotas) > 0 {
		most = max(w.lease, 15000) + w.every + 200
	}
	if w.idle > most {
		w.Fatalf("the lock was free for %d ms, and %s waited behind dead ones of ours: %s", w.idle, short(first.id), w.q)
	}
}

// check is true at all times.
func (w *world) check() {
	for _, p := range w.parties {
		if p.state != "waits" || p.dead || p.excused || p.quota > 0 {
			continue
		}
		at := slices.Index(w.q.line, p.id)
		if at < 0 && w.q.owner != p.id {
			w.Fatalf("%s was renewed in time, and is not in the queue: %s", short(p.id), w.q)
		}
		for _, o := range w.parties {
			if i := slices.Index(w.q.line, o.id); i >= 0 && at >= 0 && !o.dead && o.id != p.id && o.came > p.came && i < at {
				w.Fatalf("%s (%d) stands before %s (%d)", short(o.id), o.came, short(p.id), p.came)
			}
		}
	}
}
