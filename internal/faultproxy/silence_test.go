package faultproxy

import (
	"bufio"
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestBlackHole(t *testing.T) {
	s := redistest.Start(t)
	p := New(t, s.Addr(), 1)
	idle, busy := dial(t, p, 3), dial(t, p, 3)
	for _, c := range []*redis.Client{idle, busy} {
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	p.BlackHole(true)
	incr := func() error { return busy.Incr(t.Context(), "n").Err() }
	if err := unanswered(busy, incr); !timedOut(err) {
		t.Errorf("in the black hole: got %v, want a timeout", err)
	}
	late := dial(t, p, 3)
	late.Options().ReadTimeout = brief
	if err := late.Ping(t.Context()).Err(); !timedOut(err) {
		t.Errorf("a new connection in the black hole: got %v, want a timeout", err)
	}
	p.BlackHole(false)
	if got := count(t, s); got != 0 {
		t.Errorf("executed in the black hole: got %d, want 0", got)
	}
	conns := len(p.Conns())
	if err := idle.Ping(t.Context()).Err(); err != nil || len(p.Conns()) > conns {
		t.Errorf("the connection that lost nothing: got %v, and %d connections of %d", err, len(p.Conns()), conns)
	}
	if err := busy.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a new connection after the black hole: got %v", err)
	}
}

func TestBlackHoleHidesTheServersEnd(t *testing.T) {
	s := redistest.Start(t)
	p := New(t, s.Addr(), 1)
	c := dial(t, p, 3)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if !p.BlackHoleOne(p.Conns()[0]) {
		t.Fatal("the connection does not exist")
	}
	s.Kill()
	ping := func() error { return c.Ping(t.Context()).Err() }
	if err := unanswered(c, ping); !timedOut(err) {
		t.Errorf("ping of a dead server through a black hole: got %v, want a timeout", err)
	}
	if p.BlackHoleOne(1000) {
		t.Error("a connection that does not exist: got true, want false")
	}
}

// subscribe gives a subscription that is confirmed.
func subscribe(t *testing.T, c *redis.Client, channels ...string) *redis.PubSub {
	t.Helper()
	sub := c.Subscribe(t.Context(), channels...)
	t.Cleanup(func() { _ = sub.Close() })
	for range channels {
		if _, err := sub.ReceiveTimeout(t.Context(), limit); err != nil {
			t.Fatalf("subscribe: %v", err)
		}
	}
	return sub
}

func receive(t *testing.T, sub *redis.PubSub, want string) {
	t.Helper()
	got, err := sub.ReceiveTimeout(t.Context(), limit)
	if message, ok := got.(*redis.Message); err != nil || !ok || message.Payload != want {
		t.Errorf("receive: got %v, %v, want %q", got, err, want)
	}
}

func TestPubSub(t *testing.T) {
	s := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		t.Run("RESP"+strconv.Itoa(protocol), func(t *testing.T) {
			p := New(t, s.Addr(), 1)
			c := dial(t, p, protocol)
			sub := subscribe(t, c, "a", "b")
			publish := func(payload string) {
				if err := c.Publish(t.Context(), "b", payload).Err(); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
			publish("message") // looks like a kind of push
			receive(t, sub, "message")
			// A reply among messages still belongs to its command.
			p.OnNext("PING", DelayReply(time.Millisecond))
			if err := sub.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, err := sub.ReceiveTimeout(t.Context(), limit); err != nil || p.Log()[0].Name != "PING" {
				t.Errorf("pong: got %v, %v, log %v", got, err, p.Log())
			}

			p.BlackHolePubSub(true)
			publish("lost") // other connections go on
			if got, err := sub.ReceiveTimeout(t.Context(), 50*time.Millisecond); !timedOut(err) {
				t.Errorf("receive in the black hole: got %v, %v, want a timeout", got, err)
			}
			p.BlackHolePubSub(false)
			receiveAgain := subscribe(t, c, "b")
			publish("after")
			receive(t, receiveAgain, "after")
			if got := p.PubSubConns(); len(got) != 2 {
				t.Errorf("connections that have subscribed: got %v, want two", got)
			}
		})
	}
}

func TestSubscribeIsHeld(t *testing.T) {
	s := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		p := New(t, s.Addr(), 1)
		c := dial(t, p, protocol)
		open := make(chan struct{})
		p.OnNext("SUBSCRIBE", Gate(open))
		sub := c.Subscribe(t.Context(), "a", "b")
		defer sub.Close()
		happened(t, p, 1)
		if got, err := sub.ReceiveTimeout(t.Context(), 20*time.Millisecond); !timedOut(err) {
			t.Errorf("receive at the shut gate: got %v, %v, want a timeout", got, err)
		}
		close(open)
		for _, want := range []string{"a", "b"} {
			got, err := sub.ReceiveTimeout(t.Context(), limit)
			if confirmed, ok := got.(*redis.Subscription); err != nil || !ok || confirmed.Channel != want {
				t.Errorf("receive at the open gate: got %v, %v, want the subscription of %s", got, err, want)
			}
		}
	}
}

func TestMonitorPassesThrough(t *testing.T) {
	s := redistest.Start(t)
	p := New(t, s.Addr(), 1)
	// By hand: go-redis's Monitor has a data race with its own pool.
	conn, err := net.DialTimeout("tcp", p.Addr(), limit)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	if got, err := lines.ReadString('\n'); err != nil || got != "+OK\r\n" {
		t.Fatalf("monitor: got %q, %v, want OK", got, err)
	}
	if err := s.Do(t.Context(), "ECHO", "seen").Err(); err != nil {
		t.Fatal(err)
	}
	for {
		got, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("monitor: %v", err)
		}
		if strings.HasSuffix(got, "\"ECHO\" \"seen\"\r\n") {
			return
		}
	}
}

func TestReplicaFollowsThroughTheProxy(t *testing.T) {
	master := redistest.Start(t)
	p := New(t, master.Addr(), 1)
	_, port, _ := net.SplitHostPort(p.Addr())
	replica := redistest.Start(t, "--replicaof", "127.0.0.1", port)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := master.Do(ctx, "SET", "k", "v").Err(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, limit, "the replica has the key", func() bool {
		got, err := replica.Do(ctx, "GET", "k").Text()
		return err == nil && got == "v"
	})
}
