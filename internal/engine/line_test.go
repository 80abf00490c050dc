package engine

import (
	"context"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// plain is a driver of which only the kind matters.
type plain struct{ Driver }

func (plain) Kind() string { return "plain" }

// However waiters come and go, and are called: the one that came first is in front, exactly one is,
// and it has been told; only the one in front is called, and who was called learns of it once, also when it leaves;
// nobody is forgotten, and an empty line is gone.
func TestLinesNeverForgetAWaiter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ls := lines{m: map[string]*line{}}
		inLine := map[string][]*waiter{}
		calls := map[*waiter]bool{}
		keys := rapid.SampledFrom([]string{"a", "b"})
		front := func(t *rapid.T) *waiter {
			key := keys.Draw(t, "key")
			if len(inLine[key]) == 0 {
				t.Skip("nobody waits")
			}
			return inLine[key][0]
		}
		learns := func(t *rapid.T, w *waiter, wasCalled bool) {
			if wasCalled != calls[w] {
				t.Fatalf("called: got %v, want %v", wasCalled, calls[w])
			}
			if wasCalled {
				<-w.given
			}
			if calls[w] = false; len(w.given) > 0 {
				t.Fatal("it is given more than one hold")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				a := &attempt{target: &Target{Key: key, Driver: plain{}}, wait: context.Background()}
				inLine[key] = append(inLine[key], ls.join(key, a))
			},
			"open": func(t *rapid.T) {
				w := front(t)
				ls.open(w)
				w.line.until = time.Now() // the next one comes to the front open
			},
			"call": func(t *rapid.T) {
				w := front(t)
				called := ls.call(w.attempt.target)
				if called != nil && (called != w || calls[w]) {
					t.Fatal("somebody else was called, or the one in front twice")
				}
				if called != nil {
					calls[w] = true
					w.given <- &hold{}
				}
			},
			"shut": func(t *rapid.T) {
				w := front(t)
				learns(t, w, ls.shut(w))
				if ls.call(w.attempt.target) != nil {
					t.Fatal("it was called though it was shut")
				}
			},
			"leave": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				if len(inLine[key]) == 0 {
					t.Skip("nobody waits")
				}
				i := rapid.IntRange(0, len(inLine[key])-1).Draw(t, "position")
				learns(t, inLine[key][i], ls.leave(inLine[key][i]))
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
