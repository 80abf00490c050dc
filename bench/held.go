package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	heldHeap     = figure{Name: "held locks: heap", Unit: "bytes/lock", Better: lower}
	heldStacks   = figure{Name: "held locks: stacks", Unit: "bytes/lock", Better: lower}
	heldAcquired = figure{Name: "held locks: time to acquire all, 64 callers", Unit: "s", Better: lower}
	heldRenewals = figure{Name: "held locks: renewals", Unit: "/min"}
	heldCPU      = figure{Name: "held locks: client CPU for renewal", Unit: "s/min", Better: lower}
	heldEach     = figure{Name: "held locks: client CPU a renewal", Unit: "us", Better: lower}
	heldServer   = figure{Name: "held locks: Redis CPU for renewal", Unit: "s/min", Better: lower}
	heldLost     = figure{Name: "held locks: lost", Unit: "locks", Better: lower}
)

// heldLocks measures what it costs to hold many locks and keep their leases, in a
// process of its own.
var heldLocks = measurement{
	name:   "held",
	rounds: func(s settings) int { return s.HeldRounds },
	fits:   func(p peer) bool { return p.renews },
	run:    runHeldLocks,
}

func runHeldLocks(ctx context.Context, b *bench, p peer) ([]reading, error) {
	s := b.settings
	ctx, cancel := context.WithTimeout(ctx, 3*s.HeldLease+2*time.Minute)
	defer cancel()
	c, err := startChild(ctx, OpenArgs{Peer: p.name, Addr: b.addr, Lease: s.HeldLease})
	if err != nil {
		return nil, err
	}
	defer c.stop()
	var r HeldResult
	if err := c.call("Hold", HeldArgs{Locks: s.Held, Window: s.HeldLease}, &r); err != nil {
		return nil, err
	}
	n, minutes := float64(s.Held), r.Window.Minutes()
	return []reading{
		{heldHeap, r.Heap / n},
		{heldStacks, r.Stacks / n},
		{heldAcquired, r.Acquiring.Seconds()},
		{heldRenewals, r.Renewals / minutes},
		{heldCPU, r.CPU.Seconds() / minutes},
		{heldEach, float64(r.CPU.Microseconds()) / max(1, r.Renewals)},
		{heldServer, r.ServerCPU / minutes},
		{heldLost, float64(r.Lost)},
	}, lostError(r.Lost)
}

func lostError(lost int) error {
	if lost == 0 {
		return nil
	}
	return fmt.Errorf("%d held locks were lost", lost)
}

// HeldArgs tell how many locks to hold, and how long to watch their renewal.
type HeldArgs struct {
	Locks  int
	Window time.Duration
}

// A HeldResult is what that took.
type HeldResult struct {
	Heap, Stacks float64 // bytes
	Acquiring    time.Duration
	Window       time.Duration
	CPU          time.Duration // of the client's process
	ServerCPU    float64       // seconds
	Renewals     float64
	Lost         int
}

// Hold acquires the locks and watches the window. The window begins a sixth of the
// lease after the last acquisition, so that it contains whole rounds of whoever renews
// at a third (three) or at half (two) of the lease.
func (c *Child) Hold(args HeldArgs, r *HeldResult) error {
	watched, err := openStats(c.addr)
	if err != nil {
		return err
	}
	defer watched.close()
	locks := make([]mutex, args.Locks)
	for i := range locks {
		locks[i] = c.locker.Named(fmt.Sprintf("held:%d", i))
	}
	if err := lockAndUnlock(locks[0]); err != nil { // dials
		return err
	}

	before := settledMemory()
	start := time.Now()
	if err := lockAll(locks, 64); err != nil {
		return err
	}
	r.Acquiring = time.Since(start)
	after := settledMemory()
	r.Heap = float64(after.HeapAlloc) - float64(before.HeapAlloc)
	r.Stacks = float64(after.StackInuse) - float64(before.StackInuse)

	time.Sleep(args.Window / 6)
	from, err := watched.read()
	if err != nil {
		return err
	}
	began, used := time.Now(), cpuTime()
	time.Sleep(args.Window)
	r.CPU = cpuTime() - used
	r.Window = time.Since(began)
	to, err := watched.read()
	if err != nil {
		return err
	}
	// Every library renews with one of these two, called once a renewal.
	r.Renewals = to.calls("pexpire", "pexpireat") - from.calls("pexpire", "pexpireat")
	r.ServerCPU = to.cpu - from.cpu
	r.Lost, err = countLost(locks, watched)
	return err
}

func lockAndUnlock(m mutex) error {
	if err := m.Lock(context.Background()); err != nil {
		return err
	}
	return m.Unlock(context.Background())
}

// lockAll acquires every lock, by some callers at once.
func lockAll(locks []mutex, callers int) error {
	var (
		next  atomic.Int64
		wait  sync.WaitGroup
		once  sync.Once
		first error
	)
	for range callers {
		wait.Go(func() { // ends when all are acquired, or at its first error
			for i := next.Add(1) - 1; int(i) < len(locks); i = next.Add(1) - 1 {
				if err := locks[i].Lock(context.Background()); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	wait.Wait()
	return first
}

// countLost asks both sides, and believes the worse.
func countLost(locks []mutex, watched *stats) (int, error) {
	keys, err := watched.keys()
	if err != nil {
		return 0, err
	}
	lost := 0
	for _, m := range locks {
		if !m.Held() {
			lost++
		}
	}
	return max(lost, len(locks)-keys), nil
}

// cpuTime is what this process has used, in user and system time.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // the one call that cannot fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
