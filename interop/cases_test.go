package interop

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

const second = time.Second

func TestCases(t *testing.T) { runCases(t, cases) }

var cases = []testCase{
	{"exclusion", "", exclusion},
	{"counts", "lock fair", counts},
	{"nested holds", "", nested},
	{"leases", "lock fair", leases},
	{"force unlock", "lock fair", forceUnlock},
	{"force unlock ends the hold", "lock fair", forceUnlockEndsTheHold},
	{"a foreign unlock is refused", "", foreignUnlock},
	{"an unlock after the lease", "", unlockAfterTheLease},
	{"names", "lock fair", names},
	{"name mapper", "", nameMapper},
	{"end of a lease", "", endOfALease},
	{"watchdog", "", watchdog},
	{"a waiter that leaves", "", waiterLeaves},
	{"many waiters", "", manyWaiters},
}

// While one side holds, the other gets nothing, neither at once nor by waiting;
// after the unlock it does, and nothing stays behind.
func exclusion(b *bout) {
	one, two := b.hand(b.first), b.hand(b.second)
	one.acquire(0)
	two.wantTry(false)
	begun := now()
	if two.try(300*time.Millisecond, 0) {
		b.Error("acquired what the other side holds")
	}
	if waited := time.Duration(now() - begun); waited < 250*time.Millisecond {
		b.Errorf("waited %v, want 300ms", waited)
	}
	one.unlock()
	two.wantTry(true)
	one.wantTry(false)
	two.unlock()
	b.wantNothing()
}

// Each side reports the other's holds as they are.
func counts(b *bout) {
	one, two := b.hand(b.first), b.hand(b.second)
	two.sees(false, false, 0)
	two.seesTTL(0)
	one.acquire(0)
	one.acquire(0)
	b.wantRaw(b.name, one.owner()+"=2")
	if !strings.HasPrefix(one.owner(), b.first.id()) {
		b.Errorf("owner: got %q, want %q and a number", one.owner(), b.first.id())
	}
	one.sees(true, true, 2)
	two.sees(true, false, 0)
	two.seesTTL(30 * second)
	one.unlock()
	one.sees(true, true, 1)
	two.sees(true, false, 0)
	two.wantTry(false)
	one.unlock()
	one.sees(false, false, 0)
	two.sees(false, false, 0)
	two.seesTTL(0)
	b.wantNothing()
}

// The lock is free after the last unlock and not before, also for a group.
func nested(b *bout) {
	one, two := b.hand(b.first), b.hand(b.second)
	one.acquire(0)
	one.acquire(0)
	one.unlock()
	two.wantTry(false)
	one.unlock()
	two.wantTry(true)
	two.unlock()
	b.wantNothing()
}

// A lease is told by the other side as what it is.
func leases(b *bout) {
	one, two := b.hand(b.first), b.hand(b.second)
	if !one.try(0, 12*second) {
		b.Fatal("not acquired")
	}
	two.seesTTL(12 * second)
	one.seesTTL(12 * second)
	one.unlock()
	if !two.try(second, 8*second) {
		b.Fatal("not acquired")
	}
	one.seesTTL(8 * second)
	two.unlock()
	b.wantNothing()
}

// Who forces a lock of the other side frees it for both; the holder's unlock is refused.
func forceUnlock(b *bout) {
	one, two := b.hand(b.first), b.hand(b.second)
	if two.force() {
		b.Error("forced a free lock")
	}
	one.acquire(0)
	if !two.force() {
		b.Error("did not force the other side's lock")
	}
	b.wantNothing()
	two.wantTry(true)
	one.wantRefused()
	b.wantRaw(b.name, two.owner()+"=1")
	two.unlock()
	b.wantNothing()
}

