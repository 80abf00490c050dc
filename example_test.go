package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/cenkalti/backoff/v4"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/holdfast-go/holdfast"
)

// startRedis gives the examples a server inside their process.
func startRedis() (rdb redis.UniversalClient, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	server.ClockTTL(true) // its keys expire as time passes
	rdb = redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{server.Addr()}})
	return rdb, func() {
		_ = rdb.Close()
		server.Close()
	}
}

// start gives the examples a client of such a server.
func start(opts ...holdfast.Option) (client *holdfast.Client, stop func()) {
	rdb, stopRedis := startRedis()
	quiet := holdfast.WithLogger(slog.New(slog.DiscardHandler))
	client, err := holdfast.New(rdb, append([]holdfast.Option{quiet}, opts...)...)
	if err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		stopRedis()
	}
}

// The README's program.
func Example() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	client, err := holdfast.New(rdb)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	orders := client.RLock("orders:42")
	err = orders.Do(ctx, func(ctx context.Context) error {
		fmt.Println("order 42 is ours alone") // work with this ctx: it ends the moment the hold is lost
		return ctx.Err()
	})
	if err != nil {
		log.Print(err)
	}
	// Output: order 42 is ours alone
}

// A client stands on a Redis client of yours, and never closes it.
func ExampleNew() {
	rdb, stop := startRedis()
	defer stop()

	client, err := holdfast.New(rdb, holdfast.WithWatchdogTimeout(15*time.Second))
	fmt.Println(err)
	defer client.Close()

	_, err = holdfast.New(rdb, holdfast.WithWatchdogTimeout(5*time.Millisecond))
	fmt.Println(err)
	// Output:
	// <nil>
	// holdfast: invalid duration: WatchdogTimeout must be at least 100ms, got 5ms
}

// Check at the start of a program, before anybody relies on the locks.
func ExampleClient_Check() {
	client, stop := start()
	defer stop()

	fmt.Println(client.Check(context.Background()))
	// Output: <nil>
}

// Open holds end with the client, but their locks stay: the work may still be running.
func ExampleClient_Close() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	client, _ := holdfast.New(rdb, holdfast.WithLogger(slog.New(slog.DiscardHandler)))
	hold, _ := client.RLock("orders").Lock(ctx)

	_ = client.Close()
	fmt.Println(hold.Err())
	fmt.Println("keys:", rdb.Exists(ctx, "orders").Val())

	_ = hold.Unlock(ctx) // still possible
	fmt.Println("keys:", rdb.Exists(ctx, "orders").Val())
	// Output:
	// holdfast: client closed
	// keys: 1
	// keys: 0
}

// Making a lock sends nothing. Two locks of one name are the same lock.
func ExampleClient_RLock() {
	ctx := context.Background()
	client, stop := start()
	defer stop()

	hold, _ := client.RLock("orders").Lock(ctx)
	defer hold.Unlock(ctx)
	_, err := client.RLock("orders").TryLock(ctx, 0, 0)
	fmt.Println(err)
	// Output: acquire "orders": holdfast: not acquired
}

// Who asked first gets it first, in whichever process.
func ExampleClient_FairLock() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	client, _ := holdfast.New(rdb)
	defer client.Close()
	orders := client.FairLock("orders")
	hold, _ := orders.Lock(ctx)

	var waiters sync.WaitGroup
	for n := range int64(3) {
		waiters.Go(func() {
			_ = orders.Do(ctx, func(context.Context) error {
				fmt.Println("waiter", n+1)
				return nil
			})
		})
		for rdb.LLen(ctx, "redisson_lock_queue:{orders}").Val() <= n { // until it is in the queue
			time.Sleep(time.Millisecond) // Redis tells nobody when the queue grows
		}
	}
	_ = hold.Unlock(ctx)
	waiters.Wait()
	// Output:
	// waiter 1
	// waiter 2
	// waiter 3
}

// All or nothing, whichever order the members are named in.
func ExampleClient_MultiLock() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	alice, bob := client.RLock("{account}:alice"), client.RLock("{account}:bob")

	both, err := client.MultiLock(bob, alice).Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(alice.IsLocked(ctx))
	fmt.Println(bob.IsLocked(ctx))
	_ = both.Unlock(ctx)

	busy, _ := bob.Lock(ctx)
	defer busy.Unlock(ctx)
	_, err = client.MultiLock(alice, bob).TryLock(ctx, 0, 0)
	fmt.Println(errors.Is(err, holdfast.ErrNotAcquired))
	fmt.Println(alice.IsLocked(ctx))
	// Output:
	// true <nil>
	// true <nil>
	// true
	// false <nil>
}

