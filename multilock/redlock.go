package multilock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/tracing"
)

// Red is a quorum lock: held if a majority of its members, each on a server of its own, is.
// All its methods may be called at once.
type Red struct {
	group
	quorum int
}

var _ locking.Lock = (*Red)(nil)

// NewRed makes a quorum lock; nil traces nothing. What is not possible is told by its first call.
func NewRed(tracer *tracing.Tracer, locks ...locking.Lock) *Red {
	members, err := quorumMembers(locks)
	l := &Red{
		group:  group{kind: "red", given: members, err: err, tracer: tracer},
		quorum: len(members)/2 + 1,
	}
	for _, m := range members {
		l.parts = append(l.parts, m)
	}
	l.name = nameOf("red", l.parts, locks)
	l.acquire = l.acquireQuorum
	return l
}

func (l *Red) acquireQuorum(ctx context.Context, opts []locking.AcquireOption) (*hold, error) {
	ask, bids, wait, done, err := l.open(ctx, l.given, opts)
	if err != nil {
		return nil, err
	}
	r := l.newRace(ctx, wait, ask, bids)
	r.done = done
	r.early = !slices.ContainsFunc(bids, (*engine.Bid).Waits)
	defer r.leave()
	var end func(*hold, time.Duration, error)
	r.span, end = l.trace(ctx, ask)
	h, err := r.run()
	if h != nil {
		r.keep(h)
	}
	end(h, r.lease, err)
	return h, err
}

func (l *Red) newRace(ctx, wait context.Context, ask locking.Acquire, bids []*engine.Bid) *race {
	r := &race{red: l, ask: ask, ctx: ctx, wait: wait, lease: shortestLease(bids), single: ask.Bounded && ask.Wait == 0, wake: make(chan struct{}, 1)}
	r.over.Store(1)
	for _, b := range bids {
		r.longest = max(r.longest, b.Lease())
		r.runners = append(r.runners, &runner{bid: b})
	}
	return r
}

// A race is one call of Lock on its way, or the part of it that is a quorum lock's: all members are
// asked at once, again and again.
type race struct {
	red     *Red
	ask     locking.Acquire
	ctx     context.Context // the caller's
	wait    context.Context
	lease   time.Duration // the shortest of the members'
	longest time.Duration // the longest
	span    tracing.Acquire
	single  bool
	early   bool // a majority is enough to begin with; not where a bid Waits: of a re-entry the count is that of most members
	runners []*runner
	wake    chan struct{} // messages of any member
	over    atomic.Int32  // calls under way to members, and the call itself
	done    func()        // to be called after all of them

	tries int
	told  bool  // by the last try, that others have some of what makes a majority
	last  error // what the last try came to
}

// leave ends one of those that are under way.
func (r *race) leave() {
	if r.over.Add(-1) == 0 {
		r.done()
	}
}

// A runner is one member in a race.
type runner struct {
	bid *engine.Bid
	mu  sync.Mutex // held from when a try asks the member until its answer, or the limit, is dealt with

	stray atomic.Int64 // until when (Unix time, ns) what a try without an answer may have acquired is there at most
}

// shortestLease is what all members have: without one of the caller's, each client has its own.
func shortestLease(bids []*engine.Bid) time.Duration {
	lease := bids[0].Lease()
	for _, b := range bids {
		lease = min(lease, b.Lease())
	}
	return lease
}

// limit is how long one member may take to answer: a small part of the lease.
func limit(lease time.Duration) time.Duration {
	return min(max(lease/20, 100*time.Millisecond), longestLimit, lease/2)
}

const longestLimit = 500 * time.Millisecond

// drift is what is taken off the validity for clocks that run apart: 1 % and 2 ms, see
// https://redis.io/docs/latest/develop/use/patterns/distributed-locks/
func drift(lease time.Duration) time.Duration { return lease/100 + 2*time.Millisecond }

func (r *race) run() (*hold, error) {
	if err := r.red.reenterable(r.ctx); err != nil {
		return nil, err
	}
	for {
		if r.wait.Err() != nil {
			return nil, r.ended()
		}
		res := r.try()
		switch {
		case res.hold != nil:
			return res.hold, nil
		case res.refused != nil:
			return nil, res.refused
		}
		if !r.again(res) {
			return nil, r.ended()
		}
	}
}

// again learns from a try that failed and waits before the next one; false if there is none.
func (r *race) again(res outcome) bool {
	contended := len(res.taken) > 0 && len(res.taken)+res.won >= r.red.quorum
	if contended || r.last == nil || r.wait.Err() == nil { // one that the end of the wait cut short tells less than those before
		r.told, r.last = contended, res.err(r)
	}
	if r.single {
		return false
	}
	if contended {
		r.span.Waiting()
	}
	if !r.pause(res, contended && res.won == 0) {
		return false
	}
	r.tries++
	r.span.Event(tracing.EventRetry)
	return true
}

// ended tells why the waiting ended.
func (r *race) ended() error {
	switch {
	case errors.Is(context.Cause(r.wait), locking.ErrClosed):
		return locking.ErrClosed
	case r.ctx.Err() != nil && r.last != nil && !r.told:
		return fmt.Errorf("%w: %w", engine.ContextError(r.ctx), r.last)
	case r.ctx.Err() != nil && r.told:
		return fmt.Errorf("%w while another owner has the lock", engine.ContextError(r.ctx))
	case r.ctx.Err() != nil:
		return engine.ContextError(r.ctx)
	case r.told:
		return locking.ErrNotAcquired
	case r.last == nil:
		return engine.ErrSilent // the wait was over before the first try
	}
	return r.last
}

