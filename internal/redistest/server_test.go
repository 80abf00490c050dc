package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func once(options *redis.Options) {
	options.MaxRetries, options.DialerRetries, options.ContextTimeoutEnabled = -1, 1, true
}

func TestServer(t *testing.T) {
	ctx := t.Context()

	t.Run("is killed and comes back empty on its port", func(t *testing.T) {
		t.Parallel()
		s := Start(t)
		c := s.Client(t, once)
		if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		pid := s.PID()
		s.Kill()
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("signal to the killed process: got %v, want %v", err, syscall.ESRCH)
		}
		if err := c.Ping(ctx).Err(); !errors.Is(err, syscall.ECONNREFUSED) && err == nil {
			t.Errorf("ping of a dead server: got %v, want an error", err)
		}
		if s.Running() {
			t.Error("Running of a killed server: got true, want false")
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := s.Client(t, once).Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
			t.Errorf("key after a restart: got %v, want %v", err, redis.Nil)
		}
		if s.PID() == pid {
			t.Errorf("PID after a restart: got %d again", pid)
		}
	})

	t.Run("is asked again as soon as it is back, however often it was asked while dead", func(t *testing.T) {
		t.Parallel()
		s := Start(t)
		s.Kill()
		for range 200 { // go-redis stops dialing for a second after as many failures as a pool has places
			if err := s.Do(ctx, "PING").Err(); err == nil {
				t.Fatal("ping of a dead server: got no error")
			}
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := s.Do(ctx, "PING").Err(); err != nil {
			t.Errorf("ping of the restarted server: %v", err)
		}
	})

	t.Run("keeps its data over Stop and Kill if told to", func(t *testing.T) {
		t.Parallel()
		s := Start(t, "--appendonly", "yes", "--appendfsync", "always")
		for i, end := range []func(){s.Stop, s.Kill} {
			if err := s.Do(ctx, "INCR", "n").Err(); err != nil {
				t.Fatal(err)
			}
			end()
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Client(t).Get(ctx, "n").Int(); err != nil || got != i+1 {
				t.Errorf("counter after end %d: got %d, %v, want %d", i, got, err, i+1)
			}
		}
	})

	t.Run("answers nothing while paused", func(t *testing.T) {
		t.Parallel()
		s := Start(t)
		c := s.Client(t, once)
		if err := s.Pause(); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if err := c.Ping(short).Err(); err == nil {
			t.Error("ping of a paused server: got an answer")
		}
		if err := s.Resume(); err != nil {
			t.Fatal(err)
		}
		Eventually(t, 5*time.Second, "the resumed server answers", func() bool { return c.Ping(ctx).Err() == nil })
	})

	t.Run("is ready when it wants a password", func(t *testing.T) {
		t.Parallel()
		s := Start(t, "--requirepass", "secret")
		c := s.Client(t, func(options *redis.Options) { options.Password = "secret" })
		if err := c.Ping(ctx).Err(); err != nil {
			t.Error(err)
		}
	})

	t.Run("tells its version", func(t *testing.T) {
		t.Parallel()
		s := Start(t)
		info, err := s.Client(t).InfoMap(ctx, "server").Result()
		if err != nil {
			t.Fatal(err)
		}
		major, minor := s.Version()
		want := info["Server"]["redis_version"]
		if valkey, ok := info["Server"]["valkey_version"]; ok {
			want = valkey
		}
		if !strings.HasPrefix(want, fmt.Sprintf("%d.%d.", major, minor)) {
			t.Errorf("version: got %d.%d, want that of %s", major, minor, want)
		}
	})
}

func TestStartFailure(t *testing.T) {
	t.Run("tells what the server wrote", func(t *testing.T) {
		s, err := Launch("--no-such-option", "1")
		if err == nil {
			s.Close()
			t.Fatal("launch with a bad option: got no error")
		}
		if !strings.Contains(err.Error(), "no-such-option") {
			t.Errorf("launch with a bad option: got %v, want the option's name in it", err)
		}
	})

	t.Run("tells what to install", func(t *testing.T) {
		t.Setenv("HOLDFAST_REDIS_SERVER", "no-such-redis-server")
		s, err := Launch()
		if err == nil {
			s.Close()
			t.Fatal("launch without a binary: got no error")
		}
		if !strings.Contains(err.Error(), "apt-get install redis-server") {
			t.Errorf("launch without a binary: got %v, want advice", err)
		}
	})
}

func TestCloseLeavesNothing(t *testing.T) {
	s, err := Launch()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := os.Stat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory after Close: got %v, want %v", err, os.ErrNotExist)
	}
	if s.Running() {
		t.Error("the server runs after Close")
	}
}

func TestMonitor(t *testing.T) {
	s := Start(t)
	c := s.Client(t)
	if err := c.Ping(t.Context()).Err(); err != nil { // connect before the record begins
		t.Fatal(err)
	}
	lines := s.Monitor(t)
	if err := c.Eval(t.Context(), `return redis.call("get", KEYS[1])`, []string{"a b"}).Err(); !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	want := []string{`"eval" "return redis.call(\"get\", KEYS[1])" "1" "a b"`, `lua "get" "a b"`}
	for range 2 {
		if got := lines(); !reflect.DeepEqual(got, want) {
			t.Errorf("monitor: got %q, want %q", got, want)
		}
	}
}

func TestMiniredisExpiresKeys(t *testing.T) {
	var backend Backend = StartMiniredis(t)
	c := backend.Client(t)
	if err := c.Set(t.Context(), "k", "v", 20*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 5*time.Second, "the key expires", func() bool {
		return errors.Is(c.Get(t.Context(), "k").Err(), redis.Nil)
	})
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string][2]int{
		"Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64": {7, 0},
		"Valkey server v=8.1.3 sha=00000000:0":                               {8, 1},
	} {
		if got, err := parseVersion(text); err != nil || got != want {
			t.Errorf("version in %q: got %v, %v, want %v", text, got, err, want)
		}
	}
	if got, err := parseVersion("something else"); err == nil {
		t.Errorf("version in other text: got %v, want an error", got)
	}
}
