package engine_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/rlock"
	"github.com/holdfast-go/holdfast/tracing"
)

// events is a tracer provider that calls told with the events of all spans.
type events struct {
	noop.TracerProvider
	told func(ctx context.Context, event string)
}

type eventTracer struct {
	noop.Tracer
	told func(ctx context.Context, event string)
}

type eventSpan struct {
	noop.Span
	ctx  context.Context
	told func(ctx context.Context, event string)
}

func (e events) Tracer(string, ...trace.TracerOption) trace.Tracer { return eventTracer{told: e.told} }

func (e eventTracer) Start(ctx context.Context, _ string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	return ctx, eventSpan{ctx: ctx, told: e.told}
}

func (e eventSpan) AddEvent(name string, _ ...trace.EventOption) { e.told(e.ctx, name) }

// The one in front takes the message of a release, and its ctx ends before it comes to ask. The
// message will not come again: the one behind asks at once, not when the lease that the first
// one was told is over.
func TestAWakeUpThatIsTakenAlongReachesTheNext(t *testing.T) {
	server := redistest.Start(t)
	type first struct{}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), first{}, true))
	defer cancel()
	var released atomic.Bool
	provider := events{told: func(ctx context.Context, event string) {
		if event == tracing.EventWakeUp && ctx.Value(first{}) != nil && released.Load() {
			cancel() // between the message and the question
		}
	}}
	reader := metric.NewManualReader()
	tracer, err := tracing.New(provider, metric.NewMeterProvider(metric.WithReader(reader)))
	if err != nil {
		t.Fatal(err)
	}
	open := func(id string, tracer *tracing.Tracer) *rlock.Lock {
		rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
		e := engine.New(engine.Config{
			Redis: rdb, Program: script.NewProgram(rlock.Verbs()...), ID: id, FirstOwner: 1, Watchdog: 30 * time.Second,
			Retry:  func() backoff.BackOff { return backoff.NewConstantBackOff(10 * time.Millisecond) },
			Logger: slog.New(slog.DiscardHandler), Tracer: tracer,
		})
		t.Cleanup(func() { _ = e.Close(); _ = rdb.Close() })
		return rlock.New(e, name, name)
	}
	lock, monitor := open("ours", tracer), server.Monitor(t)
	held, err := open("theirs", nil).Lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := lock.Lock(ctx)
		ended <- err
	}()
	waiting := func(n int64) func() bool { return func() bool { return gauge(t, reader, "holdfast.waiting") == n } }
	redistest.Eventually(t, 5*time.Second, "the first one waits", waiting(1))
	got := make(chan locking.Hold, 1)
	go func() {
		h, err := lock.Lock(context.Background())
		if err != nil {
			t.Errorf("the one behind: %v", err)
		}
		got <- h
	}()
	redistest.Eventually(t, 5*time.Second, "one stands behind it", waiting(2))
	redistest.Eventually(t, 5*time.Second, "it listens, and has asked once more since", func() bool {
		subscribed, asked := false, false
		for _, line := range monitor() {
			subscribed = subscribed || strings.Contains(line, `"subscribe"`)
			asked = asked || subscribed && strings.Contains(line, `"evalsha"`) && strings.Contains(line, `"ours:1"`)
		}
		return asked
	})
	released.Store(true)
	if err := held.Unlock(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || ctx.Err() == nil {
		t.Fatalf("the first one: got %v, want that its ctx has ended", err)
	}
	select {
	case h := <-got:
		if h == nil {
			return
		}
		if err := h.Unlock(context.Background()); err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Second): // the safety poll comes after more than four
		t.Error("the one behind has not asked, though the lock is free")
		<-got
	}
}

func gauge(t *testing.T, reader *metric.ManualReader, name string) (value int64) {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &data); err != nil {
		t.Fatal(err)
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == name {
				for _, p := range sum.DataPoints {
					value += p.Value
				}
			}
		}
	}
	return value
}