// pause waits before the next try: if others have the lock, for a message or the end of
// a lease; if nobody got a majority, for a random time, or those who meet would meet again.
func (r *race) pause(res outcome, taken bool) bool {
	// Those who met are apart after a few times as long as a try takes.
	d := time.Millisecond + rand.N(max(res.took, time.Millisecond)<<min(r.tries+1, 5))
	var wake chan struct{}
	if taken {
		d, wake = r.shortest(res), r.wake
		var deaf []error
		for _, b := range res.taken {
			if err := b.Listen(r.wake); err != nil {
				deaf = append(deaf, b.Lock.MemberError(err))
			}
		}
		if len(deaf) > len(r.runners)-r.red.quorum { // otherwise the timer has to do where messages are refused
			r.told, r.last = false, errors.Join(deaf...)
			return false
		}
	}
	timer := time.NewTimer(min(d, longestPause))
	defer timer.Stop()
	select {
	case <-wake:
		r.span.Event(tracing.EventWakeUp)
		return r.breathe()
	case <-timer.C:
		return true
	case <-r.wait.Done():
		return false
	}
}

// longestPause is how long a waiter waits at most, whatever it was told.
const longestPause = 5 * time.Second

// breathe lets the other members be released too, and whoever else was woken go first or
// last.
func (r *race) breathe() bool {
	timer := time.NewTimer(rand.N(3 * time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.wait.Done():
		return false
	}
}

// shortest is when the first of the members that are taken may be free, but not later
// than a waiter asks anyway, and a little apart from others.
func (r *race) shortest(res outcome) time.Duration {
	d := longestPause
	for _, b := range res.taken {
		d = min(d, b.Told())
	}
	return max(d, 0) + time.Duration(10+rand.IntN(20))*time.Millisecond
}

// ForceUnlock frees all members that answer, and tells whether any was held. It fails
// unless a majority answers; a minority that is silent for half a second is tried further
// in the background, for a few seconds.
func (l *Red) ForceUnlock(ctx context.Context) (bool, error) {
	freed, err := poll(l, "force-unlock", func(m *engine.Lock) (bool, error) { return m.ForceUnlock(ctx) })
	return slices.Contains(freed, true), err
}

// IsLocked tells whether a majority of the members is locked, by whomever.
func (l *Red) IsLocked(ctx context.Context) (bool, error) {
	locked, err := poll(l, "look at", func(m *engine.Lock) (bool, error) { return m.IsLocked(ctx) })
	n := 0
	for _, is := range locked {
		if is {
			n++
		}
	}
	return n >= l.quorum, err
}

// IsHeld tells whether ctx carries owners that hold a majority.
func (l *Red) IsHeld(ctx context.Context) (bool, error) {
	n, err := l.HoldCount(ctx)
	return n > 0, err
}

// HoldCount tells the hold count that a majority of the members reaches.
func (l *Red) HoldCount(ctx context.Context) (int, error) {
	counts, err := poll(l, "count holds of", func(m *engine.Lock) (int, error) { return m.HoldCount(ctx) })
	return reached(counts, l.quorum), err
}

// RemainingTTL tells the time that a majority of the members reaches; ErrNotHeld if no
// majority is locked.
func (l *Red) RemainingTTL(ctx context.Context) (time.Duration, error) {
	ttls, err := poll(l, "look at", func(m *engine.Lock) (time.Duration, error) {
		ttl, err := m.RemainingTTL(ctx)
		if errors.Is(err, locking.ErrNotHeld) {
			return -1, nil
		}
		return ttl, err
	})
	if err != nil {
		return 0, err
	}
	ttls = slices.DeleteFunc(ttls, func(d time.Duration) bool { return d < 0 })
	if len(ttls) < l.quorum {
		return 0, fmt.Errorf("look at %q: %w", l.name, locking.ErrNotHeld)
	}
	return reached(ttls, l.quorum), nil
}

// reached is the n-th largest, or 0.
func reached[T int | time.Duration](values []T, n int) T {
	if len(values) < n {
		return 0
	}
	slices.Sort(values)
	return values[len(values)-n]
}

// poll asks all members, and wants the answers of a majority. For the others it waits no longer
// than a try does, and for those that were silent the last time not at all.
func poll[T any](l *Red, deed string, question func(*engine.Lock) (T, error)) ([]T, error) {
	if err := l.possible(deed); err != nil {
		return nil, err
	}
	type reply struct {
		from   int
		answer T
		err    error
	}
	replies := make(chan reply, len(l.given))
	lit := map[int]bool{}
	for i, m := range l.given {
		if !m.IsDark() {
			lit[i] = true
		}
		go func() { // ends within the limit of a question
			answer, err := question(m)
			if err == nil {
				m.SetDark(false)
			}
			replies <- reply{i, answer, err}
		}()
	}
	patience := time.NewTimer(longestLimit)
	defer patience.Stop()
	var answers []T
	errs := make([]error, len(l.given))
	impatient := false
	for left := len(l.given); left > 0; {
		if len(answers) >= l.quorum && (len(lit) == 0 || impatient) {
			for i := range lit {
				l.given[i].SetDark(true)
			}
			return answers, nil
		}
		select {
		case r := <-replies:
			left--
			delete(lit, r.from)
			if errs[r.from] = l.given[r.from].MemberError(r.err); r.err == nil {
				answers = append(answers, r.answer)
			}
		case <-patience.C:
			impatient = true
		}
	}
	if len(answers) < l.quorum {
		return nil, fmt.Errorf("%s %q: %w", deed, l.name, errors.Join(errs...))
	}
	return answers, nil
}
