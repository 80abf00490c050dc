package tracing_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	metricapi "go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	traceapi "go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// orders are the attributes in metrics of the lock that these tests use.
const orders = "lock.kind=rlock lock.name=orders"

// A collector gathers what a tracer emits.
type collector struct {
	*testing.T
	spans    *tracetest.InMemoryExporter
	provider *trace.TracerProvider
	reader   *metric.ManualReader
	tracer   *tracing.Tracer
}

func collect(t *testing.T, metricNames ...bool) *collector {
	t.Helper()
	c := &collector{T: t, spans: tracetest.NewInMemoryExporter(), reader: metric.NewManualReader()}
	c.provider = trace.NewTracerProvider(trace.WithSyncer(c.spans))
	tracer, err := tracing.New(c.provider, metric.NewMeterProvider(metric.WithReader(c.reader)), metricNames...)
	if err != nil {
		t.Fatal(err)
	}
	c.tracer = tracer
	return c
}

// span returns the only span of that name.
func (c *collector) span(name string) tracetest.SpanStub {
	c.Helper()
	var found []tracetest.SpanStub
	for _, s := range c.spans.GetSpans() {
		if s.Name == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		c.Fatalf("got %d spans %s, want 1", len(found), name)
	}
	return found[0]
}

// An instrument is one metric as a reader sees it: points are values, or counts of
// a histogram, by their attributes.
type instrument struct {
	unit, kind string
	points     map[string]int64
	sum        float64
	buckets    []float64
	exemplars  []metricdata.Exemplar[float64]
}

func (c *collector) instruments() map[string]instrument {
	c.Helper()
	var data metricdata.ResourceMetrics
	if err := c.reader.Collect(context.Background(), &data); err != nil {
		c.Fatal(err)
	}
	all := map[string]instrument{}
	for _, scope := range data.ScopeMetrics {
		if scope.Scope.Name != tracing.Scope {
			c.Errorf("got scope %s, want %s", scope.Scope.Name, tracing.Scope)
		}
		for _, m := range scope.Metrics {
			i := instrument{unit: m.Unit, points: map[string]int64{}}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				i.kind = "up-down counter"
				if d.IsMonotonic {
					i.kind = "counter"
				}
				for _, p := range d.DataPoints {
					i.points[text(p.Attributes.ToSlice())] = p.Value
				}
			case metricdata.Histogram[float64]:
				i.kind = "histogram"
				for _, p := range d.DataPoints {
					i.points[text(p.Attributes.ToSlice())] = int64(p.Count)
					i.sum += p.Sum
					i.buckets = p.Bounds
					i.exemplars = append(i.exemplars, p.Exemplars...)
				}
			default:
				c.Fatalf("%s: got %T", m.Name, m.Data)
			}
			all[m.Name] = i
		}
	}
	return all
}

