package script

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// go-redis follows a redirect, and when the other node's answer is lost then, it may leave the
// redirect as the command's error, though the other node has executed it.
func TestARedirectThatLeadsToSilenceIsUnknown(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2, 0)
	from := cluster.MasterOf("a")
	to := cluster.Nodes[0]
	if to == from {
		to = cluster.Nodes[1]
	}
	moving, stays := on(cluster, from, "a"), on(cluster, to, "b")
	link := faultproxy.New(t, to.Addr(), 1)
	s := newSender(t, cluster.Client(t, func(o *redis.ClusterOptions) {
		o.ReadTimeout = 300 * time.Millisecond
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == to.Addr() {
				addr = link.Addr()
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	}))
	answers(t, s.Start(op(add, stays[0], ""))) // both nodes learn the scripts, the client who has which slot
	answers(t, s.Start(op(add, moving[0], ""), op(add, moving[1], "")))
	for _, key := range moving {
		cluster.MoveSlot(t, keys.Slot(key), from, to)
	}

	open := make(chan struct{})
	defer close(open)
	link.OnNext("EVALSHA", faultproxy.Gate(open))
	got := answers(t, s.Start(op(add, moving[0], ""), op(add, moving[1], "")))
	for i, key := range moving {
		if n, err := to.Do(t.Context(), "GET", key).Int(); n != 2 || err != nil {
			t.Fatalf("%s: got %d %v, want it to have been executed where it was led to", key, n, err)
		}
		if class := ClassOf(got[i].Err); class != Unknown {
			t.Errorf("%s: got class %d of %v, want Unknown: it was executed", key, class, got[i].Err)
		}
	}
}

// on finds two keys of different slots that a node has; first is one of them if it has it.
func on(cluster *redistest.Cluster, node *redistest.Server, first string) (found []string) {
	for key := first; len(found) < 2; key += "x" {
		if cluster.MasterOf(key) == node {
			found = append(found, key)
		}
	}
	return found
}
