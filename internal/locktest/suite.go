// Package locktest is the one suite of promises: what every lock kind must do on
// every backend that it can be on. A kind's own promises stand beside it in its own package.
package locktest

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A Kind is a lock kind under test.
type Kind struct {
	Name string
	New  func(clients []*holdfast.Client, names []string) holdfast.Lock

	Servers int                        // each with a client of its own; 0: one
	Group   string                     // "multi" or "red": the lock is one of several members
	Names   func(name string) []string // of the members, or of one on all servers; nil: the name itself
	Title   func(name string) string   // what a lock calls itself; nil: the group and its names
	Lease   time.Duration              // of the watchdog, where a promise sees leases end; 0: the suite's
	Calm    time.Duration              // of the watchdog elsewhere: members have longer to answer then; 0: the same
	Queues  bool                       // its waiters stand in a queue in Redis, and are out of it within a second once they have left
}

// short is a lease that can just be held: several locks take several answers.
func (k Kind) short() time.Duration {
	if k.Group == "" {
		return 100 * time.Millisecond
	}
	return 500 * time.Millisecond
}

// quorum tells whether a majority is enough. Then those who meet may split the members
// among them, so that nobody has a lock that is free; and nobody waits in line.
func (k Kind) quorum() bool { return k.Group == "red" }

func (k Kind) names(name string) []string {
	if k.Names == nil {
		return []string{name}
	}
	return k.Names(name)
}

// title is what a lock calls itself.
func (k Kind) title(name string) string {
	if k.Title != nil {
		return k.Title(name)
	}
	if k.Group == "" {
		return name
	}
	names := k.names(name)
	for len(names) < k.Servers {
		names = append(names, names[0])
	}
	return k.Group + "(" + strings.Join(names, ", ") + ")"
}

// A Backend is where the suite runs: it dials a server that is there for one test.
type Backend struct {
	Name  string
	Start func(t *testing.T) (dial func() redis.UniversalClient)

	// Deploy starts servers of which one takes over from another; nil: they do not.
	Deploy func(t *testing.T) Deployment
}

// Run runs every promise for one kind on one backend.
func Run(t *testing.T, kind Kind, backend Backend) {
	dials := []func() redis.UniversalClient{backend.Start(t)}
	for len(dials) < kind.Servers {
		dials = append(dials, backend.Start(t))
	}
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.test(&bed{T: t, kind: kind, dials: dials})
		})
	}
	if backend.Deploy == nil {
		return
	}
	t.Run("a hold goes on through a failover, and who waits waits on", func(t *testing.T) {
		t.Parallel()
		d := backend.Deploy(t) // its own: the failover would be in the way of the other promises
		goesOn(&bed{T: t, kind: kind, dials: []func() redis.UniversalClient{d.Dial}}, d.Failover)
	})
}

type promise struct {
	name string
	test func(b *bed)
}

var promises = concat(exclusion, holding, waiting, refusing)

func concat(lists ...[]promise) (all []promise) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// A bed is the test bed of one promise.
type bed struct {
	*testing.T
	kind  Kind
	dials []func() redis.UniversalClient // one for each server
}

// lease is what the watchdog of a bed's clients renews if the kind needs no longer one: short, so
// that renewals and losses show within a second.
const lease = 600 * time.Millisecond

func (b *bed) lease() time.Duration { return max(b.kind.Lease, lease) }

// ends has the watchdog's lease be so short that the promise sees it end.
func (b *bed) ends() holdfast.Option { return holdfast.WithWatchdogTimeout(b.lease()) }

var names atomic.Int64

// name returns a lock name that no other promise uses.
func (b *bed) name() string {
	b.Helper()
	return "lock-" + itoa(names.Add(1))
}

func itoa(n int64) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// oneServer tells whether all keys are on one server for sure.
func (b *bed) oneServer() bool {
	rdb := b.dials[0]()
	defer func() { _ = rdb.Close() }()
	_, cluster := rdb.(*redis.ClusterClient)
	return len(b.dials) == 1 && !cluster
}

// A raw is the test's own look at a lock's keys, on all servers that have some of it.
type raw struct {
	b       *bed
	servers []redis.UniversalClient
	names   []string
}

func (b *bed) raw(name string) *raw {
	r := &raw{b: b, names: b.kind.names(name)}
	for _, dial := range b.dials {
		rdb := dial()
		b.Cleanup(func() { _ = rdb.Close() })
		r.servers = append(r.servers, rdb)
	}
	return r
}

// keys counts the keys of the lock's members.
func (r *raw) keys(prefix string) (n int) {
	for _, rdb := range r.servers {
		for _, name := range r.names {
			exists, err := rdb.Exists(r.b.ctx(), prefix+name).Result()
			if err != nil {
				r.b.Error(err)
			}
			n += int(exists)
		}
	}
	return n
}

// all is how many keys a lock that is held has.
func (r *raw) all() int { return len(r.servers) * len(r.names) }

// lose deletes as little as makes the lock lost: a member of several, half of a quorum's. All have to be there
// before, and a quorum's last ones may be on their way.
func (r *raw) lose() {
	r.b.Helper()
	redistest.Eventually(r.b.T, 2*time.Second, "all keys are there", func() bool { return r.keys("") == r.all() })
	for _, rdb := range r.servers[:len(r.servers)/2+1] {
		if err := rdb.Del(r.b.ctx(), r.names[len(r.names)-1]).Err(); err != nil {
			r.b.Fatal(err)
		}
	}
}

// gone waits until no key is left: at once for one lock, a little later for the members of
// a group that are released because another one is lost.
func (r *raw) gone() {
	r.b.Helper()
	if r.b.kind.Group == "" {
		if r.keys("") != 0 {
			r.b.Error("the key is left")
		}
		return
	}
	redistest.Eventually(r.b.T, 2*time.Second, "no key is left", func() bool { return r.keys("") == 0 })
}

