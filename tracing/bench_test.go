package tracing_test

import (
	"testing"

	metricapi "go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
	traceapi "go.opentelemetry.io/otel/trace"

	"github.com/holdfast-go/holdfast/tracing"
)

// BenchmarkLife is one lock's life: acquire, wait, hold, renew, release.
func BenchmarkLife(b *testing.B) {
	spans := trace.NewTracerProvider() // makes spans and exports them nowhere
	unsampled := trace.NewTracerProvider(trace.WithSampler(trace.NeverSample()))
	metrics := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader()))
	for _, bench := range []struct {
		name  string
		tp    traceapi.TracerProvider
		mp    metricapi.MeterProvider
		named bool
	}{
		{"no provider", nil, nil, true},
		{"spans", spans, nil, true},
		{"spans, unsampled", unsampled, nil, true},
		{"metrics", nil, metrics, true},
		{"metrics without names", nil, metrics, false},
		{"spans and metrics", spans, metrics, true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			tracer, err := tracing.New(bench.tp, bench.mp, bench.named)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				life(tracer)
			}
		})
	}
}
