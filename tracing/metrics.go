package tracing

import (
	"errors"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// buckets, in seconds, tell a free lock (about a millisecond) from a wait for a
// neighbour, for a batch job, and from one that outlived the default lease.
var buckets = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 1800}

// instruments are the metrics, and the attributes that go with them.
type instruments struct {
	acquireDuration metric.Float64Histogram
	holdDuration    metric.Float64Histogram
	held            metric.Int64UpDownCounter
	waiting         metric.Int64UpDownCounter
	renewals        metric.Int64Counter
	lost            metric.Int64Counter
	subscriptions   metric.Int64UpDownCounter

	named bool     // lock.name is an attribute
	sets  sync.Map // label -> metric.MeasurementOption, of labels without a name
}

func newInstruments(m metric.Meter, named bool) (*instruments, error) {
	i := &instruments{named: named}
	var errs [7]error
	i.acquireDuration, errs[0] = m.Float64Histogram(MetricAcquireDuration, metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(buckets...),
		metric.WithDescription("From the call of Lock to its return, by outcome."))
	i.holdDuration, errs[1] = m.Float64Histogram(MetricHoldDuration, metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(buckets...),
		metric.WithDescription("From acquired to ended, by outcome."))
	i.held, errs[2] = m.Int64UpDownCounter(MetricHeld, metric.WithUnit("{hold}"),
		metric.WithDescription("Holds that have not ended."))
	i.waiting, errs[3] = m.Int64UpDownCounter(MetricWaiting, metric.WithUnit("{waiter}"),
		metric.WithDescription("Calls of Lock that wait for another owner."))
	i.renewals, errs[4] = m.Int64Counter(MetricRenewals, metric.WithUnit("{renewal}"),
		metric.WithDescription("Renewals by outcome: renewed, lost, unknown."))
	i.lost, errs[5] = m.Int64Counter(MetricLost, metric.WithUnit("{hold}"),
		metric.WithDescription("Holds that ended as lost."))
	i.subscriptions, errs[6] = m.Int64UpDownCounter(MetricSubscriptions, metric.WithUnit("{channel}"),
		metric.WithDescription("Channels that are subscribed."))
	return i, errors.Join(errs[:]...)
}

// A label is what a metric tells apart; an empty field is no attribute.
type label struct{ kind, name, outcome string }

// lock labels a metric of one lock.
func (i *instruments) lock(kind, name string) metric.MeasurementOption {
	return i.labels(label{kind: kind, name: name})
}

// end labels a metric of one lock that tells outcomes apart.
func (i *instruments) end(kind, name, outcome string) metric.MeasurementOption {
	return i.labels(label{kind, name, outcome})
}

// renewal labels the renewals, which are counted for all locks together: a batch
// renews many.
func (i *instruments) renewal(outcome string) metric.MeasurementOption {
	return i.labels(label{outcome: outcome})
}

// labels makes the attributes of a label. Those without a name are few, kinds times
// outcomes, and kept. Those with one are not: names come and go, and a cache that
// forgets nothing would grow for as long as the program runs.
func (i *instruments) labels(l label) metric.MeasurementOption {
	if !i.named {
		l.name = ""
	}
	if l.name != "" {
		return l.option()
	}
	if kept, ok := i.sets.Load(l); ok {
		return kept.(metric.MeasurementOption)
	}
	kept, _ := i.sets.LoadOrStore(l, l.option())
	return kept.(metric.MeasurementOption)
}

func (l label) option() metric.MeasurementOption {
	all := make([]attribute.KeyValue, 0, 3)
	if l.kind != "" {
		all = append(all, AttrKind.String(l.kind))
	}
	if l.name != "" {
		all = append(all, AttrName.String(l.name))
	}
	if l.outcome != "" {
		all = append(all, AttrOutcome.String(l.outcome))
	}
	return metric.WithAttributeSet(attribute.NewSet(all...))
}
