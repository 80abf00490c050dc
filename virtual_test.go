package holdfast_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
)

// A virtual is a server in a bubble of virtual time: hours pass in milliseconds,
// and moments are exact.
type virtual struct {
	*testing.T
	server *miniredis.Miniredis
}

func inBubble(t *testing.T, test func(v *virtual)) {
	synctest.Test(t, func(t *testing.T) {
		server := miniredis.NewMiniRedis()
		server.ClockTTL(true)
		test(&virtual{t, server})
		server.Close()
	})
}

// A link is a client's connections; while it is mute, what the client writes is lost.
type link struct {
	client *holdfast.Client
	mute   atomic.Bool
	writes atomic.Int64

	last   atomic.Bool  // mute after one more write
	lastAt atomic.Value // time.Time of that write
	slow   atomic.Int64 // how long each answer takes
	far    atomic.Int64 // how long each script takes until it is there
}

func (v *virtual) client(opts ...holdfast.Option) *link {
	l := &link{}
	rdb := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", DisableIdentity: true,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			conn, err := v.server.Dial()
			return &mutable{conn, l}, err
		},
	})
	c, err := holdfast.New(rdb, append(opts, holdfast.WithLogger(slog.New(slog.DiscardHandler)))...)
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

type mutable struct {
	net.Conn
	link *link
}

func (m *mutable) Write(p []byte) (int, error) {
	m.link.writes.Add(1)
	if m.link.mute.Load() {
		return len(p), nil
	}
	if m.link.last.Load() {
		m.link.mute.Store(true)
		m.link.lastAt.Store(time.Now())
	}
	if bytes.Contains(p, []byte("eval")) { // while a subscription is written, others wait for a mutex: that stops virtual time
		time.Sleep(time.Duration(m.link.far.Load()))
	}
	return m.Conn.Write(p)
}

func (m *mutable) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	time.Sleep(time.Duration(m.link.slow.Load()))
	return n, err
}

func (v *virtual) lock(l *link, opts ...holdfast.AcquireOption) holdfast.Hold {
	v.Helper()
	h, err := l.client.RLock("orders").Lock(context.Background(), opts...)
	if err != nil {
		v.Fatal(err)
	}
	return h
}

func TestTheWatchdogKeepsAHoldForTenHours(t *testing.T) {
	inBubble(t, func(v *virtual) {
		h := v.lock(v.client())
		for range 10 * 60 {
			time.Sleep(time.Minute)
			if err := h.Err(); err != nil {
				v.Fatalf("the hold: %v", err)
			}
			if ttl := v.server.TTL("orders"); ttl < 19*time.Second || ttl > 30*time.Second {
				v.Fatalf("TTL: got %v, want 20s to 30s", ttl)
			}
		}
		if err := h.Unlock(context.Background()); err != nil {
			v.Error(err)
		}
		if v.server.Exists("orders") {
			v.Error("the key is left")
		}
	})
}

// The window is exact: the sending of the last confirmation, plus 30 s, less 300 ms.
func TestAHoldIsLostWhenItsTrustWindowPasses(t *testing.T) {
	inBubble(t, func(v *virtual) {
		l := v.client()
		start := time.Now()
		h := v.lock(l)
		l.mute.Store(true)
		ctx := h.Context(context.Background())
		<-ctx.Done()
		if got, want := time.Since(start), 30*time.Second-300*time.Millisecond; got != want {
			v.Errorf("lost after %v, want %v", got, want)
		}
		if err := context.Cause(ctx); !errors.Is(err, holdfast.ErrLost) || !errors.Is(h.Err(), holdfast.ErrLost) {
			v.Errorf("got cause %v and Err %v, want ErrLost", err, h.Err())
		}
	})
}

// A renewal whose answer takes its time is trusted from its sending on.
func TestRule4TrustCountsFromTheSendingOfARenewal(t *testing.T) {
	inBubble(t, func(v *virtual) {
		l := v.client()
		h := v.lock(l)
		time.Sleep(5 * time.Second)
		l.slow.Store(int64(2 * time.Second))
		l.last.Store(true) // the next thing that is sent is the renewal, and nothing else
		<-h.Done()
		sent := l.lastAt.Load().(time.Time)
		if got, want := time.Since(sent), 30*time.Second-300*time.Millisecond; got != want {
			v.Errorf("lost %v after the renewal was sent, want %v", got, want)
		}
	})
}

