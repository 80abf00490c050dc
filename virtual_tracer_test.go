package holdfast_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/tracing"
)

// A meddler is a tracer provider whose spans run code of the test's, once each.
type meddler struct {
	noop.TracerProvider
	holdEnds   atomic.Pointer[func()] // at the end of the span of a hold
	handedOver atomic.Pointer[func()] // at the event of a hand-over
	wokeUp     atomic.Pointer[func()] // at the event of a wake-up
}

type meddlingTracer struct {
	noop.Tracer
	m *meddler
}

type meddlingSpan struct {
	noop.Span
	m    *meddler
	name string
}

func (m *meddler) Tracer(string, ...trace.TracerOption) trace.Tracer { return meddlingTracer{m: m} }

func (t meddlingTracer) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	return ctx, meddlingSpan{m: t.m, name: name}
}

func (s meddlingSpan) End(...trace.SpanEndOption) {
	if s.name == tracing.SpanHold {
		once(&s.m.holdEnds)
	}
}

func (s meddlingSpan) AddEvent(name string, _ ...trace.EventOption) {
	switch name {
	case tracing.EventHandOver:
		once(&s.m.handedOver)
	case tracing.EventWakeUp:
		once(&s.m.wokeUp)
	}
}

func once(f *atomic.Pointer[func()]) {
	if do := f.Swap(nil); do != nil {
		(*do)()
	}
}

// An inner hold is dropped, as a multi lock does it, and before its release goes out the outer one is unlocked:
// were the lock handed over then, that release would free it.
func TestWhatIsDroppedIsNotHandedOver(t *testing.T) {
	inBubble(t, func(v *virtual) {
		m := &meddler{}
		o, outer := v.contended(context.Background(), holdfast.WithTracerProvider(m))
		o.link.far.Store(0)
		inner, err := o.link.client.RLock("orders").Lock(outer.Context(context.Background()))
		if err != nil {
			v.Fatal(err)
		}
		unlock := func() {
			go o.unlock(outer)
			time.Sleep(time.Microsecond)
		}
		m.holdEnds.Store(&unlock)
		go inner.(engine.Held).Drop()
		next := o.next()
		time.Sleep(100 * time.Millisecond)
		h, err := v.client().client.RLock("orders").TryLock(context.Background(), 0, 0)
		if err == nil && next.Err() == nil {
			v.Errorf("two have the lock: %s and %s", next.Owner(), h.Owner())
		}
		o.unlock(next)
	})
}

// Who is called does not wait for the tracer of the one who calls, nor does a panic there leave it waiting.
func TestAHandOverDoesNotWaitForATracer(t *testing.T) {
	for name, meddle := range map[string]func(){
		"slow":   func() { time.Sleep(40 * time.Second) },
		"panics": func() { panic("a tracer") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(v *virtual) {
				m := &meddler{}
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				o, h := v.contended(ctx, holdfast.WithTracerProvider(m))
				m.holdEnds.Store(&meddle)
				start := time.Now()
				go func() {
					defer func() { _ = recover() }()
					_ = h.Unlock(context.Background())
				}()
				next := o.next()
				if took := time.Since(start); took > roundTrip {
					v.Errorf("the next one has it after %v", took)
				}
				o.unlock(next)
				time.Sleep(time.Minute)
			})
		})
	}
}

// besideAMessage hands a lock over to one who is woken by a message at that moment, and has a third one behind it.
func (v *virtual) besideAMessage(message func()) (o *handOver, a, b holdfast.Hold) {
	m := &meddler{}
	o, before := v.begin(holdfast.WithTracerProvider(m))
	for range 3 {
		o.join(context.Background())
	}
	o.unlock(before)
	a = o.next()
	handOver := func() { o.unlock(a) }
	m.wokeUp.Store(&handOver)
	message()
	v.server.Publish("redisson_lock__channel:{orders}", "0")
	return o, a, o.next()
}

// It may be the message of the release before. The one behind waits all the same: asking would take it out of the
// line of those who can be called, and end the hand-over.
func TestAMessageBesideAHandOverMakesNobodyAsk(t *testing.T) {
	inBubble(t, func(v *virtual) {
		o, a, b := v.besideAMessage(func() {})
		sent := o.link.writes.Load()
		time.Sleep(handOverLasts / 2)
		if n := o.link.writes.Load() - sent; n != 0 || b.Owner() != a.Owner() {
			v.Errorf("got %d commands, owners %s and %s, want a hand-over and nothing else", n, a.Owner(), b.Owner())
		}
		c, commands := o.unlockAndCount(b)
		if commands != 0 {
			v.Errorf("got %d commands, want that the one behind was handed the lock", commands)
		}
		o.unlock(c)
	})
}

// It may also be the message of a lock that was freed by force: then the one behind asks when the hand-over is over, though the
// one in front has taken the message along.
func TestAMessageBesideAHandOverIsNotLost(t *testing.T) {
	inBubble(t, func(v *virtual) {
		o, _, b := v.besideAMessage(func() { v.server.Del("orders") })
		handedOver := time.Now()
		c := o.next()
		if took := time.Since(handedOver); took > 25*time.Millisecond {
			v.Errorf("the one behind has the free lock after %v", took)
		}
		if err := b.Unlock(context.Background()); !errors.Is(err, holdfast.ErrLost) {
			v.Errorf("Unlock of what was freed by force: got %v, want ErrLost", err)
		}
		o.unlock(c)
	})
}

