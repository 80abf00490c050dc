package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A fault is one way in which the campaign hurts a server, a link or a worker.
type fault struct {
	name string
	// tail is how long after its end it may still be why a lock was handed on late: the
	// longest pause between two tries, a silence that has to be noticed.
	tail time.Duration
	// inflict lasts as long as the fault. what it hits is narrowed by the scope; an empty
	// one is everybody.
	inflict func(f *fate) (scope, error)
}

// A scope is whom a fault hits.
type scope struct{ worker, lock string }

// A fate is a fault that is being inflicted.
type fate struct {
	ctx    context.Context // ends with the time for faults
	abort  context.Context // ends with the run
	world  *world
	team   *team
	rng    *rand.Rand
	record *recorder
}

// Tails. A client that got no answer waits readTimeout; one that got a refusal pauses
// at most a second, give or take half of it; a subscription that fell silent is replaced
// after three seconds.
const (
	tailShort  = 700 * time.Millisecond
	tailAnswer = readTimeout + 900*time.Millisecond
	tailPause  = 2200 * time.Millisecond
	tailSilent = 3700 * time.Millisecond
)

// What there is nobody for at the moment is left out.
var (
	errNobody   = errors.New("no worker is mortal")
	errNoMaster = errors.New("no server is the master")
)

func (f *fate) between(least, most time.Duration) time.Duration {
	return least + time.Duration(f.rng.Int64N(int64(most-least)+1))
}

// last lets a fault last for that long.
func (f *fate) last(least, most time.Duration) {
	select {
	case <-time.After(f.between(least, most)):
	case <-f.ctx.Done():
	}
}

// limited is for what a fault has to do to its end, though the round may be over. Only
// Ctrl-C ends it earlier.
func (f *fate) limited(limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(f.abort, limit)
}

// limited is for what has to be done in any case.
func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

// do sends a command of the campaign's own, once more if an earlier fault has cut the
// connection.
func do(ctx context.Context, node *redistest.Server, command ...any) *redis.Cmd {
	cmd := node.Do(ctx, command...)
	var refused redis.Error
	if err := cmd.Err(); err != nil && !errors.As(err, &refused) && ctx.Err() == nil {
		cmd = node.Do(ctx, command...)
	}
	return cmd
}

func (f *fate) onMasters(command ...any) (err error) {
	ctx, cancel := limited()
	defer cancel()
	for _, node := range f.world.masters() {
		err = errors.Join(err, do(ctx, node, command...).Err())
	}
	return err
}

// eventually looks again until it finds nothing wrong.
func eventually(ctx context.Context, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