// Silence alone ends no hold before its window.
func TestAHoldOutlivesSilence(t *testing.T) {
	inBubble(t, func(v *virtual) {
		l := v.client()
		h := v.lock(l)
		for range 20 {
			time.Sleep(11 * time.Second)
			l.mute.Store(true)
			time.Sleep(10 * time.Second)
			l.mute.Store(false)
			time.Sleep(20 * time.Second)
			if err := h.Err(); err != nil {
				v.Fatalf("the hold: %v", err)
			}
		}
	})
}

func TestALeaseThatEndsWithoutAMessageLetsTheNextOneIn(t *testing.T) {
	inBubble(t, func(v *virtual) {
		start := time.Now()
		holder := v.client()
		v.lock(holder, holdfast.WithLease(25*time.Second))
		holder.mute.Store(true) // as if it had died: nobody releases the lock or tells
		v.lock(v.client())
		if took := time.Since(start); took < 25*time.Second || took > 25*time.Second+100*time.Millisecond {
			v.Errorf("the next one came after %v of a lease of 25s", took)
		}
	})
}

// A waiter asks for as long as it takes, and asks seldom.
func TestAWaiterWaitsForHoursAndAsksSeldom(t *testing.T) {
	inBubble(t, func(v *virtual) {
		holder, waiter := v.client(), v.client()
		h := v.lock(holder)
		got := make(chan holdfast.Hold)
		go func() { got <- v.lock(waiter) }()
		time.Sleep(time.Minute)
		before := waiter.writes.Load()
		time.Sleep(5 * time.Hour)
		// One question at most each 4.5 s, and a PING at most each second.
		if n := waiter.writes.Load() - before; n > 5*3600*10/45+5*3600 {
			v.Errorf("a waiter wrote %d times in 5 hours", n)
		}
		release := time.Now()
		if err := h.Unlock(context.Background()); err != nil {
			v.Error(err)
		}
		<-got
		if took := time.Since(release); took > 10*time.Millisecond {
			v.Errorf("the waiter came %v after the release", took)
		}
	})
}

// A subscription may be deaf without anybody knowing: the safety poll finds out.
func TestAWaiterWhoseMessagesAreLostStillComes(t *testing.T) {
	inBubble(t, func(v *virtual) {
		v.lock(v.client(), holdfast.WithLease(time.Hour))
		waiter := v.client()
		got := make(chan holdfast.Hold)
		go func() { got <- v.lock(waiter) }()
		time.Sleep(time.Minute)
		v.server.Del("orders") // freed, and nobody is told
		free := time.Now()
		<-got
		if took := time.Since(free); took > 10*time.Second {
			v.Errorf("the waiter came %v after the lock was free", took)
		}
	})
}

func TestABlackHoleEndsNoCallLate(t *testing.T) {
	inBubble(t, func(v *virtual) {
		l := v.client()
		orders := l.client.RLock("orders")
		h := v.lock(l)
		l.mute.Store(true)
		for _, wait := range []time.Duration{time.Millisecond, 200 * time.Millisecond, 20 * time.Second} {
			start := time.Now()
			_, err := l.client.RLock("other").TryLock(context.Background(), wait, 0)
			if took := time.Since(start); took != wait {
				v.Errorf("TryLock(%v) returned after %v", wait, took)
			}
			if err == nil || errors.Is(err, holdfast.ErrNotAcquired) {
				v.Errorf("TryLock(%v): got %v, want an error that says that Redis did not answer", wait, err)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		for deed, call := range map[string]func() error{
			"Lock":        func() error { _, err := orders.Lock(ctx); return err },
			"IsLocked":    func() error { _, err := orders.IsLocked(ctx); return err },
			"ForceUnlock": func() error { _, err := orders.ForceUnlock(ctx); return err },
			"Check":       func() error { return l.client.Check(ctx) },
		} {
			if err := call(); !errors.Is(err, context.DeadlineExceeded) {
				v.Errorf("%s: got %v, want the deadline", deed, err)
			}
		}
		start := time.Now()
		if err := h.Unlock(context.Background()); err == nil || errors.Is(err, holdfast.ErrLost) {
			v.Errorf("Unlock: got %v, want an error that says that Redis did not answer", err)
		}
		if took := time.Since(start); took > 3*time.Second {
			v.Errorf("Unlock returned after %v", took)
		}
	})
}
