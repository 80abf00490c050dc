package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// stats asks Redis what it has done, over a connection of its own.
type stats struct{ redis *redis.Client }

func openStats(addr string) (*stats, error) {
	s := &stats{redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1, ReadTimeout: 30 * time.Second})}
	return s, s.redis.Ping(context.Background()).Err()
}

func (s *stats) close() { _ = s.redis.Close() }

// redisCounters are what Redis has done since its start.
type redisCounters struct {
	commands map[string]float64 // calls of each
	cpu      float64            // seconds, user and system
}

// calls adds up the calls of some commands, those by scripts included.
func (c redisCounters) calls(names ...string) (sum float64) {
	for _, name := range names {
		sum += c.commands[name]
	}
	return sum
}

func (s *stats) read() (redisCounters, error) {
	c := redisCounters{commands: map[string]float64{}}
	for _, section := range []string{"commandstats", "cpu"} {
		text, err := s.redis.Info(context.Background(), section).Result()
		if err != nil {
			return c, err
		}
		for name, value := range infoFields(text) {
			switch {
			case strings.HasPrefix(name, "cmdstat_"):
				calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
				n, err := strconv.ParseFloat(calls, 64)
				if err != nil {
					return c, err
				}
				c.commands[strings.TrimPrefix(name, "cmdstat_")] = n
			case name == "used_cpu_user", name == "used_cpu_sys":
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return c, err
				}
				c.cpu += n
			}
		}
	}
	return c, nil
}

func (s *stats) version() (string, error) {
	text, err := s.redis.Info(context.Background(), "server").Result()
	return infoFields(text)["redis_version"], err
}

func (s *stats) keys() (int, error) {
	n, err := s.redis.DBSize(context.Background()).Result()
	return int(n), err
}

// messageConnections counts the connections that are subscribed to a channel.
func (s *stats) messageConnections() (int, error) {
	text, err := s.redis.Do(context.Background(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
	return strings.Count(text, "\n"), err
}

// infoFields are the lines "name:value" of an answer to INFO.
func infoFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// flush empties Redis.
func flush(ctx context.Context, addr string) error {
	s, err := openStats(addr)
	if err != nil {
		return err
	}
	defer s.close()
	return s.redis.FlushAll(ctx).Err()
}
