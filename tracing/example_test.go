package tracing_test

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/holdfast-go/holdfast/tracing"
)

// What the library does when a program locks, works and unlocks.
func Example() {
	spans := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(spans))
	tracer, err := tracing.New(provider, nil) // no metrics
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx := context.Background()
	acquire := tracer.Acquire(ctx, "rlock", "orders")
	acquire.Attempt()
	acquire.End(tracing.Acquired, "id:1", false, 30*time.Second, nil)
	hold := acquire.Hold("id:1")

	release := tracer.Release(ctx, "rlock", "orders", "id:1")
	hold.End(tracing.Unlocked)
	release.End(nil)

	for _, s := range spans.GetSpans() {
		fmt.Println(s.Name)
	}
	// Output:
	// lock.acquire
	// lock.hold
	// lock.release
}

func ExampleNew() {
	tracer, err := tracing.New(nil, nil)
	fmt.Println(tracer.Enabled(), err)
	// All methods of a tracer without providers do nothing.
	tracer.Acquire(context.Background(), "rlock", "orders").Hold("id:1").End(tracing.Unlocked)
	// Output: false <nil>
}
