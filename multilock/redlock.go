package multilock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/script"
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
		group:  group{kind: "red", name: nameOf("red", members, locks), given: members, err: err, tracer: tracer},
		quorum: len(members)/2 + 1,
	}
	l.acquire = l.acquireQuorum
	return l
}

func (l *Red) acquireQuorum(ctx context.Context, opts []locking.AcquireOption) (*hold, error) {
	ctx = renamed(ctx, l.given)
	ask, bids, wait, done, err := l.open(ctx, l.given, opts)
	if err != nil {
		return nil, err
	}
	r := &race{red: l, ask: ask, ctx: ctx, wait: wait, lease: shortestLease(bids), single: ask.Bounded && ask.Wait == 0, wake: make(chan struct{}, 1)}
	r.over.Add(1)
	go func() { // ends with the last try, which the limit bounds
		r.over.Wait()
		done()
	}()
	defer r.over.Done()
	for _, b := range bids {
		r.runners = append(r.runners, &runner{bid: b})
	}
	var end func(*hold, time.Duration, error)
	r.span, end = l.trace(ctx, ask)
	h, err := r.run()
	end(h, r.lease, err)
	return h, err
}

// A race is one call of Lock on its way: all members are asked at once, again and again.
type race struct {
	red     *Red
	ask     locking.Acquire
	ctx     context.Context // the caller's
	wait    context.Context
	lease   time.Duration
	span    tracing.Acquire
	single  bool
	runners []*runner
	wake    chan struct{}  // messages of any member
	over    sync.WaitGroup // tries under way, and the call itself
}

// A runner is one member in a race.
type runner struct {
	bid *engine.Bid
	mu  sync.Mutex // held during a try
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
	return min(max(lease/20, 100*time.Millisecond), 500*time.Millisecond, lease/2)
}

// drift is what is taken off the validity for clocks that run apart: 1 % and 2 ms, see
// https://redis.io/docs/latest/develop/use/patterns/distributed-locks/
func drift(lease time.Duration) time.Duration { return lease/100 + 2*time.Millisecond }

func (r *race) run() (*hold, error) {
	told := false  // by the last try, that others have some of what makes a majority
	var last error // what the last try came to
	for tries := 0; ; tries++ {
		if r.wait.Err() != nil {
			return nil, r.ended(told, last)
		}
		res := r.try()
		switch {
		case res.hold != nil:
			return res.hold, nil
		case res.refused != nil:
			return nil, res.refused
		}
		contended := len(res.taken) > 0 && len(res.taken)+res.won >= r.red.quorum
		if contended || r.wait.Err() == nil { // a try that the end of the wait cut short tells nothing
			told, last = contended, res.err(r)
		}
		if r.single {
			return nil, r.ended(told, last)
		}
		if contended {
			r.span.Waiting()
		}
		if !r.pause(res, contended && res.won == 0, tries) {
			return nil, r.ended(told, res.err(r))
		}
		r.span.Event(tracing.EventRetry)
	}
}

// ended tells why the waiting ended.
func (r *race) ended(told bool, refusal error) error {
	switch {
	case errors.Is(context.Cause(r.wait), locking.ErrClosed):
		return locking.ErrClosed
	case r.ctx.Err() != nil && refusal != nil && !told:
		return fmt.Errorf("%w: %w", engine.ContextError(r.ctx), refusal)
	case r.ctx.Err() != nil:
		return engine.ContextError(r.ctx)
	case told:
		return locking.ErrNotAcquired
	case refusal == nil:
		return engine.ErrSilent // the wait was over before the first try
	}
	return refusal
}