// The tracer panics when it is told of the hand-over: the hold that nobody gets is released.
func TestAHandOverThatPanicsLeavesNothing(t *testing.T) {
	inBubble(t, func(v *virtual) {
		m := &meddler{}
		o, first := v.begin(holdfast.WithTracerProvider(m))
		o.join(context.Background())
		recovered := make(chan any)
		go func() {
			defer func() { recovered <- recover() }()
			_, _ = o.link.client.RLock("orders").Lock(context.Background())
		}()
		time.Sleep(100 * time.Millisecond)
		o.unlock(first)
		h := o.next()
		crash := func() { panic("a tracer") }
		m.handedOver.Store(&crash)
		o.unlock(h)
		if <-recovered == nil {
			v.Error("the tracer was not told of a hand-over")
		}
		time.Sleep(time.Second)
		if v.server.Exists("orders") {
			v.Error("the key is left, and nobody has a hold")
		}
	})
}

// A meddlingMeter's count of waiters runs code of the test's, once.
type meddlingMeter struct {
	metricnoop.Meter
	counted *atomic.Pointer[func()]
}

type meddlingMeters struct {
	metricnoop.MeterProvider
	meter meddlingMeter
}

func (m meddlingMeters) Meter(string, ...metric.MeterOption) metric.Meter { return m.meter }

func (m meddlingMeter) Int64UpDownCounter(name string, _ ...metric.Int64UpDownCounterOption) (metric.Int64UpDownCounter, error) {
	if name != tracing.MetricWaiting {
		return metricnoop.Int64UpDownCounter{}, nil
	}
	return meddlingCounter{counted: m.counted}, nil
}

type meddlingCounter struct {
	metricnoop.Int64UpDownCounter
	counted *atomic.Pointer[func()]
}

func (c meddlingCounter) Add(context.Context, int64, ...metric.AddOption) { once(c.counted) }

// A brittle ctx panics when somebody waits for its end.
type brittle struct{ context.Context }

func (brittle) Done() <-chan struct{} { panic("a context") }

// A meter or a ctx panics in the middle of the line: its place is not in the way of those behind, nor of Close.
func TestAPanicInLineLeavesNoPlace(t *testing.T) {
	type call struct {
		ctx context.Context
		opt []holdfast.AcquireOption
	}
	background := context.Background()
	for name, making := range map[string]func(v *virtual, o *handOver, counted *atomic.Pointer[func()]) call{
		"the meter": func(_ *virtual, _ *handOver, counted *atomic.Pointer[func()]) call {
			crash := func() { panic("a meter") }
			counted.Store(&crash)
			return call{ctx: background}
		},
		"the ctx": func(*virtual, *handOver, *atomic.Pointer[func()]) call { return call{ctx: brittle{background}} },
		"the ctx of a wait": func(*virtual, *handOver, *atomic.Pointer[func()]) call {
			return call{brittle{background}, []holdfast.AcquireOption{holdfast.WithWait(time.Minute)}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(v *virtual) {
				counted := &atomic.Pointer[func()]{}
				o, first := v.begin(holdfast.WithMeterProvider(meddlingMeters{meter: meddlingMeter{counted: counted}}))
				o.join(background)
				c := making(v, o, counted)
				o.panics(c.ctx, c.opt...)
				o.join(background)
				o.unlock(first)
				o.unlock(o.next())
				o.unlock(o.next())
				if err := o.link.client.Close(); err != nil {
					v.Error(err)
				}
			})
		})
	}
}

// panics locks, and fails the test if that does not panic.
func (o *handOver) panics(ctx context.Context, opts ...holdfast.AcquireOption) {
	o.Helper()
	recovered := make(chan any)
	go func() {
		defer func() { recovered <- recover() }()
		_, _ = o.link.client.RLock("orders").Lock(ctx, opts...)
	}()
	if <-recovered == nil {
		o.Error("nothing has panicked")
	}
}

// The same of a call that joins the line late, because its ctx carries an owner that has unlocked. Meanwhile the one in front of it
// leaves, and another one comes behind it.
func TestAPanicInLineLeavesItOnce(t *testing.T) {
	inBubble(t, func(v *virtual) {
		counted := &atomic.Pointer[func()]{}
		o, first := v.begin(holdfast.WithMeterProvider(meddlingMeters{meter: meddlingMeter{counted: counted}}))
		retired := context.WithoutCancel(first.Context(context.Background()))
		o.unlock(first)
		other := v.client()
		h := v.lock(other)
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan error)
		go func() {
			_, err := o.link.client.RLock("orders").Lock(ctx)
			left <- err
		}()
		time.Sleep(100 * time.Millisecond)
		crash := func() {
			cancel()
			<-left
			o.join(context.Background())
			panic("a meter")
		}
		counted.Store(&crash)
		o.panics(retired)
		o.unlock(h)
		o.unlock(o.next())
		if err := o.link.client.Close(); err != nil {
			v.Error(err)
		}
	})
}
