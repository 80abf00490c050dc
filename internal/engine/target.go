package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/holdfast-go/holdfast/internal/keys"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/tracing"
)

// A Target is the lock that a call is about.
type Target struct {
	Name        string // as the caller gave it
	Key         string // as it is called in Redis
	Driver      Driver
	Polling     func() backoff.BackOff // of WithPolling
	WaiterLease time.Duration          // of WithWaiterLease
	Err         error                  // why no call can be made; told by the first one

	ownerKey any // an ownerKey: made once
}

// newTarget checks a lock's name and options.
func (e *Engine) newTarget(d Driver, name, key string, options locking.LockOptions) *Target {
	t := &Target{Name: name, Key: key, Driver: d, Polling: options.Polling, WaiterLease: options.WaiterLease, Err: options.Err, ownerKey: ownerKey{e, key}}
	if e == nil {
		t.Err = errors.New("holdfast: the client is nil")
		return t
	}
	if err := e.checkKey(key); err != nil {
		t.Err = err
	}
	if name == "" {
		t.Err = fmt.Errorf("%w: it is empty", locking.ErrInvalidName)
	}
	return t
}

func (e *Engine) checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: its key is empty", locking.ErrInvalidName)
	case len(key) > keys.MaxName:
		return fmt.Errorf("%w: it has %d bytes, at most %d are possible", locking.ErrInvalidName, len(key), keys.MaxName)
	case e.publish.cluster != nil && !keys.OneSlot(key):
		return fmt.Errorf("%w: its braces make no hash tag, so on a cluster the key %q and its channel %q are in two slots",
			locking.ErrInvalidName, key, keys.Channel(key))
	}
	return nil
}

// NoFunc is the error of Do without a function.
func NoFunc(name string) error { return fmt.Errorf("do %q: holdfast: fn is nil", name) }

// During runs fn with the hold's context and unlocks then, also when fn panics: the rest of Do.
func During(ctx context.Context, h locking.Hold, fn func(context.Context) error) (err error) {
	defer func() {
		lost := h.Err()
		unlocked := h.Unlock(ctx)
		if !errors.Is(lost, locking.ErrLost) || errors.Is(unlocked, locking.ErrLost) {
			lost = nil // said already
		}
		if unlocked != nil || lost != nil {
			err = errors.Join(err, unlocked, lost)
		}
	}()
	return fn(h.Context(ctx))
}

// questionLimit bounds questions and ForceUnlock, which wait for nobody.
const questionLimit = attemptLimit

// question is questions for a single operation.
func (e *Engine) question(ctx context.Context, t *Target, op func(publish string) script.Op, again bool) (script.Answer, error) {
	answers, err := e.questions(ctx, t, func(publish string) []script.Op { return []script.Op{op(publish)} }, again)
	if err != nil {
		return script.Answer{}, err
	}
	return answers[0], answers[0].Err
}

// questions sends operations that are no acquisitions, in one call. While certainly none was
// executed they are sent again until ctx ends or the limit has passed, and where again
// allows it, so is what may have been. Without an error each has its own answer.
func (e *Engine) questions(ctx context.Context, t *Target, ops func(publish string) []script.Op, again bool) ([]script.Answer, error) {
	if err := e.admissible(ctx, t); err != nil {
		return nil, err
	}
	defer e.leave()
	bounded, cancel := context.WithTimeout(ctx, questionLimit)
	defer cancel()

	publish, err := e.publishCommand(bounded, e.closed)
	pauses := e.retries()
	var said error // before the silence, if it ends in one
	for err == nil {
		answers := e.exchangeAll(bounded, ops(publish), e.closed)
		if slices.ContainsFunc(answers, isSaid) {
			return answers, nil
		}
		answer := answers[0]
		class := classOf(answer.Err)
		silent := errors.Is(answer.Err, errSilent) || class == script.Unknown
		switch {
		case !silent:
			said = answer.Err
		case said != nil:
			answer.Err = fmt.Errorf("%w; before that: %w", answer.Err, said)
		}
		retry := class == script.NotExecuted || class == script.Unknown && again
		if !retry || !e.pause(bounded, pauses.NextBackOff(), e.closed) {
			err = answer.Err
		}
	}
	switch {
	case e.closing():
		err = locking.ErrClosed
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", contextError(ctx), err)
	}
	return nil, err
}

// isSaid tells whether an answer is Redis's last word.
func isSaid(a script.Answer) bool {
	class := classOf(a.Err)
	return class == script.Done || class == script.Refused
}

// ForceUnlock frees locks, whoever holds them, and tells of each whether anybody did. They must go together (Together),
// and are freed in one step: who waits for several of them must not get one while another one is still to be freed, and then
// lose what it has got. It is sent once: a second copy could free them under the next owners.
func ForceUnlock(ctx context.Context, locks ...*Lock) (freed []bool, errs []error) {
	e := locks[0].engine
	answers, err := e.questions(ctx, locks[0].target, func(publish string) []script.Op {
		ops := make([]script.Op, len(locks))
		for i, l := range locks {
			ops[i] = l.target.Driver.Force(l.target.Key, publish)
		}
		return ops
	}, false)
	freed, errs = make([]bool, len(locks)), make([]error, len(locks))
	for i, l := range locks {
		if errs[i] = err; err == nil {
			freed[i], errs[i] = e.forced(l.target, answers[i])
		}
	}
	return freed, errs
}

func (e *Engine) forced(t *Target, answer script.Answer) (bool, error) {
	if e.untold(t, answer) {
		return true, nil
	}
	v, err := answer.Ints(1)
	return err == nil && v[0] == done, err
}

// An Inspection is what Redis knows about a lock.
type Inspection struct {
	Held  bool
	TTL   time.Duration // negative: without an end
	Count int           // holds of the owner that ctx carries
}

// Inspect asks Redis about the lock, and about the owner that ctx carries. deed
// names the question for errors.
func (e *Engine) Inspect(ctx context.Context, t *Target, deed string) (Inspection, error) {
	o := e.liveOwner(ctx, t)
	owner := ""
	if o != nil {
		owner = o.id
	}
	answer, err := e.question(ctx, t, func(string) script.Op { return t.Driver.Inspect(t.Key, owner) }, true)
	var v []int64
	if err == nil {
		v, err = answer.Ints(2)
	}
	if err != nil {
		return Inspection{}, fmt.Errorf("%s %q: %w", deed, t.Name, err)
	}
	i := Inspection{Held: v[0] != -2, TTL: time.Duration(v[0]) * time.Millisecond}
	if o != nil && v[1] > 0 {
		// Redis's own count may be off for a moment, while an undo is under way.
		i.Count = int(o.live.Load())
	}
	return i, nil
}

// liveOwner is the owner that ctx carries, unless it has unlocked or is lost: then
// it holds nothing, whatever is still on its way to Redis.
func (e *Engine) liveOwner(ctx context.Context, t *Target) *owner {
	if ctx == nil {
		return nil // said by admissible
	}
	o := e.ownerOf(ctx, t)
	if o == nil || o.state() != nil || o.live.Load() == 0 {
		return nil
	}
	return o
}

// trace gives a hold its span, unless it has ended meanwhile.
func (h *hold) trace(span tracing.Hold) {
	h.owner.mu.Lock()
	h.span = span
	ended := h.life.Err
	h.owner.mu.Unlock()
	if ended != nil {
		span.End(OutcomeOf(ended))
	}
}
