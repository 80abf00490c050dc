package holdfast_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// takeTurn acquires once, and writes down on the server when it came and in which order it
// was let in: the grants in a list, each with its ticket.
func takeTurn(rdb *redis.Client, l holdfast.Lock) {
	ctx := context.Background()
	h, err := l.Lock(ctx)
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	ticket, ok := engine.TicketOf(h)
	if !ok {
		fmt.Println("failed: no ticket")
	}
	client, _, _ := strings.Cut(h.Owner(), ":")
	if err := rdb.RPush(ctx, "grants", fmt.Sprintf("%d %d %s", ticket.Time, ticket.Position, client)).Err(); err != nil {
		fmt.Println("failed", err)
	}
	if n := rdb.Incr(ctx, "inside").Val(); n != 1 {
		fmt.Println("failed: inside are", n)
	}
	rdb.Decr(ctx, "inside")
	if err := h.Unlock(ctx); err != nil {
		fmt.Println("failed", err)
	}
}

// Four processes with eight goroutines each: whoever came first was let in first, and
// nobody is left behind.
func TestFairness(t *testing.T) {
	const processes, waiters = 4, 8
	turns := 157 // 5024 in all
	if testing.Short() {
		turns = 20
	}
	server := redistest.Start(t)
	start := time.Now()
	var all []*process
	for range processes {
		all = append(all, startFair(t, server.Addr(), waiters, 15*time.Second, turns))
	}
	for _, p := range all {
		redistest.Eventually(t, 2*time.Minute, "all have had their turns", func() bool { return p.said("finished") == 1 })
		if n := p.said("failed"); n > 0 {
			t.Errorf("a process had %d failures", n)
		}
	}
	took := time.Since(start)
	grants, err := server.Client(t).LRange(t.Context(), "grants", 0, -1).Result()
	if err != nil || len(grants) != processes*waiters*turns {
		t.Fatalf("%d grants, %v, want %d", len(grants), err, processes*waiters*turns)
	}
	inversions, waited, longest := 0, 0, 0
	var last engine.Ticket
	latest := map[string]int{} // of each process
	for i, grant := range grants {
		fields := strings.Fields(grant)
		at, _ := strconv.ParseInt(fields[0], 10, 64)
		position, _ := strconv.ParseInt(fields[1], 10, 64)
		ticket := engine.Ticket{Time: at, Position: position}
		if ticket.Position > 0 {
			waited++
		}
		if before(ticket, last) {
			inversions++
			t.Logf("grant %d: %v after %v", i, ticket, last)
		}
		last = ticket
		longest = max(longest, i-latest[fields[2]])
		latest[fields[2]] = i
	}
	if inversions > 0 {
		t.Errorf("%d inversions in %d grants", inversions, len(grants))
	}
	if waited < len(grants)/2 {
		t.Errorf("only %d of %d waited: too few to tell anything", waited, len(grants))
	}
	if n := server.Do(t.Context(), "EXISTS", "orders", "redisson_lock_queue:{orders}", "redisson_lock_timeout:{orders}").Val(); n != int64(0) {
		t.Errorf("%v keys are left", n)
	}
	t.Logf("%d grants in %v (%.0f a second), %d waited, %d inversions; a process went without for %d grants at most",
		len(grants), took.Round(time.Millisecond), float64(len(grants))/took.Seconds(), waited, inversions, longest)
}

// before compares tickets of one server.
func before(a, b engine.Ticket) bool {
	return a.Time < b.Time || a.Time == b.Time && a.Position > 0 && b.Position > 0 && a.Position < b.Position
}
