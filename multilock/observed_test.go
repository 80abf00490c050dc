package multilock_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// An observer collects what clients tell of their locks.
type observer struct {
	*testing.T
	spans  *tracetest.InMemoryExporter
	reader *metric.ManualReader
	opts   []holdfast.Option
}

func observe(t *testing.T) *observer {
	o := &observer{T: t, spans: tracetest.NewInMemoryExporter(), reader: metric.NewManualReader()}
	o.opts = []holdfast.Option{
		holdfast.WithTracerProvider(trace.NewTracerProvider(trace.WithSyncer(o.spans))),
		holdfast.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(o.reader))),
	}
	return o
}

// value is that of the point with this name of a lock; there must be no point of a member.
func (o *observer) value(instrument, lock string) (value int64) {
	o.Helper()
	var data metricdata.ResourceMetrics
	if err := o.reader.Collect(context.Background(), &data); err != nil {
		o.Fatal(err)
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if !ok || m.Name != instrument {
				continue
			}
			for _, p := range sum.DataPoints {
				name, _ := p.Attributes.Value("lock.name")
				if name.AsString() != lock {
					o.Errorf("%s: got a point of %q, want those of %q only", instrument, name.AsString(), lock)
				}
				value += p.Value
			}
		}
	}
	return value
}

// told are the ended spans, each as its name and those of its attributes that do not differ from run to run.
func (o *observer) told() (told []string) {
	for _, s := range o.spans.GetSpans() {
		words := []string{s.Name}
		for _, key := range []attribute.Key{"lock.kind", "lock.name", "lock.outcome", "lock.reentrant"} {
			for _, a := range s.Attributes {
				if a.Key == key {
					words = append(words, a.Value.String())
				}
			}
		}
		told = append(told, strings.Join(words, " "))
	}
	o.spans.Reset()
	return told
}

// want waits for spans; whether an Unlock or the loss that it meets is told first is open.
func (o *observer) want(deed string, want ...string) {
	o.Helper()
	slices.Sort(want)
	redistest.Eventually(o.T, 5*time.Second, deed+": all spans have ended", func() bool { return len(o.spans.GetSpans()) >= len(want) })
	got := o.told()
	if slices.Sort(got); !slices.Equal(got, want) {
		o.Errorf("%s: got spans %q, want %q", deed, got, want)
	}
}

func (o *observer) gauge(instrument, lock string, want int64) {
	o.Helper()
	if got := o.value(instrument, lock); got != want {
		o.Errorf("%s: got %d, want %d", instrument, got, want)
	}
}

