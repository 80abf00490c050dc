package engine

import (
	"context"
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

	err      error         // nil until it has ended
	done     chan struct{} // made when somebody asks for it
	contexts map[*holdContext]struct{}
	unlocked chan struct{} // made by the first Unlock, closed when that is over
}

var _ locking.Hold = (*hold)(nil)

// A holdContext is one context that ends with the hold.
type holdContext struct {
	cancel context.CancelCauseFunc
	stop   func() bool // no longer forget it when its parent ends
}

func (h *hold) Name() string  { return h.owner.target.Name }
func (h *hold) Owner() string { return h.owner.id }
func (h *hold) Count() int    { return h.count }

// Err looks at the clock too: a hold is never reported as held outside of its
// trust window.
func (h *hold) Err() error {
	h.look()
	h.owner.mu.Lock()
	defer h.owner.mu.Unlock()
	return h.err
}

// look ends the hold if its time is over and the watchdog has not come to it yet.
func (h *hold) look() { _ = h.owner.state() }

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (h *hold) Done() <-chan struct{} {
	h.look()
	h.owner.mu.Lock()
	defer h.owner.mu.Unlock()
	if h.done == nil {
		if h.err != nil {
			return closedChan
		}
		h.done = make(chan struct{})
	}
	return h.done
}

// ownerKey finds the owner in a context: of this client, for this key.
type ownerKey struct {
	engine *Engine
	key    string
}

func (e *Engine) ownerOf(ctx context.Context, t *Target) *owner {
	o, _ := ctx.Value(ownerKey{e, t.Key}).(*owner)
	return o
}

func (h *hold) Context(parent context.Context) context.Context {
	if parent == nil {
		parent = context.Background()
	}
	h.look()
	o := h.owner
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, ownerKey{o.engine, o.target.Key}, o))

	o.mu.Lock()
	defer o.mu.Unlock()
	if h.err != nil {
		cancel(h.err)
		return ctx
	}
	c := &holdContext{cancel: cancel, stop: func() bool { return true }}
	if h.contexts == nil {
		h.contexts = map[*holdContext]struct{}{}
	}
	h.contexts[c] = struct{}{}
	if parent.Done() != nil {
		// A long hold may make many contexts with short-lived parents.
		c.stop = context.AfterFunc(parent, func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			delete(h.contexts, c)
		})
	}
	return ctx
}

// mark ends the hold with its contexts and tells whether it did; finish must follow,
// outside of the mutex. Under owner.mu, so that Err, Done and the contexts agree
// whoever looks: cancelling runs nobody's code, context starts goroutines for that.
func (h *hold) mark(cause error) bool {
	if h.err != nil {
		return false
	}
	h.err = cause
	for c := range h.contexts {
		c.stop()
		c.cancel(cause)
	}
	h.contexts = nil
	if h.done != nil {
		close(h.done)
	}
	return true
}

// finish ends the span of a hold that was marked.
func (h *hold) finish() {
	h.owner.mu.Lock()
	cause, span := h.err, h.span
	h.owner.mu.Unlock()
	span.End(outcomeOf(cause))
}

func outcomeOf(cause error) string {
	switch cause {
	case locking.ErrUnlocked:
		return "unlocked"
	case locking.ErrClosed:
		return "closed"
	default:
		return "lost"
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
		o.sending(lease)
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
		if !e.pause(ctx, pauses, h.Done()) {
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
