package holdfast_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/keys"
)

// A stander is a fair lock's waiter in a bubble.
type stander struct {
	link *link
	hold holdfast.Hold
	at   time.Time
	done chan struct{}
}

// stands starts a waiter in a client of its own, and returns once it stands in the queue.
func (v *virtual) stands(opts ...holdfast.LockOption) *stander {
	v.Helper()
	return v.standsIn(v.client(), opts...)
}

func (v *virtual) standsIn(l *link, opts ...holdfast.LockOption) *stander {
	v.Helper()
	s := &stander{link: l, done: make(chan struct{})}
	length := len(v.line())
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
	v.Cleanup(cancel)
	go func() { // ends with ctx at the latest
		defer close(s.done)
		s.hold, _ = l.client.FairLock("orders", opts...).Lock(ctx)
		s.at = time.Now()
	}()
	for range 1000 {
		if len(v.line()) > length {
			return s
		}
		time.Sleep(time.Millisecond)
	}
	v.Fatal("it does not stand in the queue")
	return nil
}

func (v *virtual) line() []string {
	line, _ := v.server.List(keys.Queue("orders")) // no key: nobody
	return line
}

// until tells when an entry's place runs out.
func (v *virtual) until(entry string) time.Time {
	v.Helper()
	score, err := v.server.ZScore(keys.Timeout("orders"), entry)
	if err != nil {
		v.Fatal(err)
	}
	return time.UnixMilli(int64(score))
}

func (v *virtual) fair(l *link, opts ...holdfast.AcquireOption) holdfast.Hold {
	v.Helper()
	h, err := l.client.FairLock("orders").Lock(context.Background(), opts...)
	if err != nil {
		v.Fatal(err)
	}
	return h
}

func (v *virtual) unlock(h holdfast.Hold) {
	v.Helper()
	if err := h.Unlock(context.Background()); err != nil {
		v.Error(err)
	}
}

// in waits for a waiter that has the lock now, give or take some milliseconds, and unlocks.
func (v *virtual) in(s *stander, from time.Time) {
	v.Helper()
	<-s.done
	if took := s.at.Sub(from); took < 0 || took > 50*time.Millisecond {
		v.Errorf("the waiter has the lock %v later, want at once", took)
	}
	if s.hold == nil {
		v.Fatal("the waiter has no lock")
	}
	v.unlock(s.hold)
}

// nothing fails the test if anything is left of the lock.
func (v *virtual) nothing() {
	v.Helper()
	time.Sleep(time.Second)
	if left := v.server.Keys(); len(left) > 0 {
		v.Errorf("left: %v", left)
	}
}

// crashing is a client of which all but its subscription can be muted: a mute one is
// opened anew under a mutex of go-redis's, and in a bubble no time passes while one is
// waited for.
func (v *virtual) crashing() *link {
	v.Helper()
	l := &link{}
	rdb := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", DisableIdentity: true,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			conn, err := v.server.Dial()
			return &halfMutable{mutable{conn, l}, false}, err
		},
	})
	c, err := holdfast.New(rdb, holdfast.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		v.Fatal(err)
	}
	l.client = c
	v.Cleanup(func() {
		_ = c.Close()
		_ = rdb.Close()
		time.Sleep(time.Minute) // what hangs in the network ends by its timeouts
	})
	return l
}

type halfMutable struct {
	mutable
	subscribed bool
}

func (m *halfMutable) Write(p []byte) (int, error) {
	m.subscribed = m.subscribed || bytes.Contains(p, []byte("subscribe"))
	if m.subscribed {
		return m.Conn.Write(p)
	}
	return m.mutable.Write(p)
}

func TestAFairWaiterKeepsItsPlaceForAnHour(t *testing.T) {
	inBubble(t, func(v *virtual) {
		h := v.fair(v.client())
		first := v.stands()
		time.Sleep(7 * time.Minute)
		second := v.stands(holdfast.WithWaiterLease(time.Second))
		line := v.line()
		for range 60 {
			time.Sleep(61 * time.Second) // no multiple of a waiter lease: it is seen at any age
			if got := v.line(); !slices.Equal(got, line) {
				v.Fatalf("the queue: got %v, want %v", got, line)
			}
			if left := time.Until(v.until(line[0])); left < 9*time.Second || left > 15*time.Second {
				v.Fatalf("a place of 15s is kept for %v more", left)
			}
		}
		release := time.Now()
		v.unlock(h)
		v.in(first, release)
		v.in(second, first.at)
		v.nothing()
	})
}

