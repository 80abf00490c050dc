package holdfast_test

import (
	"context"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// What is on the wire is Redisson's, byte for byte: keys, fields, TTLs, channels,
// payloads. Names with and without a hash tag.
func TestWireOfAPlainLock(t *testing.T) {
	for name, channel := range map[string]string{
		"order:7":  "redisson_lock__channel:{order:7}",
		"{shop}:7": "redisson_lock__channel:{shop}:7",
		"naïve ☃":  "redisson_lock__channel:{naïve ☃}",
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			server := redistest.Start(t)
			rdb := server.Client(t)
			lock := newClient(t, rdb).RLock(name)
			messages := rdb.PSubscribe(ctx, "*")
			defer messages.Close()
			if _, err := messages.Receive(ctx); err != nil {
				t.Fatal(err)
			}

			outer, err := lock.Lock(ctx)
			if err != nil {
				t.Fatal(err)
			}
			uuid7 := `[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`
			if !regexp.MustCompile("^" + uuid7 + ":[1-9][0-9]*$").MatchString(outer.Owner()) {
				t.Errorf("owner: got %q, want a version-7 UUID, a colon and a number", outer.Owner())
			}
			wantState(t, rdb, name, map[string]string{outer.Owner(): "1"}, 30*time.Second)
			inner, err := lock.Lock(outer.Context(ctx), holdfast.WithLease(50*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			wantState(t, rdb, name, map[string]string{outer.Owner(): "2"}, 50*time.Second)
			if err := inner.Unlock(ctx); err != nil {
				t.Fatal(err)
			}
			wantState(t, rdb, name, map[string]string{outer.Owner(): "1"}, 50*time.Second)
			if err := outer.Unlock(ctx); err != nil {
				t.Fatal(err)
			}
			if keys := rdb.Keys(ctx, "*").Val(); len(keys) != 0 {
				t.Errorf("keys after the last Unlock: got %q, want none", keys)
			}
			message, err := messages.ReceiveMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if message.Channel != channel || message.Payload != "0" {
				t.Errorf("got message %q on %q, want %q on %q", message.Payload, message.Channel, "0", channel)
			}
		})
	}
}

func newClient(t *testing.T, rdb redis.UniversalClient, opts ...holdfast.Option) *holdfast.Client {
	t.Helper()
	c, err := holdfast.New(rdb, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// wantState checks the raw hash, and its TTL give or take a second.
func wantState(t *testing.T, rdb redis.UniversalClient, name string, fields map[string]string, ttl time.Duration) {
	t.Helper()
	got := rdb.HGetAll(t.Context(), name).Val()
	if len(got) != len(fields) {
		t.Errorf("hash: got %v, want %v", got, fields)
	}
	for field, want := range fields {
		if got[field] != want {
			t.Errorf("hash: got %v, want %v", got, fields)
		}
	}
	if left := rdb.PTTL(t.Context(), name).Val(); left > ttl || left < ttl-time.Second {
		t.Errorf("TTL: got %v, want %v", left, ttl)
	}
}

// A lock of Redisson's, as its script leaves it, excludes us; ours can be forced by it.
func TestAForeignOwnerExcludes(t *testing.T) {
	ctx := t.Context()
	rdb := redistest.Start(t).Client(t)
	lock := newClient(t, rdb).RLock("order:7")
	if err := rdb.HSet(ctx, "order:7", "6e3d30b7-83b1-433a-9335-5e8b9916d3ac:42", "3").Err(); err != nil {
		t.Fatal(err)
	}
	rdb.PExpire(ctx, "order:7", 30*time.Second)
	got := make(chan error, 1)
	go func() {
		_, err := lock.Lock(context.Background())
		got <- err
	}()
	redistest.Eventually(t, 5*time.Second, "the waiter subscribes", func() bool {
		return rdb.PubSubNumSub(ctx, "redisson_lock__channel:{order:7}").Val()["redisson_lock__channel:{order:7}"] == 1
	})
	// Redisson's unlock: DEL, then PUBLISH "0".
	rdb.Del(ctx, "order:7")
	rdb.Publish(ctx, "redisson_lock__channel:{order:7}", "0")
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Error("the waiter did not hear Redisson's message")
	}
}

// Redisson's choice: SPUBLISH in a cluster whose servers know it, PUBLISH in an older
// cluster and everywhere else, also where a single server knows SPUBLISH.
func TestWireOfMessages(t *testing.T) {
	t.Run("a single server", func(t *testing.T) {
		server := redistest.Start(t)
		rdb := server.Client(t)
		lines := server.Monitor(t)
		if err := newClient(t, rdb).RLock("order:7").Do(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		want := `lua "PUBLISH" "redisson_lock__channel:{order:7}" "0"`
		if got := lines(); !slices.Contains(got, want) {
			t.Errorf("got %q, want a line %s", got, want)
		}
	})
	t.Run("a cluster", func(t *testing.T) {
		cluster := redistest.StartCluster(t, 3, 0)
		server := cluster.MasterOf("order:7")
		want := `lua "PUBLISH" "redisson_lock__channel:{order:7}" "0"`
		if major, _ := server.Version(); major >= 7 {
			want = `lua "SPUBLISH" "redisson_lock__channel:{order:7}" "0"`
		}
		lines := server.Monitor(t)
		if err := newClient(t, cluster.Client(t)).RLock("order:7").Do(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if got := lines(); !slices.Contains(got, want) {
			t.Errorf("got %q, want a line %s", got, want)
		}
	})
}
