package engine

import (
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
)

// Window is window, for tests.
var Window = window

// TakeTurn takes the free turn of a hold's owner, for tests.
func TakeTurn(h locking.Hold) (give func()) {
	o := h.(*hold).owner
	if o.tryTake() != nil {
		panic("the turn is taken")
	}
	return o.give
}

// Kept tells how many owners and undos of a hold's engine the watchdog has, for tests.
func Kept(h locking.Hold) int { return h.(*hold).owner.engine.watchdog.Len() }

// Renewed tells a hold's owner that a renewal was answered which was sent then, for tests.
func Renewed(h locking.Hold, sent time.Time) {
	h.(*hold).owner.Renewed(script.Answer{Reply: []any{int64(done), int64(0)}}, sent)
}

// Bound sets the most holds of an owner, for tests.
func Bound(n int) (reset func()) {
	before := mostHolds
	mostHolds = n
	return func() { mostHolds = before }
}
