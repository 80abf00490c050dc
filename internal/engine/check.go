package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
)

// check runs the life of a lock on a name that nobody uses: every script, a
// subscription, and the right to publish. It tells all that is refused, and leaves no
// key.
func (e *Engine) check(ctx context.Context, t *Target) error {
	if q, ok := t.Driver.(Queue); ok {
		return e.checkQueue(ctx, t, q)
	}
	o := e.newOwner(t)
	o.lease = attemptLimit
	step := func(name string, op func(publish string) script.Op) error { return e.checkStep(ctx, t, name, op) }
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

// checkStep sends one operation of the life of a lock.
func (e *Engine) checkStep(ctx context.Context, t *Target, name string, op func(publish string) script.Op) error {
	answer, err := e.question(ctx, t, op, true)
	if err == nil && e.untold(t, answer) {
		err = fmt.Errorf("%v", answer.Reply[1])
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// checkQueue is the life of a lock with a queue: one has it, two stand in the queue, the last one
// gives up, the other one is told and gets it.
func (e *Engine) checkQueue(ctx context.Context, t *Target, q Queue) error {
	var owners [3]*owner
	for i := range owners {
		owners[i] = e.newOwner(t)
		owners[i].lease = attemptLimit
	}
	holder, next, last := owners[0], owners[1], owners[2]
	stand := func(o *owner, p Place) func(string) script.Op {
		return func(publish string) script.Op { return q.Stand(t.Key, o.id, o.lease, p, publish) }
	}
	release := func(o *owner) func(string) script.Op {
		return func(publish string) script.Op { return q.Release(t.Key, o.id, 0, publish) }
	}
	place := Place{Lease: attemptLimit, Mixed: true}
	var problems []error
	for _, step := range []struct {
		name string
		op   func(publish string) script.Op
	}{
		{"acquire", stand(holder, Place{})},
		{"take a place in the queue", stand(next, place)},
		{"take a place behind others", stand(last, place)},
		{"renew a place", stand(last, Place{Lease: attemptLimit, Since: 1, Mixed: true, Renew: true})},
		{"leave the queue", release(last)},
		{"release and publish", release(holder)},
		{"acquire when its turn has come", stand(next, place)},
		{"release", release(next)},
	} {
		if err := e.checkStep(ctx, t, step.name, step.op); err != nil && !told(problems, err) {
			problems = append(problems, err)
		}
		if len(problems) > 0 && step.name == "acquire" {
			break // nothing else can be told apart from this
		}
	}
	if err := e.checkChannel(ctx, next); err != nil {
		problems = append(problems, err)
	}
	if len(problems) == 0 {
		return nil
	}
	for _, o := range owners {
		e.undo(o) // what was not answered may still be executed
	}
	for _, err := range e.probe(ctx, q.Probes(t.Key), problems, release(next)("").Keys) {
		if !told(problems, err) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// probe tells which commands this user may not use, if one of the problems is such a want, and deletes
// the keys: who may not leave a queue leaves it by this, and nobody else knows the name. That goes
// beyond ctx, because a queue has no lease. go-redis does not heed ctx while a socket hangs, so it
// runs beside.
func (e *Engine) probe(ctx context.Context, probes [][]any, problems []error, keys []string) []error {
	if !slices.ContainsFunc(problems, forbidden) {
		probes = nil
	}
	found := make(chan []error, 1)
	go func() { // ends with the Redis client's own timeouts
		var errs []error
		for _, probe := range probes {
			if ctx.Err() != nil {
				break
			}
			if err := e.config.Redis.Do(ctx, probe...).Err(); redis.HasErrorPrefix(err, "NOPERM") {
				errs = append(errs, fmt.Errorf("%v: %w", probe[0], err))
			}
		}
		beyond, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptLimit)
		defer cancel()
		_ = e.config.Redis.Del(beyond, keys...).Err()
		found <- errs
	}()
	select {
	case errs := <-found:
		return errs
	case <-ctx.Done():
		return nil
	}
}

// forbidden tells whether an error is of a right that this user does not have. Of a command inside of a
// script versions of Redis say it differently.
func forbidden(err error) bool {
	return slices.ContainsFunc([]string{"NOPERM", "The user executing the script can't", "ACL failure in script"}, func(words string) bool {
		return strings.Contains(err.Error(), words)
	})
}

// told tells whether Redis said the same before, to an earlier step.
func told(problems []error, err error) bool {
	return slices.ContainsFunc(problems, func(p error) bool { return said(p) == said(err) })
}

// said is an error without the step that it was said to.
func said(err error) string {
	if words := errors.Unwrap(err); words != nil {
		return words.Error()
	}
	return err.Error()
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
			return fmt.Errorf("subscribe: %w", locking.ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("subscribe: %w", contextError(ctx))
		case <-limit.C:
			return fmt.Errorf("subscribe: %w", errSilent)
		}
	}
	return nil
}
