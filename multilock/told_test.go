package multilock_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
)

// The wait ends during a second try, in which nobody answers: what was told in the first one says more.
func TestTheLastWholeTryIsTold(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	open := make(chan struct{})
	t.Cleanup(func() {
		for _, proxy := range p.proxies {
			proxy.Decide(nil)
		}
		close(open)
	})
	for _, proxy := range p.proxies[:2] {
		before := proxy.Seen()["EVALSHA"]
		proxy.Decide(func(cmd faultproxy.Command) faultproxy.Decision {
			switch {
			case cmd.Name != "EVALSHA":
				return faultproxy.Pass
			case cmd.N == before+1:
				return faultproxy.ResetBefore
			}
			return faultproxy.GateRequest(open)
		})
	}
	_, err := p.lock.TryLock(within(t), 250*time.Millisecond, 0)
	p.unavailable(err)
	if err != nil && strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("TryLock: got %v, want what the connections' ends were", err)
	}
}
