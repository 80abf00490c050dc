package interop

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A kind is a lock kind that both sides have.
type kind struct {
	name    string // of its row in the table
	java    string // for a spec
	members int    // how many locks it takes
}

// kinds are those that the cases run for.
var kinds = []kind{
	{name: "RLock", java: "lock", members: 1},
	{name: "FairLock", java: "fair", members: 1},
	{name: "MultiLock", java: "multi", members: 3},
	{name: "RedLock", java: "red", members: 3},
}

// group tells whether it is one of several locks. In Java such a lock cannot be asked
// anything, nor forced.
func (k kind) group() bool { return k.members > 1 }

// in tells whether it is one of these, separated by spaces; empty is all.
func (k kind) in(some string) bool {
	return some == "" || slices.Contains(strings.Fields(some), k.java)
}

// spec is the lock of that name: of a group, members in slots of their own.
func (k kind) spec(name string) spec {
	if !k.group() {
		return spec{k.java, []string{name}}
	}
	s := spec{kind: k.java}
	for i := range k.members {
		s.names = append(s.names, fmt.Sprintf("%s:%d", name, i+1))
	}
	return s
}

// A bout is one case on one site, one way round: the first party acquires first.
type bout struct {
	*testing.T
	site          *site
	kind          kind
	first, second party
	name          string // of a lock that no other bout has
	spec          spec
	caseName      string
}

// A testCase is a promise that holds whichever side is first.
type testCase struct {
	name  string
	kinds string // that it is for; empty for all
	run   func(b *bout)
}

var lockNumber atomic.Int64

// runCases runs them for each kind, site and direction, all at once.
func runCases(t *testing.T, cases []testCase) {
	for _, s := range sites {
		for _, k := range kinds {
			for _, c := range cases {
				if !k.in(c.kinds) {
					continue
				}
				for _, javaFirst := range []bool{false, true} {
					runCase(t, s, k, c, javaFirst)
				}
			}
		}
	}
}

func runCase(t *testing.T, s *site, k kind, c testCase, javaFirst bool) {
	first := "Go"
	if javaFirst {
		first = "Java"
	}
	t.Run(caseName(s, k, c.name, first), func(t *testing.T) {
		t.Parallel()
		defer func() { results.add(k.name, c.name, first+" first", s, !t.Failed()) }()
		b := newBout(t, s, k, c.name)
		b.first, b.second = b.parties(javaFirst, settings{})
		c.run(b)
	})
}

func caseName(s *site, k kind, name, first string) string {
	return fmt.Sprintf("%s/%s/%s/%s first", s.name, k.name, name, first)
}

// newBout is one without its parties.
func newBout(t *testing.T, s *site, k kind, caseName string) *bout {
	b := &bout{T: t, site: s, kind: k, caseName: caseName}
	b.name = fmt.Sprintf("%s %d", caseName, lockNumber.Add(1))
	b.spec = k.spec(b.name)
	return b
}

// parties gives one on each side with those settings, in the bout's order.
func (b *bout) parties(javaFirst bool, with settings) (first, second party) {
	b.Helper()
	goes, javas := b.site.party(b.T, "Go", with), b.site.party(b.T, "Java", with)
	if javaFirst {
		return javas, goes
	}
	return goes, javas
}

// again gives the same sides with other settings.
func (b *bout) again(p party, with settings) party { return b.site.party(b.T, p.side(), with) }

// party gives the party of that side with those settings, shared by all bouts.
func (s *site) party(t *testing.T, side string, with settings) party {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprint(side, with)
	if s.parties[key] == nil {
		p, err := s.open(side, with)
		if err != nil {
			t.Fatal(err)
		}
		s.parties[key] = p
	}
	return s.parties[key]
}

func (s *site) open(side string, with settings) (party, error) {
	if side == "Java" {
		return openRemote(java, "Java", s, with)
	}
	return openGo(s.rdb(), with)
}

// A hand is an actor whose failures are the test's.
type hand struct {
	b *bout
	actor
	side string
	lock spec
}

func (b *bout) hand(p party) *hand { return &hand{b, p.actor(), p.side(), b.spec} }

// on is the same owner's hand on another lock.
func (h *hand) on(s spec) *hand { return &hand{h.b, h.actor, h.side, s} }

func (h *hand) call(op string, wait, lease time.Duration) answer {
	h.b.Helper()
	got := h.do(call{op, h.lock, wait, lease})
	if got.err != nil {
		h.b.Fatalf("%s: %s %v: %v", h.side, op, h.lock, got.err)
	}
	return got
}

// acquire waits for the lock; lease 0 is the watchdog.
func (h *hand) acquire(lease time.Duration) answer {
	h.b.Helper()
	got := h.call("lock", 0, lease)
	if !got.ok {
		h.b.Fatalf("%s: lock %v: not acquired", h.side, h.lock)
	}
	return got
}

// begin acquires in the background; the answer comes over the channel.
func (h *hand) begin(op string, wait, lease time.Duration) <-chan answer {
	came := make(chan answer, 1)
	go func() { came <- h.do(call{op, h.lock, wait, lease}) }() // ends with the call, which is limited
	return came
}

// try says whether the lock was to be had.
func (h *hand) try(wait, lease time.Duration) bool {
	h.b.Helper()
	return h.call("tryLock", wait, lease).ok
}

func (h *hand) unlock() answer {
	h.b.Helper()
	return h.call("unlock", 0, 0)
}