// A Go hold learns of a force-unlock by its next renewal. Java's does not; its
// watchdog stops all the same, and does not bring the key back.
func forceUnlockEndsTheHold(b *bout) {
	b.first = b.again(b.first, settings{watchdog: 1500 * time.Millisecond})
	one, two := b.hand(b.first), b.hand(b.second)
	one.acquire(0)
	if !two.force() {
		b.Fatal("did not force the other side's lock")
	}
	if g, ok := one.actor.(*goActor); ok {
		select {
		case <-g.hold(b.spec).Done():
			if err := g.hold(b.spec).Err(); !errors.Is(err, holdfast.ErrLost) {
				b.Errorf("got %v, want ErrLost", err)
			}
		case <-time.After(1500 * time.Millisecond):
			b.Error("the Go hold goes on")
		}
	} else {
		pause(1500 * time.Millisecond)
	}
	b.wantNothing()
}

// Unlocking what the other side holds is refused and leaves it untouched. In Go there
// is nothing to call Unlock on; in Java there is.
func foreignUnlock(b *bout) {
	one, two := b.hand(b.first), b.hand(b.second)
	one.acquire(0)
	b.awaitAll(b.spec.names)
	before := b.raw(b.spec.names[0])
	two.wantRefused()
	b.wantRaw(b.spec.names[0], before)
	two.wantTry(false)
	one.unlock()
	b.wantNothing()
}

// The holder whose lease ran out is refused, and the new holder of the other side
// notices nothing.
func unlockAfterTheLease(b *bout) {
	one, two := b.hand(b.first), b.hand(b.second)
	one.acquire(300 * time.Millisecond)
	two.acquire(0)
	b.awaitAll(b.spec.names)
	before := b.raw(b.spec.names[0])
	one.wantRefused()
	b.wantRaw(b.spec.names[0], before)
	one.wantTry(false)
	two.unlock()
	b.wantNothing()
}

