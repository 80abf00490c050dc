package multilock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/tracing"
)

// A group is what multi and quorum lock have in common.
type group struct {
	kind   string // for spans: "multi", "red"
	name   string
	parts  []locking.Lock // what it is made of, in the order in which that was given
	given  []*engine.Lock // a quorum lock's members; of a multi lock those that are no quorum locks; in the same order
	err    error          // why no call can be made
	tracer *tracing.Tracer

	acquire func(ctx context.Context, opts []locking.AcquireOption) (*hold, error) // the kind's own
}

// Name lists the members: "multi(a, b)", "red(a, b, c)".
func (g *group) Name() string { return g.name }

// memberError says which of a multi lock's members an error is about.
func (g *group) memberError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("member %q: %w", g.name, err)
}

// Lock waits until enough members are acquired, or ctx ends.
func (g *group) Lock(ctx context.Context, opts ...locking.AcquireOption) (locking.Hold, error) {
	h, err := g.acquire(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("acquire %q: %w", g.name, err)
	}
	return h, nil
}

// TryLock waits at most that long for other owners.
func (g *group) TryLock(ctx context.Context, wait, lease time.Duration) (locking.Hold, error) {
	return g.Lock(ctx, locking.WithWait(wait), locking.WithLease(lease))
}

// Do acquires, runs fn with the hold's context and releases.
func (g *group) Do(ctx context.Context, fn func(context.Context) error, opts ...locking.AcquireOption) error {
	if fn == nil {
		return engine.NoFunc(g.Name())
	}
	h, err := g.Lock(ctx, opts...)
	if err != nil {
		return err
	}
	return engine.During(ctx, h, fn)
}

// open begins a call: a bid for each member, and the context that bounds their waiting. Call done after all that uses the bids: it ends them.
func (g *group) open(ctx context.Context, members []*engine.Lock, opts []locking.AcquireOption) (ask locking.Acquire, bids []*engine.Bid, wait context.Context, done func(), err error) {
	if g.err != nil {
		return ask, nil, nil, nil, g.err
	}
	if ask, err = locking.NewAcquire(opts...); err != nil {
		return ask, nil, nil, nil, err
	}
	if ctx == nil {
		return ask, nil, nil, nil, errors.New("holdfast: ctx is nil")
	}
	wait, unbound := untilOneCloses(ctx, ask, members)
	all, err := engine.NewBids(ctx, wait, ask, members...)
	if err != nil {
		unbound()
		return ask, nil, nil, nil, err
	}
	return ask, all, wait, func() {
		for _, b := range slices.Backward(all) {
			b.End()
		}
		unbound()
	}, nil
}

// untilOneCloses is a context that ends with ctx, with the wait, and, if the members are of several clients, with
// each of these. A bid that waits looks after its own client by itself.
func untilOneCloses(ctx context.Context, ask locking.Acquire, members []*engine.Lock) (wait context.Context, end func()) {
	wait, unbound := ctx, context.CancelFunc(func() {})
	if ask.Bounded && ask.Wait > 0 {
		wait, unbound = context.WithTimeout(wait, ask.Wait)
	}
	if !slices.ContainsFunc(members, func(m *engine.Lock) bool { return !m.OneClient(members[0]) }) {
		return wait, unbound
	}
	wait, cancel := context.WithCancelCause(wait)
	closed := func() { cancel(locking.ErrClosed) }
	var stops []func() bool
	for i, m := range members {
		if !slices.ContainsFunc(members[:i], m.OneClient) {
			stops = append(stops, m.OnClose(closed))
		}
	}
	return wait, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
		unbound()
	}
}

// trace begins the span of an acquisition; the function ends it.
func (g *group) trace(ctx context.Context, ask locking.Acquire) (tracing.Acquire, func(h *hold, lease time.Duration, err error)) {
	span := g.tracer.Acquire(ctx, g.kind, g.name)
	return span, func(h *hold, lease time.Duration, err error) {
		owner, count := "", 0
		if h != nil {
			owner, count = h.Owner(), h.Count()
		}
		span.End(engine.Outcome(ctx, err), owner, count > 1, lease, err)
		if h != nil {
			h.trace(span.Hold(owner))
		}
	}
}

// each asks all parts at once, and gives their answers in the order of the parts.
func each[P, T any](parts []P, ask func(P) (T, error)) ([]T, []error) {
	answers, errs := make([]T, len(parts)), make([]error, len(parts))
	var wg sync.WaitGroup
	for i, m := range parts {
		wg.Go(func() { answers[i], errs[i] = ask(m) }) // ends within the limit of a question
	}
	wg.Wait()
	return answers, errs
}

func (g *group) possible(deed string) error {
	if g.err != nil {
		return fmt.Errorf("%s %q: %w", deed, g.name, g.err)
	}
	return nil
}
