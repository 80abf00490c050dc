package redistest

import (
	"strings"
	"testing"
	"time"
)

func TestSentinelReplacesADeadMaster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := StartSentinel(t, 1)
	client := s.Client(t)
	if err := client.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	old := s.Master()
	if old != s.Nodes[0] {
		t.Fatalf("master: got %v, want the first node", old)
	}
	old.Kill()
	if got := s.WaitNewMaster(t, old); got != s.Nodes[1] {
		t.Errorf("new master: got %s, want %s", got.Addr(), s.Nodes[1].Addr())
	}
	Eventually(t, 10*time.Second, "a client writes to the new master", func() bool {
		return client.Set(ctx, "k", "w", 0).Err() == nil
	})
	if got, err := s.Nodes[1].Do(ctx, "GET", "k").Text(); err != nil || got != "w" {
		t.Errorf("key on the new master: got %q, %v, want w", got, err)
	}
}

func TestSentinelFailsOverOnDemand(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t, 2)
	old := s.Master()
	if got := s.Failover(t); got == old {
		t.Errorf("new master: got the old one, %s", got.Addr())
	}
	Eventually(t, demotionLimit, "the old master has become a replica", func() bool {
		return s.Healthy() == nil && !old.isMaster(t.Context())
	})
}

// A sentinel that was held up for more than two seconds mistrusts its clock, and left
// to itself does nothing for thirty more.
func TestSentinelFailsOverAfterAStall(t *testing.T) {
	t.Parallel()
	NeedRedis(t, 7, 0, "a sentinel's tilt cannot be shortened")
	const tilt = 30 * time.Second
	s := StartSentinel(t, 1)
	for _, watcher := range s.Sentinels {
		if err := watcher.Pause(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2500 * time.Millisecond) // no signal tells of the time that a stopped process misses
	resumed := time.Now()
	for _, watcher := range s.Sentinels {
		if err := watcher.Resume(); err != nil {
			t.Fatal(err)
		}
		Eventually(t, startLimit, "the sentinel tells that it is in tilt", func() bool {
			return strings.Contains(watcher.logTail(), "+tilt")
		})
	}
	old := s.Nodes[0]
	old.Kill()
	s.WaitNewMaster(t, old)
	if took := time.Since(resumed); took >= tilt {
		t.Errorf("new master after a stall: got it after %v, want it before %v", took.Round(time.Millisecond), tilt)
	}
}
