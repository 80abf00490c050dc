package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
)

// check runs the life of a lock on a name that nobody uses: every script, a
// subscription, and the right to publish. It tells all that is refused, and leaves no
// key.
func (e *Engine) check(ctx context.Context, t *Target) error {
	o := e.newOwner(t)
	o.lease = attemptLimit
	step := func(name string, op func(publish string) script.Op) error {
		answer, err := e.question(ctx, t, op, true)
		if err == nil && e.untold(t, answer) {
			err = fmt.Errorf("%v", answer.Reply[1])
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}

	err := step("acquire", func(string) script.Op { return t.Driver.Acquire(t.Key, o.id, o.lease, 0) })
	if err != nil {
		if classOf(err) == script.Unknown {
			e.undo(o)
		}
		return err // nothing else can be told apart from this
	}
	release := func(publish string) script.Op { return t.Driver.Release(t.Key, o.id, 0, publish) }
	problems := errors.Join(
		step("renew", func(string) script.Op { return t.Driver.Renew(t.Key, o.id, o.lease) }),
		step("inspect", func(string) script.Op { return t.Driver.Inspect(t.Key, o.id) }),
		e.checkChannel(ctx, o),
		step("release and publish", release),
		step("force-unlock", func(p string) script.Op { return t.Driver.Force(t.Key, p) }),
	)
	if problems != nil {
		e.undo(o) // the release may be among them
	}
	return problems
}

// checkChannel waits for a subscription to be confirmed.
func (e *Engine) checkChannel(ctx context.Context, o *owner) error {
	t := o.target
	sub := e.pubsub.Subscribe(t.Driver.Channel(t.Key, o.id))
	defer sub.Close()
	limit := time.NewTimer(attemptLimit)
	defer limit.Stop()
	for !sub.Confirmed() {
		select {
		case <-sub.Wake():
			if err := sub.Err(); err != nil {
				return fmt.Errorf("subscribe: %w", err)
			}
		case <-e.closed:
			return locking.ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("subscribe: %w", contextError(ctx))
		case <-limit.C:
			return fmt.Errorf("subscribe: %w", errSilent)
		}
	}
	return nil
}
