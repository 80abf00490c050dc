// Watchdog-loss: a lock without a lease is renewed for as long as the work takes. If it
// is lost all the same, the work's context ends, with the cause.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/examples/internal/anyredis"
)

func main() {
	ctx := context.Background()
	rdb, done := anyredis.Open()
	defer done()
	client, err := holdfast.New(rdb, holdfast.WithWatchdogTimeout(time.Second)) // 30 s unless you say so
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	orders := client.RLock("example:watchdog-loss")

	err = orders.Do(ctx, func(ctx context.Context) error {
		work(ctx, 1500*time.Millisecond)
		fmt.Println("after one lease and a half:", ctx.Err())

		if _, err := orders.ForceUnlock(ctx); err != nil { // somebody takes it away
			return err
		}
		work(ctx, time.Minute) // told at the next renewal, a third of a second later at most
		fmt.Println("the work stops:", context.Cause(ctx))
		return nil
	})
	fmt.Println("Do tells too, though the work returned nil:", errors.Is(err, holdfast.ErrLost))
}

// work works until it is done or ctx ends.
func work(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
