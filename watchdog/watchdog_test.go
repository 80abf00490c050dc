package watchdog

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/internal/script"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A lease of the tests keeps itself alive as the engine's owners do, and notes what
// happens to it.
type lease struct {
	w     *Watchdog
	key   string
	term  time.Duration
	entry Entry

	mu       sync.Mutex
	deadline time.Time
	renewals []time.Time // copies that were sent
	answers  []string
	lapsed   []time.Time
}

func (l *lease) Renewal() script.Op {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewals = append(l.renewals, time.Now())
	return script.Op{Keys: []string{l.key}}
}

func (l *lease) Renewed(answer script.Answer, sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case answer.Err != nil:
		l.answers = append(l.answers, "unknown")
	case answer.Reply[0] == "gone":
		l.answers = append(l.answers, "gone")
		l.w.Remove(&l.entry)
	default:
		l.answers = append(l.answers, "renewed")
		l.put(sent)
	}
}

func (l *lease) Lapsed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lapsed = append(l.lapsed, time.Now())
}

// put schedules the lease as confirmed at that time. Under l.mu.
func (l *lease) put(sent time.Time) {
	l.deadline = sent.Add(l.term)
	l.w.Put(&l.entry, l, Schedule{RenewAt: sent.Add(l.term / 3), Retry: l.term / 30, Deadline: l.deadline})
}

func (l *lease) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(time.Now())
}

// A server of the tests answers calls after a delay, or never, and notes them.
type server struct {
	mu     sync.Mutex
	calls  [][]string // keys, a call each
	delay  time.Duration
	answer func(key string) (script.Answer, bool) // false: no answer to the whole call
	queued bool
}

var renewed = script.Answer{Reply: []any{"renewed"}}

func (s *server) send(ops []script.Op, answered func([]script.Answer, time.Time)) func() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	answers := make([]script.Answer, len(ops))
	ok := true
	for i, op := range ops {
		keys = append(keys, op.Keys[0])
		answers[i] = renewed
		if s.answer != nil {
			var answers1 bool
			answers[i], answers1 = s.answer(op.Keys[0])
			ok = ok && answers1
		}
	}
	s.calls = append(s.calls, keys)
	if ok {
		sent := time.Now()
		time.AfterFunc(s.delay, func() { answered(answers, sent) })
	}
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.queued
	}
}

func (s *server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// shard groups keys by their first letter.
func shard(key string) string { return key[:1] }

func bubble(t *testing.T, test func(t *testing.T, s *server, w *Watchdog)) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{delay: time.Millisecond}
		w := New(s.send, shard)
		defer w.Close()
		test(t, s, w)
	})
}

func TestEachLeaseIsRenewedForHours(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		var leases []*lease
		for i := range 50 {
			l := &lease{w: w, key: fmt.Sprint(i%3, "-", i), term: time.Duration(1+i%5) * 6 * time.Second}
			l.start()
			leases = append(leases, l)
		}
		time.Sleep(3 * time.Hour)
		for _, l := range leases {
			l.mu.Lock()
			if want := int(3 * time.Hour / (l.term / 3)); len(l.lapsed) > 0 || len(l.renewals) < want-want/100 || len(l.renewals) > want+want/100 {
				t.Errorf("term %v: got %d renewals and %d lapses, want about %d and none", l.term, len(l.renewals), len(l.lapsed), want)
			}
			l.mu.Unlock()
		}
		if w.Len() != 50 {
			t.Errorf("Len: got %d, want 50", w.Len())
		}
	})
}

func TestADeadlineIsExact(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		s.change(func() { s.answer = func(string) (script.Answer, bool) { return script.Answer{}, false } })
		for i := range 20 {
			l := &lease{w: w, key: "k", term: time.Second + time.Duration(i)*time.Nanosecond}
			l.start()
			defer func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				if len(l.lapsed) != 1 || !l.lapsed[0].Equal(l.deadline) {
					t.Errorf("lapsed at %v, want once at %v", l.lapsed, l.deadline)
				}
			}()
		}
		time.Sleep(time.Minute)
		if w.Len() != 0 {
			t.Errorf("Len: got %d, want 0", w.Len())
		}
	})
}

func TestALeaseWithoutRenewalOnlyLapses(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		l := &lease{w: w, key: "k"}
		start := time.Now()
		w.Put(&l.entry, l, Schedule{Deadline: start.Add(time.Hour)})
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(l.renewals) != 0 || len(l.lapsed) != 1 || l.lapsed[0].Sub(start) != time.Hour {
			t.Errorf("got renewals %v, lapses %v", l.renewals, l.lapsed)
		}
	})
}

func TestCopiesFollowUntilThereIsAnAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		silent := true
		s.change(func() {
			s.answer = func(string) (script.Answer, bool) { return renewed, !silent }
		})
		l := &lease{w: w, key: "k", term: 30 * time.Second}
		l.start()
		time.Sleep(15500 * time.Millisecond) // due at 10 s, then each second
		l.mu.Lock()
		if n := len(l.renewals); n < 5 || n > 6 {
			t.Errorf("got %d copies in 5.5 s of silence, want 6", n)
		}
		l.mu.Unlock()
		s.change(func() { silent = false })
		time.Sleep(time.Hour)
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.lapsed) != 0 {
			t.Error("it lapsed though it was answered in time")
		}
	})
}

