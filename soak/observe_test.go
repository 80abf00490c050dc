package main

import (
	"fmt"
	"strings"
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

// The words of a call, as the sender writes them.
func TestOperations(t *testing.T) {
	for _, c := range []struct{ words, want string }{
		{"evalsha sha 1 a 30000 o:1 0 rlock.acquire", "rlock.acquire a o:1 0/0"},
		{"evalsha sha 3 t q z o:1 PUBLISH c 30000 15000 0 0 1 fairlock.acquire", "fairlock.acquire t o:1 0/0"},
		{"evalsha sha 2 a b 2 30000 o:1 0 30000 o:2 0 rlock.acquire_all", "rlock.acquire a o:1 0/1, rlock.acquire b o:2 0/2"},
		{"evalsha sha 2 a b rlock.acquire rlock.undo 1 3 30000 o:1 0 rlock.acquire rlock.undo 1 3 30000 o:2 1 all",
			"rlock.acquire a o:1 0/1, rlock.acquire b o:2 0/2"},
		{"eval text 2 a b 2 o:1 0 PUBLISH c o:2 0 PUBLISH c rlock.release_each", "rlock.release a o:1 0/1, rlock.release b o:2 0/2"},
		{"evalsha sha 4 a b c d rlock.release_each 2 9 2 o:1 0 PUBLISH c o:2 0 PUBLISH c rlock.renew 1 2 30000 o:3 rlock.release 1 4 o:4 1 PUBLISH c ",
			"rlock.release a o:1 0/1, rlock.release b o:2 0/2, rlock.renew c o:3 1/0, rlock.release d o:4 2/0"},
	} {
		var got []string
		for _, e := range operations(strings.Split(c.words, " ")) {
			if e.Lease != 0 && e.Lease != 30*second {
				t.Errorf("%s: lease %d", c.words, e.Lease)
			}
			got = append(got, fmt.Sprintf("%s %s %s %d/%d", e.Verb, e.Lock, e.Owner, e.nth, e.share))
		}
		if all := strings.Join(got, ", "); all != c.want {
			t.Errorf("%s: got %s, want %s", c.words, all, c.want)
		}
	}
}

// The shares of several that are done in one.
func TestShares(t *testing.T) {
	for _, c := range []struct {
		reply any
		want  string
	}{
		{[]any{int64(0), int64(1), []any{int64(1), int64(7), int64(8)}}, "[1 1] , [1 7 8] "},
		{[]any{int64(2), []any{int64(0), int64(5)}}, "[] taken back, [0 5] "},
		{int64(1), "[1 1] , [1 1] "},
		{"WRONGTYPE", "[] WRONGTYPE, [] WRONGTYPE"},
	} {
		one, why := shareOf(c.reply, 1)
		two, whyTwo := shareOf(c.reply, 2)
		if got := fmt.Sprint(one, " ", why, ", ", two, " ", whyTwo); got != c.want {
			t.Errorf("%v: got %q, want %q", c.reply, got, c.want)
		}
	}
}
