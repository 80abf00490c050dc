// Package anyredis gives the examples a Redis: the one that the environment variable
// REDIS_URL names, or a miniredis inside the process.
package anyredis

import (
	"log"
	"os"

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
		return client, func() { _ = client.Close() }
	}
	m, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	m.ClockTTL(true) // keys expire as time passes
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	return client, func() { _ = client.Close(); m.Close() }
}
