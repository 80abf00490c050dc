package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain makes the test binary the child that a measurement starts.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		runChild()
		return
	}
	os.Exit(m.Run())
}

// How fast anything is, is no test's business: on a busy machine any figure is right.
func TestAQuickRunFillsTheTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.json")
	var table bytes.Buffer
	if err := run(t.Context(), []string{"-quick", "-json", file}, &table, t.Output()); err != nil {
		t.Fatalf("run: %v\n%s", err, table.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	wanted := []figure{
		hotRate, hotMost, handOffMedian, handOffTail,
		heldHeap, heldStacks, heldAcquired, heldRenewals, heldCPU, heldEach, heldServer, heldLost,
		waitersMemory, waitersConns, waitersAsk, waitersRate,
		fairHot.kind, fairHot.plain, fairHot.ratio, multiFigures(16).ratio, quorumFigure(1), quorumFigure(16),
	}
	for _, f := range wanted {
		if !slices.ContainsFunc(r.Figures, func(of *readings) bool { return of.figure == f && has(of.Medians, subject) }) {
			t.Errorf("no reading of %q for %s", f.Name, subject)
		}
		if !strings.Contains(table.String(), f.Name) {
			t.Errorf("the table has no line %q", f.Name)
		}
	}
	t.Log(table.String())
}

func has(values map[string]float64, name string) bool {
	_, ok := values[name]
	return ok
}

func TestRatioIsTheMedianOfTheRoundsRatios(t *testing.T) {
	of := &readings{figure: figure{Better: higher}, Rounds: []map[string]float64{
		{subject: 200, "redsync": 100, "redislock": 50}, // 2
		{subject: 30, "redsync": 10, "redislock": 20},   // 1.5: a slow round, for all
		{subject: 300, "redsync": 100, "redislock": 50}, // 3
	}}
	if got := of.ratio(); got == nil || *got != 2 {
		t.Errorf("got ratio %v, want 2", got)
	}
	of.Better = lower
	if got := of.ratio(); got == nil || *got != 4 {
		t.Errorf("lower is better: got ratio %v, want 4", got)
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	for _, args := range [][]string{
		{"-rounds", "0"}, {"-seconds", "0"}, {"-only", "("}, {"-peers", "nobody"}, {"-only", "nothing"}, {"more"},
	} {
		if err := run(t.Context(), args, t.Output(), t.Output()); err == nil {
			t.Errorf("%v: got no error", args)
		}
	}
}

func TestCellsShowThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.01234: "0.0123", 1.5: "1.50", 12.34: "12.3", 123.4: "123", 1234567: "1,234,567"} {
		if got := cell(v, true); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}
