package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/holdfast-go/holdfast"
)

// Options may be kept, as what a configuration asks for.
func ExampleOption() {
	options := []holdfast.Option{holdfast.WithLogger(slog.New(slog.DiscardHandler))}
	if timeout, err := time.ParseDuration("5s"); err == nil {
		options = append(options, holdfast.WithWatchdogTimeout(timeout))
	}
	client, stop := start(options...)
	defer stop()

	fmt.Println(client.Check(context.Background()))
	// Output: <nil>
}

// Options of a call apply to that call alone.
func ExampleAcquireOption() {
	ctx := context.Background()
	client, stop := start()
	defer stop()
	orders := client.RLock("orders")
	short := []holdfast.AcquireOption{holdfast.WithWait(time.Second), holdfast.WithLease(5 * time.Second)}

	hold, _ := orders.Lock(ctx, short...)
	left, _ := orders.RemainingTTL(ctx)
	_ = hold.Unlock(ctx)
	fmt.Println(left <= 5*time.Second)
	// Output: true
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

	patient := []holdfast.LockOption{holdfast.WithWaiterLease(time.Second)}
	_, err := client.RLock("orders", patient...).Lock(context.Background())
	fmt.Println(err)
	// Output: acquire "orders": holdfast: a plain lock cannot honour WithWaiterLease
}
