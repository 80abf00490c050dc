package pubsub

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

const silence = 500 * time.Millisecond

// slack is what a loaded machine may add.
const slack = 400 * time.Millisecond

// awaitLost waits until a subscription is not confirmed any more, at the earliest
// after two thirds of the silence.
func awaitLost(t *testing.T, s *Subscription, silence time.Duration) {
	t.Helper()
	began := time.Now()
	redistest.Eventually(t, patience, "noticed", func() bool { return !s.Confirmed() })
	if took := time.Since(began); took > silence+slack || took < silence/2 {
		t.Errorf("silence noticed after %v, want %v or a bit less", took, silence)
	} else {
		t.Logf("silence noticed after %v of %v", took.Round(time.Millisecond), silence)
	}
}

func TestHalfOpenConnectionIsReplaced(t *testing.T) {
	for _, config := range []Config{{Silence: silence}, {}} {
		allowed := config.Silence
		if allowed == 0 {
			allowed = 3 * time.Second
		}
		t.Run(allowed.String(), func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := faultproxy.New(t, server.Addr(), 1)
			m := start(t, server.Client(t, through(proxy)), config)
			s := m.confirmed(t, "a")
			proxy.BlackHolePubSub(true)
			awaitLost(t, s, allowed)
			proxy.BlackHolePubSub(false)
			awaitConfirmed(t, s)
			publish(t, server, "a")
			awaitWake(t, s)
		})
	}
}

func TestStoppedServer(t *testing.T) {
	server := redistest.Start(t)
	m := start(t, server.Client(t), Config{Silence: silence})
	s := m.confirmed(t, "a")
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	awaitLost(t, s, silence)
	late := m.Subscribe("late")
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	awaitConfirmed(t, s)
	awaitConfirmed(t, late)
	publish(t, server, "a")
	awaitWake(t, s)
}

// The server accepts and says nothing from the first dial on: subscribing, closing
// and the manager's Close are not held up, and it is well as soon as the server is.
func TestStalledFromTheFirstDialOn(t *testing.T) {
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr(), 1)
	proxy.BlackHole(true)
	var n atomic.Int64
	rdb := server.Client(t, through(proxy), dials(&n), func(o *redis.Options) { o.ReadTimeout = time.Second })
	m := start(t, rdb, Config{Silence: silence})
	began := time.Now()
	s := m.Subscribe("a")
	m.Subscribe("b").Close()
	if took := time.Since(began); took > slack {
		t.Errorf("Subscribe took %v", took)
	}
	redistest.Eventually(t, patience, "third dial", func() bool { return n.Load() >= 3 })
	if s.Confirmed() || taken(s) {
		t.Error("confirmed or woken by nothing")
	}
	proxy.BlackHole(false)
	awaitConfirmed(t, s)
	publish(t, server, "a")
	awaitWake(t, s)
}

// An idle connection is asked for a PONG now and then, and stays.
func TestIdleConnectionStays(t *testing.T) {
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr(), 1)
	m := start(t, server.Client(t, through(proxy)), Config{Silence: silence})
	s := m.confirmed(t, "a")
	began := time.Now()
	redistest.Eventually(t, patience, "6 PINGs", func() bool { return proxy.Seen()["PING"] >= 6 })
	if took := time.Since(began); took < 6*silence/4 {
		t.Errorf("6 PINGs in %v at a silence of %v, want one a third of it at most", took, silence)
	}
	if conns := proxy.PubSubConns(); len(conns) != 1 || conns[0] != 1 || !s.Confirmed() || taken(s) {
		t.Errorf("connections %v, confirmed %v: want the first one untouched", conns, s.Confirmed())
	}
}

func TestNoPingWhileMessagesCome(t *testing.T) {
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr(), 1)
	m := start(t, server.Client(t, through(proxy)), Config{Silence: 2 * time.Second})
	s := m.confirmed(t, "a")
	for began := time.Now(); time.Since(began) < time.Second; {
		publish(t, server, "a")
		awaitWake(t, s)
	}
	if n := proxy.Seen()["PING"]; n != 0 {
		t.Errorf("%d PINGs beside messages, want none", n)
	}
}