// pause waits before the next try: if others have the lock, for a message or the end of
// a lease; if nobody got a majority, for a random time, or those who meet would meet again.
func (r *race) pause(res outcome, taken bool, tries int) bool {
	// Those who met are apart after a few times as long as a try takes.
	d := time.Millisecond + rand.N(max(res.took, time.Millisecond)<<min(tries+1, 5))
	var wake chan struct{}
	if taken {
		d, wake = r.shortest(res), r.wake
		for _, b := range res.taken {
			_ = b.Listen(r.wake) // where messages are refused the timer has to do
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

// A try asks every member once, at the same time, each with a short limit. What a member
// answers when it is over already is given back, or joins the hold.
type try struct {
	r     *race
	start time.Time

	mu      sync.Mutex
	won     []*engine.Bid
	taken   []*engine.Bid
	errs    []error
	refused error
	stale   bool // a majority, but with no validity left
	left    int  // members that have not answered
	lit     int  // of those, the ones that answered the last time
	over    bool // decided
	hold    *hold
	changed chan struct{} // capacity 1
}

// An outcome is what a try had come to when it was decided.
type outcome struct {
	hold    *hold
	refused error // by so many that a majority is not possible
	won     int
	taken   []*engine.Bid
	errs    []error
	silent  int  // members that had not answered
	stale   bool // a majority said yes, with no validity left
	took    time.Duration
}

// try returns once it is decided: others have so many that there is no majority to win, or
// all have answered, or the limit is over. It does not wait for those that were dark the
// last time if the others make it clear.
func (r *race) try() outcome {
	t := &try{r: r, start: time.Now(), changed: make(chan struct{}, 1)}
	bounded, cancel := context.WithTimeout(r.wait, limit(r.lease))
	r.span.Attempt()
	type one struct {
		*runner
		dark bool
	}
	var free []one
	for _, runner := range r.runners {
		if !runner.mu.TryLock() {
			t.errs = append(t.errs, fmt.Errorf("member %q: %w", runner.bid.Lock.Name(), engine.ErrSilent))
			continue // it is still in the try before
		}
		dark := runner.bid.Lock.IsDark()
		free = append(free, one{runner, dark})
		t.left++
		if !dark {
			t.lit++
		}
	}
	var asked sync.WaitGroup
	for _, f := range free {
		f.bid.Bound(bounded)
		r.over.Add(1)
		asked.Go(func() { // ends with the limit
			defer r.over.Done()
			defer f.mu.Unlock()
			t.ask(f.bid, f.dark)
		})
	}
	go func() { // ends with the limit
		asked.Wait()
		cancel()
	}()
	for !t.decided() {
		select {
		case <-t.changed:
		case <-bounded.Done():
			t.decide()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return outcome{t.hold, t.refused, len(t.won), slices.Clone(t.taken), slices.Clone(t.errs), t.left, t.stale, time.Since(t.start)}
}

// ask asks one member. One that is silent for the whole limit is dark from then on,
// until it answers again.
func (t *try) ask(b *engine.Bid, dark bool) {
	busy, err := (*engine.Bid)(nil), b.Prepare()
	if err == nil {
		busy, err = engine.Ask([]*engine.Bid{b})
	}
	if silent := err != nil && engine.ClassOf(err) != script.Refused; !silent || t.r.wait.Err() == nil {
		b.Lock.SetDark(silent)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left--
	if !dark {
		t.lit--
	}
	switch {
	case err == nil && busy == nil && t.over:
		t.late(b)
	case err == nil && busy == nil:
		t.won = append(t.won, b)
	case busy != nil:
		t.taken = append(t.taken, b)
	default:
		t.errs = append(t.errs, err)
	}
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// late takes what was won when the try was over: into the hold if there is one.
func (t *try) late(b *engine.Bid) {
	if t.hold == nil || !t.hold.join(b.Lock, b.Won()) {
		b.Drop()
	}
}

// decided tells whether the try is over, and decides it if it can be.
func (t *try) decided() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	quorum := t.r.red.quorum
	clear := len(t.won) >= quorum || len(t.won)+t.left < quorum // whether there is a majority
	if !t.over && (t.left == 0 || clear && t.lit == 0 || len(t.taken) > len(t.r.runners)-quorum) {
		t.finish()
	}
	return t.over
}

func (t *try) decide() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.finish()
	}
}

// finish decides: a majority, with enough validity left, is a hold. Otherwise everything is
// given back. Under t.mu.
func (t *try) finish() {
	t.over = true
	red := t.r.red
	valid := t.r.lease - time.Since(t.start) - drift(t.r.lease)
	if len(t.won) >= red.quorum && valid > 0 {
		t.hold = newHold(&red.group, t.inOrder(), red.quorum)
		if t.r.ask.Lease == 0 && t.r.ask.MaxHold == 0 {
			t.hold.keep(t.r.keeper())
		}
		return
	}
	t.stale = len(t.won) >= red.quorum
	for _, err := range t.errs {
		if errors.Is(err, locking.ErrLost) {
			t.refused = err
		}
	}
	refusals := 0
	for _, err := range t.errs {
		if engine.ClassOf(err) == script.Refused {
			refusals++
		}
	}
	if refusals > len(t.r.runners)-red.quorum {
		t.refused = errors.Join(t.errs...)
	}
	for _, b := range t.won {
		b.Drop() // its owner is used up
	}
}

// inOrder are the holds that were won in the order of the members, but first those of
// owners that had the lock before: a member that a re-entered hold did not have begins anew.
func (t *try) inOrder() (won []engine.Held) {
	for _, m := range t.r.red.given {
		for _, b := range t.won {
			if b.Lock == m {
				won = append(won, b.Won())
			}
		}
	}
	slices.SortStableFunc(won, func(a, b engine.Held) int { return b.Count() - a.Count() })
	return won
}

// err tells what went wrong where nobody else has the lock: how many answered, and what the others
// said or did not say.
func (o outcome) err(r *race) error {
	errs, n := o.errs, len(r.runners)
	answered := n - o.silent
	for _, err := range errs {
		if !spoke(err) {
			answered--
		}
	}
	if o.silent > 0 {
		errs = append(errs, fmt.Errorf("%d did not answer in time", o.silent))
	}
	if o.stale {
		errs = append(errs, engine.ErrLate)
	}
	return fmt.Errorf("holdfast: %d of %d servers answered, %d with yes, a majority is needed: %w", answered, n, o.won, errors.Join(errs...))
}

// spoke tells whether an error is what Redis said, or what it said came too late; otherwise it
// was silent.
func spoke(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) || errors.Is(err, engine.ErrLate)
}

// ForceUnlock frees all members that answer, and tells whether any was held. It fails
// unless a majority answers.
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
	ctx = renamed(ctx, l.given)
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

// poll asks all members, and wants the answers of a majority. The others may be silent.
func poll[T any](l *Red, deed string, question func(*engine.Lock) (T, error)) ([]T, error) {
	if err := l.possible(deed); err != nil {
		return nil, err
	}
	answers, errs := each(l.given, question)
	return answered(&l.group, deed, answers, errs, l.quorum)
}
