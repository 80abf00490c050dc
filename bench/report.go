package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A report is the outcome of a run.
type report struct {
	Machine  machine     `json:"machine"`
	Settings settings    `json:"settings"`
	Figures  []*readings `json:"figures"`
	Problems []string    `json:"problems,omitempty"`

	failed bool // a problem was the subject's own
}

// readings are all values of one figure.
type readings struct {
	figure
	Rounds  []map[string]float64 `json:"rounds"`            // each by peer
	Medians map[string]float64   `json:"medians,omitempty"` // by peer
	Ratio   *float64             `json:"ratio,omitempty"`   // median of subject / best peer of the round
}

func (r *report) problem(p peer, text string) {
	r.Problems = append(r.Problems, text)
	r.failed = r.failed || p.name == subject
}

func (r *report) add(round int, p peer, values []reading) {
	for _, v := range values {
		of := r.of(v.figure)
		for len(of.Rounds) <= round {
			of.Rounds = append(of.Rounds, map[string]float64{})
		}
		of.Rounds[round][p.name] = v.value
	}
}

func (r *report) of(f figure) *readings {
	for _, of := range r.Figures {
		if of.figure == f {
			return of
		}
	}
	of := &readings{figure: f}
	r.Figures = append(r.Figures, of)
	return of
}

// conclude works out the medians and ratios.
func (r *report) conclude() {
	for _, of := range r.Figures {
		of.Medians = map[string]float64{}
		for _, p := range peers {
			if values := of.values(p.name); len(values) > 0 {
				of.Medians[p.name] = median(values)
			}
		}
		of.Ratio = of.ratio()
	}
}

func (of *readings) values(name string) []float64 {
	var values []float64
	for _, round := range of.Rounds {
		if v, ok := round[name]; ok {
			values = append(values, v)
		}
	}
	return values
}

// ratio is the median of the rounds' ratios: what disturbs a round disturbs both
// sides of its ratio. None where nothing compares: no peer, no direction, or a zero.
func (of *readings) ratio() *float64 {
	if of.Better == "" {
		return nil
	}
	var ratios []float64
	for _, round := range of.Rounds {
		mine, ok := round[subject]
		if best := of.best(round); ok && best > 0 {
			ratios = append(ratios, mine/best)
		}
	}
	if len(ratios) == 0 {
		return nil
	}
	m := median(ratios)
	return &m
}

// best is the best value of the others in a round, 0 if there is none.
func (of *readings) best(round map[string]float64) float64 {
	var others []float64
	for name, v := range round {
		if name != subject {
			others = append(others, v)
		}
	}
	switch {
	case len(others) == 0:
		return 0
	case of.Better == higher:
		return slices.Max(others)
	default:
		return slices.Min(others)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// markdown prints the table, and above it where it comes from.
func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n", r.Machine)
	fmt.Fprintf(w, "Medians of %s (held locks: %d) of %v each; %d held locks; %d waiters.\n\n",
		count(r.Settings.Rounds, "round"), r.Settings.HeldRounds, r.Settings.Window, r.Settings.Held, r.Settings.Waiters)
	header := []string{"", "unit", "better"}
	for _, p := range peers {
		header = append(header, p.name)
	}
	header = append(header, subject+" / best peer")
	row(w, header)
	fmt.Fprintln(w, "|---|---|---|"+strings.Repeat("---:|", len(header)-3))
	for _, of := range r.Figures {
		cells := []string{of.Name, of.Unit, string(of.Better)}
		for _, p := range peers {
			v, ok := of.Medians[p.name]
			cells = append(cells, cell(v, ok))
		}
		if of.Ratio == nil {
			cells = append(cells, "")
		} else {
			cells = append(cells, cell(*of.Ratio, true))
		}
		row(w, cells)
	}
	for _, problem := range r.Problems {
		fmt.Fprintf(w, "\n- %s", problem)
	}
	if len(r.Problems) > 0 {
		fmt.Fprintln(w)
	}
}

func row(w io.Writer, cells []string) {
	fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
}

// cell shows three digits, more only before the point.
func cell(v float64, ok bool) string {
	if !ok {
		return "n/a"
	}
	if v == 0 {
		return "0"
	}
	decimals := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals == 0 {
		return thousands(text)
	}
	return text
}

func thousands(digits string) string {
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func (r *report) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
