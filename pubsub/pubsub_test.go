package pubsub

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// go-redis looks only a second later whether the pool that dials a dead server is closed.
func TestMain(m *testing.M) {
	redistest.AtOnce(4)
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const patience = 20 * time.Second // for what is not about time

// A tested is a Manager whose count of channels is checked at the end.
type tested struct {
	*Manager
	subscribed atomic.Int64
}

func start(t testing.TB, rdb redis.UniversalClient, config Config) *tested {
	m := &tested{}
	config.Changed = func(delta int) { m.subscribed.Add(int64(delta)) }
	m.Manager = New(rdb, config)
	t.Cleanup(func() {
		m.Close()
		if n := m.subscribed.Load(); n != 0 {
			t.Errorf("after Close the calls of Changed add up to %d, want 0", n)
		}
		if n := len(m.topics) + len(m.wanted) + len(m.resting) + m.idle.Len() + len(m.sessions); n != 0 {
			t.Errorf("after Close %d things are left, want none", n)
		}
	})
	return m
}

// confirmed subscribes and waits for the confirmation, whose token it takes.
func (m *tested) confirmed(t testing.TB, channel string) *Subscription {
	t.Helper()
	s := m.Subscribe(channel)
	awaitConfirmed(t, s)
	return s
}

func awaitConfirmed(t testing.TB, s *Subscription) {
	t.Helper()
	for start := time.Now(); !s.Confirmed(); {
		awaitWake(t, s)
		if time.Since(start) > patience && !s.Confirmed() {
			t.Fatalf("%q was woken again and again, and not confirmed in %v", s.topic.channel, patience)
		}
	}
	taken(s)
}

func awaitWake(t testing.TB, s *Subscription) {
	t.Helper()
	select {
	case <-s.Wake():
	case <-time.After(patience):
		t.Fatalf("%q was not woken in %v", s.topic.channel, patience)
	}
}

// taken takes the token, if there is one.
func taken(s *Subscription) bool {
	select {
	case <-s.Wake():
		return true
	default:
		return false
	}
}

func publish(t testing.TB, server redistest.Backend, channel string) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	if err := rdb.Publish(t.Context(), channel, "0").Err(); err != nil {
		t.Fatal(err)
	}
}

func numsub(t testing.TB, server *redistest.Server, channel string) int64 {
	t.Helper()
	v, err := server.Do(t.Context(), "PUBSUB", "NUMSUB", channel).Slice()
	if err != nil {
		t.Fatal(err)
	}
	return v[1].(int64)
}

func kill(t testing.TB, server *redistest.Server) {
	t.Helper()
	if n, err := server.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Int(); err != nil || n == 0 {
		t.Fatalf("CLIENT KILL TYPE pubsub killed %d, error %v", n, err)
	}
}

// dials counts the connections that a client begins to make.
func dials(n *atomic.Int64) func(*redis.Options) {
	return func(o *redis.Options) {
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if ctx.Err() == nil {
				n.Add(1)
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	}
}

func through(p *faultproxy.Proxy) func(*redis.Options) {
	return func(o *redis.Options) { o.Addr = p.Addr() }
}

func TestConfirmedOnlyWhenTheServerSaidSo(t *testing.T) {
	server := redistest.Start(t)
	for _, held := range []struct {
		name  string
		gate  func(<-chan struct{}) faultproxy.Decision
		early int64
	}{{"request held", faultproxy.GateRequest, 0}, {"reply held", faultproxy.Gate, 1}} {
		t.Run(held.name, func(t *testing.T) {
			proxy, open := faultproxy.New(t, server.Addr(), 1), make(chan struct{})
			proxy.OnNext("SUBSCRIBE", held.gate(open))
			m := start(t, server.Client(t, through(proxy)), Config{})
			s := m.Subscribe(held.name)
			redistest.Eventually(t, patience, "held", func() bool { return len(proxy.Log()) == 1 })
			if n := numsub(t, server, held.name); n != held.early || s.Confirmed() || taken(s) {
				t.Fatalf("held: %d subscribers, want %d; confirmed %v, want false", n, held.early, s.Confirmed())
			}
			close(open)
			awaitWake(t, s)
			if n := numsub(t, server, held.name); n != 1 || !s.Confirmed() || s.Err() != nil {
				t.Errorf("woken: %d subscribers, confirmed %v, error %v", n, s.Confirmed(), s.Err())
			}
		})
	}
}

func TestMessageWakesItsChannelOnceAndNoOther(t *testing.T) {
	server := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		m := start(t, server.Client(t, func(o *redis.Options) { o.Protocol = protocol }), Config{})
		a, other, last := m.confirmed(t, "a"), m.confirmed(t, "other"), m.confirmed(t, "last")
		b := m.Subscribe("a")
		if !taken(b) {
			t.Error("a subscription of a channel that is confirmed has no wake-up at once")
		}
		for range 3 {
			for range 100 {
				publish(t, server, "a")
			}
			publish(t, server, "last") // comes after the others
			awaitWake(t, last)
			for _, s := range []*Subscription{a, b} {
				if !taken(s) || taken(s) {
					t.Errorf("RESP%d: 100 messages, want one token", protocol)
				}
			}
			if taken(other) {
				t.Errorf("RESP%d: a message for another channel woke", protocol)
			}
		}
		m.Close()
	}
}

