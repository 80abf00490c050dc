package pubsub

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

func acl(t *testing.T, server *redistest.Server, rules ...any) {
	t.Helper()
	if err := server.Do(t.Context(), append([]any{"ACL", "SETUSER", "u"}, rules...)...).Err(); err != nil {
		t.Fatal(err)
	}
}

func as(user, password string) func(*redis.Options) {
	return func(o *redis.Options) { o.Username, o.Password = user, password }
}

func awaitErr(t *testing.T, s *Subscription, prefix string) {
	t.Helper()
	for s.Err() == nil {
		awaitWake(t, s)
	}
	if err := s.Err(); !redis.HasErrorPrefix(err, prefix) || s.Confirmed() {
		t.Errorf("error %v, want %s; confirmed %v, want false", err, prefix, s.Confirmed())
	}
	taken(s)
}

func TestForbiddenChannelFailsAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	acl(t, server, "on", ">p", "+@all", "resetchannels", "&ok:*")
	proxy := proxied(t, server)
	m := start(t, server.Client(t, through(proxy), as("u", "p")), Config{})
	var ok []*Subscription
	for i := range 20 {
		ok = append(ok, m.Subscribe(fmt.Sprint("ok:", i)))
	}
	no := m.Subscribe("no")
	for i := range 20 {
		ok = append(ok, m.Subscribe(fmt.Sprint("ok:b", i)))
	}
	awaitErr(t, no, "NOPERM")
	if late := m.Subscribe("no"); !taken(late) || late.Err() == nil {
		t.Error("a subscription of a channel that is refused has no wake-up at once")
	}
	for _, s := range ok {
		awaitConfirmed(t, s)
	}
	publish(t, server, "ok:b7")
	awaitWake(t, ok[27])
	if n := len(proxy.PubSubConns()); n != 1 {
		t.Errorf("%d connections, want the first one", n)
	}

	acl(t, server, "allchannels")
	awaitConfirmed(t, no)
	if no.Err() != nil {
		t.Errorf("accepted, but error %v", no.Err())
	}
	publish(t, server, "no")
	awaitWake(t, no)

	acl(t, server, "resetchannels", "&ok:*") // Redis closes the connection
	awaitErr(t, no, "NOPERM")
	for _, s := range ok {
		awaitConfirmed(t, s)
	}
}

func TestForbiddenCommand(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	acl(t, server, "on", ">p", "+@all", "-subscribe", "allchannels")
	m := start(t, server.Client(t, as("u", "p")), Config{})
	s := m.Subscribe("a")
	awaitErr(t, s, "NOPERM")
	acl(t, server, "+subscribe")
	awaitConfirmed(t, s)
}

// Without the right to PING any answer is a sign of life.
func TestForbiddenPing(t *testing.T) {
	server := redistest.Start(t)
	acl(t, server, "on", ">p", "+@all", "-ping", "allchannels")
	proxy := proxied(t, server)
	m := start(t, server.Client(t, through(proxy), as("u", "p")), Config{Silence: silence})
	s := m.confirmed(t, "a")
	redistest.Eventually(t, patience, "6 PINGs", func() bool { return proxy.Seen()["PING"] >= 6 })
	if n := len(proxy.PubSubConns()); n != 1 || !s.Confirmed() || taken(s) {
		t.Errorf("%d connections, want the first one", n)
	}
}

func TestWrongPassword(t *testing.T) {
	server := redistest.Start(t)
	acl(t, server, "on", ">p", "+@all", "allchannels")
	m := start(t, server.Client(t, as("u", "wrong")), Config{})
	a, b := m.Subscribe("a"), m.Subscribe("b")
	awaitErr(t, a, "WRONGPASS")
	awaitErr(t, b, "WRONGPASS")
	acl(t, server, ">wrong")
	awaitConfirmed(t, a)
	awaitConfirmed(t, b)
	if a.Err() != nil || b.Err() != nil {
		t.Errorf("accepted, but errors %v, %v", a.Err(), b.Err())
	}
}

func TestNoPassword(t *testing.T) {
	server := redistest.Start(t)
	m := start(t, server.Client(t), Config{})
	if err := server.Do(t.Context(), "CONFIG", "SET", "requirepass", "p").Err(); err != nil {
		t.Fatal(err)
	}
	a, b := m.Subscribe("a"), m.Subscribe("b")
	awaitErr(t, a, "NOAUTH")
	awaitErr(t, b, "NOAUTH")
	admin := server.Client(t, as("", "p"))
	if err := admin.ConfigSet(t.Context(), "requirepass", "").Err(); err != nil {
		t.Fatal(err)
	}
	awaitConfirmed(t, a)
	awaitConfirmed(t, b)
}

func TestShardedIsAskedUntilItAnswers(t *testing.T) {
	server := redistest.Start(t)
	var asked atomic.Int64
	m := start(t, server.Client(t), Config{Sharded: func(context.Context) (bool, error) {
		if asked.Add(1) <= 3 {
			return false, errors.New("not now")
		}
		return true, nil // which means nothing to a single server
	}})
	s := m.Subscribe("a")
	for range 1000 { // they cause no question of their own
		m.Subscribe("b").Close()
	}
	awaitConfirmed(t, s)
	m.confirmed(t, "c")
	if n := asked.Load(); n != 4 {
		t.Errorf("asked %d times, want 4", n)
	}
	publish(t, server, "a")
	awaitWake(t, s)
}

func TestCloseWhileShardedIsAsked(t *testing.T) {
	asking := make(chan struct{})
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer rdb.Close()
	m := start(t, rdb, Config{Sharded: func(ctx context.Context) (bool, error) {
		close(asking)
		<-ctx.Done()
		return false, ctx.Err()
	}})
	s := m.Subscribe("a")
	<-asking
	m.Close()
	if !taken(s) {
		t.Error("not woken")
	}
}
