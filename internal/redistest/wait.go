package redistest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// pollEvery is the pause between two looks at a condition.
const pollEvery = 5 * time.Millisecond

// Eventually looks at a condition every five milliseconds until it holds, and
// fails the test after d: "after 2s still not: <what>". Call it from the test's
// goroutine.
func Eventually(t testing.TB, d time.Duration, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	notYet := errors.New("not yet")
	if until(ctx, func() error {
		if cond() {
			return nil
		}
		return notYet
	}) != nil {
		t.Fatalf("after %v still not: %s", d, what)
	}
}

// giveUp is an error that no further look can cure.
type giveUp struct{ error }

func (g giveUp) Unwrap() error { return g.error }

// until calls check until it returns nil, gives up, or ctx ends; then the error
// carries what the last check said. It always looks at least once.
func until(ctx context.Context, check func() error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := check()
		if stop := (giveUp{}); err == nil || errors.As(err, &stop) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}
