package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
)

// startRedis gives the examples a server inside their process.
func startRedis() (rdb redis.UniversalClient, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	server.ClockTTL(true) // its keys expire as time passes
	rdb = redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{server.Addr()}})
	return rdb, func() {
		_ = rdb.Close()
		server.Close()
	}
}

// start gives the examples a client of such a server.
func start(opts ...holdfast.Option) (client *holdfast.Client, stop func()) {
	rdb, stopRedis := startRedis()
	quiet := holdfast.WithLogger(slog.New(slog.DiscardHandler))
	client, err := holdfast.New(rdb, append([]holdfast.Option{quiet}, opts...)...)
	if err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		stopRedis()
	}
}

// The README's program.
func Example() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	client, err := holdfast.New(rdb)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	orders := client.RLock("orders:42")
	err = orders.Do(ctx, func(ctx context.Context) error {
		fmt.Println("order 42 is ours alone") // work with this ctx: it ends the moment the hold is lost
		return ctx.Err()
	})
	if err != nil {
		log.Print(err)
	}
	// Output: order 42 is ours alone
}

// A client stands on a Redis client of yours, and never closes it.
func ExampleNew() {
	rdb, stop := startRedis()
	defer stop()

	client, err := holdfast.New(rdb, holdfast.WithWatchdogTimeout(15*time.Second))
	fmt.Println(err)
	defer client.Close()

	_, err = holdfast.New(rdb, holdfast.WithWatchdogTimeout(5*time.Millisecond))
	fmt.Println(err)
	// Output:
	// <nil>
	// holdfast: invalid duration: WatchdogTimeout must be at least 100ms, got 5ms
}

// Check at the start of a program, before anybody relies on the locks.
func ExampleClient_Check() {
	client, stop := start()
	defer stop()

	fmt.Println(client.Check(context.Background()))
	// Output: <nil>
}

// Open holds end with the client, but their locks stay: the work may still be running.
func ExampleClient_Close() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	client, _ := holdfast.New(rdb, holdfast.WithLogger(slog.New(slog.DiscardHandler)))
	hold, _ := client.RLock("orders").Lock(ctx)

	_ = client.Close()
	fmt.Println(hold.Err())
	fmt.Println("keys:", rdb.Exists(ctx, "orders").Val())

	_ = hold.Unlock(ctx) // still possible
	fmt.Println("keys:", rdb.Exists(ctx, "orders").Val())
	// Output:
	// holdfast: client closed
	// keys: 1
	// keys: 0
}

// Making a lock sends nothing. Two locks of one name are the same lock.
func ExampleClient_RLock() {
	ctx := context.Background()
	client, stop := start()
	defer stop()

	hold, _ := client.RLock("orders").Lock(ctx)
	defer hold.Unlock(ctx)
	_, err := client.RLock("orders").TryLock(ctx, 0, 0)
	fmt.Println(err)
	// Output: acquire "orders": holdfast: not acquired
}

// Who asked first gets it first, in whichever process.
func ExampleClient_FairLock() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	client, _ := holdfast.New(rdb)
	defer client.Close()
	orders := client.FairLock("orders")
	hold, _ := orders.Lock(ctx)

	var waiters sync.WaitGroup
	for n := range int64(3) {
		waiters.Go(func() {
			_ = orders.Do(ctx, func(context.Context) error {
				fmt.Println("waiter", n+1)
				return nil
			})
		})
		for rdb.LLen(ctx, "redisson_lock_queue:{orders}").Val() <= n { // until it is in the queue
			time.Sleep(time.Millisecond) // Redis tells nobody when the queue grows
		}
	}
	_ = hold.Unlock(ctx)
	waiters.Wait()
	// Output:
	// waiter 1
	// waiter 2
	// waiter 3
}

// All or nothing, whichever order the members are named in.
func ExampleClient_MultiLock() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	alice, bob := client.RLock("{account}:alice"), client.RLock("{account}:bob")

	both, err := client.MultiLock(bob, alice).Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(alice.IsLocked(ctx))
	fmt.Println(bob.IsLocked(ctx))
	_ = both.Unlock(ctx)

	busy, _ := bob.Lock(ctx)
	defer busy.Unlock(ctx)
	_, err = client.MultiLock(alice, bob).TryLock(ctx, 0, 0)
	fmt.Println(errors.Is(err, holdfast.ErrNotAcquired))
	fmt.Println(alice.IsLocked(ctx))
	// Output:
	// true <nil>
	// true <nil>
	// true
	// false <nil>
}

// The same lock on five independent servers, of which two may fail.
func ExampleClient_RedLock() {
	ctx := context.Background()
	var clients []*holdfast.Client
	var members []holdfast.Lock
	for range 5 {
		client, stop := start() // one for each server
		defer stop()
		clients = append(clients, client)
		members = append(members, client.RLock("orders"))
	}
	orders := clients[0].RedLock(members...)

	err := orders.Do(ctx, func(ctx context.Context) error {
		fmt.Println("a majority is ours") // ctx ends when it is lost
		return ctx.Err()
	})
	fmt.Println(err)
	// Output:
	// a majority is ours
	// <nil>
}

// A lock on five servers, and one on the first of them alone, together.
func ExampleClient_MultiLock_quorum() {
	ctx := context.Background()
	var clients []*holdfast.Client
	var members []holdfast.Lock
	for range 5 {
		client, stop := start() // one for each server
		defer stop()
		clients = append(clients, client)
		members = append(members, client.RLock("orders"))
	}
	both := clients[0].MultiLock(clients[0].RLock("report"), clients[0].RedLock(members...))

	err := both.Do(ctx, func(context.Context) error {
		fmt.Println("the report is ours, and a majority of the orders")
		return nil
	})
	fmt.Println(both.Name(), err)
	// Output:
	// the report is ours, and a majority of the orders
	// multi(report, red(orders, orders, orders, orders, orders)) <nil>
}
