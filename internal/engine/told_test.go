package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
)

// What "gone" means in answer to a release.
func TestRule5WhatGoneMeans(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		after                           int
		inside, earlier, zeroed, within bool
		lost                            bool
	}{
		{after: 0, inside: true, within: true, lost: true},
		{after: 0, inside: true, within: false, lost: false}, // the lease may have run out by itself
		{after: 0, inside: true, within: true, earlier: true, lost: false},
		{after: 0, inside: true, within: true, zeroed: true, lost: false}, // an undo was first
		{after: 0, inside: false, within: false, lost: true},
		{after: 0, inside: false, within: false, earlier: true, zeroed: true, lost: true},
		{after: 1, inside: true, within: true, earlier: true, zeroed: true, lost: true},
		{after: 1, inside: true, within: false, lost: true},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			t.Parallel()
			o := &owner{engine: &Engine{}, target: &Target{}, trusted: time.Now().Add(-time.Second)}
			if c.within {
				o.trusted = time.Now().Add(time.Hour)
			}
			o.zeroed.Store(c.zeroed)
			err := o.told(script.Answer{Reply: []any{int64(gone), int64(0)}}, c.after, c.inside, c.earlier)
			if lost := errors.Is(err, locking.ErrLost); lost != c.lost || !lost && err != nil {
				t.Errorf("got %v, want lost: %v", err, c.lost)
			}
			if err := o.told(script.Answer{Reply: []any{int64(done), int64(c.after)}}, c.after, c.inside, c.earlier); err != nil {
				t.Errorf("released: got %v, want nil", err)
			}
		})
	}
}
