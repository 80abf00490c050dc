package pubsub

import (
	"testing"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// After a failover the channels are subscribed at the new master, whether the old one
// lives on as a replica or is dead.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t, 2)
	m := start(t, sentinel.Client(t), Config{})
	s := m.confirmed(t, "a")
	for _, failover := range []struct {
		name string
		do   func() *redistest.Server
	}{
		{"asked for", func() *redistest.Server { return sentinel.Failover(t) }},
		{"master dead", func() *redistest.Server {
			old := sentinel.Master()
			old.Kill()
			return sentinel.WaitNewMaster(t, old)
		}},
	} {
		master := failover.do()
		redistest.Eventually(t, patience, failover.name+": subscribed at the new master", func() bool {
			return s.Confirmed() && numsub(t, master, "a") == 1
		})
		if !taken(s) {
			t.Errorf("%s: subscribed at the new master, but nobody woken", failover.name)
		}
		publish(t, master, "a")
		awaitWake(t, s)
	}
}
