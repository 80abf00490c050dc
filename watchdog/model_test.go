package watchdog

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-go/holdfast/internal/script"
)

// A model is what the watchdog promises, without a heap or a goroutine: it follows
// what is done to the leases and objects to each call that may not come now, and
// to each that has not come.
type model struct {
	w      *Watchdog
	leases []*modelLease
	calls  []*modelCall // not answered yet

	mu  sync.Mutex
	bad []string
}

type modelLease struct {
	m     *model
	key   string
	entry Entry

	// guarded by m.mu
	there    bool
	life     int
	latest   *modelCall // with the latest copy of this life
	schedule Schedule
	from, by time.Time // the next copy is not sent before, and not after; zero: none
	reply    string    // what Renewed does
	told     int       // answers
}

type modelCall struct {
	m        *model
	leases   []*modelLease
	lives    []int
	queued   bool // guarded by m.mu
	answered func([]script.Answer, time.Time)
	sent     time.Time
}

func (m *model) object(ok bool, text string) {
	if !ok {
		m.bad = append(m.bad, text)
	}
}

func (m *model) shard(key string) string { return key[:1] }

// put reschedules a lease, in the model first.
func (l *modelLease) put(s Schedule) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if !l.there {
		l.there, l.latest = true, nil
		l.life++
	}
	l.schedule, l.by, l.from = s, s.RenewAt, s.RenewAt
	if !s.RenewAt.IsZero() {
		l.from = s.RenewAt.Add(-min(mostSlack, max(0, s.Deadline.Sub(s.RenewAt)/100)))
	}
	l.m.w.Put(&l.entry, l, s)
}

func (l *modelLease) remove() {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.there = false
	l.m.w.Remove(&l.entry)
}

func (l *modelLease) Renewal() script.Op {
	m, now := l.m, time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.object(l.there, "renewed though not there")
	m.object(now.Before(l.schedule.Deadline), "renewed after its deadline")
	m.object(!l.from.IsZero() && !now.Before(l.from), "renewed too early")
	m.object(l.latest == nil || !l.latest.queued, "doubled though still queued")
	l.by = now.Add(l.schedule.Retry)
	l.from = l.by.Add(-mostSlack)
	return script.Op{Keys: []string{l.key}}
}

func (l *modelLease) Renewed(_ script.Answer, _ time.Time) {
	l.m.mu.Lock()
	l.told++
	reply, s := l.reply, l.schedule
	l.m.mu.Unlock()
	now := time.Now()
	switch reply {
	case "renewed":
		if !s.RenewAt.IsZero() {
			s.RenewAt = now.Add(time.Second)
		}
		s.Deadline = now.Add(3 * time.Second)
		l.put(s)
	case "gone":
		l.remove()
	}
}

func (l *modelLease) Lapsed() {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.object(l.there, "lapsed though not there")
	l.m.object(time.Now().Equal(l.schedule.Deadline), "lapsed at another time than its deadline")
	l.there = false
}

func (m *model) send(ops []script.Op, answered func([]script.Answer, time.Time)) func() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &modelCall{m: m, queued: true, answered: answered, sent: time.Now()}
	m.object(len(ops) > 0 && len(ops) <= mostOps, "a call of another size than 1 to 100")
	for _, op := range ops {
		i := slices.IndexFunc(m.leases, func(l *modelLease) bool { return l.key == op.Keys[0] })
		l := m.leases[i]
		m.object(m.shard(l.key) == m.shard(ops[0].Keys[0]), "a call to two servers")
		c.leases, c.lives = append(c.leases, l), append(c.lives, l.life)
		l.latest = c
	}
	m.calls = append(m.calls, c)
	return func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return c.queued
	}
}

// leave lets a call leave its queue: from now on a copy may follow. If one was due
// already it was left out, maybe a moment ago, and follows after a pause.
func (c *modelCall) leave() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if !c.queued {
		return
	}
	c.queued = false
	now := time.Now()
	for _, l := range c.leases {
		if l.latest == c && !l.from.IsZero() && !now.Before(l.from) {
			l.from, l.by = now, now.Add(l.schedule.Retry)
		}
	}
}

