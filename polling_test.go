package holdfast_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// every is a policy of constant pauses that ends after so many.
type every struct {
	pause time.Duration
	left  int
	asked *int // pauses that were asked for
}

func (e *every) NextBackOff() time.Duration {
	*e.asked++
	if e.left == 0 {
		return backoff.Stop
	}
	e.left--
	return e.pause
}

func (e *every) Reset() {}

func TestPollingWaitsByItsPolicyAlone(t *testing.T) {
	inBubble(t, func(v *virtual) {
		holder := v.client()
		h := v.lock(holder, holdfast.WithLease(time.Hour))
		policies, asked := 0, 0
		lock := v.client().client.RLock("orders", holdfast.WithPolling(func() backoff.BackOff {
			policies++
			return &every{pause: 70 * time.Millisecond, left: 100, asked: &asked}
		}))
		start := time.Now()
		time.AfterFunc(time.Second, func() { _ = h.Unlock(context.Background()) })
		got, err := lock.Lock(context.Background())
		if err != nil {
			v.Fatal(err)
		}
		// Tries at 0, 70, 140 ... ms; the first one after a second is at 1050.
		if took := time.Since(start); took != 1050*time.Millisecond || policies != 1 || asked != 15 {
			v.Errorf("acquired after %v, with %d policies and %d pauses, want 1.05s, 1 and 15", took, policies, asked)
		}
		_ = got.Unlock(context.Background())
	})
}

func TestPollingEnds(t *testing.T) {
	inBubble(t, func(v *virtual) {
		v.lock(v.client(), holdfast.WithLease(time.Hour))
		asked := 0
		lock := v.client().client.RLock("orders", holdfast.WithPolling(func() backoff.BackOff {
			return &every{pause: 50 * time.Millisecond, left: 10, asked: &asked}
		}))
		start := time.Now()
		if _, err := lock.Lock(context.Background()); !errors.Is(err, holdfast.ErrNotAcquired) {
			v.Errorf("the policy said Stop: got %v, want ErrNotAcquired", err)
		}
		if took := time.Since(start); took != 500*time.Millisecond {
			v.Errorf("the policy ended after %v, want 500ms", took)
		}
		start = time.Now()
		if _, err := lock.TryLock(context.Background(), 120*time.Millisecond, 0); !errors.Is(err, holdfast.ErrNotAcquired) {
			v.Errorf("the wait ran out: got %v, want ErrNotAcquired", err)
		}
		if took := time.Since(start); took != 120*time.Millisecond {
			v.Errorf("the wait ended after %v, want 120ms", took)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 120*time.Millisecond)
		defer cancel()
		if _, err := lock.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, holdfast.ErrNotAcquired) {
			v.Errorf("ctx ended: got %v, want its error alone", err)
		}
	})
}

func TestPollingNeverSubscribes(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	lines := server.Monitor(t)
	holder := newClient(t, rdb).RLock("orders")
	h, err := holder.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lock := newClient(t, server.Client(t)).RLock("orders", holdfast.WithPolling(func() backoff.BackOff {
		return backoff.NewConstantBackOff(5 * time.Millisecond)
	}))
	if _, err := lock.TryLock(t.Context(), 100*time.Millisecond, 0); !errors.Is(err, holdfast.ErrNotAcquired) {
		t.Errorf("got %v, want ErrNotAcquired", err)
	}
	if err := h.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
	if err := lock.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	for _, line := range lines() {
		if strings.Contains(strings.ToLower(line), "subscribe") {
			t.Errorf("got %s, want no subscription", line)
		}
	}
}

func TestOptionsThatAKindCannotHonour(t *testing.T) {
	c := newClient(t, redistest.StartMiniredis(t).Client(t))
	for name, opt := range map[string]holdfast.LockOption{
		"WithWaiterLease": holdfast.WithWaiterLease(time.Second),
		"WithPolling":     holdfast.WithPolling(nil),
		"nil":             nil,
	} {
		_, err := c.RLock("orders", opt).Lock(t.Context())
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "orders") {
			t.Errorf("got %v, want an error that names %s and the lock", err, name)
		}
	}
	none := c.RLock("orders", holdfast.WithPolling(func() backoff.BackOff { return nil }))
	if _, err := none.Lock(t.Context()); err == nil {
		t.Error("a policy that makes no BackOff: got no error")
	}
}
