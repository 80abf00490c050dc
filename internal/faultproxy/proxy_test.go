package faultproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is far above what anything here takes.
const limit = 10 * time.Second

// dial gives a client of the proxy that tries each command once, over one
// connection at a time.
func dial(t *testing.T, p *Proxy, protocol int) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: p.Addr(), Protocol: protocol, PoolSize: 1, MaxRetries: -1, DialerRetries: 1,
		ReadTimeout: limit, DisableIdentity: true,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// brief is how long a client waits, once a command is sent, for a reply that does
// not come. It is too short for one that does: a busy machine can be that slow.
const brief = 125 * time.Millisecond

// unanswered runs a command whose reply does not come, on a connection that exists.
func unanswered(c *redis.Client, command func() error) error {
	c.Options().ReadTimeout = brief
	defer func() { c.Options().ReadTimeout = limit }()
	return command()
}

// happened waits until so many faults have taken effect. A client does not show
// it: it may have given up before its command reached the server.
func happened(t *testing.T, p *Proxy, n int) {
	t.Helper()
	redistest.Eventually(t, limit, "the fault takes effect", func() bool { return len(p.Log()) == n })
}

// count reads the counter that the tests increase, past the proxy.
func count(t *testing.T, s *redistest.Server) int {
	t.Helper()
	n, err := s.Do(t.Context(), "GET", "n").Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return n
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestFaults(t *testing.T) {
	s := redistest.Start(t)
	// In RESP3 go-redis looks for push messages first, meets the reset there,
	// and then reports the end of the stream; see TestReset.
	reset := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) }
	for _, test := range []struct {
		decision Decision
		executed bool
		silent   bool
	}{
		{DropReply, true, true},
		{ResetAfter, true, false},
		{DropRequest, false, true},
		{ResetBefore, false, false},
	} {
		for _, protocol := range []int{2, 3} {
			t.Run(test.decision.String(), func(t *testing.T) {
				p := New(t, s.Addr(), 1)
				c := dial(t, p, protocol)
				before := count(t, s)
				p.OnNth(2, "incr", test.decision)
				if err := c.Incr(t.Context(), "n").Err(); err != nil {
					t.Fatalf("first: %v", err)
				}
				second := func() error { return c.Incr(t.Context(), "n").Err() }
				if test.silent {
					if err := unanswered(c, second); !timedOut(err) {
						t.Errorf("second: got %v, want a timeout", err)
					}
				} else if err := second(); !reset(err) {
					t.Errorf("second: got %v, want a reset", err)
				}
				happened(t, p, 1)
				want := before + 1
				if test.executed {
					want++
				}
				if got := count(t, s); got != want {
					t.Errorf("counter after the fault: got %d, want %d", got, want)
				}
				if got, err := c.Incr(t.Context(), "n").Result(); err != nil || int(got) != want+1 {
					t.Errorf("third, on a new connection: got %d, %v, want %d", got, err, want+1)
				}
				log := p.Log()
				if len(log) != 1 || log[0].N != 2 || log[0].Name != "INCR" || log[0].Decision != test.decision {
					t.Errorf("log: got %v, want the second INCR", log)
				}
				if got := p.Seen()["INCR"]; got != 3 {
					t.Errorf("seen: got %d, want 3", got)
				}
			})
		}
	}
}

func TestReset(t *testing.T) {
	s := redistest.Start(t)
	for _, decision := range []Decision{ResetAfter, ResetBefore} {
		p := New(t, s.Addr(), 1)
		p.OnNext("PING", decision)
		conn, err := net.DialTimeout("tcp", p.Addr(), limit)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(limit))
		if _, err := conn.Write([]byte("PING\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v: got %v, want %v", decision, err, syscall.ECONNRESET)
		}
	}
}

func TestPipelineKeepsOrder(t *testing.T) {
	s := redistest.Start(t)
	p := New(t, s.Addr(), 1)
	c := dial(t, p, 3)
	if err := c.Ping(t.Context()).Err(); err != nil { // connect
		t.Fatal(err)
	}
	p.OnNth(3, "ECHO", DropReply)
	pipe := c.Pipeline()
	echoes := []*redis.StringCmd{
		pipe.Echo(t.Context(), "a\r\nb"), pipe.Echo(t.Context(), ""), pipe.Echo(t.Context(), "lost"), pipe.Echo(t.Context(), "after"),
	}
	pipe.Incr(t.Context(), "n")
	exec := func() error { _, err := pipe.Exec(t.Context()); return err }
	if err := unanswered(c, exec); !timedOut(err) {
		t.Errorf("pipeline: got %v, want a timeout", err)
	}
	for i, want := range []string{"a\r\nb", ""} {
		if got := echoes[i].Val(); got != want { // go-redis gives each command the pipeline's error
			t.Errorf("echo %d: got %q, want %q", i, got, want)
		}
	}
	for i, echo := range echoes[2:] {
		if echo.Val() != "" {
			t.Errorf("echo %d from the lost reply on: got %q, want nothing", i, echo.Val())
		}
	}
	redistest.Eventually(t, limit, "the command behind the lost reply is executed", func() bool { return count(t, s) == 1 })
}