// The same lock on five independent servers, of which two may fail.
func ExampleClient_RedLock() {
	ctx := context.Background()
	var clients []*holdfast.Client
	var members []holdfast.Lock
	for range 5 {
		client, stop := start() // one for each server
		defer stop()
		clients = append(clients, client)
		members = append(members, client.RLock("orders"))
	}
	orders := clients[0].RedLock(members...)

	err := orders.Do(ctx, func(ctx context.Context) error {
		fmt.Println("a majority is ours") // ctx ends when it is lost
		return ctx.Err()
	})
	fmt.Println(err)
	// Output:
	// a majority is ours
	// <nil>
}

// A lock on five servers, and one on the first of them alone, together.
func ExampleClient_MultiLock_quorum() {
	ctx := context.Background()
	var clients []*holdfast.Client
	var members []holdfast.Lock
	for range 5 {
		client, stop := start() // one for each server
		defer stop()
		clients = append(clients, client)
		members = append(members, client.RLock("orders"))
	}
	both := clients[0].MultiLock(clients[0].RLock("report"), clients[0].RedLock(members...))

	err := both.Do(ctx, func(context.Context) error {
		fmt.Println("the report is ours, and a majority of the orders")
		return nil
	})
	fmt.Println(both.Name(), err)
	// Output:
	// the report is ours, and a majority of the orders
	// multi(report, red(orders, orders, orders, orders, orders)) <nil>
}

func ExampleLock_do() {
	ctx := context.Background()
	client, stop := start()
	defer stop()

	err := client.RLock("orders").Do(ctx, func(ctx context.Context) error {
		return errors.New("no such order")
	}, holdfast.WithWait(3*time.Second))
	fmt.Println(err)
	// Output: no such order
}

func ExampleLock_lock() {
	ctx := context.Background()
	client, stop := start()
	defer stop()

	hold, err := client.RLock("orders").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(hold.Name(), "count", hold.Count())
	fmt.Println(hold.Unlock(ctx), hold.Err())
	// Output:
	// orders count 1
	// <nil> holdfast: hold unlocked
}

// Try for a while, with a lease that is not renewed.
func ExampleLock_tryLock() {
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")
	work := func(context.Context) error { fmt.Println("working"); return nil }

	charge := func(ctx context.Context) error {
		hold, err := orders.TryLock(ctx, 3*time.Second, 10*time.Second) // wait at most 3 s, lease 10 s
		switch {
		case errors.Is(err, holdfast.ErrNotAcquired):
			return nil // somebody else has it
		case err != nil:
			return err // Redis did not answer or refused, or ctx ended
		}
		defer hold.Unlock(ctx) // works also when ctx has ended by then

		return work(hold.Context(ctx)) // with this context, Lock on the same name re-enters
	}
	fmt.Println(charge(context.Background()))
	// Output:
	// working
	// <nil>
}

// ForceUnlock is for people who know that the holder is gone for good. A holder that
// is not learns of it at its next renewal.
func ExampleLock_forceUnlock() {
	ctx := context.Background()
	client, stop := start(holdfast.WithWatchdogTimeout(300 * time.Millisecond))
	defer stop()
	orders := client.RLock("orders")
	hold, _ := orders.Lock(ctx)

	fmt.Println(orders.ForceUnlock(ctx))
	<-hold.Done()
	fmt.Println(hold.Err())
	fmt.Println(orders.ForceUnlock(ctx))
	// Output:
	// true <nil>
	// holdfast: hold lost
	// false <nil>
}

func ExampleLock_isLocked() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.Lock(ctx)
	fmt.Println(orders.IsLocked(ctx))
	_ = hold.Unlock(ctx)
	fmt.Println(orders.IsLocked(ctx))
	// Output:
	// true <nil>
	// false <nil>
}

// IsHeld asks about the owner that ctx carries, not about the goroutine that calls.
func ExampleLock_isHeld() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.Lock(ctx)
	defer hold.Unlock(ctx)
	fmt.Println(orders.IsHeld(ctx))
	fmt.Println(orders.IsHeld(hold.Context(ctx)))
	// Output:
	// false <nil>
	// true <nil>
}

