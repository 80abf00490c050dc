package interop

import (
	"sync"
	"testing"
	"time"
)

// A peer is killed, by SIGKILL, while it holds or waits; the other side goes on after
// the lease, or after the place in the queue, and without any message. All peers of a
// side live in one process, so each case says when it is ready, and then that is killed.
func TestKilledPeers(t *testing.T) {
	cases := []struct {
		name, kinds string
		run         func(b *bout, ready func(), killed <-chan struct{})
	}{
		{"killed holder", "", killedHolder},
		{"queue: killed waiter, own side behind", "fair", func(b *bout, ready func(), killed <-chan struct{}) {
			killedWaiter(b, b.site.party(b.T, b.first.side(), settings{}), ready, killed)
		}},
		{"queue: killed waiter, other side behind", "fair", func(b *bout, ready func(), killed <-chan struct{}) {
			killedWaiter(b, b.second, ready, killed)
		}},
	}
	var all sync.WaitGroup
	defer all.Wait()
	for _, side := range []string{"Go", "Java"} {
		victim := startVictim(t, side)
		killed := make(chan struct{})
		var preparing sync.WaitGroup
		for _, s := range sites {
			for _, k := range kinds {
				for _, c := range cases {
					if !k.in(c.kinds) {
						continue
					}
					preparing.Add(1)
					ready := sync.OnceFunc(preparing.Done)
					all.Go(func() {
						defer ready() // also of a case that failed before
						runVictim(t, s, k, c.name, side, victim, func(b *bout) { c.run(b, ready, killed) })
					})
				}
			}
		}
		all.Go(func() {
			preparing.Wait()
			victim.kill()
			close(killed)
		})
	}
}

// victimSettings: a short watchdog, and Java's place in the queue for three seconds.
// Go's keeps the default, 15 seconds.
var victimSettings = settings{watchdog: 2 * time.Second, fairWait: 3 * time.Second}

func startVictim(t *testing.T, side string) *agent {
	t.Helper()
	var victim *agent
	var err error
	if side == "Java" {
		victim, err = startAgent(redissonVersion)
	} else {
		victim, err = startGoChild()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(victim.kill)
	return victim
}

func runVictim(t *testing.T, s *site, k kind, name, side string, victim *agent, run func(b *bout)) {
	t.Run(caseName(s, k, name, side), func(t *testing.T) {
		defer func() { results.add(k.name, name, side+" first", s, !t.Failed()) }()
		b := newBout(t, s, k, name)
		var err error
		if b.first, err = openRemote(victim, side, s, victimSettings); err != nil {
			t.Fatal(err)
		}
		b.second = s.party(t, map[string]string{"Go": "Java", "Java": "Go"}[side], settings{})
		run(b)
	})
}

func killedHolder(b *bout, ready func(), killed <-chan struct{}) {
	one, two := b.hand(b.first), b.hand(b.second)
	one.acquire(0)
	came := two.begin("lock", 0, 0)
	b.awaitWaiter(b.spec)
	ready()
	<-killed
	dead := now()
	got := b.soon(came, 10*time.Second)
	if got.err != nil {
		b.Fatal(got.err)
	}
	if after := time.Duration(got.end - dead); after > victimSettings.watchdog+time.Second {
		b.Errorf("acquired %v after the holder's death, want at most %v and a little", after, victimSettings.watchdog)
	}
	two.unlock()
	b.wantNothing()
}

func killedWaiter(b *bout, behind party, ready func(), killed <-chan struct{}) {
	holder := b.hand(b.again(b.second, victimSettings))
	holder.acquire(0)
	l := line{b: b}
	l.enter(b.hand(b.first), "lock", 0)
	l.enter(b.hand(behind), "lock", 0)
	ready()
	<-killed
	dead := now()
	holder.unlock()
	// A Java place: what was left of the holder's lease, and its own three seconds.
	limit := victimSettings.watchdog + victimSettings.fairWait
	if b.first.side() == "Go" {
		limit = 15 * time.Second
	}
	got := b.soon(l.coming[1], limit+10*time.Second)
	if got.err != nil {
		b.Fatal(got.err)
	}
	after := time.Duration(got.end - dead)
	if after > limit+1500*time.Millisecond {
		b.Errorf("acquired %v after the death of the one before, want at most %v and a little", after, limit)
	}
	results.note("%s behind a dead waiter of %s, %s: %.1f s", behind.side(), b.first.side(), b.site.name, after.Seconds())
	l.hands[1].unlock()
	b.wantNothing()
}
