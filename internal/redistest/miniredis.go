package redistest

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// A Backend is what a table of tests needs of a server, real or not.
type Backend interface {
	Addr() string
	Client(t testing.TB, mutate ...func(*redis.Options)) *redis.Client
}

var (
	_ Backend = (*Server)(nil)
	_ Backend = Miniredis{}
)

// Miniredis is a miniredis with a server's Client.
type Miniredis struct{ *miniredis.Miniredis }

// StartMiniredis runs a miniredis inside the test's process until the test
// ends. Its keys expire as time passes, as in Redis; by itself miniredis keeps
// them until it is told to move on.
func StartMiniredis(t testing.TB) Miniredis {
	t.Helper()
	m := miniredis.RunT(t)
	m.ClockTTL(true)
	return Miniredis{m}
}

// Client gives a client that is closed when the test ends.
func (m Miniredis) Client(t testing.TB, mutate ...func(*redis.Options)) *redis.Client {
	t.Helper()
	return client(t, m.Addr(), mutate)
}
