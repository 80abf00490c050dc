package locktest

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A Deployment has its master replaced by a replica that has everything, and gives a
// client of the new one alone.
type Deployment struct {
	Dial     func() redis.UniversalClient
	Failover func(t *testing.T) *redis.Client
}

// failoverLease outlasts a failover on a busy machine, and is renewed within five seconds.
const failoverLease = 15 * time.Second

// A hold goes on through a failover that loses nothing: it is renewed at the new master, is
// re-entered there and released there; meanwhile nobody else is let in, and who waits gets it
// then.
func goesOn(b *bed, failover func(t *testing.T) *redis.Client) {
	name := b.name()
	long := holdfast.WithWatchdogTimeout(failoverLease)
	l := b.lock(name, long)
	h := b.mustLock(l)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // a failover may take one
	defer cancel()
	next := b.start(ctx, b.lock(name, long))
	b.raw(name).waits()

	master := failover(b.T)
	there := &raw{b: b, servers: []redis.UniversalClient{master}, names: b.kind.names(name)}
	if got, want := there.keys(""), there.all(); got != want {
		b.Fatalf("keys at the new master: got %d, want %d", got, want)
	}
	left := there.shortest()
	redistest.Eventually(b.T, failoverLease, "the hold is renewed at the new master", func() bool { return there.shortest() > left })
	b.want("the hold", h.Err(), nil)
	b.mustUnlock(b.mustLockIn(h.Context(b.ctx()), l))
	b.busy(b.lock(name))
	select {
	case <-next.done:
		b.Fatalf("who waits came in beside the holder (%v)", next.err)
	default:
	}

	b.mustUnlock(h)
	b.within(15*time.Second, "who waits", next.done) // its subscription may have to be noticed dead
	b.want("Lock", next.err, nil)
	if got, want := there.keys(""), there.all(); got != want {
		b.Errorf("keys at the new master: got %d, want %d", got, want)
	}
	b.mustUnlock(next.hold)
	there.gone()
}

// shortest is the smallest of the members' leases that are left.
func (r *raw) shortest() (left time.Duration) {
	for _, name := range r.names {
		ttl, err := r.servers[0].PTTL(r.b.ctx(), name).Result()
		if err != nil {
			r.b.Error(err)
		}
		if left == 0 || ttl < left {
			left = ttl
		}
	}
	return left
}