// has compares the points of a metric: all of them, by attributes.
func (c *collector) has(name string, want map[string]int64) {
	c.Helper()
	got := c.instruments()[name].points
	if len(got) != len(want) {
		c.Errorf("%s: got %v, want %v", name, got, want)
		return
	}
	for attributes, n := range want {
		if got[attributes] != n {
			c.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func text(attributes []attribute.KeyValue) string {
	parts := make([]string, 0, len(attributes))
	for _, kv := range attributes {
		parts = append(parts, string(kv.Key)+"="+kv.Value.String())
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// wrote compares all attributes of a span.
func (c *collector) wrote(s tracetest.SpanStub, want string) {
	c.Helper()
	if got := text(s.Attributes); got != want {
		c.Errorf("%s: got attributes\n%s, want\n%s", s.Name, got, want)
	}
}

func TestALocksLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := collect(t)
		ctx, parent := c.provider.Tracer("test").Start(t.Context(), "caller")
		a := c.tracer.Acquire(ctx, "rlock", "orders")
		a.Attempt()
		a.Event(tracing.EventSubscribe)
		time.Sleep(time.Second)
		a.Event(tracing.EventWakeUp)
		a.Event(tracing.EventRetry)
		a.Attempt()
		time.Sleep(500 * time.Millisecond)
		a.End(tracing.Acquired, "id:1", true, 30*time.Second, nil)
		h := a.Hold("id:1")
		time.Sleep(40 * time.Second)
		r := c.tracer.Release(ctx, "rlock", "orders", "id:1")
		r.End(nil)
		h.End(tracing.Unlocked)
		parent.End()

		acquire, hold, release := c.span("lock.acquire"), c.span("lock.hold"), c.span("lock.release")
		c.wrote(acquire, "lock.attempts=2 lock.kind=rlock lock.lease_ms=30000 lock.name=orders lock.outcome=acquired lock.owner=id:1 lock.reentrant=true lock.wait_ms=1500")
		c.wrote(hold, "lock.kind=rlock lock.name=orders lock.outcome=unlocked lock.owner=id:1")
		c.wrote(release, "lock.kind=rlock lock.name=orders lock.owner=id:1")
		var events []string
		for _, e := range acquire.Events {
			events = append(events, e.Name)
		}
		if want := []string{"subscribe", "wake-up", "retry"}; !slices.Equal(events, want) {
			t.Errorf("got events %v, want %v", events, want)
		}
		for _, s := range []tracetest.SpanStub{acquire, hold, release} {
			if s.Parent.SpanID() != parent.SpanContext().SpanID() {
				t.Errorf("%s: got parent %v, want the caller's span", s.Name, s.Parent.SpanID())
			}
			if s.Status.Code != codes.Unset {
				t.Errorf("%s: got status %v, want none", s.Name, s.Status)
			}
		}
		if len(hold.Links) != 1 || !hold.Links[0].SpanContext.Equal(acquire.SpanContext) {
			t.Errorf("lock.hold: got links %v, want the one to lock.acquire", hold.Links)
		}
		c.has("holdfast.acquire.duration", map[string]int64{orders + " lock.outcome=acquired": 1})
		c.has("holdfast.hold.duration", map[string]int64{orders + " lock.outcome=unlocked": 1})
		for name, want := range map[string]float64{"holdfast.acquire.duration": 1.5, "holdfast.hold.duration": 40} {
			if got := c.instruments()[name].sum; got != want {
				t.Errorf("%s: got %v s, want %v s", name, got, want)
			}
		}
	})
}

func TestAWaiterIsCountedFromWaitingToEnd(t *testing.T) {
	c := collect(t)
	a := c.tracer.Acquire(t.Context(), "rlock", "orders")
	c.has(tracing.MetricWaiting, nil)
	a.Waiting()
	a.Waiting()
	c.has(tracing.MetricWaiting, map[string]int64{orders: 1})
	a.End(tracing.NotAcquired, "", false, time.Second, nil)
	c.has(tracing.MetricWaiting, map[string]int64{orders: 0})
}

func TestAnAcquisitionThatNeverWaitedIsNoWaiter(t *testing.T) {
	c := collect(t)
	c.tracer.Acquire(t.Context(), "rlock", "orders").End(tracing.Acquired, "id:1", false, time.Second, nil)
	c.has(tracing.MetricWaiting, nil)
}

// strict is a provider that ignores what is measured in a context that is over, as
// the API allows.
type strict struct{ metricapi.MeterProvider }

type strictMeter struct{ metricapi.Meter }

type strictCounter struct{ metricapi.Int64UpDownCounter }

func (p strict) Meter(name string, opts ...metricapi.MeterOption) metricapi.Meter {
	return strictMeter{p.MeterProvider.Meter(name, opts...)}
}

func (m strictMeter) Int64UpDownCounter(name string, opts ...metricapi.Int64UpDownCounterOption) (metricapi.Int64UpDownCounter, error) {
	c, err := m.Meter.Int64UpDownCounter(name, opts...)
	return strictCounter{c}, err
}

func (c strictCounter) Add(ctx context.Context, n int64, opts ...metricapi.AddOption) {
	if ctx.Err() == nil {
		c.Int64UpDownCounter.Add(ctx, n, opts...)
	}
}

func TestAWaiterWhoseContextEndedIsTakenBack(t *testing.T) {
	c := collect(t)
	tracer, err := tracing.New(nil, strict{metric.NewMeterProvider(metric.WithReader(c.freshReader()))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a := tracer.Acquire(ctx, "rlock", "orders")
	a.Waiting()
	c.has(tracing.MetricWaiting, map[string]int64{orders: 1})
	cancel()
	a.End(tracing.Cancelled, "", false, time.Second, ctx.Err())
	c.has(tracing.MetricWaiting, map[string]int64{orders: 0})
}

// freshReader replaces the collector's reader, for a provider of the test's own.
func (c *collector) freshReader() metric.Reader {
	c.reader = metric.NewManualReader()
	return c.reader
}

func TestAHoldIsCountedUntilItsEnd(t *testing.T) {
	c := collect(t)
	h := c.tracer.Acquire(t.Context(), "rlock", "orders").Hold("id:1")
	c.has(tracing.MetricHeld, map[string]int64{orders: 1})
	h.End(tracing.Unlocked)
	h.End(tracing.Lost) // too late to count
	c.has(tracing.MetricHeld, map[string]int64{orders: 0})
	c.has(tracing.MetricHoldDuration, map[string]int64{orders + " lock.outcome=unlocked": 1})
	c.has(tracing.MetricLost, map[string]int64{orders: 0})
	c.wrote(c.span(tracing.SpanHold), orders+" lock.outcome=unlocked lock.owner=id:1")
}

// An alert on the increase of a counter needs its value before the first loss.
func TestLossesAreCountedFromZero(t *testing.T) {
	c := collect(t)
	c.has(tracing.MetricRenewals, map[string]int64{"lock.outcome=renewed": 0, "lock.outcome=unknown": 0, "lock.outcome=lost": 0})
	c.tracer.Hold(t.Context(), nil, "rlock", "orders", "id:1")
	c.has(tracing.MetricLost, map[string]int64{orders: 0})
}

func TestALostHoldIsAnError(t *testing.T) {
	c := collect(t)
	c.tracer.Acquire(t.Context(), "rlock", "orders").Hold("id:1").End(tracing.Lost)
	c.has(tracing.MetricLost, map[string]int64{orders: 1})
	c.has(tracing.MetricHoldDuration, map[string]int64{orders + " lock.outcome=lost": 1})
	if s := c.span(tracing.SpanHold); s.Status.Code != codes.Error {
		t.Errorf("got status %v, want Error", s.Status)
	}
}

func TestAHoldOfAClosedClientIsNotLost(t *testing.T) {
	c := collect(t)
	c.tracer.Hold(t.Context(), nil, "rlock", "orders", "id:1").End(tracing.Closed)
	c.has(tracing.MetricLost, map[string]int64{orders: 0})
	c.has(tracing.MetricHoldDuration, map[string]int64{orders + " lock.outcome=closed": 1})
	s := c.span(tracing.SpanHold)
	c.wrote(s, orders+" lock.outcome=closed lock.owner=id:1")
	if len(s.Links) != 0 || s.Status.Code != codes.Unset {
		t.Errorf("got links %v, status %v, want none", s.Links, s.Status)
	}
}

func TestAnErrorIsRecorded(t *testing.T) {
	boom := errors.New("boom")
	for _, test := range []struct {
		name string
		span string
		do   func(*tracing.Tracer)
	}{
		{"an acquisition", tracing.SpanAcquire, func(tr *tracing.Tracer) {
			tr.Acquire(t.Context(), "rlock", "orders").End(tracing.Error, "", false, time.Second, boom)
		}},
		{"a release", tracing.SpanRelease, func(tr *tracing.Tracer) {
			tr.Release(t.Context(), "rlock", "orders", "id:1").End(boom)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := collect(t)
			test.do(c.tracer)
			s := c.span(test.span)
			if want := (trace.Status{Code: codes.Error, Description: "boom"}); s.Status != want {
				t.Errorf("got status %v, want %v", s.Status, want)
			}
			if len(s.Events) != 1 || s.Events[0].Name != "exception" {
				t.Errorf("got events %v, want one exception", s.Events)
			}
		})
	}
}

func TestWhatTheCallerExpectsIsNoError(t *testing.T) {
	for _, outcome := range []tracing.Outcome{tracing.NotAcquired, tracing.Cancelled} {
		c := collect(t)
		c.tracer.Acquire(t.Context(), "rlock", "orders").End(outcome, "", false, 2*time.Second, context.Canceled)
		s := c.span(tracing.SpanAcquire)
		if s.Status.Code != codes.Unset || len(s.Events) != 0 {
			t.Errorf("%s: got status %v, events %v, want none", outcome, s.Status, s.Events)
		}
		c.wrote(s, "lock.attempts=0 lock.kind=rlock lock.lease_ms=2000 lock.name=orders lock.outcome="+string(outcome)+" lock.reentrant=false lock.wait_ms=0")
		c.has(tracing.MetricAcquireDuration, map[string]int64{orders + " lock.outcome=" + string(outcome): 1})
	}
}

func TestAnErrorWithoutAnErrorDoesNotPanic(t *testing.T) {
	c := collect(t)
	c.tracer.Acquire(t.Context(), "rlock", "orders").End(tracing.Error, "", false, time.Second, nil)
	if s := c.span(tracing.SpanAcquire); s.Status.Code != codes.Error {
		t.Errorf("got status %v, want Error", s.Status)
	}
}

func TestAQueueTellsWhereTheCallStands(t *testing.T) {
	c := collect(t)
	a := c.tracer.Acquire(t.Context(), "fair", "orders")
	a.Queued(2, 3)
	a.End(tracing.NotAcquired, "", false, 0, nil)
	s := c.span(tracing.SpanAcquire)
	for _, want := range []attribute.KeyValue{tracing.AttrQueuePosition.Int(2), tracing.AttrQueueLength.Int(3)} {
		if !slices.Contains(s.Attributes, want) {
			t.Errorf("got %v, want %v among them", s.Attributes, want)
		}
	}
}

func TestCommandsCanBeChildrenOfTheirSpan(t *testing.T) {
	c := collect(t)
	ctx := t.Context()
	a, r := c.tracer.Acquire(ctx, "rlock", "orders"), c.tracer.Release(ctx, "rlock", "orders", "id:1")
	inAcquire, inRelease := traceapi.SpanContextFromContext(a.Context(ctx)), traceapi.SpanContextFromContext(r.Context(ctx))
	a.End(tracing.Acquired, "id:1", false, 0, nil)
	r.End(nil)
	if !inAcquire.Equal(c.span(tracing.SpanAcquire).SpanContext) || !inRelease.Equal(c.span(tracing.SpanRelease).SpanContext) {
		t.Errorf("got %v and %v, want the spans of acquire and release", inAcquire, inRelease)
	}
	var none *tracing.Tracer
	if none.Acquire(ctx, "", "").Context(ctx) != ctx || none.Release(ctx, "", "", "").Context(ctx) != ctx {
		t.Error("got another context without a provider, want the same")
	}
}

func TestDurationsLeadToTheirSpans(t *testing.T) {
	c := collect(t)
	ctx, parent := c.provider.Tracer("test").Start(t.Context(), "caller")
	a := c.tracer.Acquire(ctx, "rlock", "orders")
	a.End(tracing.Acquired, "id:1", false, 0, nil)
	a.Hold("id:1").End(tracing.Unlocked)
	parent.End()
	for name, span := range map[string]string{tracing.MetricAcquireDuration: tracing.SpanAcquire, tracing.MetricHoldDuration: tracing.SpanHold} {
		exemplars := c.instruments()[name].exemplars
		want := c.span(span).SpanContext.SpanID()
		if len(exemplars) != 1 || traceapi.SpanID(exemplars[0].SpanID) != want {
			t.Errorf("%s: got exemplars %v, want one of %s %v", name, exemplars, span, want)
		}
	}
}

func TestRenewalsAndSubscriptionsAreCounted(t *testing.T) {
	c := collect(t)
	c.tracer.Renewal(tracing.Renewed)
	c.tracer.Renewals(tracing.Renewed, 5)
	c.tracer.Renewal(tracing.Unknown)
	c.tracer.Subscriptions(3)
	c.tracer.Subscriptions(-1)
	c.has(tracing.MetricRenewals, map[string]int64{"lock.outcome=renewed": 6, "lock.outcome=unknown": 1, "lock.outcome=lost": 0})
	c.has(tracing.MetricSubscriptions, map[string]int64{"": 2})
}

func TestNamesCanBeLeftOutOfMetrics(t *testing.T) {
	c := collect(t, false)
	for _, name := range []string{"orders", "invoices"} {
		a := c.tracer.Acquire(t.Context(), "rlock", name)
		a.Waiting()
		a.End(tracing.Acquired, "id:1", false, time.Second, nil)
		a.Hold("id:1").End(tracing.Lost)
	}
	c.has(tracing.MetricAcquireDuration, map[string]int64{"lock.kind=rlock lock.outcome=acquired": 2})
	c.has(tracing.MetricHoldDuration, map[string]int64{"lock.kind=rlock lock.outcome=lost": 2})
	c.has(tracing.MetricLost, map[string]int64{"lock.kind=rlock": 2})
	c.has(tracing.MetricHeld, map[string]int64{"lock.kind=rlock": 0})
	c.has(tracing.MetricWaiting, map[string]int64{"lock.kind=rlock": 0})
	var named int
	for _, s := range c.spans.GetSpans() {
		if slices.ContainsFunc(s.Attributes, func(kv attribute.KeyValue) bool { return kv.Key == tracing.AttrName }) {
			named++
		}
	}
	if named != 4 {
		t.Errorf("got %d spans with a name, want all 4", named)
	}
}

// The page shows how to leave names out with the SDK alone.
func TestNamesCanBeLeftOutByAView(t *testing.T) {
	c := collect(t)
	view := metric.NewView(
		metric.Instrument{Scope: scope(tracing.Scope)},
		metric.Stream{AttributeFilter: attribute.NewDenyKeysFilter("lock.name")},
	)
	tracer, err := tracing.New(nil, metric.NewMeterProvider(metric.WithReader(c.freshReader()), metric.WithView(view)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"orders", "invoices"} {
		tracer.Hold(t.Context(), nil, "rlock", name, "id:1")
	}
	c.has(tracing.MetricHeld, map[string]int64{"lock.kind=rlock": 2})
}

func TestEachSignalWorksWithoutTheOther(t *testing.T) {
	c := collect(t)
	spans, err := tracing.New(c.provider, nil)
	if err != nil {
		t.Fatal(err)
	}
	life(spans)
	if _, ok := c.instruments()[tracing.MetricHeld]; ok { // c has a tracer of its own, unused
		t.Error("without a meter provider: got metrics, want none")
	}
	if got := len(c.spans.GetSpans()); got != 3 {
		t.Errorf("without a meter provider: got %d spans, want 3", got)
	}
	c.spans.Reset()
	metrics, err := tracing.New(nil, metric.NewMeterProvider(metric.WithReader(c.freshReader())))
	if err != nil {
		t.Fatal(err)
	}
	ctx, parent := c.provider.Tracer("test").Start(t.Context(), "caller")
	if got := metrics.Acquire(ctx, "rlock", "orders").Context(ctx); got != ctx {
		t.Errorf("without a tracer provider: got %v, want the caller's span kept", got)
	}
	life(metrics)
	parent.End()
	if got := len(c.spans.GetSpans()); got != 1 {
		t.Errorf("without a tracer provider: got %d spans, want the caller's alone", got)
	}
	c.has(tracing.MetricHoldDuration, map[string]int64{orders + " lock.outcome=unlocked": 1})
}

// refusing is a meter provider whose instruments cannot be made.
type refusing struct{ metricapi.MeterProvider }

type refusingMeter struct{ metricapi.Meter }

var errRefused = errors.New("refused")

func (p refusing) Meter(name string, opts ...metricapi.MeterOption) metricapi.Meter {
	return refusingMeter{p.MeterProvider.Meter(name, opts...)}
}

func (m refusingMeter) Int64Counter(string, ...metricapi.Int64CounterOption) (metricapi.Int64Counter, error) {
	return nil, errRefused
}

func TestARefusedInstrumentIsTold(t *testing.T) {
	if tracer, err := tracing.New(nil, refusing{metric.NewMeterProvider()}); tracer != nil || !errors.Is(err, errRefused) {
		t.Errorf("got %v, %v, want %v", tracer, err, errRefused)
	}
}

func TestManyAtOnce(t *testing.T) {
	const n = 50
	c := collect(t, false) // with the kept sets
	shared := c.tracer.Acquire(t.Context(), "rlock", "orders").Hold("id:0")
	var all sync.WaitGroup
	for range n {
		all.Go(func() { life(c.tracer) })
		all.Go(func() { shared.End(tracing.Lost) })
	}
	all.Wait()
	c.has(tracing.MetricAcquireDuration, map[string]int64{"lock.kind=rlock lock.outcome=acquired": n})
	c.has(tracing.MetricHoldDuration, map[string]int64{"lock.kind=rlock lock.outcome=unlocked": n, "lock.kind=rlock lock.outcome=lost": 1})
	c.has(tracing.MetricLost, map[string]int64{"lock.kind=rlock": 1})
	c.has(tracing.MetricHeld, map[string]int64{"lock.kind=rlock": 0})
	c.has(tracing.MetricWaiting, map[string]int64{"lock.kind=rlock": 0})
	c.has(tracing.MetricRenewals, map[string]int64{"lock.outcome=renewed": n, "lock.outcome=unknown": 0, "lock.outcome=lost": 0})
	c.has(tracing.MetricSubscriptions, map[string]int64{"": n})
}

// life is all that one acquisition asks of the tracer.
func life(t *tracing.Tracer) {
	ctx := context.Background()
	a := t.Acquire(ctx, "rlock", "orders")
	a.Attempt()
	a.Waiting()
	a.Event(tracing.EventSubscribe)
	a.Queued(2, 3)
	a.End(tracing.Acquired, "id:1", false, time.Second, nil)
	h := a.Hold("id:1")
	t.Release(ctx, "rlock", "orders", "id:1").End(nil)
	t.Renewal(tracing.Renewed)
	t.Subscriptions(1)
	h.End(tracing.Unlocked)
}

func TestWithoutAProviderNothingIsAllocated(t *testing.T) {
	tracer, err := tracing.New(nil, nil)
	if err != nil || tracer.Enabled() {
		t.Fatalf("got %v, enabled %v, want a tracer that does nothing", err, tracer.Enabled())
	}
	if n := testing.AllocsPerRun(100, func() { life(tracer) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		a := tracer.Acquire(ctx, "rlock", "orders")
		tracer.Hold(ctx, &a, "rlock", "orders", "id:1").End(tracing.Lost)
		tracer.Renewals(tracing.Renewed, 3)
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func TestValuesAreOnePointer(t *testing.T) {
	const word = unsafe.Sizeof(uintptr(0))
	if a, h := unsafe.Sizeof(tracing.Acquire{}), unsafe.Sizeof(tracing.Hold{}); a != word || h != word {
		t.Errorf("got %d and %d bytes, want %d", a, h, word)
	}
}