func ExampleLock_holdCount() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	outer, _ := orders.Lock(ctx)
	mine := outer.Context(ctx)
	inner, _ := orders.Lock(mine)
	fmt.Println(orders.HoldCount(mine))
	_ = inner.Unlock(ctx)
	fmt.Println(orders.HoldCount(mine))
	_ = outer.Unlock(ctx)
	// Output:
	// 2 <nil>
	// 1 <nil>
}

func ExampleLock_remainingTTL() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.Lock(ctx)
	left, _ := orders.RemainingTTL(ctx)
	fmt.Println(left > 29*time.Second, left <= 30*time.Second)

	_ = hold.Unlock(ctx)
	_, err := orders.RemainingTTL(ctx)
	fmt.Println(errors.Is(err, holdfast.ErrNotHeld))
	// Output:
	// true true
	// true
}

// With a hold's context Lock re-enters. The lock is free after the last Unlock.
func ExampleHold_context() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	outer, _ := orders.Lock(ctx)
	inner, _ := orders.Lock(outer.Context(ctx))
	fmt.Println(inner.Owner() == outer.Owner(), inner.Count())

	_ = outer.Unlock(ctx) // in whatever order
	fmt.Println(orders.IsLocked(ctx))
	_ = inner.Unlock(ctx)
	fmt.Println(orders.IsLocked(ctx))
	// Output:
	// true 2
	// true <nil>
	// false <nil>
}

func ExampleHold_extend() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.TryLock(ctx, 0, 5*time.Second)
	defer hold.Unlock(ctx)
	fmt.Println(hold.Extend(ctx, time.Minute))
	left, _ := orders.RemainingTTL(ctx)
	fmt.Println(left > 50*time.Second)
	// Output:
	// <nil>
	// true
}

// Somebody deletes the key. The holder is told by its channel, its error and its
// contexts.
func ExampleHold_done() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	client, _ := holdfast.New(rdb, holdfast.WithWatchdogTimeout(300*time.Millisecond),
		holdfast.WithLogger(slog.New(slog.DiscardHandler)))
	defer client.Close()
	hold, _ := client.RLock("orders").Lock(ctx)
	work := hold.Context(ctx)

	rdb.Del(ctx, "orders")
	<-hold.Done()
	fmt.Println(hold.Err())
	<-work.Done()
	fmt.Println(work.Err(), "because:", context.Cause(work))
	fmt.Println(hold.Unlock(ctx))
	// Output:
	// holdfast: hold lost
	// context canceled because: holdfast: hold lost
	// unlock "orders": holdfast: hold lost
}

// Unlock frees the lock also with a context that has ended, and only once.
func ExampleHold_unlock() {
	ctx, cancel := context.WithCancel(context.Background())
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")
	hold, _ := orders.Lock(ctx)

	cancel()
	fmt.Println(hold.Unlock(ctx))
	fmt.Println(hold.Unlock(ctx))
	fmt.Println(orders.IsLocked(context.Background()))
	// Output:
	// <nil>
	// <nil>
	// false <nil>
}

// Three seconds after the last renewal this process's locks are free if it dies.
func ExampleWithWatchdogTimeout() {
	ctx := context.Background()
	client, stop := start(holdfast.WithWatchdogTimeout(3 * time.Second))
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.Lock(ctx)
	defer hold.Unlock(ctx)
	left, _ := orders.RemainingTTL(ctx)
	fmt.Println(left <= 3*time.Second)
	// Output: true
}

func ExampleWithTracerProvider() {
	ctx := context.Background()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	client, stop := start(holdfast.WithTracerProvider(provider))
	defer stop()

	hold, _ := client.RLock("orders").Lock(ctx)
	_ = hold.Unlock(ctx)
	for _, span := range spans.Ended() {
		fmt.Println(span.Name())
	}
	// Output:
	// lock.acquire
	// lock.hold
	// lock.release
}

