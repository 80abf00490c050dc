package engine

import (
	"errors"

	"github.com/cenkalti/backoff/v4"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/tracing"
)

// poll waits by the policy's pauses alone. Pauses after errors are the client's.
func (a *attempt) poll(policy backoff.BackOff) (*hold, error) {
	if policy == nil {
		return nil, errors.New("holdfast: the policy of WithPolling made no BackOff, got nil")
	}
	policy.Reset()
	e, retries := a.engine, a.engine.retries()
	t := &single{a: a}
	told := false
	var refusal error // what Redis said instead of "taken", last
	for {
		h, err := a.try(t)
		if h != nil {
			return h, nil
		}
		next := policy.NextBackOff
		switch classOf(err) {
		case script.Done:
			told, refusal = true, nil
			retries.Reset()
			a.span.Waiting()
		case script.Refused:
			return nil, err
		default:
			refusal = err
			next = retries.NextBackOff
		}
		if !e.pause(a.wait, next(), e.closed) {
			if err == nil && a.wait.Err() == nil && !e.closing() {
				return nil, locking.ErrNotAcquired // the policy said Stop
			}
			return nil, a.over(told, refusal)
		}
		a.span.Event(tracing.EventRetry)
	}
}
