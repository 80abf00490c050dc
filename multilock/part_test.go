package multilock_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// slowed has what a server is asked about a word held up.
func (p *parliament) slowed(i int, word string, d faultproxy.Decision) {
	p.proxies[i].Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if slices.Contains(cmd.Args, word) {
			return d
		}
		return faultproxy.Pass
	})
}

// listened tells whether somebody waits for messages of a server's locks.
func (p *parliament) listened(i int) bool {
	channels, _ := p.servers[i].Do(within(p.T), "PUBSUB", "CHANNELS", "redisson_lock__channel*").Val().([]any)
	return len(channels) > 0
}

// The quorum lock was somebody else's; when it is free another member is, until the wait is over.
func TestTheWaitEndsForAnotherMemberAfterAnElection(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	other := lock(t, p.clients[1].RedLock(p.direct...))
	redistest.Eventually(t, 5*time.Second, "it has all", func() bool { return p.keys() == 3 })
	got := make(chan error, 1)
	go func() {
		_, err := p.withPlain().TryLock(within(t), 2*time.Second, 0)
		got <- err
	}()
	redistest.Eventually(t, 5*time.Second, "it waits for a message", func() bool { return p.listened(1) || p.listened(2) }) // of two that said no
	h := lock(t, client(t, p.servers[0].Addr()).RLock("plain"))
	unlock(t, other)
	want(t, "TryLock", <-got, holdfast.ErrNotAcquired)
	unlock(t, h)
}

// The wait ends during the first election, and another member had been somebody else's before.
func TestTheWaitEndsInAnElection(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	other := lock(t, client(t, p.servers[0].Addr()).RLock("plain"))
	got := make(chan error, 1)
	go func() {
		_, err := p.withPlain().TryLock(within(t), 1500*time.Millisecond, 0)
		got <- err
	}()
	redistest.Eventually(t, time.Second, "it waits for a message", func() bool { return p.listened(0) })
	hangs := make(chan struct{})
	for i := range p.proxies {
		p.slowed(i, "orders", faultproxy.Gate(hangs))
	}
	time.Sleep(time.Second) // less than the limit of a try is left
	unlock(t, other)
	want(t, "TryLock", <-got, holdfast.ErrNotAcquired)
	close(hangs)
}

// Who waits in line behind a multi lock waits for no server of its quorum lock.
func TestTheLineBehindAMultiLockWithASilentServer(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	hangs := make(chan struct{})
	p.dark(true, 2)
	unlock(t, lock(t, p.lock)) // the third one is dark from now on
	p.dark(false, 2)
	other := lock(t, client(t, p.servers[0].Addr()).RLock("plain"))
	first := make(chan holdfast.Hold, 1)
	go func() {
		h, err := p.withPlain().Lock(within(t))
		if err != nil {
			t.Error(err)
		}
		first <- h
	}()
	redistest.Eventually(t, 5*time.Second, "it waits", func() bool { return p.listened(0) })
	p.slowed(2, "orders", faultproxy.Gate(hangs))
	second := make(chan struct{})
	go func() {
		defer close(second)
		if h, err := p.clients[0].RLock("plain").Lock(within(t)); err != nil {
			t.Error(err)
		} else {
			unlock(t, h)
		}
	}()
	time.Sleep(100 * time.Millisecond) // it stands in line
	unlock(t, other)
	unlock(t, <-first)
	signalled(t, readTimeout-100*time.Millisecond, "the next in line", second) // before the silence is an answer
	close(hangs)
}

// A lease that cannot be started anew at one server is not waited for until it is over.
func TestALeaseThatCannotBeStartedAnew(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	hangs := make(chan struct{})
	p.slowed(0, "rlock.renew", faultproxy.GateRequest(hangs))
	for _, wait := range []time.Duration{0, time.Second} {
		got := make(chan error, 1)
		go func() {
			_, err := p.withPlain().TryLock(within(t), wait, 20*time.Second)
			got <- err
		}()
		select {
		case err := <-got:
			says(t, "TryLock", err, "did not answer in time")
		case <-time.After(8 * time.Second):
			t.Fatal("TryLock waits for the end of the lease")
		}
		redistest.Eventually(t, 5*time.Second, "everything is given back", func() bool { return p.keys() == 0 && keysOf(t, p.servers[0], "plain") == 0 })
	}
	close(hangs)
	p.slowed(0, "rlock.renew", faultproxy.Pass)
	h, err := p.withPlain().TryLock(within(t), 5*time.Second, 20*time.Second)
	want(t, "TryLock when all answer", err, nil)
	unlock(t, h)
	empty(t, p.servers...)
}

// A minority's client has closed, then the majority or another member of the multi lock is lost: Unlock releases what
// was that client's, too.
func TestUnlockOfALostPartReleasesTheMemberOfAClosedClient(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(p *parliament){
		"the majority":   func(p *parliament) { p.servers[2].Do(within(p.T), "DEL", "orders") },
		"another member": func(p *parliament) { p.servers[0].Do(within(p.T), "DEL", "plain") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newParliament(t, 3)
			h := lock(t, p.withPlain())
			redistest.Eventually(t, time.Second, "all have joined", func() bool { return p.keys() == 3 })
			if err := p.clients[1].Close(); err != nil {
				t.Fatal(err)
			}
			want(t, "Err with two of three", h.Err(), nil)
			lose(p)
			want(t, "Extend", h.Extend(within(t), time.Minute), holdfast.ErrLost)
			want(t, "Unlock", h.Unlock(within(t)), holdfast.ErrLost)
			redistest.Eventually(t, 2*time.Second, "nothing is left", func() bool { return p.keys() == 0 })
		})
	}
}