// A group is one lock to those who watch: its name lists its members, which have no spans and no
// metrics of their own, and nothing is counted as held or waiting when it is over.
func TestAGroupIsObservedAsOneLock(t *testing.T) {
	t.Parallel()
	for name, group := range map[string]func(*holdfast.Client, ...holdfast.Lock) holdfast.Lock{
		"multi(m0, m1, m2)": (*holdfast.Client).MultiLock,
		"red(m0, m1, m2)":   (*holdfast.Client).RedLock,
		"multi(red(m0, m1, m2))": func(c *holdfast.Client, locks ...holdfast.Lock) holdfast.Lock {
			return c.MultiLock(c.RedLock(locks...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			kind, _, _ := strings.Cut(name, "(")
			needsAll := !strings.Contains(name, "red")
			o := observe(t)
			var servers []*redistest.Server
			var members, others []holdfast.Lock
			var first, other *holdfast.Client
			for i := range 3 {
				s := redistest.Start(t)
				c := client(t, s.Addr(), append(o.opts, holdfast.WithWatchdogTimeout(3*time.Second))...)
				other = client(t, s.Addr())
				if first == nil {
					first = c
				}
				servers, members, others = append(servers, s), append(members, c.RLock(fmt.Sprint("m", i))), append(others, other.RLock(fmt.Sprint("m", i)))
			}
			l := group(first, members...)
			span := func(of string, words ...string) string {
				return strings.Join(append([]string{of, kind, name}, words...), " ")
			}

			h := lock(t, l)
			o.gauge("holdfast.held", name, 1)
			inner := lockIn(t, h.Context(within(t)), l)
			o.gauge("holdfast.held", name, 2)
			o.want("acquired and re-entered", span("lock.acquire", "acquired false"), span("lock.acquire", "acquired true"))
			unlock(t, inner)
			unlock(t, h)
			o.want("unlocked twice", span("lock.hold", "unlocked"), span("lock.release"), span("lock.hold", "unlocked"), span("lock.release"))
			o.gauge("holdfast.held", name, 0)

			busy := lock(t, group(other, others...))
			ctx, cancel := context.WithCancel(within(t))
			ended := make(chan error, 1)
			go func() {
				_, err := l.Lock(ctx)
				ended <- err
			}()
			redistest.Eventually(t, 5*time.Second, "it waits", func() bool { return o.value("holdfast.waiting", name) == 1 })
			cancel()
			want(t, "Lock", <-ended, context.Canceled)
			_, err := l.TryLock(within(t), 0, 0)
			want(t, "TryLock", err, holdfast.ErrNotAcquired)
			o.want("gave up, and never waited", span("lock.acquire", "cancelled false"), span("lock.acquire", "not_acquired false"))
			o.gauge("holdfast.waiting", name, 0)
			unlock(t, busy)

			h = lock(t, l)
			for i, s := range servers {
				s.Do(within(t), "DEL", fmt.Sprint("m", i))
			}
			signalled(t, 5*time.Second, "Done", h.Done())
			want(t, "Unlock", h.Unlock(within(t)), holdfast.ErrLost)
			o.want("lost", span("lock.acquire", "acquired false"), span("lock.hold", "lost"), span("lock.release"))
			o.gauge("holdfast.held", name, 0)
			o.gauge("holdfast.lost", name, 1)

			h = lock(t, l)
			_ = first.Close()
			if needsAll {
				signalled(t, time.Second, "Done", h.Done())
			}
			unlock(t, h)
			if needsAll {
				o.want("closed", span("lock.acquire", "acquired false"), span("lock.hold", "closed"), span("lock.release"))
			}
			o.gauge("holdfast.held", name, 0)
			empty(t, servers...)
		})
	}
}

// Who asks servers that are silent waits for nobody: that is not what the gauge counts.
func TestAQuorumOfSilentServersIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	o := observe(t)
	p := newParliament(t, 3, o.opts...)
	p.servers[0].Kill()
	p.servers[1].Kill()
	ctx, cancel := context.WithCancel(within(t))
	ended := make(chan error, 1)
	go func() {
		_, err := p.lock.Lock(ctx)
		ended <- err
	}()
	attempts := p.servers[2].Monitor(t)
	redistest.Eventually(t, 5*time.Second, "it has asked several times", func() bool { return strings.Count(strings.Join(attempts(), "\n"), "rlock.acquire") > 2 })
	o.gauge("holdfast.waiting", "red(orders, orders, orders)", 0)
	cancel()
	err := <-ended
	want(t, "Lock", err, context.Canceled)
	says(t, "Lock", err, "1 of 3 servers answered")
}

// A server that refuses has answered, and the error says with what.
func TestAQuorumTellsWhatServersSaid(t *testing.T) {
	t.Parallel()
	p := newParliament(t, 5)
	for _, s := range p.servers[:2] {
		s.Do(within(t), "SET", "orders", "no lock")
	}
	p.servers[4].Kill()
	p.direct[2].Lock(within(t))
	_, err := p.lock.TryLock(within(t), 0, 0)
	says(t, "TryLock", err, "4 of 5 servers answered, 1 with yes", "WRONGTYPE")
}

// A member that is lost comes back to a hold under the watchdog also where it was re-entered
// from one with a lease, which has nobody who fetches it.
func TestAKeeperUnderAHoldWithoutOne(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]holdfast.AcquireOption{"lease": holdfast.WithLease(time.Minute), "max hold": holdfast.WithMaxHold(time.Minute)} {
		t.Run(name, func(t *testing.T) {
			p := newParliament(t, 3, holdfast.WithWatchdogTimeout(1500*time.Millisecond))
			outer := p.whole(opt)
			inner := lockIn(t, outer.Context(within(t)), p.lock)
			p.servers[0].Do(within(t), "FLUSHALL")
			redistest.Eventually(t, 5*time.Second, "the inner hold has it again", func() bool {
				n, err := p.members[0].HoldCount(inner.Context(within(t)))
				return n == 1 && err == nil
			})
			want(t, "the outer hold", outer.Err(), nil)
			want(t, "the inner hold", inner.Err(), nil)
			unlock(t, inner)
			want(t, "the outer hold", outer.Err(), nil)
			unlock(t, outer)
			empty(t, p.servers...)
		})
	}
}