// The lock is idle until the place of the crashed one runs out, and not a moment longer; three
// that crashed together cost no more than the last of them.
func TestACrashedHeadCostsItsWaiterLease(t *testing.T) {
	for _, crashed := range []int{1, 3} {
		inBubble(t, func(v *virtual) {
			h := v.fair(v.client())
			var dead []*stander
			for range crashed {
				dead = append(dead, v.standsIn(v.crashing()))
				time.Sleep(1700 * time.Millisecond)
			}
			lives := v.stands()
			time.Sleep(42 * time.Second)
			crash := time.Now()
			for _, s := range dead {
				s.link.mute.Store(true)
			}
			v.unlock(h)
			last := crash
			for _, entry := range v.line()[:crashed] {
				if until := v.until(entry); until.After(last) {
					last = until
				}
			}
			<-lives.done
			if late := lives.at.Sub(last); late < 0 || late > 50*time.Millisecond {
				v.Errorf("%d crashed: the next one came %v after their places had run out, want at once", crashed, late)
			}
			if took := lives.at.Sub(crash); took < 9*time.Second || took > 15*time.Second+50*time.Millisecond {
				v.Errorf("%d crashed: the next one came after %v, want one waiter lease of 15s, less what had passed since the last renewal", crashed, took)
			}
			v.unlock(lives.hold)
			var back sync.WaitGroup
			for _, s := range dead {
				s.link.mute.Store(false) // it stands in the queue again
				back.Go(func() {
					<-s.done
					v.unlock(s.hold)
				})
			}
			back.Wait()
			v.nothing()
		})
	}
}

// One that does not hear its message comes with its next renewal.
func TestAFairWaiterWhoseMessagesAreLostStillComes(t *testing.T) {
	inBubble(t, func(v *virtual) {
		v.fair(v.client(), holdfast.WithLease(time.Hour))
		first := v.stands()
		time.Sleep(time.Minute)
		v.server.Del("orders") // freed, and nobody is told
		free := time.Now()
		<-first.done
		if took := first.at.Sub(free); took > 5*time.Second+50*time.Millisecond {
			v.Errorf("the waiter came %v after the lock was free", took)
		}
		v.unlock(first.hold)
		v.nothing()
	})
}

// A waiter sends one renewal at most each 4.5 s, and a PING at most each second.
func TestIdleFairWaitersSendNextToNothing(t *testing.T) {
	inBubble(t, func(v *virtual) {
		h := v.fair(v.client())
		l := v.client()
		const waiters = 8
		var all []*stander
		for range waiters {
			all = append(all, v.standsIn(l))
		}
		time.Sleep(time.Minute)
		before := l.writes.Load()
		time.Sleep(20 * time.Minute)
		if n := l.writes.Load() - before; n > waiters*1200*10/45+1200 {
			v.Errorf("%d waiters wrote %d times in 20 minutes", waiters, n)
		}
		from := time.Now()
		v.unlock(h)
		for _, s := range all {
			v.in(s, from)
			from = s.at
		}
		v.nothing()
	})
}

// No script is told what a client's clock says. Where the server's clock is an hour before
// or behind those of all clients, which is the same as theirs having been set by an hour,
// places are kept by the server's. What a client measures itself it measures with Go's
// monotonic clock, which no test can set.
func TestAClientsClockDoesNotMatter(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		inBubble(t, func(v *virtual) {
			v.server.SetTime(time.Now().Add(off))
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() { // ends with stop: the server's clock goes on, an hour off
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
						v.server.SetTime(time.Now().Add(off))
					}
				}
			}()
			h := v.fair(v.client())
			first, second := v.stands(), v.stands()
			for range 10 {
				time.Sleep(7 * time.Second)
				if got := v.line(); len(got) != 2 {
					v.Fatalf("the queue: got %v, want two", got)
				}
				if left := time.Until(v.until(v.line()[0])) - off; left < 9*time.Second || left > 15*time.Second+2*time.Millisecond {
					v.Fatalf("a place of 15s is kept for %v more", left)
				}
			}
			from := time.Now()
			v.unlock(h)
			v.in(first, from)
			v.in(second, first.at)
			v.nothing()
			close(stop)
			<-stopped
		})
	}
}