func (h *hand) force() bool {
	h.b.Helper()
	return h.call("forceUnlock", 0, 0).ok
}

func (h *hand) wantTry(want bool) {
	h.b.Helper()
	if got := h.try(0, 0); got != want {
		h.b.Errorf("%s: tryLock %v: got %v, want %v", h.side, h.lock, got, want)
	}
}

// wantRefused unlocks, and wants to be told that it does not hold the lock. A red lock
// of Redisson's never tells.
func (h *hand) wantRefused() {
	h.b.Helper()
	silent := h.side == "Java" && h.lock.kind == "red"
	if got := h.do(call{"unlock", h.lock, 0, 0}); !isRefused(got.err) && (got.err != nil || !silent) {
		h.b.Errorf("%s: unlock %v of what it does not hold: got %v, want a refusal", h.side, h.lock, got.err)
	}
}

// sees checks what the lock tells this owner.
func (h *hand) sees(locked, held bool, count int64) {
	h.b.Helper()
	h.asks("isLocked", func(a answer) bool { return a.ok == locked })
	h.asks("isHeld", func(a answer) bool { return a.ok == held })
	h.asks("holdCount", func(a answer) bool { return a.number == count })
}

// seesTTL checks the time to live that it is told, give or take a few seconds; want 0 is a free lock.
func (h *hand) seesTTL(want time.Duration) {
	h.b.Helper()
	h.asks("ttl", func(a answer) bool {
		if want == 0 {
			return a.number == -2
		}
		return a.number <= want.Milliseconds() && a.number >= want.Milliseconds()-3000
	})
}

// asks a question, and once more in a while where Redisson may ask a replica that lags behind.
func (h *hand) asks(question string, fine func(answer) bool) {
	h.b.Helper()
	got := h.call(question, 0, 0)
	for end := time.Now().Add(2 * time.Second); !fine(got) && h.side == "Java" && h.b.site.cluster != nil && time.Now().Before(end); {
		pause(10 * time.Millisecond)
		got = h.call(question, 0, 0)
	}
	if !fine(got) {
		h.b.Errorf("%s: %s %v: got %v, %d, want otherwise", h.side, question, h.lock, got.ok, got.number)
	}
}

// raw is the hash of the lock, or of the group's first member, as "owner=count".
func (b *bout) raw(key string) string {
	b.Helper()
	fields, err := b.site.admin.HGetAll(b.Context(), key).Result()
	if err != nil {
		b.Fatal(err)
	}
	var parts []string
	for owner, count := range fields {
		parts = append(parts, owner+"="+count)
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

func (b *bout) wantRaw(key, want string) {
	b.Helper()
	if got := b.raw(key); got != want {
		b.Errorf("hash %q: got %q, want %q", key, got, want)
	}
}

// awaitAll waits until all members are held: for a red lock a majority is enough to begin.
func (b *bout) awaitAll(names []string) {
	b.Helper()
	redistest.Eventually(b, 5*time.Second, "all members are held", func() bool {
		return !slices.ContainsFunc(names, func(name string) bool { return b.raw(name) == "" })
	})
}

// wantNothing checks that nothing is left of the lock in Redis. A group may still
// be releasing: for a red lock's unlock a majority is enough.
func (b *bout) wantNothing() {
	b.Helper()
	if b.kind.group() {
		redistest.Eventually(b, 5*time.Second, "the group is free", func() bool {
			return !slices.ContainsFunc(b.spec.names, func(name string) bool { return b.raw(name) != "" })
		})
	}
	for _, name := range b.spec.names {
		for _, key := range []string{name, companion("redisson_lock_queue", name), companion("redisson_lock_timeout", name)} {
			if n, err := b.site.admin.Exists(b.Context(), key).Result(); err != nil || n != 0 {
				b.Errorf("key %q: got %d, %v, want none", key, n, err)
			}
		}
	}
}

// companion is written here once more, from docs/wire-format.md and not with the
// library's own function, which may be wrong.
func companion(prefix, name string) string {
	if strings.Contains(name, "{") {
		return prefix + ":" + name
	}
	return prefix + ":{" + name + "}"
}

// awaitWaiter returns once somebody waits for the lock: subscribed, and asleep for
// all that can be told.
func (b *bout) awaitWaiter(s spec) {
	b.Helper()
	redistest.Eventually(b, 10*time.Second, fmt.Sprintf("somebody waits for %v", s), func() bool {
		if s.kind == "fair" {
			return b.queued(s.names[0]) > 0
		}
		return slices.ContainsFunc(s.names, func(name string) bool {
			return b.site.subscribers(b, name, companion("redisson_lock__channel", name)) > 0
		})
	})
	pause(40 * time.Millisecond) // the try after the subscription
}

// queued is the length of a fair lock's queue.
func (b *bout) queued(name string) int64 {
	n, err := b.site.admin.LLen(b.Context(), companion("redisson_lock_queue", name)).Result()
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// pause lets real time pass: the other side's clock cannot be a virtual one.
func pause(d time.Duration) { time.Sleep(d) }

// soon gives what comes over the channel within a limit.
func (b *bout) soon(came <-chan answer, limit time.Duration) answer {
	b.Helper()
	select {
	case got := <-came:
		return got
	case <-time.After(limit):
		b.Fatalf("nothing within %v", limit)
		return answer{}
	}
}

func isRefused(err error) bool { return errors.Is(err, errRefused) }