// A view of the SDK keeps the names of locks out of the metrics.
func ExampleWithMeterProvider() {
	ctx := context.Background()
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithView(sdkmetric.NewView(
		sdkmetric.Instrument{Scope: instrumentation.Scope{Name: "github.com/holdfast-go/holdfast"}},
		sdkmetric.Stream{AttributeFilter: attribute.NewDenyKeysFilter("lock.name")},
	)))
	client, stop := start(holdfast.WithMeterProvider(provider))
	defer stop()

	for _, name := range []string{"orders:1", "orders:2"} {
		hold, _ := client.RLock(name).Lock(ctx)
		defer hold.Unlock(ctx)
	}
	var metrics metricdata.ResourceMetrics
	_ = reader.Collect(ctx, &metrics)
	for _, m := range metrics.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "holdfast.held" {
			point := sum.DataPoints[0]
			fmt.Println(m.Name, point.Value, point.Attributes.Encoded(attribute.DefaultEncoder()))
		}
	}
	// Output: holdfast.held 2 lock.kind=rlock
}

// Traces and metrics with the global providers, which do nothing unless the program
// has set them.
func ExampleNew_telemetry() {
	rdb, stop := startRedis()
	defer stop()
	logger := slog.Default()

	client, err := holdfast.New(rdb,
		holdfast.WithTracerProvider(otel.GetTracerProvider()), // spans
		holdfast.WithMeterProvider(otel.GetMeterProvider()),   // metrics
		holdfast.WithLogger(logger),                           // log lines; slog.Default() without it
	)
	fmt.Println(err)
	_ = client.Close()
	// Output: <nil>
}

func ExampleWithLogger() {
	ctx := context.Background()
	text := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	client, stop := start(holdfast.WithLogger(slog.New(text)))
	defer stop()

	hold, _ := client.RLock("orders").Lock(ctx)
	_ = client.Close()
	_ = hold.Unlock(ctx)
	// Output: level=WARN msg="holdfast: client closed with open holds; their locks stay until their leases run out" holds=1
}

// A client that does not send again what Redis refused for now.
func ExampleWithRetry() {
	client, stop := start(holdfast.WithRetry(func() backoff.BackOff { return &backoff.StopBackOff{} }))
	defer stop()

	fmt.Println(client.RLock("orders").IsLocked(context.Background()))
	// Output: false <nil>
}

func ExampleWithNameMapper() {
	ctx := context.Background()
	rdb, stop := startRedis()
	defer stop()
	client, _ := holdfast.New(rdb, holdfast.WithNameMapper(func(name string) string { return "shop:" + name }))
	defer client.Close()

	hold, _ := client.RLock("orders").Lock(ctx)
	defer hold.Unlock(ctx)
	fmt.Println(hold.Name(), rdb.Keys(ctx, "*").Val())
	// Output: orders [shop:orders]
}

// An id tells people which process holds a lock. It must be of one client alone.
func ExampleWithClientID() {
	ctx := context.Background()
	client, stop := start(holdfast.WithClientID("billing-7"))
	defer stop()

	hold, _ := client.RLock("orders").Lock(ctx)
	defer hold.Unlock(ctx)
	fmt.Println(strings.HasPrefix(hold.Owner(), "billing-7:"))
	// Output: true
}

// A hold with a lease is not renewed: it ends with its lease.
func ExampleWithLease() {
	ctx := context.Background()
	client, stop := start()
	defer stop()

	hold, _ := client.RLock("orders").Lock(ctx, holdfast.WithLease(100*time.Millisecond))
	<-hold.Done()
	fmt.Println(hold.Err())
	// Output: holdfast: hold lost
}

func ExampleWithWait() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")
	hold, _ := orders.Lock(ctx)
	defer hold.Unlock(ctx)

	_, err := orders.Lock(ctx, holdfast.WithWait(20*time.Millisecond))
	fmt.Println(errors.Is(err, holdfast.ErrNotAcquired))
	// Output: true
}

// Work that hangs must not hold the lock for ever.
func ExampleWithMaxHold() {
	ctx := context.Background()
	client, stop := start(holdfast.WithWatchdogTimeout(100 * time.Millisecond))
	defer stop()

	err := client.RLock("orders").Do(ctx, func(ctx context.Context) error {
		<-ctx.Done() // hangs
		return nil
	}, holdfast.WithMaxHold(200*time.Millisecond))
	fmt.Println(errors.Is(err, holdfast.ErrLost))
	// Output: true
}

