package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/pubsub"
	"github.com/holdfast-go/holdfast/tracing"
	"github.com/holdfast-go/holdfast/watchdog"
)

// Config is what an engine is made of. Every field but Tracer is set; a nil
// Tracer traces nothing.
type Config struct {
	Redis      redis.UniversalClient
	Program    *script.Program
	ID         string // of the client: the first part of each owner
	FirstOwner uint64 // the number of the first owner
	Watchdog   time.Duration
	Retry      func() backoff.BackOff
	Tracer     *tracing.Tracer
	Logger     *slog.Logger
}

// An Engine acquires, keeps and releases locks of all kinds for one client. All
// its methods may be called at once.
type Engine struct {
	config   Config
	sender   *script.Sender
	publish  *publishing
	pubsub   *pubsub.Manager
	watchdog *watchdog.Watchdog
	lines    lines
	clock    clock
	number   atomic.Uint64
	began    time.Time   // together counts from here
	nth      uint64      // engine of this process, see Lock.Compare
	place    string      // names the server, see placeOf
	dark     atomic.Bool // see Lock.IsDark

	unanswered, lost seldom // what may happen to many locks at once

	life   context.Context // ends with Close
	end    context.CancelFunc
	closed <-chan struct{} // life's
	undos  tally           // undos that are not over

	mu     sync.Mutex // guards what follows; closed is closed under it
	calls  sync.WaitGroup
	owners map[*owner]struct{} // those that are not retired
}

// engines counts those that were made in this process.
var engines atomic.Uint64

// New makes an engine. It sends nothing.
func New(config Config) *Engine {
	life, end := context.WithCancel(context.Background())
	e := &Engine{
		config: config,
		sender: script.NewSender(config.Redis, config.Program),
		life:   life,
		end:    end,
		closed: life.Done(),
		owners: map[*owner]struct{}{},
		began:  time.Now(),
		nth:    engines.Add(1),
		place:  placeOf(config.Redis),
	}
	e.number.Store(config.FirstOwner - 1)
	e.lines.m = map[string]*line{}
	e.publish = newPublishing(config.Redis)
	e.watchdog = watchdog.New(e.sendRenewals, e.sender.Server)
	e.pubsub = pubsub.New(config.Redis, pubsub.Config{
		Sharded: e.publish.sharded,
		Logger:  config.Logger,
		Changed: config.Tracer.Subscriptions,
	})
	return e
}

// sendRenewals is how the watchdog sends: through the same lanes as everybody.
func (e *Engine) sendRenewals(ops []script.Op, answered func([]script.Answer, time.Time)) (queued func() bool) {
	call := e.sender.Start(ops...)
	call.Then(func(c *script.Call) { answered(c.Answers(), c.Sent()) })
	return call.Queued
}

func (e *Engine) nextOwner() string {
	var room [64]byte // mostly 36 of a UUID, 1, and 20 at most
	id := append(append(room[:0], e.config.ID...), ':')
	return string(strconv.AppendUint(id, e.number.Add(1), 10))
}

func (e *Engine) jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}

func (e *Engine) log(msg string, args ...any) { e.config.Logger.Warn("holdfast: "+msg, args...) }

// enter counts a call in; leave counts it out. It fails once the client is closed.
func (e *Engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing() {
		return locking.ErrClosed
	}
	e.calls.Add(1)
	return nil
}

func (e *Engine) leave() { e.calls.Done() }

func (e *Engine) closing() bool {
	select {
	case <-e.closed:
		return true
	default:
		return false
	}
}

// remember keeps an owner for Close, which ends its holds.
func (e *Engine) remember(o *owner) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.owners[o] = struct{}{}
}

func (e *Engine) forget(o *owner) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.owners, o)
}

// closeLimit bounds how long Close waits for releases that are under way.
const closeLimit = 3 * time.Second

// Close wakes every waiter and ends every hold with ErrClosed. The keys of open
// holds stay until their leases run out: the work that they guard may go on. In
// order: no new calls; waiters leave, which may start undos; holds end; undos and
// releases get a few seconds; then messages, the watchdog and idle lanes stop.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closing() {
		e.mu.Unlock()
		return nil
	}
	e.end()
	e.mu.Unlock()
	e.calls.Wait() // they all watch e.closed

	if n := e.closeHolds(); n > 0 {
		e.log("client closed with open holds; their locks stay until their leases run out", "holds", n)
	}
	if !e.undos.wait(closeLimit) {
		e.log("client closed with releases that were not confirmed; what they were for may stay until its lease runs out")
	}
	e.pubsub.Close()
	e.watchdog.Close()
	e.sender.Close()
	return nil
}

