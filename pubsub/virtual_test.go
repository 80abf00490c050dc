package pubsub

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs a test against fake servers in virtual time.
func inBubble(t *testing.T, test func(t *testing.T, f *fakes, m *Manager)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes("")
		m := f.manager(Config{})
		test(t, f, m)
		m.Close()
		time.Sleep(netTimeout) // virtual; what hung when the manager was closed has ended
	})
}

// A write that hangs holds up go-redis's mutex, and Close with it. The silence is
// noticed all the same, and the topics are with another connection.
func TestWriteThatHangs(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakes, m *Manager) {
		s := m.Subscribe("a")
		time.Sleep(10 * time.Millisecond) // virtual
		f.do(func() { f.nodes[""].stalled, f.nodes[""].blocked = true, true })
		late := m.Subscribe("b")
		time.Sleep(2900 * time.Millisecond) // virtual
		// The server is well again for others; the write still hangs, until its time-out.
		f.do(func() { f.nodes[""].stalled, f.nodes[""].blocked = false, false })
		time.Sleep(80 * time.Millisecond) // virtual; 2.98 s after the last frame at the latest
		if !s.Confirmed() {
			t.Error("lost before the silence was over")
		}
		taken(s)
		time.Sleep(120 * time.Millisecond) // virtual
		if !s.Confirmed() || !late.Confirmed() || !taken(s) || !taken(late) {
			t.Errorf("confirmed %v and %v, want both 100 ms after the silence", s.Confirmed(), late.Confirmed())
		}
	})
}

// A server that sends messages but answers no commands is as good as silent: a new
// channel would never be confirmed.
func TestServerThatAnswersNoCommands(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakes, m *Manager) {
		m.Subscribe("a")
		time.Sleep(10 * time.Millisecond) // virtual
		f.do(func() { f.nodes[""].deaf = true })
		late := m.Subscribe("b")
		for range 31 {
			f.publish("a")
			time.Sleep(100 * time.Millisecond) // virtual
		}
		f.do(func() { f.nodes[""].deaf = false })
		for range 10 {
			f.publish("a")
			time.Sleep(100 * time.Millisecond) // virtual
		}
		if !late.Confirmed() || !taken(late) {
			t.Error("a second later the new channel is not confirmed")
		}
	})
}

// Refused channels among many: each fails alone, no other does, and they are asked for
// again at leisure.
func TestManyRefusedChannels(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakes, m *Manager) {
		const channels = 2000
		subs := make([]*Subscription, channels)
		for i := range subs {
			c := fmt.Sprint(i)
			f.do(func() { f.forbidden[c] = i%2 == 0 })
			subs[i] = m.Subscribe(c)
		}
		time.Sleep(refusedAgain / 2) // virtual
		for i, s := range subs {
			if refused := i%2 == 0; s.Confirmed() == refused || (s.Err() != nil) != refused || !taken(s) {
				t.Fatalf("%s: confirmed %v, error %v, refused %v", s.topic.channel, s.Confirmed(), s.Err(), refused)
			}
		}
		var written []int
		f.do(func() { written, f.nodes[""].written = f.nodes[""].written, nil })
		if most := slices.Max(written); most > mostChannels {
			t.Errorf("%d channels in one command, want %d at most", most, mostChannels)
		}
		time.Sleep(10 * refusedAgain) // virtual
		f.do(func() { written = f.nodes[""].written })
		if n := len(written); n < 9*channels/2 || n > 10*channels/2 {
			t.Errorf("%d commands in %v for %d refused channels, want one each %v", n, 10*refusedAgain, channels/2, refusedAgain)
		}
	})
}
