package script_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/rlock"
)

// BenchmarkPairs is what a lock and its unlock cost on the way to Redis alone: no owner, no line, no watchdog.
//
//	set     SET NX and a script that deletes, by the caller itself: what libraries do that know no count
//	caller  the scripts of the plain lock, by the caller itself
//	lanes   the same through a Sender
//	three   the scripts of a multi lock of three names, by the caller itself
func BenchmarkPairs(b *testing.B) {
	ways := []struct {
		name string
		open func(b *testing.B, rdb *redis.Client) func(ctx context.Context, key string) error
	}{{"set", bySet}, {"caller", byCaller}, {"lanes", byLanes}, {"three", threeByCaller}}
	for _, callers := range []int{1, 16, 128} {
		for _, way := range ways {
			b.Run(fmt.Sprintf("%s/%d", way.name, callers), func(b *testing.B) {
				rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Addr()})
				defer rdb.Close()
				pair := way.open(b, rdb)
				var group sync.WaitGroup
				b.ResetTimer()
				for i := range callers {
					group.Go(func() {
						for n := i; n < b.N; n += callers {
							if err := pair(context.Background(), "pairs:"+strconv.Itoa(n%(16*callers))); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				group.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
			})
		}
	}
}

const owner = "5d0c8b2e-0000-4000-8000-000000000000:1"

func bySet(_ *testing.B, rdb *redis.Client) func(context.Context, string) error {
	release := redis.NewScript(`if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0`)
	return func(ctx context.Context, key string) error {
		if err := rdb.SetNX(ctx, key, owner, 30*time.Second).Err(); err != nil {
			return err
		}
		return release.Run(ctx, rdb, []string{key}, owner).Err()
	}
}

// ops are the plain lock's.
func ops(key string) (acquire, release script.Op) {
	return rlock.Driver{}.Acquire(key, owner, 30*time.Second, 0), rlock.Driver{}.Release(key, owner, 0, "PUBLISH")
}

// sends sends one operation, or several in one go, as a Sender does.
func sends(b *testing.B, rdb *redis.Client) func(ctx context.Context, verb *script.Verb, ops ...script.Op) error {
	program := script.NewProgram(rlock.Verbs()...)
	sha, err := rdb.ScriptLoad(context.Background(), program.Source()).Result()
	if err != nil {
		b.Fatal(err)
	}
	return func(ctx context.Context, verb *script.Verb, ops ...script.Op) error {
		args := []any{"evalsha", sha, len(ops)}
		for _, op := range ops {
			args = append(args, op.Keys[0])
		}
		if len(ops) > 1 {
			args = append(args, len(ops))
		}
		for _, op := range ops {
			args = append(args, op.Args...)
		}
		return rdb.Process(ctx, redis.NewCmd(ctx, append(args, verb.Name)...))
	}
}

func threeByCaller(b *testing.B, rdb *redis.Client) func(context.Context, string) error {
	send := sends(b, rdb)
	return func(ctx context.Context, key string) error {
		var acquires, releases [3]script.Op
		for i := range acquires {
			acquires[i], releases[i] = ops(key + ":" + strconv.Itoa(i))
		}
		if err := send(ctx, acquires[0].Verb.All, acquires[:]...); err != nil {
			return err
		}
		return send(ctx, releases[0].Verb.Each, releases[:]...)
	}
}

func byCaller(b *testing.B, rdb *redis.Client) func(context.Context, string) error {
	send := sends(b, rdb)
	return func(ctx context.Context, key string) error {
		acquire, release := ops(key)
		if err := send(ctx, acquire.Verb, acquire); err != nil {
			return err
		}
		return send(ctx, release.Verb, release)
	}
}

func byLanes(b *testing.B, rdb *redis.Client) func(context.Context, string) error {
	sender := script.NewSender(rdb, script.NewProgram(rlock.Verbs()...))
	b.Cleanup(sender.Close)
	return func(_ context.Context, key string) error {
		acquire, release := ops(key)
		for _, op := range []script.Op{acquire, release} {
			call := sender.Start(op)
			<-call.Done()
			if err := call.Answers()[0].Err; err != nil {
				return err
			}
		}
		return nil
	}
}