// answer answers a call and checks who is told.
func (c *modelCall) answer(t *rapid.T, reply string) {
	c.leave()
	m := c.m
	answers := make([]script.Answer, len(c.leases))
	want := map[*modelLease]int{}
	m.mu.Lock()
	m.calls = slices.DeleteFunc(m.calls, func(other *modelCall) bool { return other == c })
	for i, l := range c.leases {
		answers[i] = renewed
		if reply == "unknown" {
			answers[i] = script.Answer{Err: errors.New("EOF")}
		}
		l.reply = reply
		want[l] = l.told
		if l.there && l.life == c.lives[i] {
			want[l]++
		}
	}
	m.mu.Unlock()
	go c.answered(answers, c.sent)
	synctest.Wait()
	for l, told := range want {
		if l.told != told {
			t.Fatalf("%s: told %d answers, want %d", l.key, l.told, told)
		}
	}
}

// check compares once nothing moves any more.
func (m *model) check(t *rapid.T) {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	now, there := time.Now(), 0
	for _, l := range m.leases {
		if !l.there {
			continue
		}
		there++
		waits := l.latest != nil && l.latest.queued
		if !now.Before(l.schedule.Deadline) {
			t.Fatalf("%s: not lapsed %v after its deadline", l.key, now.Sub(l.schedule.Deadline))
		}
		if !l.by.IsZero() && !waits && now.After(l.by) {
			t.Fatalf("%s: not renewed %v after it was due", l.key, now.Sub(l.by))
		}
	}
	if len(m.bad) > 0 {
		t.Fatalf("%v", m.bad)
	}
	if got := m.w.Len(); got != there {
		t.Fatalf("Len: got %d, want %d", got, there)
	}
}

// draw makes a schedule, in the past too.
func drawSchedule(t *rapid.T) Schedule {
	ms := func(from, to int, name string) time.Duration {
		return time.Duration(rapid.IntRange(from, to).Draw(t, name)) * time.Millisecond
	}
	now := time.Now()
	s := Schedule{Retry: ms(10, 400, "retry"), Deadline: now.Add(ms(1, 4000, "deadline"))}
	if rapid.IntRange(0, 4).Draw(t, "renews") > 0 {
		s.RenewAt = now.Add(ms(-5, 2000, "renewal"))
	}
	return s
}

func TestAnyOrderOfEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			m := &model{}
			m.w = New(m.send, m.shard)
			defer m.w.Close()
			for _, key := range []string{"a1", "a2", "a3", "b1", "b2"} {
				m.leases = append(m.leases, &modelLease{m: m, key: key})
			}
			lease := func(t *rapid.T) *modelLease {
				// Not drawn from the leases: rapid prints what it draws, and would read them.
				return m.leases[rapid.IntRange(0, len(m.leases)-1).Draw(t, "lease")]
			}
			open := func(t *rapid.T) *modelCall {
				m.mu.Lock()
				defer m.mu.Unlock()
				if len(m.calls) == 0 {
					t.Skip("no call is open")
				}
				return m.calls[rapid.IntRange(0, len(m.calls)-1).Draw(t, "call")]
			}
			t.Repeat(map[string]func(*rapid.T){
				"put":    func(t *rapid.T) { lease(t).put(drawSchedule(t)) },
				"remove": func(t *rapid.T) { lease(t).remove() },
				"leave":  func(t *rapid.T) { open(t).leave() },
				"answer": func(t *rapid.T) {
					open(t).answer(t, rapid.SampledFrom([]string{"renewed", "gone", "unknown"}).Draw(t, "reply"))
				},
				"wait": func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(1, 1500).Draw(t, "ms")) * time.Millisecond)
				},
				"": m.check,
			})
		})
	})
}
