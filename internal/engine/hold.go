package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/tracing"
)

// A hold is one acquisition of an owner. Its fields are guarded by owner.mu.
type hold struct {
	owner  *owner
	count  int
	renews bool      // kept by the watchdog
	limit  time.Time // and not after this; zero: no limit
	span   tracing.Hold

	life     Life
	unlocked chan struct{}     // made by the first Unlock, closed when that is over
	ended    func(Held, error) // told of the end, see OnEnd
}

var _ locking.Hold = (*hold)(nil)

func (h *hold) Name() string  { return h.owner.target.Name }
func (h *hold) Owner() string { return h.owner.id }
func (h *hold) Count() int    { return h.count }

// Err looks at the clock too: a hold is never reported as held outside of its
// trust window.
func (h *hold) Err() error {
	h.look()
	h.owner.mu.Lock()
	defer h.owner.mu.Unlock()
	return h.life.Err
}

// look ends the hold if its time is over and the watchdog has not come to it yet.
func (h *hold) look() { _ = h.owner.state() }

func (h *hold) Done() <-chan struct{} {
	h.look()
	h.owner.mu.Lock()
	defer h.owner.mu.Unlock()
	return h.life.Done()
}

// ownerKey finds the owner in a context: of this client, for this key.
type ownerKey struct {
	engine *Engine
	key    string
}

func (e *Engine) ownerOf(ctx context.Context, t *Target) *owner {
	o, _ := ctx.Value(t.ownerKey).(*owner)
	return o
}

func (h *hold) Context(parent context.Context) context.Context {
	if parent == nil {
		parent = context.Background()
	}
	h.look()
	return h.life.Context(&h.owner.mu, parent, h.Carry(parent))
}

// Carry returns ctx with the owner: a Lock with it re-enters.
func (h *hold) Carry(ctx context.Context) context.Context {
	o := h.owner
	return context.WithValue(ctx, o.target.ownerKey, o)
}

// mark ends the hold and tells whether it did; finish must follow, outside of the mutex.
// Under owner.mu.
func (h *hold) mark(cause error) bool { return h.life.End(cause) }

// finish ends the span of a hold that was marked, and tells whoever wants to know.
func (h *hold) finish() {
	h.owner.mu.Lock()
	cause, span, told := h.life.Err, h.span, h.ended
	h.owner.mu.Unlock()
	span.End(OutcomeOf(cause))
	if told != nil {
		told(h, cause)
	}
}

// OnEnd has told called with the hold and the cause once it has ended, at once if it has. Call it
// once, before anybody else has the hold.
func (h *hold) OnEnd(told func(h Held, cause error)) {
	h.owner.mu.Lock()
	h.ended = told
	cause := h.life.Err
	h.owner.mu.Unlock()
	if cause != nil {
		told(h, cause)
	}
}

// OutcomeOf is how a span tells the end of a hold.
func OutcomeOf(cause error) string {
	switch {
	case errors.Is(cause, locking.ErrUnlocked):
		return tracing.Unlocked
	case errors.Is(cause, locking.ErrClosed):
		return tracing.Closed
	default:
		return tracing.Lost
	}
}

// Extend is a renewal with a lease of its own. Executed twice it does no harm,
// so it is sent until it is answered, ctx ends or the hold does.
func (h *hold) Extend(ctx context.Context, lease time.Duration) error {
	if err := h.extend(ctx, lease); err != nil {
		return fmt.Errorf("extend %q: %w", h.Name(), err)
	}
	return nil
}

func (h *hold) extend(ctx context.Context, lease time.Duration) error {
	if ctx == nil {
		return errNilContext
	}
	if err := locking.CheckDuration("lease", lease); err != nil {
		return err
	}
	o, e := h.owner, h.owner.engine
	pauses := e.retries()
	for {
		if err := h.Err(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return contextError(ctx)
		}
		if !o.sending(lease) {
			return h.Err() // what has its id now may be another one's, see handOver
		}
		call, answer := e.exchange(ctx, o.target.Driver.Renew(o.target.Key, o.id, lease), nil)
		v, err := answer.Ints(2)
		switch {
		case err == nil && v[0] == gone:
			o.retire(locking.ErrLost)
			return h.Err()
		case err == nil:
			o.mu.Lock()
			if o.ended == nil {
				o.confirm(call.Sent(), lease)
			}
			o.mu.Unlock()
			return h.Err()
		case script.ClassOf(err) == script.Refused:
			return err
		}
		if !e.pause(ctx, pauses.NextBackOff(), h.Done()) {
			if ctx.Err() != nil {
				return fmt.Errorf("%w: %w", contextError(ctx), err)
			}
			return orElse(h.Err(), err)
		}
	}
}

func orElse(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