func TestKilledConnectionIsReplacedOnce(t *testing.T) {
	server := redistest.Start(t)
	var n atomic.Int64
	m := start(t, server.Client(t, dials(&n)), Config{})
	subs := []*Subscription{m.confirmed(t, "a"), m.confirmed(t, "b"), m.Subscribe("b")}
	taken(subs[2])
	for i := range int64(5) {
		kill(t, server)
		for _, s := range subs {
			awaitWake(t, s)
			awaitConfirmed(t, s)
		}
		publish(t, server, "b")
		awaitWake(t, subs[1])
		awaitWake(t, subs[2])
		if got := n.Load(); got != i+2 {
			t.Fatalf("%d dials after %d kills, want %d", got, i+1, i+2)
		}
	}
}

func TestServerRestarts(t *testing.T) {
	server := redistest.Start(t)
	var n atomic.Int64
	m := start(t, server.Client(t, dials(&n)), Config{})
	s := m.confirmed(t, "a")
	server.Kill()
	redistest.Eventually(t, patience, "noticed", func() bool { return !s.Confirmed() })
	n.Store(0)
	// Whoever comes while the server is away does not cause a dial of its own.
	down := time.Now()
	for i := 0; time.Since(down) < time.Second; i++ {
		m.Subscribe(string(rune('b' + i%500))).Close()
	}
	if got := n.Load(); got > 15 {
		t.Errorf("%d dials in a second while the server was away, want a pause that grows", got)
	}
	if taken(s) {
		t.Error("woken without a message or a confirmation")
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	awaitConfirmed(t, s)
	publish(t, server, "a")
	awaitWake(t, s)
}

func TestLinger(t *testing.T) {
	const linger = 300 * time.Millisecond
	server := redistest.Start(t)
	m := start(t, server.Client(t), Config{Linger: linger})
	kept := m.confirmed(t, "kept")
	a, b := m.confirmed(t, "a"), m.Subscribe("a")
	a.Close()
	a.Close() // does nothing, also not for b
	b.Close()
	c := m.Subscribe("a")
	if !c.Confirmed() || !taken(c) {
		t.Error("subscribed again within Linger: want the subscription that is still there")
	}
	closed := time.Now()
	c.Close()
	redistest.Eventually(t, patience, "unsubscribed", func() bool { return numsub(t, server, "a") == 0 })
	if lingered := time.Since(closed); lingered < linger {
		t.Errorf("unsubscribed after %v, want %v", lingered, linger)
	}
	redistest.Eventually(t, patience, "counted", func() bool { return m.subscribed.Load() == 1 })
	publish(t, server, "kept")
	awaitWake(t, kept)
	kept.Close()
	redistest.Eventually(t, patience, "disconnected", func() bool {
		list, err := server.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
		return err == nil && list == ""
	})
	m.confirmed(t, "a") // and it begins anew
}

// A channel that is used all the time must not keep others subscribed, nor be noted
// once a use.
func TestBusyChannelKeepsNoIdleOne(t *testing.T) {
	server := redistest.Start(t)
	m := start(t, server.Client(t), Config{Linger: 100 * time.Millisecond})
	m.confirmed(t, "busy").Close()
	m.confirmed(t, "idle").Close()
	redistest.Eventually(t, 5*time.Second, "the idle channel unsubscribed", func() bool {
		for range 100 {
			m.Subscribe("busy").Close()
		}
		return numsub(t, server, "idle") == 0
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.idle.Len(); n > 2 {
		t.Errorf("%d idle topics noted, want one", n)
	}
}

func TestFloodDoesNotBlockTheReader(t *testing.T) {
	// Without the limit, or a server drops a reader that is 32 MB behind, as on a busy machine.
	server := redistest.Start(t, "--client-output-buffer-limit", "pubsub", "0", "0", "0")
	m := start(t, server.Client(t), Config{})
	flooded, s := m.confirmed(t, "flooded"), m.confirmed(t, "a")
	garbage := []string{"", "0", "\x00\r\n$-1\r\n", "*3\r\n", string(make([]byte, 100_000))}
	rdb := server.Client(t)
	for range 100 { // nobody takes flooded's token
		if _, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for i := range 100 {
				p.Publish(t.Context(), "flooded", garbage[i%len(garbage)])
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, server, "a")
	awaitWake(t, s)
	if !taken(flooded) || taken(flooded) || !s.Confirmed() {
		t.Error("want one token, and the connection that there was")
	}
}

// The user's functions may call the manager, and may hang without holding up others.
func TestUsersFunctionsAreCalledWithoutTheMutex(t *testing.T) {
	server := redistest.Start(t)
	var m *Manager
	hang, hangs := make(chan struct{}), make(chan struct{}, 1000)
	m = New(server.Client(t), Config{Changed: func(int) {
		m.Subscribe("from Changed").Close()
		hangs <- struct{}{}
		<-hang
	}})
	s := m.Subscribe("a")
	<-hangs
	s.Close()
	m.Subscribe("b").Close()
	close(hang)
	m.Close()
}

func proxied(t *testing.T, server *redistest.Server) *faultproxy.Proxy {
	return faultproxy.New(t, server.Addr(), 1)
}
