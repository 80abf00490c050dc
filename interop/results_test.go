package interop

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// results collects what every case came to, for the table.
var results tally

type tally struct {
	mu    sync.Mutex
	rows  []row
	notes []string

	versions map[string]cell // see version
}

type row struct {
	kind, name string
	cells      map[string]cell // by direction and site
}

// A cell is one case on one site, one way round.
type cell struct{ passed, failed int }

func (t *tally) add(kind, name, direction string, s *site, passed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.rows, func(r row) bool { return r.kind == kind && r.name == name })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, row{kind, name, map[string]cell{}})
	}
	key := direction + ", " + s.name
	c := t.rows[i].cells[key]
	if passed {
		c.passed++
	} else {
		c.failed++
	}
	t.rows[i].cells[key] = c
}

// note keeps a line for the log.
func (t *tally) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// print writes the table: a row a case, a column for each site and direction.
func (t *tally) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s\n", t.table())
	if len(t.versions) > 0 {
		fmt.Fprintf(out, "%s\n", t.versionTable())
	}
	slices.Sort(t.notes)
	for _, note := range t.notes {
		fmt.Fprintln(out, note)
	}
	passed, failed := 0, 0
	for _, c := range t.versions {
		passed += c.passed
		failed += c.failed
	}
	for _, r := range t.rows {
		for _, c := range r.cells {
			passed += c.passed
			failed += c.failed
		}
	}
	fmt.Fprintf(out, "Redisson %s, ", redissonVersion)
	for _, s := range sites {
		fmt.Fprintf(out, "%s (%s), ", s.name, s.version)
	}
	fmt.Fprintf(out, "%d cases passed, %d failed\n", passed, failed)
}

func (t *tally) table() string {
	var head, line strings.Builder
	head.WriteString("| kind | case |")
	line.WriteString("|---|---|")
	var columns []string
	for _, s := range sites {
		for _, direction := range []string{"Go first", "Java first"} {
			columns = append(columns, direction+", "+s.name)
		}
		fmt.Fprintf(&head, " %s: Go first | Java first |", s.name)
		line.WriteString("---|---|")
	}
	rows := slices.Clone(t.rows)
	slices.SortFunc(rows, func(a, b row) int {
		if d := kindOrder(a.kind) - kindOrder(b.kind); d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	})
	lines := []string{head.String(), line.String()}
	for _, r := range rows {
		text := fmt.Sprintf("| %s | %s |", r.kind, r.name)
		for _, column := range columns {
			text += " " + r.cells[column].String() + " |"
		}
		lines = append(lines, text)
	}
	return strings.Join(lines, "\n") + "\n"
}

func kindOrder(name string) int {
	return slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
}

func (c cell) String() string {
	switch {
	case c.failed > 0:
		return "FAILED"
	case c.passed > 0:
		return "yes"
	default:
		return ""
	}
}

// compare tells whether docs/wire-format.md shows these very tables. Only a run of
// everything can, on the servers that the page is about.
func (t *tally) compare(out io.Writer) (code int) {
	head, _, _ := strings.Cut(t.table(), "\n")
	if !*update && !document.has(head) {
		fmt.Fprintf(out, "%s has its tables from other servers, so they were not compared\n", document.path)
		return 0
	}
	for name, got := range map[string]string{"table": t.table(), "versions": t.versionTable()} {
		if problem := document.compare(name, got); problem != "" {
			fmt.Fprintln(out, problem)
			code = 1
		}
	}
	return code
}
