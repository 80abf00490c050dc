package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// A register is the invariant: on a server that meets no faults, it knows who is
// inside of which lock. It is entered after Lock and left before Unlock, so with an
// exclusive lock nobody ever finds somebody else in it.
type register struct{ rdb *redis.Client }

var (
	enterScript = redis.NewScript(`
local inside = redis.call('GET', KEYS[1]) or ''
redis.call('SET', KEYS[1], ARGV[1])
return inside`)
	leaveScript = redis.NewScript(`
local inside = redis.call('GET', KEYS[1]) or ''
if inside == ARGV[1] then redis.call('DEL', KEYS[1]) end
return inside`)
)

// enter puts the hold inside and tells who was there: "" is as it should be.
func (r register) enter(lock, hold string) (string, error) {
	inside, err := enterScript.Run(context.Background(), r.rdb, []string{lock}, hold).Text()
	if err != nil {
		return "", fmt.Errorf("the register does not answer: %w", err)
	}
	return inside, nil
}

// leave takes the hold out and tells who was there: itself is as it should be.
func (r register) leave(lock, hold string) (string, error) {
	inside, err := leaveScript.Run(context.Background(), r.rdb, []string{lock}, hold).Text()
	if err != nil {
		return "", fmt.Errorf("the register does not answer: %w", err)
	}
	return inside, nil
}
