// Polling: wait by trying again after pauses of your own, without a subscription. For
// servers or users that must not subscribe; a release is noticed at the next try.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/examples/internal/anyredis"
)

// pauses makes the policy of one waiter: from 10 ms to 200 ms, with jitter, for ever.
func pauses() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(10*time.Millisecond),
		backoff.WithMaxInterval(200*time.Millisecond),
		backoff.WithMaxElapsedTime(0),
	)
}

func main() {
	ctx := context.Background()
	rdb, done := anyredis.Open()
	defer done()
	client, err := holdfast.New(rdb)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	orders := client.RLock("example:polling", holdfast.WithPolling(pauses))

	first, err := orders.Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = first.Unlock(ctx) })

	second, err := orders.Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("acquired without a subscription")
	if err := second.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
}
