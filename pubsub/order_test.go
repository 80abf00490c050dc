package pubsub

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// A trial is a manager and its servers, in whatever state the steps so far have
// brought them.
type trial struct {
	*fakes
	manager    *Manager
	subscribed atomic.Int64 // what Changed adds up to
	channels   []string
	names      []string // of nodes
	subs       []*watched
}

// A watched subscription notes what it has been woken for.
type watched struct {
	*Subscription
	channel             string
	confirmed, messages int // how many there were at the last look
}

func TestAnyOrder(t *testing.T) {
	t.Run("one server", rapid.MakeCheck(func(t *rapid.T) { rapid.SyncTest(t, anyOrder("")) }))
	t.Run("cluster", rapid.MakeCheck(func(t *rapid.T) { rapid.SyncTest(t, anyOrder("n0", "n1", "n2")) }))
}

// anyOrder does steps in any order. In the end and now and then everything is
// reachable again and gets time, and then exactly what is wanted must be subscribed.
func anyOrder(names ...string) func(*rapid.T) {
	return func(t *rapid.T) {
		m := &trial{fakes: newFakes(names...), names: names}
		m.latency = time.Duration(rapid.IntRange(0, 20).Draw(t, "latency, ms"))*time.Millisecond + 137*time.Microsecond
		m.manager = m.fakes.manager(Config{Changed: func(d int) { m.subscribed.Add(int64(d)) }})
		defer m.manager.Close() // so that a failure is told, and not its goroutines
		for i := range 6 {
			c, n := fmt.Sprint("c", i), names[i%len(names)]
			m.channels = append(m.channels, c)
			m.owner[c], m.picture[c] = n, n
		}
		t.Repeat(map[string]func(*rapid.T){
			"": m.check, "subscribe": m.subscribe, "subscribe again": m.subscribe, "close": m.close, "look": m.look,
			"publish": m.publishOne, "kill": m.killOne, "halve": m.halveOne, "stall": m.stallOne, "resume": m.resumeOne, "move": m.moveOne,
			"forbid": m.forbidOne, "pass time": m.pass, "settle": m.settle,
		})
		m.settle(t)
		m.manager.Close()
		synctest.Wait()
		for _, n := range m.nodes {
			if len(n.wires) != 0 {
				t.Errorf("%d connections after Close", len(n.wires))
			}
		}
		if n := m.subscribed.Load(); n != 0 {
			t.Errorf("after Close the calls of Changed add up to %d, want 0", n)
		}
	}
}

// check: whoever has something to look for has a token.
func (m *trial) check(t *rapid.T) {
	synctest.Wait()
	for _, s := range m.subs {
		var confirmed, messages int
		m.do(func() { confirmed, messages = m.confirmed[s.channel], m.messages[s.channel] })
		// What a connection brought that was lost meanwhile is made good by the next
		// confirmation, and the confirmation of a topic that is gone by its successor's.
		if len(s.Wake()) == 0 && s.Confirmed() && (messages > s.messages || confirmed > s.confirmed) {
			t.Fatalf("%s: %d new messages, %d new confirmations, no token", s.channel, messages-s.messages, confirmed-s.confirmed)
		}
	}
}

func (m *trial) channel(t *rapid.T) string { return rapid.SampledFrom(m.channels).Draw(t, "channel") }

func (m *trial) node(t *rapid.T) *fakeNode {
	return m.nodes[rapid.SampledFrom(m.names).Draw(t, "node")]
}

func (m *trial) subscribe(t *rapid.T) {
	c := m.channel(t)
	s := &watched{Subscription: m.manager.Subscribe(c), channel: c}
	m.do(func() { s.confirmed, s.messages = m.confirmed[c], m.messages[c] })
	m.subs = append(m.subs, s)
}

func (m *trial) any(t *rapid.T) int {
	if len(m.subs) == 0 {
		t.Skip("none")
	}
	return rapid.IntRange(0, len(m.subs)-1).Draw(t, "subscription")
}

func (m *trial) close(t *rapid.T) {
	i := m.any(t)
	m.subs[i].Close()
	m.subs = slices.Delete(m.subs, i, i+1)
}

func (m *trial) look(t *rapid.T) {
	s := m.subs[m.any(t)]
	taken(s.Subscription)
	m.do(func() { s.confirmed, s.messages = m.confirmed[s.channel], m.messages[s.channel] })
}

func (m *trial) publishOne(t *rapid.T) { m.publish(m.channel(t)) }
func (m *trial) killOne(t *rapid.T) {
	n := m.node(t)
	m.do(n.kill)
}

func (m *trial) halveOne(t *rapid.T) {
	n := m.node(t)
	m.do(n.halve)
}

func (m *trial) stallOne(t *rapid.T) {
	n, how := m.node(t), rapid.IntRange(0, 2).Draw(t, "how")
	m.do(func() { n.refuses, n.stalled, n.blocked = how == 0, how > 0, how > 1 })
}

func (m *trial) resumeOne(t *rapid.T) {
	n := m.node(t)
	m.do(func() { n.refuses = false; n.resume() })
}

func (m *trial) moveOne(t *rapid.T) {
	if len(m.names) == 1 {
		t.Skip("one server")
	}
	m.move(m.channel(t), rapid.SampledFrom(m.names).Draw(t, "to"))
}

// forbidOne forbids a channel or allows it again. Redis disconnects who has it.
func (m *trial) forbidOne(t *rapid.T) {
	c := m.channel(t)
	m.do(func() {
		m.forbidden[c] = !m.forbidden[c]
		for _, n := range m.nodes {
			if m.forbidden[c] {
				n.kill()
			}
		}
	})
}

func (m *trial) pass(t *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond) // virtual
}

// settle makes everything reachable, lets time pass and compares.
func (m *trial) settle(t *rapid.T) {
	for _, n := range m.nodes {
		m.do(func() { n.refuses = false; n.resume() })
	}
	time.Sleep(15 * time.Second) // virtual; longer than every pause and time-out
	m.check(t)
	wanted := map[string]bool{}
	for _, s := range m.subs {
		wanted[s.channel] = !m.forbidden[s.channel]
		if s.Confirmed() == m.forbidden[s.channel] {
			t.Fatalf("%s: confirmed %v, forbidden %v", s.channel, s.Confirmed(), m.forbidden[s.channel])
		}
		if err := s.Err(); redis.HasErrorPrefix(err, "NOPERM") != m.forbidden[s.channel] {
			t.Fatalf("%s: error %v, forbidden %v", s.channel, err, m.forbidden[s.channel])
		}
	}
	confirmed := 0
	for _, c := range m.channels {
		where := m.where(c)
		switch {
		case !wanted[c] && len(where) > 0:
			t.Fatalf("%s: nobody wants it, but it is subscribed at %q", c, where)
		case wanted[c] && !slices.Equal(where, []string{m.owner[c]}):
			t.Fatalf("%s: subscribed at %q, want %q once", c, where, m.owner[c])
		case wanted[c]:
			confirmed++
		}
	}
	if n := m.subscribed.Load(); n != int64(confirmed) {
		t.Fatalf("the calls of Changed add up to %d, want %d", n, confirmed)
	}
	for _, n := range m.nodes {
		if len(n.wires) > 1 {
			t.Fatalf("%d connections to %q", len(n.wires), n.name)
		}
	}
}

// where tells which nodes have a channel subscribed, once a connection.
func (m *trial) where(channel string) (nodes []string) {
	for _, n := range m.nodes {
		for w := range n.wires {
			if w.channels[channel] {
				nodes = append(nodes, n.name)
			}
		}
	}
	return nodes
}
