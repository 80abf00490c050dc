package multilock_test

import (
	"testing"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A pair is two servers, the second one behind a proxy; the first one comes first in the
// order in which members are acquired.
type pair struct {
	first, second *redistest.Server
	proxy         *faultproxy.Proxy
	a, b          *holdfast.Client // of the first, of the second through the proxy
	otherA        *holdfast.Client
	otherB        *holdfast.Client
}

func newPair(t *testing.T, opts ...holdfast.Option) *pair {
	p := &pair{second: redistest.Start(t)}
	// Both anew in each round: with one address kept, a low one could take thousands of servers.
	for p.first == nil || p.proxy.Addr() < p.first.Addr() {
		p.first, p.proxy = redistest.Start(t), faultproxy.New(t, p.second.Addr(), 1)
	}
	p.a, p.b = client(t, p.first.Addr(), opts...), client(t, p.proxy.Addr(), opts...)
	p.otherA, p.otherB = client(t, p.first.Addr(), opts...), client(t, p.second.Addr(), opts...)
	for _, c := range []*holdfast.Client{p.a, p.b} { // the server learns the scripts
		if _, err := c.RLock("warm-up").IsLocked(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// both is a multi lock of a on the first server and b on the second, given in the other order.
func (p *pair) both() holdfast.Lock { return p.a.MultiLock(p.b.RLock("b"), p.a.RLock("a")) }
