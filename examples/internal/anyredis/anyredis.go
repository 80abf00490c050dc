// Package anyredis gives the examples a Redis: the one that the environment variable
// REDIS_URL names, or a miniredis inside the process; and several of the latter to those
// that need independent servers.
package anyredis

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Open returns a client, and a function that closes what was opened: of the Redis that
// REDIS_URL names, or of one inside this process.
func Open() (rdb redis.UniversalClient, done func()) {
	if url := os.Getenv("REDIS_URL"); url != "" {
		options, err := redis.ParseURL(url)
		if err != nil {
			log.Fatal("REDIS_URL is no Redis URL, as redis://user:password@host:6379/0 is") // err may repeat the password
		}
		client := redis.NewClient(options)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := client.Ping(ctx).Err(); err != nil {
			log.Fatalf("the Redis at %s that REDIS_URL names does not answer: %v", options.Addr, err)
		}
		return client, func() { _ = client.Close() }
	}
	s := start()
	return s.Redis, s.Close
}

// A Server is a Redis inside this process.
type Server struct {
	Redis redis.UniversalClient // a client of it
	inner *miniredis.Miniredis
}

// OpenServers returns so many servers that know nothing of each other. They are inside
// this process, whatever REDIS_URL says.
func OpenServers(n int) []*Server {
	servers := make([]*Server, n)
	for i := range servers {
		servers[i] = start()
	}
	return servers
}

func start() *Server {
	m, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	m.ClockTTL(true) // keys expire as time passes
	return &Server{redis.NewClient(&redis.Options{Addr: m.Addr()}), m}
}

// Stop ends the server, as a crash does; its client stays.
func (s *Server) Stop() { s.inner.Close() }

// Close closes the client, and ends the server.
func (s *Server) Close() {
	_ = s.Redis.Close()
	s.inner.Close()
}
