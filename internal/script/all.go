package script

import (
	"errors"
	"fmt"
	"strconv"
)

// A Pair is an operation of an All, and the one that takes it back. Both have the keys
// of the first.
type Pair struct{ Do, Undo Op }

// all is the verb of dispatch.lua's own.
var all = &Verb{Name: "all"}

// All makes one operation of several, all or nothing: they run in their order until one
// does not answer {1, ...}; then those before it are taken back in reverse, within the
// same script. All keys must be in one slot. Shares reads the answer.
func All(pairs []Pair) Op {
	op := Op{Verb: all}
	for _, p := range pairs {
		op.Keys = append(op.Keys, p.Do.Keys...)
		op.Args = append(op.Args, p.Do.Verb.Name, p.Undo.Verb.Name,
			strconv.Itoa(len(p.Do.Keys)), strconv.Itoa(len(p.Do.Args)), strconv.Itoa(len(p.Undo.Args)))
		op.Args = append(append(op.Args, p.Do.Args...), p.Undo.Args...)
	}
	return op
}

// ErrUndone: nothing of this operation is left, because another one of its All was not
// possible. Its class is NotExecuted.
var ErrUndone = errors.New("holdfast: taken back with the others")

// Shares splits the answer to an All of n operations into theirs. If one of them was not
// possible, that one has its answer and the others ErrUndone. An error is everybody's.
func (a Answer) Shares(n int) []Answer {
	shares := make([]Answer, n)
	failed, err := a.Ints(1)
	if err == nil {
		err = a.split(int(failed[0]), shares)
	}
	if err != nil {
		for i := range shares {
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
		reply, ok := share.([]any)
		if !ok {
			return fmt.Errorf("%w: %v", errReply, a.Reply)
		}
		shares[i] = Answer{Reply: reply}
	}
	return nil
}
