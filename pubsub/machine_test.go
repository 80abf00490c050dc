package pubsub

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// A machine does anything in any order to a manager and its server, in a bubble.
type machine struct {
	server *fakeServer
	rdb    *redis.Client
	m      *Manager
	config Config
	sum    atomic.Int64
	subs   map[string][]*Subscription
}

var channels = []string{"a", "b", "c", "d"}

func TestManagerMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			x := &machine{
				server: &fakeServer{conns: map[*fakeConn]struct{}{}, forbidden: map[string]bool{}},
				config: Config{Silence: 3 * time.Second, Linger: time.Second},
				subs:   map[string][]*Subscription{},
			}
			x.rdb = x.server.client()
			x.config.Changed = func(delta int) { x.sum.Add(int64(delta)) }
			x.m = New(x.rdb, x.config)
			channel := rapid.SampledFrom(channels)
			t.Repeat(map[string]func(*rapid.T){
				"": x.check,
				"subscribe": func(t *rapid.T) {
					ch := channel.Draw(t, "channel")
					x.subs[ch] = append(x.subs[ch], x.m.Subscribe(ch))
				},
				"close": func(t *rapid.T) {
					ch := channel.Draw(t, "channel")
					if n := len(x.subs[ch]); n > 0 {
						i := rapid.IntRange(0, n-1).Draw(t, "which")
						x.subs[ch][i].Close()
						x.subs[ch] = slices.Delete(x.subs[ch], i, i+1)
					}
				},
				"message": func(t *rapid.T) { x.message(t, channel.Draw(t, "channel")) },
				"kill":    func(*rapid.T) { x.server.kill() },
				"silence": func(t *rapid.T) { x.server.silence(rapid.Bool().Draw(t, "on")) },
				"refuse":  func(t *rapid.T) { x.server.refuse(rapid.Bool().Draw(t, "on")) },
				"forbid": func(t *rapid.T) {
					x.server.forbid(channel.Draw(t, "channel"), rapid.Bool().Draw(t, "on"))
				},
				"pause": func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond) // virtual
				},
				"settle": x.settle,
			})
			x.settle(t)
			x.end(t)
		})
	})
}

func (x *machine) all() (all []*Subscription) {
	for _, ch := range channels {
		all = append(all, x.subs[ch]...)
	}
	return all
}

// check is what holds whenever nothing is under way.
func (x *machine) check(t *rapid.T) {
	synctest.Wait()
	confirmed := 0
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	for _, topic := range x.m.topics {
		if topic.confirmed {
			confirmed++
		}
		if topic.confirmed && topic.session == nil {
			t.Fatalf("%q is confirmed by nobody", topic.channel)
		}
	}
	if sum := x.sum.Load(); sum != int64(confirmed) {
		t.Fatalf("Changed adds up to %d, want %d", sum, confirmed)
	}
	if len(x.m.topics) > len(channels) || x.m.idle.Len() > len(channels) || len(x.m.sessions) > 1 || len(x.m.wanted) > 0 {
		t.Fatalf("%d topics, %d idle, %d sessions, %d wanted", len(x.m.topics), x.m.idle.Len(), len(x.m.sessions), len(x.m.wanted))
	}
}

// message publishes; whoever the server says receives it must be woken.
func (x *machine) message(t *rapid.T, ch string) {
	synctest.Wait()
	for _, s := range x.all() {
		taken(s)
	}
	x.server.news()
	received := x.server.publish(ch)
	synctest.Wait()
	for _, s := range x.subs[ch] {
		if received > 0 && !taken(s) {
			t.Fatalf("a message for %q did not wake", ch)
		}
	}
	for _, s := range x.all() {
		if taken(s) && s.topic.channel != ch && len(x.server.news()) == 0 {
			t.Fatalf("a message for %q woke %q", ch, s.topic.channel)
		}
	}
}

// settle makes the server well and waits longer than every pause: now the server has
// exactly the channels with subscriptions, and every loss before has been made good
// by a wake-up.
func (x *machine) settle(t *rapid.T) {
	x.server.silence(false)
	x.server.refuse(false)
	synctest.Wait()
	for _, s := range x.all() {
		taken(s)
	}
	x.server.kill()              // so that every channel is confirmed or refused anew
	time.Sleep(10 * time.Second) // virtual; longer than every pause and time-out
	synctest.Wait()
	for _, ch := range channels {
		want := 0
		if len(x.subs[ch]) > 0 && !x.server.forbidden[ch] {
			want = 1
		}
		if got := x.server.subscribers(ch); got != want {
			t.Fatalf("%d connections have %q, want %d", got, ch, want)
		}
		for _, s := range x.subs[ch] {
			if s.Confirmed() != (want == 1) || (s.Err() == nil) != (want == 1) {
				t.Fatalf("%q: confirmed %v, error %v; allowed: %v", ch, s.Confirmed(), s.Err(), want == 1)
			}
			if !taken(s) {
				t.Fatalf("%q was confirmed or refused anew, and nobody woken", ch)
			}
		}
	}
	x.check(t)
}

// end closes the manager; the bubble itself fails if a goroutine stays behind.
func (x *machine) end(t *rapid.T) {
	all := x.all()
	x.m.Close()
	synctest.Wait()
	for _, s := range all {
		if !taken(s) {
			t.Fatal("Close did not wake everybody")
		}
	}
	if n := len(x.m.topics) + len(x.m.sessions) + x.m.idle.Len() + len(x.m.resting) + len(x.server.conns) + int(x.sum.Load()); n != 0 {
		t.Fatalf("%d things are left after Close, want none", n)
	}
	_ = x.rdb.Close()
}
