package watchdog

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
)

// Calls that are not full go out by their first deadline too.
func TestSmallCallsGoByTheirFirstDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		var want []string
		for i := range 20 {
			l := &lease{w: w, key: string(rune('z' - i)), term: 30*time.Second + time.Duration(i)*time.Microsecond}
			want = append(want, l.key)
			l.start()
		}
		time.Sleep(10500 * time.Millisecond)
		s.change(func() {
			if got := slices.Concat(s.calls...); !slices.Equal(got, want) {
				t.Errorf("got calls %v, want %v", got, want)
			}
		})
	})
}

// A renewal is early only to go with another one.
func TestARenewalIsNotEarlyAlone(t *testing.T) {
	for _, test := range []struct {
		name      string
		others    []time.Duration // when others are renewed
		lapse     time.Duration   // when another one lapses
		wantAfter time.Duration
	}{
		{name: "alone", wantAfter: time.Second},
		{name: "with a lapse 4 ms before", lapse: 996 * time.Millisecond, wantAfter: time.Second},
		{name: "with another one 4 ms before", others: []time.Duration{996 * time.Millisecond}, wantAfter: 996 * time.Millisecond},
		{name: "with another one 6 ms before", others: []time.Duration{994 * time.Millisecond}, wantAfter: time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *server, w *Watchdog) {
				s.change(func() { s.answer = func(string) (script.Answer, bool) { return script.Answer{}, false } })
				start := time.Now()
				var after []time.Duration
				l := &funcLease{renewal: func() { after = append(after, time.Since(start)) }}
				w.Put(&l.entry, l, hourly(start))
				for _, at := range test.others {
					other := &funcLease{}
					w.Put(&other.entry, other, Schedule{RenewAt: start.Add(at), Retry: time.Hour, Deadline: start.Add(time.Hour)})
				}
				if test.lapse > 0 {
					other := &funcLease{}
					w.Put(&other.entry, other, Schedule{Deadline: start.Add(test.lapse)})
				}
				time.Sleep(1500 * time.Millisecond)
				synctest.Wait()
				if len(after) != 1 || after[0] != test.wantAfter {
					t.Errorf("renewed after %v, want once after %v", after, test.wantAfter)
				}
			})
		})
	}
}

// Locks that are taken and freed at once do not wake the goroutine each time: it
// puts its timer off only when it goes off.
func TestTheTimerIsNotPutOff(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		armed := func() moment {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.armed
		}
		l := &funcLease{}
		w.Put(&l.entry, l, hourly(time.Now()))
		first := armed()
		w.Remove(&l.entry)
		time.Sleep(time.Millisecond)
		earlier := &funcLease{} // wakes it once more
		w.Put(&earlier.entry, earlier, Schedule{Deadline: time.Now().Add(time.Millisecond)})
		time.Sleep(2 * time.Millisecond)
		if got := armed(); got != never {
			t.Errorf("armed for %v with nothing to keep, want never", time.Duration(got))
		}
		for range 10 {
			w.Put(&l.entry, l, hourly(time.Now()))
			if got := armed(); got > first+moment(time.Second) {
				t.Errorf("armed for %v", time.Duration(got))
			}
			before := armed()
			w.Remove(&l.entry)
			w.rouse()
			if got := armed(); got != before {
				t.Errorf("armed for %v after a removal, want still %v", time.Duration(got), time.Duration(before))
			}
		}
	})
}

// An answered call is not kept in memory by its entries, whichever comes first, the
// answer or the return of Send.
func TestAnAnsweredCallIsForgotten(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Second} {
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := New(func(ops []script.Op, answered func([]script.Answer, time.Time)) func() bool {
					go func() {
						time.Sleep(delay)
						answered([]script.Answer{renewed}, time.Now())
					}()
					time.Sleep(time.Millisecond) // nothing that a Send should do, but the answer may be that quick
					return func() bool { return false }
				}, shard)
				defer w.Close()
				l := &funcLease{}
				w.Put(&l.entry, l, Schedule{RenewAt: time.Now(), Retry: time.Minute, Deadline: time.Now().Add(time.Hour)})
				time.Sleep(10 * time.Second)
				synctest.Wait()
				w.mu.Lock()
				defer w.mu.Unlock()
				if l.entry.call != nil {
					t.Error("the entry still has the call")
				}
			})
		})
	}
}

// queued may take a mutex under which somebody calls the watchdog.
func TestQueuedIsAskedWithNoMutexHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var w *Watchdog
		w = New(func([]script.Op, func([]script.Answer, time.Time)) func() bool {
			w.Len()
			return func() bool {
				asked++
				if !w.mu.TryLock() {
					t.Error("queued was asked under the watchdog's mutex")
					return true
				}
				w.mu.Unlock()
				return true
			}
		}, shard)
		defer w.Close()
		l := &funcLease{renewal: func() { w.Len() }}
		w.Put(&l.entry, l, hourly(time.Now()))
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		if asked != 1 {
			t.Errorf("queued was asked %d times, want 1", asked)
		}
	})
}
