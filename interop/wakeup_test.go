package interop

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Before the others, while the machine has little else to do.
func TestWakeUps(t *testing.T) {
	runCases(t, []testCase{
		{"wake-up by unlock", "", func(b *bout) { wakeUps(b, (*hand).unlock) }},
		{"wake-up by force unlock", "lock fair", func(b *bout) { wakeUps(b, nil) }},
	})
}

const (
	wakeUpRounds = 20
	wakeUpLimit  = 50 * time.Millisecond
)

// With a lease of 30 seconds, a waiter has the lock within 50 ms of the other side's
// unlock, or of a third one's force-unlock, from its sending on: the median of twenty.
func wakeUps(b *bout, unlock func(*hand) answer) {
	var took []time.Duration
	for i := range wakeUpRounds {
		b.spec = b.kind.spec(fmt.Sprintf("%s, round %d", b.name, i))
		one, two := b.hand(b.first), b.hand(b.second)
		one.acquire(0)
		came := two.begin("lock", 0, 0)
		b.awaitWaiter(b.spec)
		var freed answer
		if unlock != nil {
			freed = unlock(one)
		} else {
			freed = b.hand(b.first).call("forceUnlock", 0, 0)
		}
		got := b.soon(came, 20*time.Second) // a lost message costs Java 30 s, which need not be repeated
		if got.err != nil || !got.ok {
			b.Fatalf("the waiter: got %v, %v, want the lock", got.ok, got.err)
		}
		if got.end < freed.start {
			b.Fatalf("the waiter had the lock %v before it was freed", time.Duration(freed.start-got.end))
		}
		took = append(took, time.Duration(got.end-freed.start))
		two.unlock()
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	if median > wakeUpLimit {
		b.Errorf("median of %d wake-ups: got %v, want at most %v; all: %v", len(took), median, wakeUpLimit, took)
	}
	results.note("%s to %s, %s, %s, %s: median %.1f ms, longest %.1f ms", b.first.side(), b.second.side(), b.kind.name, b.caseName, b.site.name,
		float64(median.Microseconds())/1000, float64(worst.Microseconds())/1000)
}
