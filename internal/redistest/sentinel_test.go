package redistest

import (
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
	Eventually(t, 20*time.Second, "the old master has become a replica", func() bool {
		return s.Healthy() == nil && !old.isMaster(t.Context())
	})
}
