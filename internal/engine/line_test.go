package engine

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// However waiters come and go: the one that came first is in front, exactly one is,
// and it has been told; nobody is forgotten, and an empty line is gone.
func TestLinesNeverForgetAWaiter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ls := lines{m: map[string]*line{}}
		inLine := map[string][]*waiter{}
		keys := rapid.SampledFrom([]string{"a", "b"})
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				inLine[key] = append(inLine[key], ls.join(key, nil))
			},
			"leave": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				if len(inLine[key]) == 0 {
					t.Skip("nobody waits")
				}
				i := rapid.IntRange(0, len(inLine[key])-1).Draw(t, "position")
				ls.leave(inLine[key][i])
				inLine[key] = slices.Delete(inLine[key], i, i+1)
			},
			"": func(t *rapid.T) {
				for _, key := range []string{"a", "b"} {
					if _, there := ls.m[key]; there != (len(inLine[key]) > 0) {
						t.Fatalf("line %s: there is one: %v, with %d waiters", key, there, len(inLine[key]))
					}
					for i, w := range inLine[key] {
						if inFront(w) != (i == 0) {
							t.Fatalf("line %s: waiter %d of %d in front: %v", key, i, len(inLine[key]), inFront(w))
						}
					}
				}
			},
		})
	})
}

// inFront tells whether a waiter knows that it is in front.
func inFront(w *waiter) bool {
	if w.turn == nil {
		return true
	}
	select {
	case <-w.turn:
		return true
	default:
		return false
	}
}
