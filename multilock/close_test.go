package multilock_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

const closingLease = time.Second

// A client that closes ends the hold; the members of other clients stay until their leases
// run out, as its own does, and are not renewed until somebody unlocks.
func TestAClientThatClosesEndsTheRenewalOfAll(t *testing.T) {
	t.Parallel()
	p := newPair(t, holdfast.WithWatchdogTimeout(closingLease))
	h := lock(t, p.both())
	if err := p.a.Close(); err != nil {
		t.Fatal(err)
	}
	signalled(t, time.Second, "Done", h.Done())
	want(t, "Err", h.Err(), holdfast.ErrClosed)
	says(t, "Err", h.Err(), `"a"`)
	if n := keysOf(t, p.second, "b"); n != 1 {
		t.Errorf("got %d keys on the other server, want its member's: the work may be running", n)
	}
	redistest.Eventually(t, 3*closingLease, "the other client's member has run out", func() bool { return keysOf(t, p.second, "b") == 0 })
	empty(t, p.first, p.second)
}

func TestUnlockAfterAClientHasClosedReleasesAll(t *testing.T) {
	p := newPair(t)
	h := lock(t, p.both())
	if err := p.a.Close(); err != nil {
		t.Fatal(err)
	}
	signalled(t, time.Second, "Done", h.Done())
	unlock(t, h)
	empty(t, p.first, p.second)
}

// Who re-entered a member alone has its own hold of it, of a client that is open.
func TestAMemberHeldAloneOutlivesTheClosingOfAnotherClient(t *testing.T) {
	p := newPair(t, holdfast.WithWatchdogTimeout(closingLease))
	outer := lock(t, p.both())
	alone := lockIn(t, outer.Context(within(t)), p.b.RLock("b"))
	if err := p.a.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, "the group's hold", outer.Err(), holdfast.ErrClosed)
	select {
	case <-alone.Done():
		t.Fatalf("the member's own hold: %v", alone.Err())
	case <-time.After(2 * closingLease): // its renewals are what this is about
	}
	want(t, "Unlock when the closed client's member has run out", outer.Unlock(within(t)), holdfast.ErrLost)
	if n := keysOf(t, p.second, "b"); n != 1 {
		t.Errorf("got %d keys, want the one of the member's own hold", n)
	}
	unlock(t, alone)
	empty(t, p.first, p.second)
}

// heldByAll is a quorum lock on three servers, all of which have it, and the client of each.
func heldByAll(t *testing.T, opts ...holdfast.Option) (servers []*redistest.Server, clients []*holdfast.Client, h holdfast.Hold) {
	t.Helper()
	var members []holdfast.Lock
	for range 3 {
		s := redistest.Start(t)
		c := client(t, s.Addr(), opts...)
		servers, clients, members = append(servers, s), append(clients, c), append(members, c.RLock("orders"))
	}
	h = lock(t, clients[0].RedLock(members...))
	for _, s := range servers {
		redistest.Eventually(t, time.Second, "all have joined", func() bool { return keysOf(t, s, "orders") == 1 })
	}
	return servers, clients, h
}

// A quorum hold lives on without the members of a client that closed, as long as it has a majority.
func TestAQuorumHoldAndClientsThatClose(t *testing.T) {
	t.Parallel()
	servers, clients, h := heldByAll(t, holdfast.WithWatchdogTimeout(closingLease))
	_ = clients[0].Close()
	want(t, "Err with two of three", h.Err(), nil)
	_ = clients[1].Close()
	signalled(t, time.Second, "Done", h.Done())
	want(t, "Err with one of three", h.Err(), holdfast.ErrClosed)
	redistest.Eventually(t, 3*closingLease, "the last member has run out", func() bool { return keysOf(t, servers[2], "orders") == 0 })
	empty(t, servers...)
}

// A member of a client that was closed while the hold lived on is released by Unlock, also if the hold was lost
// then.
func TestUnlockOfALostQuorumHoldReleasesTheMemberOfAClosedClient(t *testing.T) {
	servers, clients, h := heldByAll(t) // with a lease that is longer than this test
	_ = clients[0].Close()
	want(t, "Err with two of three", h.Err(), nil)
	servers[1].Do(within(t), "FLUSHALL")
	want(t, "Extend", h.Extend(within(t), time.Minute), holdfast.ErrLost)
	want(t, "Unlock", h.Unlock(within(t)), holdfast.ErrLost)
	empty(t, servers...)
}

// A client that closes does not wait for the answer that one of its multi locks waits for.
func TestAClientThatClosesWaitsForNoLeaseThatStartsAnew(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.New(t, redistest.StartCluster(t, 1, 0).Nodes[0].Addr(), 1)
	c := client(t, proxy.Addr())
	l := c.MultiLock(c.RLock("a"), c.RLock("b"), c.RLock("c")) // in three slots: their lease starts anew once all are held
	if err := l.Do(within(t), func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	defer close(gate)
	proxy.Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if slices.Contains(cmd.Args, "rlock.renew") {
			return faultproxy.Gate(gate)
		}
		return faultproxy.Pass
	})
	over := make(chan error, 1)
	go func() {
		_, err := l.Lock(within(t), holdfast.WithLease(time.Minute))
		over <- err
	}()
	redistest.Eventually(t, 10*time.Second, "the lease is on its way", func() bool { return len(proxy.Log()) > 0 })
	start := time.Now()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*time.Second { // an answer is waited for for 3 s
		t.Errorf("Close took %v", took)
	}
	want(t, "Lock", <-over, holdfast.ErrClosed)
}
