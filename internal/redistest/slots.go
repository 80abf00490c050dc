package redistest

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// MasterOf finds the node that serves the key now, by what the running nodes
// say of themselves: nil while none does, as during a failover. Of two that
// claim it, the one with the later epoch counts, as it will win.
func (c *Cluster) MasterOf(key string) *Server {
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
	var master *Server
	epoch := -1
	for node, self := range c.selves(ctx) {
		slot, err := node.Do(ctx, "CLUSTER", "KEYSLOT", key).Int()
		if err == nil && self.has("master") && self.serves(slot) && self.epoch > epoch {
			master, epoch = node, self.epoch
		}
	}
	return master
}

// ReplicasOf finds the running replicas of a master.
func (c *Cluster) ReplicasOf(master *Server) []*Server {
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
	id, _ := c.id(master)
	var replicas []*Server
	selves := c.selves(ctx)
	for _, node := range c.Nodes {
		if self, ok := selves[node]; ok && self.master == id {
			replicas = append(replicas, node)
		}
	}
	return replicas
}

// selves asks each running node for the line about itself.
func (c *Cluster) selves(ctx context.Context) map[*Server]nodeLine {
	lines := make([]nodeLine, len(c.Nodes))
	_ = together(len(c.Nodes), func(i int) error {
		if !c.Nodes[i].Running() {
			return nil
		}
		known, err := c.Nodes[i].view(ctx)
		for _, line := range known {
			if line.has("myself") {
				lines[i] = line
			}
		}
		return err // a node that does not answer is left out
	})
	selves := map[*Server]nodeLine{}
	for i, line := range lines {
		if line.id != "" {
			selves[c.Nodes[i]] = line
		}
	}
	return selves
}

// MoveSlot moves a slot with its keys from one master to another.
func (c *Cluster) MoveSlot(t testing.TB, slot int, from, to *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clusterLimit)
	defer cancel()
	if err := errors.Join(c.BeginMove(ctx, slot, from, to), c.FinishMove(ctx, slot, from, to)); err != nil {
		t.Fatal(err)
	}
}

// BeginMove opens the migration of a slot: from now on the source answers ASK
// for keys of the slot that it does not have. When it has some of a command's
// keys, it answers TRYAGAIN; before Redis 7.0 it answers ASK then too, and the
// target TRYAGAIN.
func (c *Cluster) BeginMove(ctx context.Context, slot int, from, to *Server) error {
	fromID, ok1 := c.id(from)
	toID, ok2 := c.id(to)
	if !ok1 || !ok2 {
		return errors.New("redistest: move a slot: not a node of this cluster")
	}
	if err := to.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID).Err(); err != nil {
		return to.failed(fmt.Sprintf("import slot %d to", slot), err)
	}
	err := from.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID).Err()
	return from.failed(fmt.Sprintf("migrate slot %d from", slot), err)
}

// MoveKeys carries these keys over, in a migration that was begun. Keys that
// the source does not have are left out.
func (c *Cluster) MoveKeys(ctx context.Context, from, to *Server, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	command := []any{"MIGRATE", "127.0.0.1", to.Port, "", 0, 5000, "KEYS"}
	for _, key := range keys {
		command = append(command, key)
	}
	return from.failed("migrate keys from", from.Do(ctx, command...).Err())
}

// FinishMove carries over the slot's remaining keys and gives the slot to its
// new master. The running masters know it when FinishMove returns; replicas
// hear of it within a second. It gives up after thirty seconds.
func (c *Cluster) FinishMove(ctx context.Context, slot int, from, to *Server) error {
	ctx, cancel := context.WithTimeout(ctx, clusterLimit)
	defer cancel()
	for {
		keys, err := from.Do(ctx, "CLUSTER", "GETKEYSINSLOT", slot, 100).StringSlice()
		if err != nil {
			return from.failed("list keys of", err)
		}
		if len(keys) == 0 {
			break
		}
		if err := c.MoveKeys(ctx, from, to, keys...); err != nil {
			return err
		}
	}
	toID, _ := c.id(to)
	selves := c.selves(ctx)
	// The new owner first: if the source gave the slot up before, both would send clients to the other.
	for _, node := range append([]*Server{to, from}, c.Nodes...) {
		if !selves[node].has("master") {
			continue
		}
		if err := node.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID).Err(); err != nil {
			return node.failed(fmt.Sprintf("move slot %d on", slot), err)
		}
	}
	return nil
}