// The same name is the same key on both sides, and the same channel.
func names(b *bout) {
	tag := fmt.Sprint(lockNumber.Add(1))
	odd := []string{"a{b" + tag, "a}b" + tag, "a{}b" + tag, "}{" + tag}
	if b.site.cluster != nil {
		odd = nil // key and channel would be in two slots, which both sides refuse, each in its way
	}
	for _, name := range append(odd,
		"plain"+tag, "{tag}:"+tag, "pre{tag}post"+tag, "a{b}{c}"+tag, "{b}}"+tag, "with:colons:"+tag, "with spaces "+tag,
		" "+tag+" ", "naïve ☃ 日本語 "+tag, "emoji 🔒"+tag, `"quotes" 'and' \back\`+tag, "100% %s $1 *?["+tag, "tab\tnewline\n"+tag,
		strings.Repeat("x", 500-len(tag))+tag, strings.Repeat("é", 250-len(tag))+tag, "true"+tag, "null"+tag,
	) {
		b.spec = b.kind.spec(name)
		one, two := b.hand(b.first), b.hand(b.second)
		one.acquire(0)
		if got := b.raw(name); got != one.owner()+"=1" {
			b.Errorf("hash %q: got %q, want %q", name, got, one.owner()+"=1")
		}
		two.wantTry(false)
		came := two.begin("lock", 0, 0)
		b.awaitWaiter(b.spec)
		one.unlock()
		if got := b.soon(came, 4*second); got.err != nil { // without its message, 5 s at least
			b.Errorf("%q: %v", name, got.err)
		}
		two.unlock()
		b.wantNothing()
	}
}

// With the same name mapper on both sides the same name is the same lock; without
// it, it is another.
func nameMapper(b *bout) {
	const prefix = "mapped:"
	plain := b.hand(b.second)
	b.first, b.second = b.again(b.first, settings{prefix: prefix}), b.again(b.second, settings{prefix: prefix})
	one, two := b.hand(b.first), b.hand(b.second)
	one.acquire(0)
	two.wantTry(false)
	plain.wantTry(true)
	plain.unlock()
	mapped := b.spec
	mapped.names = nil
	for _, name := range b.spec.names {
		mapped.names = append(mapped.names, prefix+name)
	}
	b.awaitAll(mapped.names)
	if got := b.raw(prefix + b.spec.names[0]); !strings.HasSuffix(got, "=1") {
		b.Errorf("hash %q: got %q, want a hold", prefix+b.spec.names[0], got)
	}
	came := two.begin("lock", 0, 0)
	b.awaitWaiter(mapped)
	one.unlock()
	if got := b.soon(came, 4*second); got.err != nil {
		b.Error(got.err)
	}
	two.unlock()
	b.wantNothing()
}

// A lease that runs out lets the other side's waiter in, without any message.
func endOfALease(b *bout) {
	const lease = 1200 * time.Millisecond
	one, two := b.hand(b.first), b.hand(b.second)
	held := one.acquire(lease)
	got := two.acquire(0)
	after := time.Duration(got.end - held.end)
	if after < lease-100*time.Millisecond || after > lease+second {
		b.Errorf("acquired %v after a hold of %v, want about that", after, lease)
	}
	two.unlock()
	b.wantNothing()
}

// Each side keeps its lock for three watchdog periods against a waiter of the other,
// and the other's watchdog, busy with a lock of its own, neither renews nor shortens it.
func watchdog(b *bout) {
	const period = 2 * second
	first := b.again(b.first, settings{watchdog: period})
	busy := b.again(b.second, settings{watchdog: 1500 * time.Millisecond})
	one, two := b.hand(first), b.hand(busy)
	own := two.on(b.kind.spec(b.name + " own"))
	own.acquire(0)
	one.acquire(0)
	b.awaitAll(b.spec.names)
	came := two.begin("tryLock", 3*period, 0)
	for end := time.Now().Add(3 * period); time.Now().Before(end); pause(50 * time.Millisecond) {
		left, err := b.site.admin.PTTL(b.Context(), b.spec.names[0]).Result()
		if err != nil {
			b.Fatal(err)
		}
		// Renewed at a third; the rest is for a machine that is busy.
		if left > period || left < period/4 {
			b.Errorf("time to live: got %v, want %v to %v", left, period*2/3, period)
			break
		}
	}
	if got := b.soon(came, 5*second); got.err != nil || got.ok {
		b.Errorf("waiting for a lock that is kept: got %v, %v, want false", got.ok, got.err)
	}
	one.unlock()
	own.unlock()
	b.wantNothing()
}

// A waiter that is interrupted or gives up leaves nothing behind that anybody waits for.
// (Redisson's groups take no notice of an interruption.)
func waiterLeaves(b *bout) {
	one, two, three := b.hand(b.first), b.hand(b.second), b.hand(b.second)
	one.acquire(0)
	if two.side == "Go" || !b.kind.group() {
		came := two.begin("lockInterruptibly", 0, 0)
		b.awaitWaiter(b.spec)
		two.interrupt()
		if got := b.soon(came, 5*second); got.err == nil || got.ok {
			b.Errorf("interrupted: got %v, %v, want an error", got.ok, got.err)
		}
	}
	if three.try(200*time.Millisecond, 0) {
		b.Error("acquired what the other side holds")
	}
	one.unlock()
	if b.kind.java != "fair" { // there Java's place stays; see the queue's cases
		three.wantTry(true)
		three.unlock()
		b.wantNothing()
	}
}

// Waiters of both sides, several each, all get their turn.
func manyWaiters(b *bout) {
	holder := b.hand(b.first)
	holder.acquire(0)
	var hands []*hand
	var coming []<-chan answer
	for i := range 8 {
		h := b.hand([]party{b.first, b.second}[i%2])
		hands, coming = append(hands, h), append(coming, h.begin("lock", 0, 0))
	}
	b.awaitWaiter(b.spec)
	holder.unlock()
	turns := make(chan error, len(hands))
	for i, h := range hands {
		go func() { // ends with its turn, which is limited
			got := <-coming[i]
			if got.err == nil {
				got.err = h.do(call{"unlock", h.lock, 0, 0}).err
			}
			turns <- got.err
		}()
	}
	for range hands {
		if err := <-turns; err != nil {
			b.Error(err)
		}
	}
	redistest.Eventually(b, 5*second, "nothing is left", func() bool { return b.raw(b.spec.names[0]) == "" })
}
