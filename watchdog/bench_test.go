package watchdog

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/holdfast-go/holdfast/internal/script"
)

const many = 100_000

type benchLease struct {
	entry Entry
	done  chan struct{}
	keys  []string
}

func (l *benchLease) Renewal() script.Op               { return script.Op{Keys: l.keys} }
func (l *benchLease) Renewed(script.Answer, time.Time) { l.done <- struct{}{} }
func (l *benchLease) Lapsed()                          {}

// fill puts 100,000 leases whose renewals are spread over ten seconds, an hour from now.
func fill(w *Watchdog, leases []benchLease) {
	now := time.Now().Add(time.Hour)
	for i := range leases {
		at := now.Add(rand.N(10 * time.Second))
		w.Put(&leases[i].entry, &leases[i], Schedule{RenewAt: at, Retry: time.Second, Deadline: at.Add(20 * time.Second)})
	}
}

// answerAll is a Send whose calls are answered at once.
func answerAll(ops []script.Op, answered func([]script.Answer, time.Time)) func() bool {
	answers := make([]script.Answer, len(ops))
	for i := range answers {
		answers[i] = renewed
	}
	go answered(answers, time.Now())
	return func() bool { return false }
}

// An unlock and a lock beside 100,000 others.
func BenchmarkRemovePut(b *testing.B) {
	w := New(answerAll, shard)
	defer w.Close()
	leases := make([]benchLease, many)
	fill(w, leases)
	at := time.Now().Add(time.Hour)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l := &leases[i*7919%many]
		w.Remove(&l.entry)
		w.Put(&l.entry, l, Schedule{RenewAt: at.Add(10 * time.Second), Retry: time.Second, Deadline: at.Add(30 * time.Second)})
	}
}

// All 100,000 rescheduled.
func BenchmarkReschedule(b *testing.B) {
	w := New(answerAll, shard)
	defer w.Close()
	leases := make([]benchLease, many)
	for b.Loop() {
		fill(w, leases)
	}
}

// A lock and an unlock of a client that holds nothing else.
func BenchmarkPutRemoveAlone(b *testing.B) {
	w := New(answerAll, shard)
	defer w.Close()
	l := &benchLease{}
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		w.Put(&l.entry, l, Schedule{RenewAt: now.Add(10 * time.Second), Retry: time.Second, Deadline: now.Add(30 * time.Second)})
		w.Remove(&l.entry)
	}
}

// What 100,000 leases cost in the watchdog, beside themselves.
func BenchmarkMemory(b *testing.B) {
	var before, after runtime.MemStats
	leases := make([]benchLease, many)
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		w := New(answerAll, shard)
		fill(w, leases)
		runtime.GC()
		runtime.ReadMemStats(&after)
		w.Close()
		clear(leases)
	}
	b.ReportMetric(float64(unsafe.Sizeof(Entry{})), "entry-B")
	b.ReportMetric(float64(int64(after.HeapAlloc-before.HeapAlloc))/many, "heap-B/lease")
}

// A round in which 100,000 renewals are due at once, from the first to the last
// answer.
func BenchmarkRound(b *testing.B) {
	done := make(chan struct{}, many)
	w := New(answerAll, shard)
	defer w.Close()
	leases := make([]benchLease, many)
	for i := range leases {
		leases[i] = benchLease{done: done, keys: []string{"k"}}
	}
	for b.Loop() {
		now := time.Now()
		for i := range leases {
			w.Put(&leases[i].entry, &leases[i], Schedule{RenewAt: now, Retry: time.Minute, Deadline: now.Add(time.Hour)})
		}
		for range many {
			<-done
		}
	}
}