// Who may not listen to the channels of a majority is told, as with one lock.
func TestAQuorumThatMayNotListen(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	other := lock(t, p.clients[0].RedLock(p.direct...))
	for _, s := range p.servers {
		s.Do(within(t), "ACL", "SETUSER", "default", "resetchannels")
	}
	_, err := p.lock.TryLock(within(t), 10*time.Second, 0)
	says(t, "TryLock", err, "NOPERM", `member "orders"`)
	for _, s := range p.servers {
		s.Do(within(t), "ACL", "SETUSER", "default", "allchannels")
	}
	unlock(t, other)
}

// The end of ctx says that somebody else has the lock, as with one lock.
func TestTheEndOfCtxWhileAQuorumLockIsTaken(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	other := lock(t, p.clients[0].RedLock(p.direct...))
	for _, l := range []holdfast.Lock{p.lock, p.withPlain()} {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		_, err := l.Lock(ctx)
		cancel()
		says(t, "Lock", err, "context deadline exceeded while another owner has the lock")
		if n := strings.Count(err.Error(), "context deadline exceeded"); n != 1 {
			t.Errorf("%v: says it %d times", err, n)
		}
	}
	unlock(t, other)
}

// A server that is silent while the lease is started anew: the call goes on when it answers, also where there are only quorum locks.
func TestALeaseIsTriedAgain(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	for _, l := range []holdfast.Lock{p.withPlain(), p.clients[0].MultiLock(p.lock)} {
		hangs := make(chan struct{})
		for i := range p.proxies {
			p.slowed(i, "rlock.renew", faultproxy.GateRequest(hangs))
		}
		time.AfterFunc(5*time.Second, func() {
			for i := range p.proxies {
				p.slowed(i, "rlock.renew", faultproxy.Pass)
			}
			close(hangs)
		})
		h, err := l.Lock(within(t), holdfast.WithLease(20*time.Second))
		want(t, "Lock of "+l.Name(), err, nil)
		if h != nil {
			unlock(t, h)
		}
	}
}

// Somebody had another member; then the quorum lock's servers are silent. The end of ctx in the pause after that speaks of them.
func TestAPauseThatEndsIsNoElection(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	for range 3 {
		other := lock(t, client(t, p.servers[0].Addr()).RLock("plain"))
		hangs := make(chan struct{})
		got := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			_, err := p.withPlain().Lock(ctx)
			got <- err
		}()
		redistest.Eventually(t, 5*time.Second, "it waits", func() bool { return p.listened(0) })
		for _, i := range []int{1, 2} {
			p.slowed(i, "orders", faultproxy.GateRequest(hangs))
		}
		unlock(t, other)
		redistest.Eventually(t, 5*time.Second, "it has plain", func() bool { return keysOf(t, p.servers[0], "plain") == 1 })
		redistest.Eventually(t, 5*time.Second, "it gave plain back", func() bool { return keysOf(t, p.servers[0], "plain") == 0 })
		cancel()
		err := <-got
		if strings.Contains(err.Error(), "another owner") {
			t.Errorf("got %v, but its servers were silent", err)
		}
		close(hangs)
		for i := range p.proxies {
			p.slowed(i, "orders", faultproxy.Pass)
		}
	}
}

// Somebody had another member; the wait ends while the lease is started anew.
func TestTheWaitEndsWhileALeaseIsStartedAnew(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	other := lock(t, client(t, p.servers[0].Addr()).RLock("plain"))
	hangs := make(chan struct{})
	p.slowed(0, "rlock.renew", faultproxy.GateRequest(hangs))
	got := make(chan error, 1)
	go func() {
		_, err := p.withPlain().TryLock(within(t), 1500*time.Millisecond, 20*time.Second)
		got <- err
	}()
	redistest.Eventually(t, time.Second, "it waits", func() bool { return p.listened(0) })
	time.Sleep(time.Second) // so that less is left than what a silent server is given
	unlock(t, other)
	want(t, "TryLock", <-got, holdfast.ErrNotAcquired)
	close(hangs)
}

// What Redis says to a lease that is to start anew is told.
func TestWhatRedisSaysWhileALeaseIsStartedAnew(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 3)
	var replica atomic.Bool
	p.proxies[0].Decide(func(cmd faultproxy.Command) faultproxy.Decision {
		if slices.Contains(cmd.Args, "rlock.renew") && replica.CompareAndSwap(false, true) {
			p.servers[0].Do(context.Background(), "REPLICAOF", "127.0.0.1", "1")
		}
		return faultproxy.Pass
	})
	_, err := p.withPlain().TryLock(within(t), 0, 20*time.Second)
	says(t, "TryLock", err, `"plain"`, "READONLY")
	p.servers[0].Do(context.Background(), "REPLICAOF", "NO", "ONE")
}
