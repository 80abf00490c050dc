// Quickstart: only one of many runs at a time. Do acquires the lock, runs a function
// with a context that ends if the lock is lost, and releases the lock again.
package main

import (
	"context"
	"fmt"
	"log"
	"sync"

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

	orders := client.RLock("example:quickstart") // cheap: make it anew or keep it

	total := 0 // guarded by the lock, here and in any other process
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			err := orders.Do(ctx, func(ctx context.Context) error {
				total++ // pass ctx on to whatever takes long
				return nil
			})
			if err != nil {
				log.Print(err)
			}
		})
	}
	group.Wait()
	fmt.Println("total:", total)
}
