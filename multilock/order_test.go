package multilock_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/engine"
)

// Clients behind sentinels do not tell which ones. Names come first then, and locks of one name
// are ordered as their clients were made, whatever their ids.
func TestOrderBehindSentinels(t *testing.T) {
	var locks []*engine.Lock
	for i, id := range []string{"z", "m", "a"} {
		rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: fmt.Sprint("master", i), SentinelAddrs: []string{"127.0.0.1:1"}})
		c, err := holdfast.New(rdb, holdfast.WithClientID(id))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(); _ = rdb.Close() })
		locks = append(locks, c.RLock("orders").(*engine.Lock), c.RLock("accounts").(*engine.Lock))
	}
	o1, a1, o2, a2, o3, a3 := locks[0], locks[1], locks[2], locks[3], locks[4], locks[5]
	slices.Reverse(locks)
	slices.SortFunc(locks, (*engine.Lock).Compare)
	for i, want := range []*engine.Lock{a1, a2, a3, o1, o2, o3} {
		if locks[i] != want {
			t.Errorf("place %d: got another lock than the one that is due, %q", i+1, want.Name())
		}
	}
}