func TestWhatIsStillQueuedIsNotDoubled(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		s.change(func() {
			s.queued = true
			s.answer = func(string) (script.Answer, bool) { return script.Answer{}, false }
		})
		l := &lease{w: w, key: "k", term: 30 * time.Second}
		l.start()
		time.Sleep(25 * time.Second)
		synctest.Wait()
		s.change(func() {
			if len(s.calls) != 1 {
				t.Errorf("got %d calls while the first was queued, want 1", len(s.calls))
			}
			s.queued = false
		})
		time.Sleep(2 * time.Second)
		s.change(func() {
			if len(s.calls) < 2 {
				t.Error("no copy followed once the first had left its queue")
			}
		})
	})
}

func TestGoneEndsRenewal(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		s.change(func() {
			s.answer = func(string) (script.Answer, bool) { return script.Answer{Reply: []any{"gone"}}, true }
		})
		l := &lease{w: w, key: "k", term: 30 * time.Second}
		l.start()
		time.Sleep(time.Hour)
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.renewals) != 1 || !slices.Equal(l.answers, []string{"gone"}) || len(l.lapsed) != 0 {
			t.Errorf("got %d renewals, answers %v, lapses %v", len(l.renewals), l.answers, l.lapsed)
		}
	})
}

func TestNothingAfterRemove(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		s.change(func() { s.delay = 3 * time.Second })
		l := &lease{w: w, key: "k", term: 30 * time.Second}
		l.start()
		time.Sleep(10500 * time.Millisecond) // a renewal is in flight
		w.Remove(&l.entry)
		w.Remove(&l.entry)
		time.Sleep(time.Hour)
		l.mu.Lock()
		if len(l.answers) != 0 || len(l.lapsed) != 0 || len(l.renewals) != 1 {
			t.Errorf("after Remove: answers %v, lapses %v, %d renewals", l.answers, l.lapsed, len(l.renewals))
		}
		l.mu.Unlock()
		// An answer to an earlier life is dropped too.
		l.start()
		time.Sleep(10500 * time.Millisecond)
		w.Remove(&l.entry)
		l.start()
		time.Sleep(5 * time.Second)
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.answers) != 0 {
			t.Errorf("got answers %v of an earlier life", l.answers)
		}
	})
}

func TestOneServerDelaysNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		s.change(func() {
			s.answer = func(key string) (script.Answer, bool) {
				if shard(key) == "b" {
					return script.Answer{Err: errors.New("down")}, true
				}
				return renewed, shard(key) != "a"
			}
		})
		leases := map[string]*lease{}
		for _, key := range []string{"a", "b", "c"} { // silent, failing, well
			leases[key] = &lease{w: w, key: key, term: 30 * time.Second}
			leases[key].start()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for key, lapses := range map[string]int{"a": 1, "b": 1, "c": 0} {
			if got := len(leases[key].lapsed); got != lapses {
				t.Errorf("server %s: got %d lapses, want %d", key, got, lapses)
			}
		}
	})
}

func TestCallsAreGroupedByServerAndBounded(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		for i := range 450 {
			l := &lease{w: w, key: string(rune('a'+i%2)) + fmt.Sprint(i), term: 30*time.Second - time.Duration(i)*time.Microsecond}
			l.start()
		}
		time.Sleep(11 * time.Second)
		s.change(func() {
			if len(s.calls) != 6 {
				t.Errorf("450 renewals for two servers: got %d calls, want 6", len(s.calls))
			}
			for _, keys := range s.calls {
				for _, key := range keys {
					if len(keys) > 100 || shard(key) != shard(keys[0]) {
						t.Errorf("got a call of %d, with %s and %s", len(keys), keys[0], key)
					}
				}
			}
			if first := s.calls[0][0]; first != "b449" && first != "a448" {
				t.Errorf("the first renewal is %s, want that of the earliest deadline", first)
			}
		})
	})
}

// After a stop of the process deadlines come before renewals.
func TestWhatHasLapsedIsNotRenewed(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		l := &lease{w: w, key: "k"}
		past := time.Now().Add(-time.Second)
		w.Put(&l.entry, l, Schedule{RenewAt: past.Add(-time.Minute), Deadline: past, Retry: time.Second})
		time.Sleep(time.Second)
		synctest.Wait()
		if len(l.renewals) != 0 || len(l.lapsed) != 1 {
			t.Errorf("got %d renewals and %d lapses, want 0 and 1", len(l.renewals), len(l.lapsed))
		}
	})
}

func TestCloseEndsEverything(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		l := &lease{w: w, key: "k", term: 30 * time.Second}
		l.start()
		w.Close()
		w.Close()
		l.start()
		time.Sleep(time.Hour)
		if len(l.renewals) != 0 || len(l.lapsed) != 0 || w.Len() != 0 {
			t.Errorf("after Close: %d renewals, %d lapses, Len %d", len(l.renewals), len(l.lapsed), w.Len())
		}
	})
}