func TestGates(t *testing.T) {
	s := redistest.Start(t)
	for _, test := range []struct {
		name     string
		decision func(<-chan struct{}) Decision
		held     int // the counter while the gate is shut
	}{
		{"a reply", Gate, 1},
		{"a request", GateRequest, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := New(t, s.Addr(), 1)
			c := dial(t, p, 3)
			before := count(t, s)
			open, answered := make(chan struct{}), make(chan error, 1)
			p.OnNext("INCR", test.decision(open))
			go func() { answered <- c.Incr(t.Context(), "n").Err() }() // ends when the gate opens
			happened(t, p, 1)
			if got := count(t, s) - before; got != test.held {
				t.Errorf("executed at the shut gate: got %d, want %d", got, test.held)
			}
			select {
			case err := <-answered:
				t.Errorf("answer at the shut gate: got %v", err)
			default:
			}
			close(open)
			select {
			case err := <-answered:
				if err != nil {
					t.Errorf("answer at the open gate: got %v", err)
				}
			case <-time.After(2 * limit): // the client gives up after one
				t.Fatalf("answer at the open gate: got none in %v", 2*limit)
			}
			if got := count(t, s) - before; got != 1 {
				t.Errorf("executed at the open gate: got %d, want 1", got)
			}
		})
	}

	t.Run("a request whose client has gone is executed late", func(t *testing.T) {
		p := New(t, s.Addr(), 1)
		c := dial(t, p, 3)
		if err := c.Ping(t.Context()).Err(); err != nil { // connect
			t.Fatal(err)
		}
		before := count(t, s)
		open := make(chan struct{})
		p.OnNext("INCR", GateRequest(open))
		incr := func() error { return c.Incr(t.Context(), "n").Err() }
		if err := unanswered(c, incr); !timedOut(err) {
			t.Errorf("incr: got %v, want a timeout", err)
		}
		happened(t, p, 1)
		_ = c.Close()
		close(open)
		redistest.Eventually(t, limit, "the late request is executed", func() bool { return count(t, s) == before+1 })
	})
}

func TestDelayReply(t *testing.T) {
	s := redistest.Start(t)
	p := New(t, s.Addr(), 1)
	c := dial(t, p, 3)
	p.OnNext("PING", DelayReply(50*time.Millisecond))
	begin := time.Now()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("delayed ping: took %v, want at least 50ms", took)
	}
}

func TestDecide(t *testing.T) {
	s := redistest.Start(t)
	p := New(t, s.Addr(), 1)
	c := dial(t, p, 3)
	p.Decide(func(command Command) Decision {
		if command.Name == "SET" && command.Args[0] == "bad" {
			return ResetBefore
		}
		return Pass
	})
	for key, want := range map[string]bool{"good": true, "bad": false} {
		if err := c.Set(t.Context(), key, "v", 0).Err(); (err == nil) != want {
			t.Errorf("set %s: got %v", key, err)
		}
	}
}

func TestRandomFollowsTheSeed(t *testing.T) {
	run := func(seed uint64) (fates []string) {
		r := rules{seed: seed, random: map[string][]Chance{"*": {{0.2, DropReply}, {0.3, ResetAfter}}}}
		for n := range 1000 {
			fates = append(fates, r.of(Command{Name: "EVALSHA", N: n, Conn: n % 7}).String())
		}
		return fates
	}
	first := run(1)
	if !reflect.DeepEqual(first, run(1)) {
		t.Error("the same seed: got other fates")
	}
	if reflect.DeepEqual(first, run(2)) {
		t.Error("another seed: got the same fates")
	}
	got := map[string]int{}
	for _, fate := range first {
		got[fate]++
	}
	for fate, want := range map[string]int{"pass": 500, "drop reply": 200, "reset after": 300} {
		if got[fate] < want*8/10 || got[fate] > want*12/10 {
			t.Errorf("%s: got %d of 1000, want about %d", fate, got[fate], want)
		}
	}
}

func TestRefuse(t *testing.T) {
	s := redistest.Start(t)
	p := New(t, s.Addr(), 1)
	for range 3 {
		old := dial(t, p, 3)
		if err := old.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := p.Refuse(true); err != nil {
			t.Fatal(err)
		}
		if _, err := net.DialTimeout("tcp", p.Addr(), limit); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: got %v, want %v", err, syscall.ECONNREFUSED)
		}
		if err := old.Ping(t.Context()).Err(); err != nil {
			t.Errorf("ping on an old connection: %v", err)
		}
		if err := p.Refuse(false); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKillAll(t *testing.T) {
	s := redistest.Start(t)
	p := New(t, s.Addr(), 1)
	conn, err := net.DialTimeout("tcp", p.Addr(), limit)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	redistest.Eventually(t, limit, "the connection exists", func() bool { return len(p.Conns()) == 1 })
	p.KillAll()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: got %v, want %v", err, syscall.ECONNRESET)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := dial(t, p, 3).Ping(ctx).Err(); err != nil {
		t.Errorf("ping on a new connection: %v", err)
	}
}
