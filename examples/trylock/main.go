// Trylock: wait for so long and no longer, and hold for so long and no longer.
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
	client, err := holdfast.New(rdb)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	orders := client.RLock("example:trylock")

	first, err := orders.TryLock(ctx, 0, 500*time.Millisecond) // one attempt; Redis frees it after half a second
	if err != nil {
		log.Fatal(err)
	}

	_, err = orders.TryLock(ctx, 50*time.Millisecond, 10*time.Second) // wait at most 50 ms
	switch {
	case errors.Is(err, holdfast.ErrNotAcquired):
		fmt.Println("somebody else has it:", err)
	case err != nil:
		log.Fatal("Redis did not answer: ", err)
	}

	second, err := orders.TryLock(ctx, 5*time.Second, 10*time.Second) // long enough for the first lease to end
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("acquired, after the first lease had ended")

	if err := first.Unlock(ctx); errors.Is(err, holdfast.ErrLost) { // too late; it takes nothing away from the second
		fmt.Println("the first hold:", err)
	}
	if err := second.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
}
