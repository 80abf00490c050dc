package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/holdfast-go/holdfast"
)

func ExampleLock_name() {
	client, stop := start(holdfast.WithNameMapper(func(name string) string { return "shop:" + name }))
	defer stop()
	orders, stock := client.RLock("orders"), client.RLock("stock")

	fmt.Println(orders.Name()) // not its key in Redis, shop:orders
	fmt.Println(client.MultiLock(orders, stock).Name())
	// Output:
	// orders
	// multi(orders, stock)
}

func ExampleLock_do() {
	ctx := context.Background()
	client, stop := start()
	defer stop()

	err := client.RLock("orders").Do(ctx, func(ctx context.Context) error {
		return errors.New("no such order")
	}, holdfast.WithWait(3*time.Second))
	fmt.Println(err)
	// Output: no such order
}

func ExampleLock_lock() {
	ctx := context.Background()
	client, stop := start()
	defer stop()

	hold, err := client.RLock("orders").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(hold.Name(), "count", hold.Count())
	fmt.Println(hold.Unlock(ctx), hold.Err())
	// Output:
	// orders count 1
	// <nil> holdfast: hold unlocked
}

// Try for a while, with a lease that is not renewed.
func ExampleLock_tryLock() {
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")
	work := func(context.Context) error { fmt.Println("working"); return nil }

	charge := func(ctx context.Context) error {
		hold, err := orders.TryLock(ctx, 3*time.Second, 10*time.Second) // wait at most 3 s, lease 10 s
		switch {
		case errors.Is(err, holdfast.ErrNotAcquired):
			return nil // somebody else has it
		case err != nil:
			return err // Redis did not answer or refused, or ctx ended
		}
		defer hold.Unlock(ctx) // works also when ctx has ended by then

		return work(hold.Context(ctx)) // with this context, Lock on the same name re-enters
	}
	fmt.Println(charge(context.Background()))
	// Output:
	// working
	// <nil>
}

// ForceUnlock is for people who know that the holder is gone for good. A holder that
// is not learns of it at its next renewal.
func ExampleLock_forceUnlock() {
	ctx := context.Background()
	client, stop := start(holdfast.WithWatchdogTimeout(300 * time.Millisecond))
	defer stop()
	orders := client.RLock("orders")
	hold, _ := orders.Lock(ctx)

	fmt.Println(orders.ForceUnlock(ctx))
	<-hold.Done()
	fmt.Println(hold.Err())
	fmt.Println(orders.ForceUnlock(ctx))
	// Output:
	// true <nil>
	// holdfast: hold lost
	// false <nil>
}

func ExampleLock_isLocked() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.Lock(ctx)
	fmt.Println(orders.IsLocked(ctx))
	_ = hold.Unlock(ctx)
	fmt.Println(orders.IsLocked(ctx))
	// Output:
	// true <nil>
	// false <nil>
}

// IsHeld asks about the owner that ctx carries, not about the goroutine that calls.
func ExampleLock_isHeld() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.Lock(ctx)
	defer hold.Unlock(ctx)
	fmt.Println(orders.IsHeld(ctx))
	fmt.Println(orders.IsHeld(hold.Context(ctx)))
	// Output:
	// false <nil>
	// true <nil>
}

func ExampleLock_holdCount() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	outer, _ := orders.Lock(ctx)
	mine := outer.Context(ctx)
	inner, _ := orders.Lock(mine)
	fmt.Println(orders.HoldCount(mine))
	_ = inner.Unlock(ctx)
	fmt.Println(orders.HoldCount(mine))
	_ = outer.Unlock(ctx)
	// Output:
	// 2 <nil>
	// 1 <nil>
}

func ExampleLock_remainingTTL() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.Lock(ctx)
	left, _ := orders.RemainingTTL(ctx)
	fmt.Println(left > 29*time.Second, left <= 30*time.Second)

	_ = hold.Unlock(ctx)
	_, err := orders.RemainingTTL(ctx)
	fmt.Println(errors.Is(err, holdfast.ErrNotHeld))
	// Output:
	// true true
	// true
}
