// Quorum: one lock on five servers that know nothing of each other. It works as long as
// three of them do. It brings its own five, and stops two.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/redis/go-redis/v9/logging"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/examples/internal/anyredis"
)

func main() {
	logging.Disable() // go-redis tells of every dial that fails
	ctx := context.Background()
	var members []holdfast.Lock
	var clients []*holdfast.Client
	servers := anyredis.OpenServers(5)
	for _, s := range servers {
		defer s.Close()
		client, err := holdfast.New(s.Redis) // one a server
		if err != nil {
			log.Fatal(err)
		}
		defer client.Close()
		clients = append(clients, client)
		members = append(members, client.RLock("example:quorum"))
	}
	orders := clients[0].RedLock(members...) // whose client makes it does not matter

	run := func(text string) {
		err := orders.Do(ctx, func(ctx context.Context) error {
			fmt.Println(text) // work with this ctx: it ends when the majority is lost
			return ctx.Err()
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	run("held with five servers")
	servers[0].Stop()
	servers[3].Stop()
	run("held with three of five")
}
