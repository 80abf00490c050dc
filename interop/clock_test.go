package interop

import (
	"testing"
	"time"
)

// A Java process whose clock is an hour fast takes every waiter's place for one that
// has run out, Redisson's and ours alike. Neither side's waiters may suffer more from
// it than the other's: they come back by themselves, no later than the lease of the
// one that holds.
func TestWrongClock(t *testing.T) {
	fast, err := startAgent(redissonVersion, "-Dholdfast.skewMillis=3600000", "--add-opens", "java.base/java.lang=ALL-UNNAMED")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fast.close)
	runCases(t, []testCase{
		{"queue: a fast clock looks in", "fair", func(b *bout) { fastClockLooksIn(b, fast) }},
		{"queue: a fast clock waits in front", "fair", func(b *bout) { fastClockWaits(b, fast) }},
	})
}

var clockSettings = settings{watchdog: 4 * time.Second}

// clockLimit is a lease, and a little.
const clockLimit = 5500 * time.Millisecond

func (b *bout) fastParty(fast *agent) party {
	b.Helper()
	p, err := openRemote(fast, "Java", b.site, clockSettings)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.close)
	return p
}

func fastClockLooksIn(b *bout, fast *agent) {
	holder := b.hand(b.again(b.second, clockSettings))
	holder.acquire(0)
	l := line{b: b}
	l.enter(b.hand(b.first), "lock", 0)
	b.hand(b.fastParty(fast)).wantTry(false)
	if n := b.queued(b.name); n != 0 {
		b.Errorf("queue: got %d, want 0: the fast clock is not at work", n)
	}
	freed := holder.unlock()
	got := b.soon(l.coming[0], 2*clockLimit)
	if after := time.Duration(got.end - freed.start); got.err != nil || after > clockLimit {
		b.Errorf("acquired after %v, %v, want at most %v", after, got.err, clockLimit)
	}
	l.hands[0].unlock()
	b.wantNothing()
}

func fastClockWaits(b *bout, fast *agent) {
	holder := b.hand(b.again(b.second, clockSettings))
	holder.acquire(0)
	l := line{b: b}
	l.enter(b.hand(b.fastParty(fast)), "lock", 0)
	l.enter(b.hand(b.first), "lock", 0)
	holder.unlock()
	if pauses := l.wantServed(2*clockLimit, 0, 1); pauses[0] > clockLimit {
		b.Errorf("the one behind waited %v, want at most %v", pauses[0], clockLimit)
	}
	b.wantNothing()
}
