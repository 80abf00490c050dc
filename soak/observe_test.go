package main

import (
	"fmt"
	"testing"
)

// Replies as the dispatcher makes them: of one operation, of its error, of several, of an all-or-nothing one.
func TestAnswersOf(t *testing.T) {
	for _, c := range []struct {
		reply []any
		want  string
	}{
		{[]any{int64(1), int64(2)}, "[[1 2]]"},
		{[]any{"WRONGTYPE"}, "[WRONGTYPE]"},
		{[]any{[]any{int64(1), int64(1)}, []any{int64(0), int64(5)}}, "[[1 1] [0 5]]"},
		{[]any{[]any{int64(0), []any{int64(1), int64(1)}}}, "[[0 [1 1]]]"},
	} {
		if got := fmt.Sprint(answersOf(c.reply)); got != c.want {
			t.Errorf("%v: got %s, want %s", c.reply, got, c.want)
		}
	}
}
