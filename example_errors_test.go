package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
)

// ErrNotAcquired means that somebody else has it, and nothing else.
func Example_errNotAcquired() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")
	hold, _ := orders.Lock(ctx)
	defer hold.Unlock(ctx)

	_, err := orders.TryLock(ctx, 0, 0)
	fmt.Println(errors.Is(err, holdfast.ErrNotAcquired))
	// Output: true
}

// A Redis that is down is never ErrNotAcquired.
func Example_redisIsDown() {
	ctx := context.Background()
	server, _ := miniredis.Run()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), DialerRetries: 1})
	defer rdb.Close()
	client, _ := holdfast.New(rdb)
	defer client.Close()
	server.Close()

	_, err := client.RLock("orders").TryLock(ctx, 0, 0)
	fmt.Println(err != nil, errors.Is(err, holdfast.ErrNotAcquired))
	// Output: true false
}

// Re-entry after the outer hold was lost takes nothing.
func Example_errLost() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.Lock(ctx)
	mine := context.WithoutCancel(hold.Context(ctx)) // keeps the owner, but not the end
	_, _ = orders.ForceUnlock(ctx)
	_, err := orders.Lock(mine)
	fmt.Println(errors.Is(err, holdfast.ErrLost), errors.Is(hold.Err(), holdfast.ErrLost))
	// Output: true true
}

func Example_errNotHeld() {
	client, stop := start()
	defer stop()

	_, err := client.RLock("orders").RemainingTTL(context.Background())
	fmt.Println(errors.Is(err, holdfast.ErrNotHeld))
	// Output: true
}

func Example_errUnlocked() {
	ctx := context.Background()
	client, stop := start()
	defer stop()

	hold, _ := client.RLock("orders").Lock(ctx)
	work := hold.Context(ctx)
	_ = hold.Unlock(ctx)
	fmt.Println(errors.Is(hold.Err(), holdfast.ErrUnlocked), context.Cause(work))
	// Output: true holdfast: hold unlocked
}

func Example_errClosed() {
	client, stop := start()
	defer stop()

	_ = client.Close()
	_, err := client.RLock("orders").Lock(context.Background())
	fmt.Println(errors.Is(err, holdfast.ErrClosed))
	// Output: true
}

func Example_errInvalidName() {
	client, stop := start()
	defer stop()

	_, err := client.RLock("").Lock(context.Background())
	fmt.Println(errors.Is(err, holdfast.ErrInvalidName), err)
	// Output: true acquire "": holdfast: invalid name: it is empty
}

func Example_errInvalidDuration() {
	client, stop := start()
	defer stop()

	_, err := client.RLock("orders").Lock(context.Background(), holdfast.WithLease(-time.Second))
	fmt.Println(errors.Is(err, holdfast.ErrInvalidDuration), err)
	// Output: true acquire "orders": holdfast: invalid duration: lease must not be negative, got -1s
}
