package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

var (
	waitersMemory = figure{Name: "waiters on one lock: heap and stacks", Unit: "bytes/waiter", Better: lower}
	waitersConns  = figure{Name: "waiters on one lock: connections for messages", Unit: "connections", Better: lower}
	waitersAsk    = figure{Name: "waiters on one lock: requests a turn, its release included", Unit: "requests", Better: lower}
	waitersRate   = figure{Name: "waiters on one lock: hand-overs", Unit: "/s", Better: higher}
)

// manyWaiters measures what a crowd costs that waits for one lock in one client, in
// a process of its own.
var manyWaiters = measurement{name: "waiters", rounds: everyRound, fits: anyPeer, run: runManyWaiters}

func runManyWaiters(ctx context.Context, b *bench, p peer) ([]reading, error) {
	s := b.settings
	ctx, cancel := context.WithTimeout(ctx, s.WaitersCome+4*s.Window+2*time.Minute)
	defer cancel()
	holder, err := p.open(b.addr, lease)
	if err != nil {
		return nil, err
	}
	defer holder.Close()
	c, err := startChild(ctx, OpenArgs{Peer: p.name, Addr: b.addr, Lease: lease})
	if err != nil {
		return nil, err
	}
	defer c.stop()

	held := holder.Named(crowded)
	if err := held.Lock(ctx); err != nil {
		return nil, err
	}
	var memory float64
	if err := c.call("Crowd", CrowdArgs{Waiters: s.Waiters, Come: s.WaitersCome}, &memory); err != nil {
		return nil, err
	}
	watched, err := openStats(b.addr)
	if err != nil {
		return nil, err
	}
	defer watched.close()
	conns, err := watched.messageConnections()
	if err != nil {
		return nil, err
	}
	// The holder is a client of the same library; it waits for nothing, so it has no
	// connection for messages.
	readings := []reading{
		{waitersMemory, memory / float64(s.Waiters)},
		{waitersConns, float64(conns)},
	}

	from, err := watched.read()
	if err != nil {
		return nil, err
	}
	if err := held.Unlock(ctx); err != nil {
		return nil, err
	}
	var served ServeResult
	if err := c.call("Serve", ServeArgs{Releases: s.Releases, Limit: 3 * s.Window}, &served); err != nil {
		return nil, err
	}
	to, err := watched.read()
	if err != nil {
		return nil, err
	}
	if served.Releases == 0 {
		return readings, fmt.Errorf("none of %d waiters had the lock within %v of its release (%d gave up)", s.Waiters, 3*s.Window, served.Failed)
	}
	releases := float64(served.Releases)
	requests := to.calls(p.requests...) - from.calls(p.requests...)
	readings = append(readings,
		reading{waitersAsk, (requests - 1) / releases}, // 1: the holder's release
		reading{waitersRate, releases / served.Took.Seconds()},
	)
	if served.Failed > 0 {
		return readings, fmt.Errorf("%d of %d waiters gave up with an error", served.Failed, s.Waiters)
	}
	return readings, nil
}

const crowded = "crowded"

// A crowd is the waiters of a child.
type crowd struct {
	served, failed atomic.Int64
	enough         chan struct{} // closed: have the lock, but keep it
}

var theCrowd = crowd{enough: make(chan struct{})}

// CrowdArgs tell how many waiters are to come, and how long that may take.
type CrowdArgs struct {
	Waiters int
	Come    time.Duration
}

// Crowd lets waiters wait for the lock and tells the bytes that all of them take, the
// goroutine of each included. Who gets the lock releases it and is done.
func (c *Child) Crowd(args CrowdArgs, bytes *float64) error {
	spare := c.locker.Named("spare")
	if err := lockAndUnlock(spare); err != nil { // dials
		return err
	}
	before := settledMemory()
	for range args.Waiters {
		go theCrowd.waiter(c.locker.Named(crowded)) // ends with the process at the latest
	}
	time.Sleep(args.Come)
	after := settledMemory()
	*bytes = float64(after.HeapInuse+after.StackInuse) - float64(before.HeapInuse+before.StackInuse)
	return nil
}

func (w *crowd) waiter(m mutex) {
	ctx := context.Background()
	if err := m.Lock(ctx); err != nil {
		w.failed.Add(1)
		return
	}
	select {
	case <-w.enough:
		return
	default:
	}
	if err := m.Unlock(ctx); err != nil {
		w.failed.Add(1)
		return
	}
	w.served.Add(1)
}

// ServeArgs tell how many releases to await, and for how long.
type ServeArgs struct {
	Releases int
	Limit    time.Duration
}

// A ServeResult tells how many waiters have had the lock, and how many gave up.
type ServeResult struct {
	Releases, Failed int
	Took             time.Duration
}

// Serve watches the lock go from waiter to waiter, and then stops it.
func (c *Child) Serve(args ServeArgs, r *ServeResult) error {
	start := time.Now()
	for time.Since(start) < args.Limit && theCrowd.served.Load() < int64(args.Releases) {
		time.Sleep(time.Millisecond)
	}
	close(theCrowd.enough)
	r.Took = time.Since(start)
	r.Releases, r.Failed = int(theCrowd.served.Load()), int(theCrowd.failed.Load())
	return nil
}
