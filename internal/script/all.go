package script

import (
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/internal/keys"
)

// all is the verb of dispatch.lua's own.
var all = NewVerb("all", "")

// All makes one operation of several, all or nothing: they run in their order until one
// does not answer {1, ...}; then those before it are taken back in reverse, within the
// same script. Each must have a verb with an Undo, and all keys must be in one slot. Shares reads the answer.
func All(ops []Op) Op {
	op := Op{Verb: ops[0].Verb.All, Keys: make([]string, 0, len(ops)), ops: ops}
	for i := range ops {
		op.Keys = append(op.Keys, ops[i].Keys...)
		if op.Verb == nil || ops[i].Verb != ops[0].Verb {
			op.Verb = all
		}
	}
	return op
}

// ErrUndone: nothing of this operation is left, because another one of its All was not
// possible. Its class is NotExecuted.
var ErrUndone = errors.New("holdfast: taken back with the others")

// ErrSplit: nothing of an All was executed, because its operations are in several slots. To
// be asked again in parts (Together). Its class is NotExecuted.
var ErrSplit = errors.New("holdfast: the keys are in several slots of a cluster")

// crossed is what an operation is told that Redis refused with CROSSSLOT. If it is an All it may
// have been made before anybody knew that slots matter. Otherwise the keys of one lock are
// in several slots, which no other way of asking can change.
func crossed(op *Op, err error) error {
	if op.ops != nil && len(slots(op)) > 1 {
		return ErrSplit
	}
	return fmt.Errorf("%w: %q", err, op.Keys)
}

// slots are those of the operations of an All, each by its first key.
func slots(op *Op) map[int]bool {
	found := map[int]bool{}
	for i := range op.ops {
		found[keys.Slot(op.ops[i].Keys[0])] = true
	}
	return found
}

// Shares splits the answer to an All of n operations into theirs. If one of them was not
// possible, that one has its answer and the others ErrUndone. An error is everybody's.
func (a Answer) Shares(n int) []Answer {
	shares := make([]Answer, n)
	if a.alike(shares) {
		return shares
	}
	failed, err := a.Ints(1)
	if err == nil {
		err = a.split(int(failed[0]), shares)
	}
	for _, share := range shares {
		if share.Err != nil && !errors.Is(share.Err, ErrUndone) {
			err = fmt.Errorf("%w: %v", errReply, a.Reply)
		}
	}
	return everybodys(err, shares)
}

// each splits the answer to an Each: no operation's failure is another one's.
func (a Answer) each(n int) []Answer {
	shares := make([]Answer, n)
	failed, err := a.Ints(1)
	switch {
	case a.alike(shares):
		return shares
	case err != nil:
	case failed[0] != 0:
		err = fmt.Errorf("%w: %v", errReply, a.Reply)
	default:
		err = a.split(0, shares)
	}
	return everybodys(err, shares)
}

// alike reads {1, n}, the answer of each of them, and tells whether that is what it is.
func (a Answer) alike(shares []Answer) bool {
	if len(a.Reply) != 2 || a.Reply[0] != int64(1) {
		return false
	}
	if _, ok := a.Reply[1].(int64); !ok {
		return false
	}
	for i := range shares {
		shares[i] = a
	}
	return true
}

// everybodys makes an error, if there is one, that of all shares.
func everybodys(err error, shares []Answer) []Answer {
	for i := range shares {
		if err != nil {
			shares[i] = Answer{Err: err}
		}
	}
	return shares
}

// split reads {0, answer, answer, ...}, or {which one failed, its answer}.
func (a Answer) split(failed int, shares []Answer) error {
	given := a.Reply[1:]
	want := len(shares)
	if failed > 0 {
		want = 1
	}
	if failed < 0 || failed > len(shares) || len(given) != want {
		return fmt.Errorf("%w: %v", errReply, a.Reply)
	}
	for i := range shares {
		shares[i].Err = ErrUndone
	}
	for i, share := range given {
		if failed > 0 {
			i = failed - 1
		}
		answer := read(share)
		if failed > 0 && len(answer.Reply) > 0 && answer.Reply[0] == int64(1) { // one that failed does not say that it was done
			return fmt.Errorf("%w: %v", errReply, a.Reply)
		}
		shares[i] = answer
	}
	return nil
}
