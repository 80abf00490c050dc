package main

import (
	"errors"
	"time"
)

// Lossy faults forget what was acknowledged.
var (
	lossyServerFaults = []fault{
		{"kill -9 without persistence", tailPause, func(f *fate) (scope, error) { return scope{}, f.world.single.Restart() }},
		{"FLUSHALL", tailPause, func(f *fate) (scope, error) { return scope{}, f.onMasters("FLUSHALL") }},
		{"keys deleted", tailPause, func(f *fate) (scope, error) {
			return scope{}, f.onMasters("DEL", "hot:0", "hot:1", "victim:0", "victim:1", "keep:0")
		}},
	}
	lossySentinelFaults = []fault{
		{"master killed", tailPause + time.Second, func(f *fate) (scope, error) { return scope{}, f.killMaster() }},
	}
	lossyClusterFaults = []fault{
		{"cluster master killed", tailPause + time.Second, func(f *fate) (scope, error) { return scope{}, f.killClusterMaster() }},
	}
)

// killMaster kills the master for good measure, and brings it back as a replica.
func (f *fate) killMaster() error {
	s := f.world.sentinel
	ctx, cancel := f.limited(40 * time.Second)
	defer cancel()
	if err := eventually(ctx, s.Healthy); err != nil {
		return err
	}
	old := s.Master()
	if old == nil {
		return errors.New("no master")
	}
	old.Kill()
	err := eventually(ctx, func() error {
		if master := s.Master(); master == nil || master == old {
			return errors.New("no new master")
		}
		return nil
	})
	return errors.Join(err, old.Restart(), eventually(ctx, s.Healthy))
}

// killClusterMaster kills a master and brings it back once its replica has taken over.
func (f *fate) killClusterMaster() error {
	c := f.world.cluster
	ctx, cancel := f.limited(40 * time.Second)
	defer cancel()
	for _, i := range f.rng.Perm(len(c.Nodes)) {
		node := c.Nodes[i]
		replicas := c.ReplicasOf(node)
		if len(replicas) == 0 {
			continue
		}
		node.Kill()
		err := eventually(ctx, func() error {
			role, err := do(ctx, replicas[0], "ROLE").Slice()
			if err == nil && role[0] != "master" {
				err = errors.New("still a replica")
			}
			return err
		})
		return errors.Join(err, node.Restart(), eventually(ctx, c.Healthy))
	}
	return errors.New("no master has a replica")
}
