package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// sentinelFaults lose nothing: the failover waits until the replica has everything.
var sentinelFaults = []fault{
	{"Sentinel failover", tailPause + time.Second, func(f *fate) (scope, error) { return scope{}, f.orderlyFailover() }},
	{"replica lag", tailShort, func(f *fate) (scope, error) {
		master := f.world.sentinel.Master()
		if master == nil {
			return scope{}, errNoMaster
		}
		for _, node := range f.world.sentinel.Nodes {
			if node != master {
				return scope{}, f.stopped(node, f.between(100*time.Millisecond, 600*time.Millisecond))
			}
		}
		return scope{}, errors.New("no replica")
	}},
	{"SIGSTOP", tailPause, func(f *fate) (scope, error) {
		master := f.world.sentinel.Master()
		if master == nil {
			return scope{}, errNoMaster
		}
		return scope{}, f.stopped(master, f.between(50*time.Millisecond, 500*time.Millisecond)) // shorter than Sentinel's patience
	}},
	{"CLIENT KILL pubsub", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("CLIENT", "KILL", "TYPE", "pubsub") }},
	{"SCRIPT FLUSH", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("SCRIPT", "FLUSH") }},
}

// clusterFaults lose nothing.
var clusterFaults = []fault{
	{"slot move", tailPause, (*fate).moveSlot},
	{"slot move", tailPause, (*fate).moveSlot},
	{"slot move", tailPause, (*fate).moveSlot},
	{"slot move", tailPause, (*fate).moveSlot},
	{"cluster failover", tailPause + time.Second, func(f *fate) (scope, error) { return scope{}, f.takeOver() }},
	{"replica killed", tailShort, func(f *fate) (scope, error) {
		for _, i := range f.rng.Perm(len(f.world.cluster.Nodes)) {
			node := f.world.cluster.Nodes[i]
			if len(f.world.cluster.ReplicasOf(node)) == 0 {
				return scope{}, node.Restart()
			}
		}
		return scope{}, errors.New("no replica")
	}},
	{"SIGSTOP", tailPause, func(f *fate) (scope, error) {
		masters := f.world.masters()
		if len(masters) == 0 {
			return scope{}, errors.New("no master")
		}
		return scope{}, f.stopped(masters[f.rng.IntN(len(masters))], f.between(50*time.Millisecond, 400*time.Millisecond))
	}},
	{"CLIENT KILL pubsub", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("CLIENT", "KILL", "TYPE", "pubsub") }},
	{"SCRIPT FLUSH", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("SCRIPT", "FLUSH") }},
}

// orderlyFailover has the sentinels replace the master once it refuses writes and its
// replica has all that was written. (A CLIENT PAUSE would not do: the sentinels' command
// to step down has to wait for its end, too, and behind it writes would be let in.)
func (f *fate) orderlyFailover() error {
	s := f.world.sentinel
	old := s.Master()
	if old == nil {
		return errNoMaster
	}
	healthy, cancel := f.limited(20 * time.Second)
	defer cancel()
	if err := eventually(healthy, s.Healthy); err != nil {
		return fmt.Errorf("before it: %w", err)
	}
	ctx, cancel := f.limited(20 * time.Second)
	defer cancel()
	if err := do(ctx, old, "CONFIG", "SET", "min-replicas-to-write", "3").Err(); err != nil {
		return fmt.Errorf("refuse writes: %w", err)
	}
	defer func() {
		ctx, cancel := limited()
		defer cancel()
		_ = do(ctx, old, "CONFIG", "SET", "min-replicas-to-write", "0").Err()
	}()
	if err := eventually(ctx, func() error { return caughtUp(ctx, old) }); err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	return eventually(ctx, func() error {
		if err := f.replace(ctx, old); err != nil { // a failover that got stuck is begun anew
			return err
		}
		if master := s.Master(); master == nil || master == old {
			return errors.New("no new master")
		}
		role, err := do(ctx, old, "ROLE").Slice()
		if err == nil && role[0] != "slave" {
			err = errors.New("the old master has not stepped down")
		}
		return err
	})
}

// replace has a sentinel begin a failover, unless it has given the old master up already.
func (f *fate) replace(ctx context.Context, old *redistest.Server) error {
	s := f.world.sentinel
	watcher := s.Sentinels[0]
	addr, err := do(ctx, watcher, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name).StringSlice()
	if err != nil {
		return err
	}
	if net.JoinHostPort(addr[0], addr[1]) != old.Addr() {
		return nil
	}
	return do(ctx, watcher, "SENTINEL", "FAILOVER", s.Name).Err() // an error while one is under way
}

// caughtUp checks that the master's replica has all that it has.
func caughtUp(ctx context.Context, master *redistest.Server) error {
	role, err := do(ctx, master, "ROLE").Slice() // master, offset, [[ip, port, offset]…]
	if err != nil {
		return err
	}
	replicas, _ := role[2].([]any)
	for _, replica := range replicas {
		fields, _ := replica.([]any)
		var has int64
		_, _ = fmt.Sscan(fmt.Sprint(fields[2]), &has)
		if offset, _ := role[1].(int64); has >= offset {
			return nil
		}
	}
	return errors.New("the replica is behind")
}

// moveSlot moves the slot of one lock to another master, in two steps.
func (f *fate) moveSlot() (scope, error) {
	c := f.world.cluster
	lock := movable[f.rng.IntN(len(movable))]
	ctx, cancel := limited()
	defer cancel()
	from := c.MasterOf(lock)
	if from == nil {
		return scope{}, errors.New("no master")
	}
	slot, err := do(ctx, from, "CLUSTER", "KEYSLOT", lock).Int()
	if err != nil {
		return scope{}, err
	}
	for _, i := range f.rng.Perm(len(c.Nodes)) {
		if to := c.Nodes[i]; to != from && len(c.ReplicasOf(to)) > 0 {
			if err := c.BeginMove(ctx, slot, from, to); err != nil {
				return scope{}, err
			}
			f.last(20*time.Millisecond, 300*time.Millisecond)
			return scope{lock: lock}, c.FinishMove(ctx, slot, from, to)
		}
	}
	return scope{}, errors.New("no other master")
}

// movable are locks whose slots move.
var movable = []string{"hot:0", "hot:1", "hot:2", "hot:3", "stay:0", "patient:0", "reenter:0"}

// takeOver has a replica take its master's place, in order.
func (f *fate) takeOver() error {
	c := f.world.cluster
	ctx, cancel := f.limited(20 * time.Second)
	defer cancel()
	for _, i := range f.rng.Perm(len(c.Nodes)) {
		replicas := c.ReplicasOf(c.Nodes[i])
		if len(replicas) == 0 {
			continue
		}
		return eventually(ctx, func() error { return f.promote(ctx, replicas[0]) })
	}
	return errors.New("no master has a replica")
}

// promote has a replica take over, and waits for it as long as Redis itself would: a
// failover of which a node stood still is given up after five seconds.
func (f *fate) promote(ctx context.Context, replica *redistest.Server) error {
	role, err := do(ctx, replica, "ROLE").Slice()
	if err != nil {
		return err
	}
	if role[0] != "master" {
		if err := do(ctx, replica, "CLUSTER", "FAILOVER").Err(); err != nil {
			return err
		}
	}
	patience, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	return eventually(patience, func() error {
		role, err := do(patience, replica, "ROLE").Slice()
		if err == nil && role[0] != "master" {
			err = errors.New("still a replica")
		}
		return errors.Join(err, f.world.cluster.Healthy())
	})
}
