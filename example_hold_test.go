package holdfast_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/holdfast-go/holdfast"
)

// A hold may be unlocked by somebody else than who acquired it.
func ExampleHold() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")
	finished := make(chan holdfast.Hold)

	go func() { // ends when the hold is taken from it
		hold, err := orders.Lock(ctx)
		if err != nil {
			log.Fatal(err)
		}
		finished <- hold
	}()
	hold := <-finished
	fmt.Println(hold.Unlock(ctx))
	// Output: <nil>
}

func ExampleHold_name() {
	ctx := context.Background()
	client, stop := start()
	defer stop()

	hold, _ := client.RLock("orders").Lock(ctx)
	defer hold.Unlock(ctx)
	fmt.Println(hold.Name())
	// Output: orders
}

// Who asks Redis sees the owner, with the number of its holds.
func ExampleHold_owner() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	client, _ := holdfast.New(rdb)
	defer client.Close()

	hold, _ := client.RLock("orders").Lock(ctx)
	defer hold.Unlock(ctx)
	fmt.Println(rdb.HGet(ctx, "orders", hold.Owner()).Val())
	// Output: 1
}

// Count tells which acquisition of its owner a hold was, whatever is unlocked later.
func ExampleHold_count() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	outer, _ := orders.Lock(ctx)
	inner, _ := orders.Lock(outer.Context(ctx))
	fmt.Println(outer.Count(), inner.Count())
	_ = outer.Unlock(ctx)
	fmt.Println(inner.Count())
	_ = inner.Unlock(ctx)
	// Output:
	// 1 2
	// 2
}

// Work that has no use for a context looks at Err before each step that matters.
func ExampleHold_err() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	hold, _ := client.RLock("orders").Lock(ctx, holdfast.WithLease(500*time.Millisecond))
	defer hold.Unlock(ctx)

	fmt.Println(hold.Err())
	<-hold.Done() // the lease runs out
	fmt.Println(hold.Err())
	// Output:
	// <nil>
	// holdfast: hold lost
}

// With a hold's context Lock re-enters. The lock is free after the last Unlock.
func ExampleHold_context() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	outer, _ := orders.Lock(ctx)
	inner, _ := orders.Lock(outer.Context(ctx))
	fmt.Println(inner.Owner() == outer.Owner(), inner.Count())

	_ = outer.Unlock(ctx) // in whatever order
	fmt.Println(orders.IsLocked(ctx))
	_ = inner.Unlock(ctx)
	fmt.Println(orders.IsLocked(ctx))
	// Output:
	// true 2
	// true <nil>
	// false <nil>
}

func ExampleHold_extend() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.TryLock(ctx, 0, 5*time.Second)
	defer hold.Unlock(ctx)
	fmt.Println(hold.Extend(ctx, time.Minute))
	left, _ := orders.RemainingTTL(ctx)
	fmt.Println(left > 50*time.Second)
	// Output:
	// <nil>
	// true
}

// Somebody deletes the key. The holder is told by its channel, its error and its
// contexts.
func ExampleHold_done() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	client, _ := holdfast.New(rdb, holdfast.WithWatchdogTimeout(300*time.Millisecond),
		holdfast.WithLogger(slog.New(slog.DiscardHandler)))
	defer client.Close()
	hold, _ := client.RLock("orders").Lock(ctx)
	work := hold.Context(ctx)

	rdb.Del(ctx, "orders")
	<-hold.Done()
	fmt.Println(hold.Err())
	<-work.Done()
	fmt.Println(work.Err(), "because:", context.Cause(work))
	fmt.Println(hold.Unlock(ctx))
	// Output:
	// holdfast: hold lost
	// context canceled because: holdfast: hold lost
	// unlock "orders": holdfast: hold lost
}

// Unlock frees the lock also with a context that has ended, and only once.
func ExampleHold_unlock() {
	ctx, cancel := context.WithCancel(context.Background())
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")
	hold, _ := orders.Lock(ctx)

	cancel()
	fmt.Println(hold.Unlock(ctx))
	fmt.Println(hold.Unlock(ctx))
	fmt.Println(orders.IsLocked(context.Background()))
	// Output:
	// <nil>
	// <nil>
	// false <nil>
}
