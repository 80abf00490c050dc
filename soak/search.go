package main

import (
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// decide looks for an order. Each operation without an answer doubles the search, and
// mostly hardly any of them matters: an acquisition that was not answered, and that no
// release has found, may as well never have been executed. So it first does without all
// of those, then with one of their owners, then with two, and with all only at last. An
// order that is found is one, whatever was left out as never executed.
func decide(initial []any, history []porcupine.Operation, limit time.Duration) porcupine.CheckResult {
	history = withoutVain(initial, history)
	unsure := unconfirmed(history)
	model := lockModel(initial)
	deadline := time.Now().Add(limit)
	for size := range 3 {
		for chosen := range subsets(unsure, size) {
			left := slices.DeleteFunc(slices.Clone(history), func(o porcupine.Operation) bool {
				owner := o.Input.(lockOp).owner
				return slices.Contains(unsure, owner) && !slices.Contains(chosen, owner)
			})
			if porcupine.CheckOperationsTimeout(model, left, min(limit/4, max(time.Until(deadline), time.Millisecond))) == porcupine.Ok {
				return porcupine.Ok
			}
			if time.Now().After(deadline) {
				break
			}
		}
	}
	return porcupine.CheckOperationsTimeout(model, history, limit)
}

// subsets are all choices of so many of the names.
func subsets(names []string, size int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		switch size {
		case 0:
			yield(nil)
		case 1:
			for i := range names {
				if !yield(names[i : i+1]) {
					return
				}
			}
		case 2:
			for i := range names {
				for j := range i {
					if !yield([]string{names[i], names[j]}) {
						return
					}
				}
			}
		}
	}
}

// mayTake tells whether an operation may have made its owner the holder.
func mayTake(op lockOp) bool {
	return op.verb == "acquire" && (op.unknown || op.answer[0] == 1)
}

// unconfirmed are the owners that may have had the lock, but of whom no answer says so.
func unconfirmed(history []porcupine.Operation) (owners []string) {
	confirmed := map[string]bool{}
	for _, o := range history {
		if op := o.Input.(lockOp); len(op.answer) > 0 && op.answer[0] > 0 {
			confirmed[op.owner] = true
		}
	}
	for _, o := range history {
		if op := o.Input.(lockOp); mayTake(op) && !confirmed[op.owner] && !slices.Contains(owners, op.owner) {
			owners = append(owners, op.owner)
		}
	}
	return owners
}

// withoutVain leaves out operations without an answer that cannot have had an effect,
// as their owner never had the lock; and of several last releases of one owner that had
// it at most once it makes one, as at most one of them can have had an effect.
func withoutVain(initial []any, history []porcupine.Operation) (left []porcupine.Operation) {
	takes := map[string]int{}
	for _, state := range initial {
		takes[state.(lockState).owner]++
	}
	for _, o := range history {
		if op := o.Input.(lockOp); mayTake(op) && op.count == 0 {
			takes[op.owner]++
		}
	}
	release := map[string]int{} // of an owner: where its release without an answer is
	for _, o := range history {
		op := o.Input.(lockOp)
		if op.unknown && op.verb != "force" && takes[op.owner] == 0 {
			continue
		}
		if op.unknown && op.verb == "release" && op.count == 0 && takes[op.owner] == 1 {
			if i, again := release[op.owner]; again {
				left[i].Call = min(left[i].Call, o.Call)
				left[i].Return = max(left[i].Return, o.Return)
				continue
			}
			release[op.owner] = len(left)
		}
		left = append(left, o)
	}
	return left
}
