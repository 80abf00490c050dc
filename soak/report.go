package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figures are what a round, or a whole run, has measured.
type figures struct {
	Rounds           int            `json:"rounds"`
	Seconds          float64        `json:"seconds"`
	Acquired         int            `json:"acquired"`
	Busy             int            `json:"busy"`    // not acquired: somebody else had it
	GaveUp           int            `json:"gave_up"` // ctx ended
	Failed           int            `json:"failed"`  // a refusal, or no answer
	Forced           int            `json:"forced"`
	Faults           map[string]int `json:"faults"`
	AllFaults        int            `json:"all_faults"`
	Violations       int            `json:"violations"`
	Lost             int            `json:"lost"`         // holds that were told of their loss
	SignalMax        time.Duration  `json:"signal_max"`   // how long after the window's end, at most
	LateHolders      int            `json:"late_holders"` // still in the register after their loss
	Starved          int            `json:"starved"`      // of those, lost while the machine stood still, among the many that were held
	LateEntries      int            `json:"late_entries"` // lost between Lock and the register
	Overlaps         int            `json:"overlaps"`     // where data was lost
	OverlapMax       time.Duration  `json:"overlap_max"`
	RegisterOverlaps int            `json:"register_overlaps"`
	Histories        int            `json:"histories"` // pieces that porcupine decided
	Operations       int            `json:"operations"`
	Illegal          int            `json:"illegal"`
	Undecided        int            `json:"undecided"`
	Renewals         int            `json:"renewals"`
	RenewalsLate     int            `json:"renewals_unanswered"`
	StallMax         time.Duration  `json:"stall_max"` // explained or not
	Ghosts           int            `json:"ghosts"`
	Inversions       int            `json:"inversions"` // of a fair lock
	SlowestScript    time.Duration  `json:"slowest_script"`
	HeapMax          int64          `json:"heap_max"`
	Held             int64          `json:"held_at_once"`
	Acquire          sample         `json:"acquire"`    // from the call of Lock to its return
	HandOff          sample         `json:"hand_off"`   // from Unlock to the return of the next Lock
	HandOvers        int            `json:"hand_overs"` // of the hot locks, within a client
}

func newFigures(r round) figures {
	return figures{Rounds: 1, Seconds: r.Duration.Seconds(), Faults: map[string]int{}}
}

func (f *figures) got(e event) {
	f.Acquired++
	f.Acquire.add(time.Duration(e.Time - e.Call))
}

func (f *figures) miss(e event) {
	switch {
	case e.Err == "not acquired":
		f.Busy++
	case strings.Contains(e.Err, "context "):
		f.GaveUp++
	default:
		f.Failed++
	}
}

func (f *figures) fault(e event) {
	f.Faults[e.What]++
	f.AllFaults++
}

func (f *figures) renewal(e event) {
	f.Renewals++
	if e.Unknown || len(e.Answer) == 0 {
		f.RenewalsLate++
	}
}

func (f *figures) overlap(d time.Duration) {
	f.Overlaps++
	f.OverlapMax = max(f.OverlapMax, d)
}

func (f *figures) signal(d time.Duration) { f.SignalMax = max(f.SignalMax, d) }
func (f *figures) stall(d time.Duration)  { f.StallMax = max(f.StallMax, d) }

func (f *figures) figure(e event) {
	switch e.What {
	case "heap":
		f.HeapMax = max(f.HeapMax, e.Value)
	case "slowest script":
		f.SlowestScript = max(f.SlowestScript, time.Duration(e.Value))
	case "held":
		f.Held = max(f.Held, e.Value)
	}
}

// plus adds the figures of another round.
func (f *figures) plus(o figures) {
	f.Rounds += o.Rounds
	f.Seconds += o.Seconds
	f.Acquired += o.Acquired
	f.Busy += o.Busy
	f.GaveUp += o.GaveUp
	f.Failed += o.Failed
	f.Forced += o.Forced
	f.AllFaults += o.AllFaults
	for what, n := range o.Faults {
		f.Faults[what] += n
	}
	f.Violations += o.Violations
	f.Lost += o.Lost
	f.SignalMax = max(f.SignalMax, o.SignalMax)
	f.LateHolders += o.LateHolders
	f.LateEntries += o.LateEntries
	f.Starved += o.Starved
	f.Overlaps += o.Overlaps
	f.OverlapMax = max(f.OverlapMax, o.OverlapMax)
	f.RegisterOverlaps += o.RegisterOverlaps
	f.Histories += o.Histories
	f.Operations += o.Operations
	f.Illegal += o.Illegal
	f.Undecided += o.Undecided
	f.Renewals += o.Renewals
	f.RenewalsLate += o.RenewalsLate
	f.StallMax = max(f.StallMax, o.StallMax)
	f.Ghosts += o.Ghosts
	f.Inversions += o.Inversions
	f.SlowestScript = max(f.SlowestScript, o.SlowestScript)
	f.HeapMax = max(f.HeapMax, o.HeapMax)
	f.Held = max(f.Held, o.Held)
	f.Acquire.plus(o.Acquire)
	f.HandOff.plus(o.HandOff)
	f.HandOvers += o.HandOvers
}

// A sample counts durations in classes that grow by a tenth.
type sample struct {
	classes map[int]int
	n       int
	most    time.Duration
}

