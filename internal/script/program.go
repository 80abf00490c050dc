package script

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

//go:embed dispatch.lua
var dispatch string

// A Verb is one script of a lock kind.
//
// What takes more time in Redis than the commands is what is around them in Lua. So a verb may have others that
// do several of its operations in one go, All and Each. Both have the keys of all, one after the other; their first argument
// is the number of operations, and then come the arguments of all. An All answers as dispatch.lua does for one: {1, n},
// if that is the answer of each; {0, answer, ...}; or {which one was not possible, its answer}. An Each answers {1, n} or {0, answer, ...}, with
// the text of an error in place of an answer.
type Verb struct {
	Name   string // as it is sent, and seen in MONITOR: "rlock.acquire"
	Source string // the text of its .lua file

	Undo *Verb // takes an operation back within an All: with its keys and arguments, of which it may need the first only
	All  *Verb // does several at once, all or nothing
	Each *Verb // does several at once, each by itself

	word any // Name, as it is sent: made once
}

// NewVerb makes a verb of the text of its .lua file.
func NewVerb(name, source string) *Verb { return &Verb{Name: name, Source: source, word: name} }

// With is the same verb with others that do more with its operations; nil: none.
func (v Verb) With(undo, all, each *Verb) *Verb {
	v.Undo, v.All, v.Each = undo, all, each
	return &v
}

// A Program is all verbs in one Redis script.
type Program struct {
	source string
	sha    string
}

// own finds where a script reads its own KEYS[1], which is KEYS[K + 1] in the program: cutting the own
// ones out of those of a call would take Redis more time than most of what the script does with them.
var own = regexp.MustCompile(`\b((K)EYS|(A)RGV)\[`)

// NewProgram makes a program of verbs with distinct names.
func NewProgram(verbs ...*Verb) *Program {
	var b strings.Builder
	b.WriteString("local function run(verb, KEYS, K, ARGV, A)\n")
	for _, v := range verbs {
		// One function for all: Redis makes the program's functions anew in every call.
		fmt.Fprintf(&b, "if verb == %q then\n%s\nend\n", v.Name, own.ReplaceAllString(v.Source, "$1[$2$3 + "))
	}
	b.WriteString("end\n" + dispatch)
	sum := sha1.Sum([]byte(b.String()))
	return &Program{source: b.String(), sha: hex.EncodeToString(sum[:])}
}