// Redisson's spin lock: wait by trying again, never subscribe.
func ExampleWithPolling() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	policy := func() backoff.BackOff {
		return backoff.NewExponentialBackOff(
			backoff.WithInitialInterval(time.Millisecond),
			backoff.WithMaxInterval(128*time.Millisecond),
			backoff.WithMultiplier(2),
			backoff.WithMaxElapsedTime(0), // until ctx or wait ends
		)
	}
	first, _ := client.RLock("orders").Lock(ctx)
	time.AfterFunc(20*time.Millisecond, func() { _ = first.Unlock(ctx) })

	hold, err := client.RLock("orders", holdfast.WithPolling(policy)).Lock(ctx)
	fmt.Println(err)
	_ = hold.Unlock(ctx)
	// Output: <nil>
}

// A waiter that dies keeps its place in the queue for a second, one that lives for as
// long as it waits. Give all users of a lock the same.
func ExampleWithWaiterLease() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.FairLock("orders", holdfast.WithWaiterLease(time.Second))

	first, _ := orders.Lock(ctx)
	time.AfterFunc(20*time.Millisecond, func() { _ = first.Unlock(ctx) })
	second, err := orders.Lock(ctx) // waits in the queue
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(second.Unlock(ctx))
	// Output: <nil>
}

// An option that a kind of lock cannot honour is an error of its first call.
func ExampleLockOption() {
	client, stop := start()
	defer stop()

	_, err := client.RLock("orders", holdfast.WithWaiterLease(time.Second)).Lock(context.Background())
	fmt.Println(err)
	// Output: acquire "orders": holdfast: a plain lock cannot honour WithWaiterLease
}

// ErrNotAcquired means that somebody else has it, and nothing else.
func Example_errNotAcquired() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")
	hold, _ := orders.Lock(ctx)
	defer hold.Unlock(ctx)

	_, err := orders.TryLock(ctx, 0, 0)
	fmt.Println(errors.Is(err, holdfast.ErrNotAcquired))
	// Output: true
}

// A Redis that is down is never ErrNotAcquired.
func Example_redisIsDown() {
	ctx := context.Background()
	server, _ := miniredis.Run()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), DialerRetries: 1})
	defer rdb.Close()
	client, _ := holdfast.New(rdb)
	defer client.Close()
	server.Close()

	_, err := client.RLock("orders").TryLock(ctx, 0, 0)
	fmt.Println(err != nil, errors.Is(err, holdfast.ErrNotAcquired))
	// Output: true false
}

// Re-entry after the outer hold was lost takes nothing.
func Example_errLost() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")

	hold, _ := orders.Lock(ctx)
	mine := context.WithoutCancel(hold.Context(ctx)) // keeps the owner, but not the end
	_, _ = orders.ForceUnlock(ctx)
	_, err := orders.Lock(mine)
	fmt.Println(errors.Is(err, holdfast.ErrLost), errors.Is(hold.Err(), holdfast.ErrLost))
	// Output: true true
}

func Example_errNotHeld() {
	client, stop := start()
	defer stop()

	_, err := client.RLock("orders").RemainingTTL(context.Background())
	fmt.Println(errors.Is(err, holdfast.ErrNotHeld))
	// Output: true
}

func Example_errUnlocked() {
	ctx := context.Background()
	client, stop := start()
	defer stop()

	hold, _ := client.RLock("orders").Lock(ctx)
	work := hold.Context(ctx)
	_ = hold.Unlock(ctx)
	fmt.Println(errors.Is(hold.Err(), holdfast.ErrUnlocked), context.Cause(work))
	// Output: true holdfast: hold unlocked
}

func Example_errClosed() {
	client, stop := start()
	defer stop()

	_ = client.Close()
	_, err := client.RLock("orders").Lock(context.Background())
	fmt.Println(errors.Is(err, holdfast.ErrClosed))
	// Output: true
}

func Example_errInvalidName() {
	client, stop := start()
	defer stop()

	_, err := client.RLock("").Lock(context.Background())
	fmt.Println(errors.Is(err, holdfast.ErrInvalidName), err)
	// Output: true acquire "": holdfast: invalid name: it is empty
}

func Example_errInvalidDuration() {
	client, stop := start()
	defer stop()

	_, err := client.RLock("orders").Lock(context.Background(), holdfast.WithLease(-time.Second))
	fmt.Println(errors.Is(err, holdfast.ErrInvalidDuration), err)
	// Output: true acquire "orders": holdfast: invalid duration: lease must not be negative, got -1s
}
