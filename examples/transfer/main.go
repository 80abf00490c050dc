// Transfer: two accounts as one lock, held if both are. Transfers in opposite directions
// cannot block each other, and one that has to wait holds nothing meanwhile.
package main

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/examples/internal/anyredis"
)

// balances are guarded by a lock for each account.
var balances = map[string]*int{"alice": new(1000), "bob": new(1000)}

func main() {
	ctx := context.Background()
	rdb, done := anyredis.Open()
	defer done()
	client, err := holdfast.New(rdb)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	var transfers sync.WaitGroup
	for range 50 {
		transfers.Go(func() { transfer(ctx, client, "alice", "bob", 30) })
		transfers.Go(func() { transfer(ctx, client, "bob", "alice", 20) })
	}
	transfers.Wait()
	fmt.Println("alice:", *balances["alice"], "bob:", *balances["bob"])
}

func transfer(ctx context.Context, client *holdfast.Client, from, to string, amount int) {
	both := client.MultiLock(account(client, from), account(client, to)) // in whatever order
	err := both.Do(ctx, func(ctx context.Context) error {
		*balances[from] -= amount
		*balances[to] += amount
		return nil
	})
	if err != nil {
		log.Print(err)
	}
}

// account is the lock of one account. On a cluster the braces put all of them into one
// slot, where both are acquired in one script.
func account(client *holdfast.Client, name string) holdfast.Lock {
	return client.RLock("example:{accounts}:" + name)
}
