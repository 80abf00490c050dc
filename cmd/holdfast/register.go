package main

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// A register is a set in Redis of the visits that are inside. A worker enters once it
// has the lock and leaves before it unlocks. The set knows nothing of the lock: of any
// two visits that overlap, the later one finds the earlier one in it.
type register struct {
	rdb redis.UniversalClient
	key string
}

// registerTTL clears the set after a show that was itself killed. No visit is longer.
const registerTTL = 20 * time.Second

func newRegister(rdb redis.UniversalClient, prefix string) *register {
	return &register{rdb: rdb, key: prefix + "inside"}
}

// enter adds a visit and tells, in the same transaction, which others are inside.
// Sent twice it does no harm.
func (r *register) enter(ctx context.Context, visit string) (others []string, err error) {
	var members *redis.StringSliceCmd
	_, err = r.rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.SAdd(ctx, r.key, visit)
		members = tx.SMembers(ctx, r.key)
		tx.PExpire(ctx, r.key, registerTTL)
		return nil
	})
	if err != nil {
		return nil, err
	}
	others = slices.DeleteFunc(members.Val(), func(m string) bool { return m == visit })
	slices.Sort(others)
	return others, nil
}

// leave removes a visit. It works with a ctx that has ended.
func (r *register) leave(ctx context.Context, visit string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return r.rdb.SRem(ctx, r.key, visit).Err()
}
