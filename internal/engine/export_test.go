package engine

import "github.com/holdfast-go/holdfast/locking"

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
