package script_test

import (
	"regexp"
	"slices"
	"testing"

	"github.com/holdfast-go/holdfast/fairlock"
	"github.com/holdfast-go/holdfast/rlock"
)

// In the program a script's KEYS and ARGV are those of the whole call, and K and A tell where its own begin (NewProgram).
// So it may not count them, pass them on, or have names like these.
var (
	comment = regexp.MustCompile(`--[^\n]*`)
	whole   = regexp.MustCompile(`(KEYS|ARGV)\b[^\[]|#(KEYS|ARGV)\b[^\[]|\b[KA]\b`)
)

func TestScriptsReadTheirOwnByIndex(t *testing.T) {
	for _, v := range slices.Concat(rlock.Verbs(), fairlock.Verbs()) {
		if found := whole.FindString(comment.ReplaceAllString(v.Source, "")); found != "" {
			t.Errorf("%s: %q: KEYS and ARGV are read by index alone, and K and A are taken", v.Name, found)
		}
	}
	for _, bad := range []string{"return #ARGV\n", "unpack(KEYS)", "local A = 1", "ipairs(ARGV) do", "#KEYS >"} {
		if !whole.MatchString(bad) {
			t.Errorf("%q is not found", bad)
		}
	}
	for _, good := range []string{"#ARGV[1] > 12", "KEYS[1],", "ARGV[i]"} {
		if whole.MatchString(good) {
			t.Errorf("%q is found", good)
		}
	}
}
