package main

import (
	"fmt"
	"testing"
)

// Replies as the dispatcher makes them: of one operation, of its error, of an all-or-nothing one, of a list.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		reply any
		list  bool
		want  string // of each operation its numbers or its error
	}{
		{int64(2), false, "[1 2]"},
		{[]any{int64(0), int64(5)}, false, "[0 5]"},
		{"WRONGTYPE", false, "[] WRONGTYPE"},
		{[]any{int64(1), []any{int64(0), int64(5)}, "WRONGTYPE"}, true, "[1 1], [0 5], [] WRONGTYPE"},
		{nil, true, ""},
	} {
		got := ""
		for i, a := range answersOf(c.reply, c.list) {
			numbers, text := answer(a)
			if i > 0 {
				got += ", "
			}
			got += fmt.Sprint(numbers)
			if text != "" {
				got += " " + text
			}
		}
		if got != c.want {
			t.Errorf("%v: got %s, want %s", c.reply, got, c.want)
		}
	}
}

// The shares of an all-or-nothing one.
func TestShares(t *testing.T) {
	for _, c := range []struct {
		reply any
		want  string
	}{
		{[]any{int64(0), int64(1), []any{int64(1), int64(7), int64(8)}}, "[1 1] , [1 7 8] "},
		{[]any{int64(2), []any{int64(0), int64(5)}}, "[] taken back, [0 5] "},
		{"WRONGTYPE", "[] WRONGTYPE, [] WRONGTYPE"},
	} {
		one, why := shareOf(c.reply, 1)
		two, whyTwo := shareOf(c.reply, 2)
		if got := fmt.Sprint(one, " ", why, ", ", two, " ", whyTwo); got != c.want {
			t.Errorf("%v: got %q, want %q", c.reply, got, c.want)
		}
	}
}