// closeHolds ends the holds, which still owe an Unlock, and counts them.
func (e *Engine) closeHolds() (n int) {
	e.mu.Lock()
	owners := make([]*owner, 0, len(e.owners))
	for o := range e.owners {
		owners = append(owners, o)
	}
	e.mu.Unlock()
	for _, o := range owners {
		o.mu.Lock()
		e.watchdog.Remove(&o.entry)
		var ending []*hold
		for _, h := range o.holds {
			if h.mark(locking.ErrClosed) {
				ending = append(ending, h)
			}
		}
		o.mu.Unlock()
		for _, h := range ending {
			h.finish()
		}
		n += len(ending)
	}
	return n
}

// attemptLimit bounds the wait for one answer. Without one by then the outcome
// counts as unknown, and a waiter tries anew on another connection.
const attemptLimit = 3 * time.Second

var (
	errSilent     = errors.New("holdfast: Redis did not answer in time")
	errNilContext = errors.New("holdfast: ctx is nil")
)

// exchange sends one operation and waits for its answer until ctx ends, stop is
// closed or the attempt has lasted too long. Without an answer the error is
// errSilent, of class Unknown; or notSent if the operation was withdrawn in time.
func (e *Engine) exchange(ctx context.Context, op script.Op, stop <-chan struct{}) (*script.Call, script.Answer) {
	call := e.sender.Start(op)
	e.await(ctx, call, stop)
	return call, soFar(call)
}

// soFar is a call's answer, if it has one by now; otherwise nobody waits for it any more.
func soFar(call *script.Call) script.Answer {
	select {
	case <-call.Done():
		return call.Answers()[0]
	default:
	}
	if call.Withdraw() {
		return script.Answer{Err: notSent{errSilent}}
	}
	return script.Answer{Err: errSilent}
}

// exchangeAll is exchange for several operations, which have one call.
func (e *Engine) exchangeAll(ctx context.Context, ops []script.Op, stop <-chan struct{}) []script.Answer {
	call := e.sender.Start(ops...)
	e.await(ctx, call, stop)
	one := soFar(call)
	select {
	case <-call.Done():
		return call.Answers()
	default:
		return slices.Repeat([]script.Answer{one}, len(ops))
	}
}

// await waits for an answer, or for the end of the patience with it.
func (e *Engine) await(ctx context.Context, call *script.Call, stop <-chan struct{}) {
	for limit := time.Now().Add(attemptLimit); !e.awaited(ctx, call, stop, limit); {
	}
}

// awaited waits for it, or until it is time to look whether the limit has passed.
func (e *Engine) awaited(ctx context.Context, call *script.Call, stop <-chan struct{}, limit time.Time) bool {
	look, off := e.clock.towards(limit)
	defer off()
	select {
	case <-call.Done():
	case <-ctx.Done():
	case <-stop:
	case <-look:
		return !time.Now().Before(limit)
	}
	return true
}

// notSent marks the error of an operation that was withdrawn before it was sent.
type notSent struct{ error }

func (n notSent) Unwrap() error { return n.error }

// pause waits for d, the next pause of a policy; false when there is none, ctx ended
// or stop was closed.
func (e *Engine) pause(ctx context.Context, d time.Duration, stop <-chan struct{}) bool {
	if d == backoff.Stop || ctx.Err() != nil {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-stop:
	}
	return false
}

// Retries are the client's pauses for one operation. Most operations need none, so
// the policy is asked for one only then.
type Retries struct {
	policy func() backoff.BackOff
	pauses backoff.BackOff
}

func (e *Engine) retries() *Retries { return &Retries{policy: e.config.Retry} }

// NextBackOff is the next pause.
func (r *Retries) NextBackOff() time.Duration {
	if r.pauses == nil {
		if r.pauses = r.policy(); r.pauses == nil {
			return backoff.Stop
		}
		r.pauses.Reset()
	}
	return r.pauses.NextBackOff()
}

// Reset begins anew.
func (r *Retries) Reset() { r.pauses = nil }

// ContextError is contextError for those who ask with bids.
func ContextError(ctx context.Context) error { return contextError(ctx) }

// contextError is ctx's error, with its cause where that says more: the end of a
// hold, say.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