// clients makes clients with connections of their own, as another process would: one for
// each server.
func (b *bed) clients(opts ...holdfast.Option) (clients []*holdfast.Client) {
	b.Helper()
	opts = append([]holdfast.Option{
		holdfast.WithWatchdogTimeout(max(b.lease(), b.kind.Calm)),
		holdfast.WithLogger(slog.New(slog.DiscardHandler)),
	}, opts...)
	for _, dial := range b.dials {
		rdb := dial()
		c, err := holdfast.New(rdb, opts...)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = c.Close()
			_ = rdb.Close()
		})
		clients = append(clients, c)
	}
	return clients
}

// of makes a lock of the kind in these clients.
func (b *bed) of(clients []*holdfast.Client, name string) holdfast.Lock {
	return b.kind.New(clients, b.kind.names(name))
}

// lock makes a lock of the kind in clients of its own.
func (b *bed) lock(name string, opts ...holdfast.Option) holdfast.Lock {
	b.Helper()
	return b.of(b.clients(opts...), name)
}

// countingLock is a lock whose client tells how many of its callers wait.
func (b *bed) countingLock(name string) (l holdfast.Lock, waiters func() int64) {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	l = b.lock(name, holdfast.WithMeterProvider(provider))
	return l, func() (n int64) {
		var data metricdata.ResourceMetrics
		if err := reader.Collect(context.Background(), &data); err != nil {
			b.Fatal(err)
		}
		for _, scope := range data.ScopeMetrics {
			for _, m := range scope.Metrics {
				if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "holdfast.waiting" {
					for _, point := range sum.DataPoints {
						n += point.Value
					}
				}
			}
		}
		return n
	}
}

// ctx ends before the test's patience does.
func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	b.Cleanup(cancel)
	return ctx
}

// mustLock acquires or fails the test.
func (b *bed) mustLock(l holdfast.Lock, opts ...holdfast.AcquireOption) holdfast.Hold {
	b.Helper()
	return b.mustLockIn(b.ctx(), l, opts...)
}

// mustLockIn acquires with a context, of a hold maybe.
func (b *bed) mustLockIn(ctx context.Context, l holdfast.Lock, opts ...holdfast.AcquireOption) holdfast.Hold {
	b.Helper()
	h, err := l.Lock(ctx, opts...)
	if err != nil {
		b.Fatalf("Lock: %v", err)
	}
	return h
}

func (b *bed) mustUnlock(h holdfast.Hold) {
	b.Helper()
	if err := h.Unlock(b.ctx()); err != nil {
		b.Fatalf("Unlock: %v", err)
	}
}

// want fails the test unless err is, or wraps, target; nil wants no error.
func (b *bed) want(deed string, err, target error) {
	b.Helper()
	if !errors.Is(err, target) {
		b.Errorf("%s: got error %v, want %v", deed, err, target)
	}
}

// busy checks that a lock cannot be had without waiting.
func (b *bed) busy(l holdfast.Lock) {
	b.Helper()
	h, err := l.TryLock(b.ctx(), 0, 0)
	b.want("TryLock of a lock that is held", err, holdfast.ErrNotAcquired)
	if h != nil {
		b.mustUnlock(h)
	}
}

// free checks that a lock can be had without waiting.
func (b *bed) free(l holdfast.Lock) {
	b.Helper()
	h, err := l.TryLock(b.ctx(), 0, 0)
	for start := time.Now(); (b.kind.Queues || b.kind.Group != "") && errors.Is(err, holdfast.ErrNotAcquired) && time.Since(start) < 2*time.Second; {
		h, err = l.TryLock(b.ctx(), 0, 0)
	}
	if err != nil {
		b.Errorf("TryLock of a free lock: %v", err)
		return
	}
	b.mustUnlock(h)
}

// within waits for a signal.
func (b *bed) within(d time.Duration, what string, signal <-chan struct{}) {
	b.Helper()
	select {
	case <-signal:
	case <-time.After(d):
		b.Fatalf("%s: not within %v", what, d)
	}
}

// held is an acquisition that runs beside the test.
type held struct {
	done chan struct{}
	hold holdfast.Hold
	err  error
	at   time.Time
}

// start acquires beside the test.
func (b *bed) start(ctx context.Context, l holdfast.Lock, opts ...holdfast.AcquireOption) *held {
	r := &held{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.hold, r.err = l.Lock(ctx, opts...)
		r.at = time.Now()
	}()
	return r
}

// waits blocks until a lock has a waiter whose subscription the server has.
func (r *raw) waits() {
	r.b.Helper()
	redistest.Eventually(r.b.T, 10*time.Second, "a waiter subscribes", func() bool { return r.subscribers() > 0 })
}

// subscribers counts the channels of a lock that somebody listens to: one for all waiters
// of a client, or one for each.
func (r *raw) subscribers() (n int) {
	for _, rdb := range r.servers {
		for _, name := range r.names {
			n += subscribers(r.b, rdb, name)
		}
	}
	return n
}

func subscribers(b *bed, rdb redis.UniversalClient, name string) (n int) {
	channel := "redisson_lock__channel:{" + name + "}"
	ctx := b.ctx()
	if cluster, ok := rdb.(*redis.ClusterClient); ok && cluster.Options().ClusterSlots == nil {
		node, err := cluster.MasterForKey(ctx, channel)
		if err != nil {
			b.Fatal(err)
		}
		return len(node.PubSubShardChannels(ctx, channel+"*").Val()) + len(node.PubSubChannels(ctx, channel+"*").Val())
	}
	return len(rdb.PubSubChannels(ctx, channel+"*").Val())
}