func (s *sample) add(d time.Duration) {
	if s.classes == nil {
		s.classes = map[int]int{}
	}
	class := 0
	for bound := 10 * time.Microsecond; bound < d; bound += bound / 10 {
		class++
	}
	s.classes[class]++
	s.n++
	s.most = max(s.most, d)
}

func (s *sample) plus(o sample) {
	if s.classes == nil {
		s.classes = map[int]int{}
	}
	for class, n := range o.classes {
		s.classes[class] += n
	}
	s.n += o.n
	s.most = max(s.most, o.most)
}

// quantile is an upper bound of the q-th part, to a tenth.
func (s *sample) quantile(q float64) time.Duration {
	rest := int(q * float64(s.n))
	bound, class := 10*time.Microsecond, 0
	for _, c := range slices.Sorted(maps.Keys(s.classes)) {
		for ; class < c; class++ {
			bound += bound / 10
		}
		if rest -= s.classes[c]; rest < 0 {
			return min(bound, s.most)
		}
	}
	return s.most
}

func (s sample) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"n": s.n, "p50": s.quantile(0.5), "p99": s.quantile(0.99), "p999": s.quantile(0.999), "max": s.most,
	})
}

func (s sample) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, p99.9 %v, max %v", short(s.quantile(0.5)), short(s.quantile(0.99)), short(s.quantile(0.999)), short(s.most))
}

func short(d time.Duration) time.Duration {
	switch {
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	default:
		return d.Round(time.Microsecond)
	}
}

// A report is what a run leaves: one JSON and one table.
type report struct {
	Seed       uint64      `json:"seed"`
	Commit     string      `json:"commit"`
	Redis      string      `json:"redis"`
	Started    time.Time   `json:"started"`
	Valid      bool        `json:"valid"` // the floors were reached and the harness had no trouble
	Invalid    []string    `json:"invalid,omitempty"`
	Total      figures     `json:"total"`
	Safe       figures     `json:"safe"`
	Lossy      figures     `json:"lossy"`
	Violations []violation `json:"violations"`
	Controls   []outcome   `json:"controls,omitempty"`
	Kept       []string    `json:"kept,omitempty"` // histories of rounds with violations
}

func newReport(seed uint64) *report {
	empty := func() figures { return figures{Faults: map[string]int{}} }
	return &report{Seed: seed, Commit: commit(), Redis: redisVersion(), Started: time.Now(), Total: empty(), Safe: empty(), Lossy: empty()}
}

func (r *report) add(a *analysis) {
	r.Total.plus(a.figures)
	if a.Lossy {
		r.Lossy.plus(a.figures)
	} else {
		r.Safe.plus(a.figures)
	}
	r.Violations = append(r.Violations, a.found...)
}

func (r *report) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	f := r.Total
	row("seed, commit, Redis", "%d, %s, %s", r.Seed, r.Commit, r.Redis)
	row("rounds, under load, in all", "%d, %v, %v", f.Rounds, time.Duration(f.Seconds*float64(time.Second)).Round(time.Second), time.Since(r.Started).Round(time.Second))
	row("acquired, busy, gave up, failed", "%d, %d, %d, %d", f.Acquired, f.Busy, f.GaveUp, f.Failed)
	row("faults", "%d (%.0f an hour)", f.AllFaults, float64(f.AllFaults)/max(f.Seconds, 1)*3600)
	for _, what := range sortedKeys(f.Faults) {
		row("  "+what, "%d", f.Faults[what])
	}
	row("violations", "%d", len(r.Violations))
	row("holds lost, told at most", "%d, %v after the window", r.Safe.Lost, short(r.Safe.SignalMax))
	if f.Starved > 0 {
		row("lost as the machine stood still", "%d of those that were held", f.Starved)
	}
	row("late in the register", "%d holders, %d entries", f.LateHolders, f.LateEntries)
	row("overlaps where data was lost", "%d, at most %v", f.Overlaps, short(f.OverlapMax))
	row("porcupine", "%d histories, %d operations, %d illegal, %d undecided", f.Histories, f.Operations, f.Illegal, f.Undecided)
	row("renewals, not answered", "%d, %d", f.Renewals, f.RenewalsLate)
	row("acquire", "%v", f.Acquire)
	row("hand-off", "%v", f.HandOff)
	row("handed over within a client", "%d", f.HandOvers)
	row("longest stall, explained", "%v", short(r.Safe.StallMax))
	row("fair lock: inversions", "%d", f.Inversions)
	row("ghosts", "%d", f.Ghosts)
	row("held at once, largest heap", "%d, %d KiB", f.Held, f.HeapMax>>10)
	row("slowest script", "%v", f.SlowestScript)
	caught := 0
	for _, c := range r.Controls {
		if c.Caught {
			caught++
		}
	}
	if len(r.Controls) > 0 {
		row("negative controls caught", "%d of %d", caught, len(r.Controls))
	}
	_ = t.Flush()
	for i, v := range r.Violations {
		if i == 30 {
			fmt.Fprintf(w, "and %d more\n", len(r.Violations)-i)
			break
		}
		fmt.Fprintf(w, "VIOLATION %s, %s %s: %s\n", v.Check, v.Round, v.Lock, v.Text)
	}
	for _, why := range r.Invalid {
		fmt.Fprintln(w, "INVALID:", strings.TrimSpace(why))
	}
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