// Close is bounded also when a dial listens to nobody, and wakes everybody at once.
func TestCloseWhileADialHangs(t *testing.T) {
	t.Parallel()
	hang, dialling := make(chan struct{}), make(chan struct{}, 100)
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Dialer: func(context.Context, string, string) (net.Conn, error) {
		dialling <- struct{}{}
		<-hang
		return nil, net.ErrClosed
	}})
	defer rdb.Close()
	m := start(t, rdb, Config{Silence: silence})
	s := m.Subscribe("a")
	<-dialling
	began := time.Now()
	closed := make(chan struct{})
	go func() { m.Close(); close(closed) }()
	awaitWake(t, s)
	if took := time.Since(began); took > slack {
		t.Errorf("woken after %v", took)
	}
	<-closed
	if took := time.Since(began); took > closeLimit+slack {
		t.Errorf("Close took %v, want at most %v", took, closeLimit)
	}
	close(hang)
}

// A dial that heeds its context ends with its session: none piles up.
func TestHangingDialsEnd(t *testing.T) {
	t.Parallel()
	var under, most atomic.Int64
	var n atomic.Int64
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		n.Add(1)
		most.Store(max(most.Load(), under.Add(1)))
		defer under.Add(-1)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	defer rdb.Close()
	m := start(t, rdb, Config{Silence: 50 * time.Millisecond})
	m.Subscribe("a")
	redistest.Eventually(t, patience, "10 dials", func() bool { return n.Load() >= 10 })
	if got := most.Load(); got > 2 {
		t.Errorf("%d dials at once, want one", got)
	}
	began := time.Now()
	m.Close()
	if took := time.Since(began); took > slack {
		t.Errorf("Close took %v", took)
	}
}

func TestClose(t *testing.T) {
	server := redistest.Start(t)
	m := start(t, server.Client(t), Config{})
	a, b := m.confirmed(t, "a"), m.Subscribe("b")
	m.Close()
	m.Close()
	if !taken(a) || a.Confirmed() || !taken(b) {
		t.Error("Close did not wake everybody")
	}
	late := m.Subscribe("a")
	if !taken(late) || late.Confirmed() || late.Err() != nil {
		t.Error("a subscription after Close has no wake-up at once")
	}
	a.Close()
	late.Close()
	if n := m.subscribed.Load(); n != 0 {
		t.Errorf("%d channels counted, want none", n)
	}
	New(server.Client(t), Config{}).Close() // never used
}

// Everything at once, for the race detector.
func TestCloseAmidEverything(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	for range 20 {
		m := start(t, rdb, Config{Linger: time.Millisecond})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 100 {
					s := m.Subscribe(string(rune('a' + (i+j)%10)))
					if j%10 == 0 {
						<-s.Wake()
					}
					s.Close()
				}
			})
		}
		m.confirmed(t, "a")
		server.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub")
		m.Close()
		wg.Wait()
	}
}

// Lost connections are told, but not once a second for hours.
func TestLogIsSparse(t *testing.T) {
	var lines logged
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer rdb.Close()
	m := start(t, rdb, Config{Logger: slog.New(slog.NewTextHandler(&lines, nil))})
	m.Subscribe("a")
	redistest.Eventually(t, patience, "8 failures", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		f := m.failures[""]
		return f != nil && f.failures >= 7
	})
	if n := lines.n.Load(); n == 0 || n > 4 {
		t.Errorf("%d lines for 7 or 8 failures, want 3 or 4", n)
	}
}

type logged struct{ n atomic.Int64 }

func (l *logged) Write(p []byte) (int, error) {
	l.n.Add(int64(strings.Count(string(p), "connection for messages lost")))
	return len(p), nil
}
