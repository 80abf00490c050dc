package engine

import (
	"strconv"
	"testing"
)

// The slots move all the time: each question is answered with another server.
func TestUnlockGroupsByAPictureThatChanges(t *testing.T) {
	e := &Engine{}
	ready := []*leaving{{h: &hold{owner: &owner{engine: e}}}, {h: &hold{owner: &owner{engine: e}}}, {h: &hold{owner: &owner{engine: &Engine{}}}}}
	asked := 0
	moving := func(*owner) string { asked++; return strconv.Itoa(asked) }
	seen := map[*leaving]int{}
	for rest := ready; len(rest) > 0; {
		var batch []*leaving
		if batch, rest = goTogether(rest, moving); len(batch) == 0 {
			t.Fatal("a batch of nothing")
		}
		for _, l := range batch {
			seen[l]++
		}
	}
	for i, l := range ready {
		if seen[l] != 1 {
			t.Errorf("release %d is sent %d times", i, seen[l])
		}
	}
	if batch, rest := goTogether(ready, func(*owner) string { return "one" }); len(batch) != 2 || len(rest) != 1 {
		t.Errorf("%d go together and %d do not, want the two of one client and the other one", len(batch), len(rest))
	}
}
