// Fair: first come, first served, at any counter of any process. Customers enter the
// queue one after the other, and are served in that order.
package main

import (
	"context"
	"fmt"
	"log"
	"sync"
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
	counter := client.FairLock("example:fair") // the same name in each process

	closed, err := counter.Lock(ctx) // until everybody has come
	if err != nil {
		log.Fatal(err)
	}
	var customers sync.WaitGroup
	ticket := 0 // guarded by the lock
	for _, name := range []string{"Ada", "Grace", "Edsger", "Barbara"} {
		customers.Go(func() {
			err := counter.Do(ctx, func(ctx context.Context) error {
				ticket++
				fmt.Printf("ticket %d: %s\n", ticket, name)
				return nil
			})
			if err != nil {
				log.Print(err)
			}
		})
		time.Sleep(100 * time.Millisecond) // the next one comes a little later
	}
	if err := closed.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	customers.Wait()
}
