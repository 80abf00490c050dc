package watchdog

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
)

// A funcLease does what its functions say.
type funcLease struct {
	entry   Entry
	renewal func()
	renewed func()
	lapsed  func()
}

func (l *funcLease) Renewal() script.Op {
	do(l.renewal)
	return script.Op{Keys: []string{"k"}}
}
func (l *funcLease) Renewed(script.Answer, time.Time) { do(l.renewed) }
func (l *funcLease) Lapsed()                          { do(l.lapsed) }

func do(f func()) {
	if f != nil {
		f()
	}
}

// An undo of the engine may come to its end after Close.
func TestRemoveAfterClose(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		leases := make([]lease, 3)
		for i := range leases {
			leases[i] = lease{w: w, key: "k", term: 30 * time.Second}
			leases[i].start()
		}
		w.Close()
		for i := range leases {
			w.Remove(&leases[i].entry)
		}
		if w.Len() != 0 {
			t.Errorf("Len: got %d, want 0", w.Len())
		}
	})
}

// Of many that lapse at once each is called in turn. One that is removed before
// its turn is not called any more.
func TestALapseIsCalledOffBeforeItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		leases := make([]funcLease, 3)
		calls := 0
		for i := range leases {
			leases[i].lapsed = func() {
				calls++
				for j := range leases {
					w.Remove(&leases[j].entry)
				}
			}
			w.Put(&leases[i].entry, &leases[i], Schedule{Deadline: time.Now().Add(time.Second)})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls != 1 {
			t.Errorf("got %d lapses, want 1: the first removed the others", calls)
		}
	})
}

// The same for renewals that are due at once.
func TestARenewalIsCalledOffBeforeItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		s.change(func() { s.answer = func(string) (script.Answer, bool) { return script.Answer{}, false } })
		leases := make([]funcLease, 3)
		calls := 0
		for i := range leases {
			leases[i].renewal = func() {
				calls++
				for j := range leases {
					w.Remove(&leases[j].entry)
				}
			}
			w.Put(&leases[i].entry, &leases[i], hourly(time.Now()))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls != 1 {
			t.Errorf("got %d renewals, want 1: the first removed the others", calls)
		}
	})
}

// hourly is a schedule of a renewal in a second, with an hour of trust.
func hourly(now time.Time) Schedule {
	return Schedule{RenewAt: now.Add(time.Second), Retry: time.Second, Deadline: now.Add(time.Hour)}
}

// The process is stopped in the middle of a round: those whose deadline passed
// meanwhile are not renewed, though they were when the round began.
func TestAStopWithinARound(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		leases := make([]funcLease, 3)
		renewals, lapses := 0, 0
		for i := range leases {
			leases[i].renewal = func() { renewals++; time.Sleep(2 * time.Hour) }
			leases[i].lapsed = func() { lapses++ }
			w.Put(&leases[i].entry, &leases[i], hourly(time.Now()))
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if renewals != 1 || lapses != len(leases) {
			t.Errorf("got %d renewals and %d lapses, want 1 and %d", renewals, lapses, len(leases))
		}
	})
}

// Deadlines do not wait until a long round is over.
func TestADeadlineWithinALongRound(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		start := time.Now()
		var lapsed time.Duration
		urgent := &funcLease{lapsed: func() { lapsed = time.Since(start) }}
		w.Put(&urgent.entry, urgent, Schedule{Deadline: start.Add(1500 * time.Millisecond)})
		leases := make([]funcLease, 5000)
		for i := range leases {
			leases[i].renewal = func() { time.Sleep(time.Millisecond) }
			w.Put(&leases[i].entry, &leases[i], hourly(start))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if lapsed < 1500*time.Millisecond || lapsed > 2600*time.Millisecond {
			t.Errorf("lapsed after %v, want soon after 1.5s: the round lasts until 6s", lapsed)
		}
	})
}

// Close does not wait for all that is due, only for the call under way.
func TestCloseInTheMiddleOfARound(t *testing.T) {
	for _, s := range []Schedule{{RenewAt: time.Unix(1, 0), Deadline: time.Now().AddDate(50, 0, 0)}, {Deadline: time.Unix(1, 0)}} {
		bubble(t, func(t *testing.T, _ *server, w *Watchdog) {
			leases := make([]funcLease, 10)
			calls, ended := 0, 0
			first := make(chan struct{}, 10)
			for i := range leases {
				leases[i].renewal = func() { calls++; first <- struct{}{}; time.Sleep(time.Second); ended++ }
				leases[i].lapsed = leases[i].renewal
				w.Put(&leases[i].entry, &leases[i], s)
			}
			<-first
			w.Close()
			if calls != 1 || ended != 1 {
				t.Errorf("got %d calls, %d of them ended when Close returned, want 1 and 1", calls, ended)
			}
		})
	}
}

func TestAnswersAfterCloseAreDropped(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		s.change(func() { s.delay = time.Second })
		l := &funcLease{renewed: func() { t.Error("got an answer after Close") }}
		w.Put(&l.entry, l, hourly(time.Now()))
		time.Sleep(1500 * time.Millisecond)
		w.Close()
		time.Sleep(time.Minute)
	})
}

// All methods at once, from within the callbacks too; for the race detector.
func TestManyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *server, w *Watchdog) {
		s.change(func() { s.delay = 3 * time.Millisecond })
		var group sync.WaitGroup
		for g := range 8 {
			group.Go(func() {
				leases := make([]lease, 20)
				for i := range leases {
					leases[i] = lease{w: w, key: fmt.Sprint(i), term: time.Duration(10+g+i) * time.Millisecond}
				}
				for round := range 300 {
					l := &leases[(round*7)%len(leases)]
					if (round+g)%3 == 0 {
						w.Remove(&l.entry)
					} else {
						l.start()
					}
					w.Len()
					time.Sleep(time.Duration(round%5) * time.Millisecond)
				}
				for i := range leases {
					w.Remove(&leases[i].entry)
				}
			})
		}
		group.Wait()
		if w.Len() != 0 {
			t.Errorf("Len: got %d, want 0", w.Len())
		}
	})
}
