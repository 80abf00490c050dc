package interop

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestGroups(t *testing.T) {
	runCases(t, []testCase{
		{"group: its members are locks", "multi red", membersAreLocks},
		{"group: a member is taken", "multi red", memberIsTaken},
		{"group: another order, overlapping", "multi red", overlapping},
		{"group: lease of the members", "multi red", membersLease},
	})
}

// member is the spec of one member as a lock of its own.
func (b *bout) member(i int) spec { return spec{"lock", b.spec.names[i : i+1]} }

// Who holds the group holds its members, each with a count of its own.
func membersAreLocks(b *bout) {
	one, two := b.hand(b.first), b.hand(b.second)
	one.acquire(0)
	b.awaitAll(b.spec.names)
	for i := range b.spec.names {
		two.on(b.member(i)).wantTry(false)
	}
	came := two.on(b.member(1)).begin("lock", 0, 0)
	b.awaitWaiter(b.member(1))
	one.unlock()
	if got := b.soon(came, 4*time.Second); got.err != nil || !got.ok {
		b.Errorf("a member after the unlock of the group: got %v, %v, want the lock", got.ok, got.err)
	}
	two.on(b.member(1)).unlock()
	b.wantNothing()
}

// A member that somebody else holds: the multi lock gets none and leaves none, the
// red lock gets the others and leaves that one alone.
func memberIsTaken(b *bout) {
	one, two := b.hand(b.first), b.hand(b.second)
	taken := two.on(b.member(1))
	taken.acquire(0)
	before := b.raw(b.spec.names[1])
	red := b.kind.java == "red"
	for _, wait := range []time.Duration{0, 300 * time.Millisecond} {
		if got := one.try(wait, 0); got != red {
			b.Errorf("with a member taken, wait %v: got %v, want %v", wait, got, red)
		}
		if red {
			two.wantTry(false)
			one.unlock()
		}
		redistest.Eventually(b, 5*time.Second, "the other members are free", func() bool {
			return b.raw(b.spec.names[0]) == "" && b.raw(b.spec.names[2]) == ""
		})
		b.wantRaw(b.spec.names[1], before)
	}
	if !red {
		came := one.begin("lock", 0, 0)
		b.awaitWaiter(b.spec)
		taken.unlock()
		if got := b.soon(came, 20*time.Second); got.err != nil || !got.ok {
			b.Errorf("once the member is free: got %v, %v, want the lock", got.ok, got.err)
		}
		one.unlock()
	} else {
		taken.unlock()
	}
	b.wantNothing()
}

// Groups that share members, one side's in the opposite order of the other's: nobody is
// inside with another, and everybody gets his turns. (Redisson takes its members as
// given, and gives a round up after one and a half seconds a member. Two of its own in
// opposite orders can do that in step for minutes, so there are none here.)
func overlapping(b *bout) {
	const turns = 5
	name := func(i int) string { return fmt.Sprintf("%s:%d", b.name, i) }
	forth := spec{b.kind.java, []string{name(1), name(2), name(3)}}
	back := spec{b.kind.java, []string{name(4), name(3), name(2)}}
	if b.kind.java == "red" { // two majorities meet for sure only if they are of the same members
		back.names[0] = name(1)
	}
	b.spec = spec{b.kind.java, []string{name(1), name(2), name(3), name(4)}} // for wantNothing
	done := make(chan error, 4)
	for i, p := range []party{b.first, b.second, b.first, b.second} {
		h := b.hand(p).on([]spec{forth, back}[i%2])
		w := &stressWorker{admin: b.site.admin, name: fmt.Sprint(p.side(), " ", i)}
		go func() { // ends with its turns, whose calls are limited
			for range turns {
				if got := h.do(call{op: "lock", lock: h.lock}); got.err != nil {
					done <- got.err
					return
				}
				w.inside(name(2) + " and " + name(3))
				if got := h.do(call{op: "unlock", lock: h.lock}); got.err != nil {
					done <- got.err
					return
				}
			}
			if len(w.tally.Wrong) > 0 {
				done <- fmt.Errorf("%q", w.tally.Wrong)
				return
			}
			done <- nil
		}()
	}
	for range 4 {
		select {
		case err := <-done:
			if err != nil {
				b.Error(err)
			}
		case <-time.After(50 * time.Second):
			b.Fatal("no progress")
		}
	}
	b.wantNothing()
}

// Once all members are held, each has the lease.
func membersLease(b *bout) {
	one, two := b.hand(b.first), b.hand(b.second)
	if !one.try(2*time.Second, 20*time.Second) {
		b.Fatal("not acquired")
	}
	b.awaitAll(b.spec.names)
	for i := range b.spec.names {
		two.on(b.member(i)).seesTTL(20 * time.Second)
		two.on(b.member(i)).sees(true, false, 0)
	}
	one.unlock()
	b.wantNothing()
}

// A red lock over three servers that know nothing of each other, of which one dies:
// both sides go on with the two others, and exclude each other.
func TestRedLockOverThreeServers(t *testing.T) {
	if !slices.ContainsFunc(kinds, kind.group) {
		return
	}
	t.Parallel()
	for _, javaFirst := range []bool{false, true} {
		direction := map[bool]string{false: "Go first", true: "Java first"}[javaFirst]
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			defer func() {
				results.note("red lock over three servers, of which one dies, %s: passed %v", direction, !t.Failed())
			}()
			overThreeServers(t, javaFirst)
		})
	}
}

func overThreeServers(t *testing.T, javaFirst bool) {
	b := newBout(t, &site{name: "three servers"}, kind{name: "RedLock", java: "red", members: 3}, "over three servers")
	var servers []*redistest.Server
	var goes []*goParty
	var javas []*remoteParty
	for range 3 {
		server := redistest.Start(t)
		s := &site{server: server, admin: server.Client(t), parties: map[string]party{}}
		g, j := s.party(t, "Go", settings{}).(*goParty), s.party(t, "Java", settings{}).(*remoteParty)
		t.Cleanup(g.close)
		t.Cleanup(j.close)
		servers, goes, javas = append(servers, server), append(goes, g), append(javas, j)
	}
	goes[0].members = goes
	javas[0].members = []string{javas[0].name, javas[1].name, javas[2].name}
	b.first, b.second = goes[0], javas[0]
	if javaFirst {
		b.first, b.second = b.second, b.first
	}

	one, two := b.hand(b.first), b.hand(b.second)
	attempt := func(h *hand) {
		b.Helper()
		if !h.try(9*time.Second, 60*time.Second) {
			b.Errorf("%s: not acquired", h.side)
		}
	}
	attempt(one)
	two.wantTry(false)
	one.unlock()
	attempt(two)
	one.wantTry(false)
	servers[2].Kill()
	one.wantTry(false)
	two.unlock() // Redisson asks the dead one for some five seconds
	attempt(one)
	two.wantTry(false)
	one.unlock()
}

// memberLocks are a group's, each from its own client if the party has several.
func (p *goParty) memberLocks(names []string) (locks []holdfast.Lock) {
	for i, name := range names {
		owner := p
		if len(p.members) > 0 {
			owner = p.members[i]
		}
		locks = append(locks, owner.client.RLock(name))
	}
	return slices.Clip(locks)
}
