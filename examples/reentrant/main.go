// Reentrant: who is given a hold's context may take the lock again; the lock is free
// after the last Unlock. Without that context it is somebody else.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/examples/internal/anyredis"
)

func main() {
	ctx := context.Background()
	rdb, done := anyredis.Open()
	defer done()
	client, err := holdfast.New(rdb)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	orders := client.RLock("example:reentrant")

	outer, err := orders.Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	ship(outer.Context(ctx), orders) // this context carries the owner

	if _, err := orders.TryLock(ctx, 0, 0); errors.Is(err, holdfast.ErrNotAcquired) {
		fmt.Println("with a plain context it is taken")
	}
	if err := outer.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	locked, err := orders.IsLocked(ctx)
	fmt.Println("locked after the last Unlock:", locked, err)
}

// ship takes the lock for itself. It need not know whether its caller has it.
func ship(ctx context.Context, orders holdfast.Lock) {
	inner, err := orders.Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("hold number", inner.Count(), "of the same owner")
	if err := inner.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	count, err := orders.HoldCount(ctx)
	fmt.Println("still owed:", count, err)
}
