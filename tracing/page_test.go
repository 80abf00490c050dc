package tracing_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"

	"github.com/holdfast-go/holdfast/tracing"
)

const page = "../docs/observability.md"

func scope(name string) instrumentation.Scope { return instrumentation.Scope{Name: name} }

// table reads the rows of the page's table under a heading, without its head.
func table(t *testing.T, heading string) [][]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %s", page, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var rows [][]string
	for line := range strings.Lines(section) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "| ") {
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells)
		}
	}
	if len(rows) < 2 {
		t.Fatalf("%s has no table in section %s", page, heading)
	}
	return rows[1:]
}

var quoted = regexp.MustCompile("`([^`]+)`")

// names are the words in backticks in a cell, sorted.
func names(cell string) []string {
	var all []string
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return all
}

// constants reads names.go, so that a constant that is added there is missed here.
// It returns their values by the comment over their block.
func constants(t *testing.T) map[string][]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "names.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string][]string{}
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST || !group.Lparen.IsValid() {
			continue
		}
		title := strings.TrimSpace(group.Doc.Text())
		ast.Inspect(group, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok {
				value, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				blocks[title] = append(blocks[title], value)
			}
			return true
		})
		slices.Sort(blocks[title])
	}
	return blocks
}

func TestThePageListsEveryName(t *testing.T) {
	code := constants(t)
	compared := 0
	for title, heading := range map[string]string{
		"Spans.": "Spans", "Attributes.": "Attributes", "Events of lock.acquire.": "Events", "Metrics.": "Metrics",
	} {
		var listed []string
		for _, row := range table(t, heading) {
			listed = append(listed, names(row[0])...)
		}
		slices.Sort(listed)
		if want := code[title]; !slices.Equal(listed, want) {
			t.Errorf("section %s: got %v, want %v", heading, listed, want)
		}
		compared++
	}
	for title, row := range map[string]string{
		"The outcomes of lock.acquire.":           tracing.SpanAcquire,
		"The outcomes of lock.hold.":              tracing.SpanHold,
		"The outcomes of a renewal, beside Lost.": tracing.MetricRenewals,
	} {
		want := slices.Clone(code[title])
		if row == tracing.MetricRenewals {
			want = append(want, tracing.Lost)
		}
		slices.Sort(want)
		var listed []string
		for _, cells := range table(t, "Outcomes") {
			if slices.Equal(names(cells[0]), []string{row}) {
				listed = append(listed, names(cells[1])...)
			}
		}
		slices.Sort(listed)
		if !slices.Equal(listed, want) {
			t.Errorf("outcomes of %s: got %v, want %v", row, listed, want)
		}
		compared++
	}
	if compared != len(code) {
		t.Errorf("compared %d blocks of names.go, want all %d", compared, len(code))
	}
}

// The page's columns are compared with what a lock's life really emits.
func TestThePageTellsWhatIsEmitted(t *testing.T) {
	c := collect(t)
	life(c.tracer)
	c.tracer.Hold(t.Context(), nil, "rlock", "orders", "id:1").End(tracing.Lost)

	emitted := c.instruments()
	for _, row := range table(t, "Metrics") {
		name := names(row[0])[0]
		i, ok := emitted[name]
		if !ok {
			t.Errorf("%s is on the page but not emitted", name)
			continue
		}
		if row[1] != i.kind || !slices.Equal(names(row[2]), []string{i.unit}) {
			t.Errorf("%s: the page says %s %s, want %s `%s`", name, row[1], row[2], i.kind, i.unit)
		}
		keys := map[string]bool{}
		for attributes := range i.points {
			for _, part := range strings.Fields(attributes) {
				key, _, _ := strings.Cut(part, "=")
				keys[key] = true
			}
		}
		if want := slices.Sorted(maps.Keys(keys)); !slices.Equal(names(row[3]), want) {
			t.Errorf("%s: the page says %v, want %v", name, names(row[3]), want)
		}
	}
	if got, want := len(emitted), len(table(t, "Metrics")); got != want {
		t.Errorf("got %d metrics, the page says %d", got, want)
	}

	on := map[string]map[string]bool{} // attribute -> spans
	for _, s := range c.spans.GetSpans() {
		for _, kv := range s.Attributes {
			key := string(kv.Key)
			if on[key] == nil {
				on[key] = map[string]bool{}
			}
			on[key][s.Name] = true
		}
	}
	for _, row := range table(t, "Attributes") {
		key := names(row[0])[0]
		if want := slices.Sorted(maps.Keys(on[key])); !slices.Equal(names(row[2]), want) {
			t.Errorf("%s: the page says it is on %v, want %v", key, names(row[2]), want)
		}
		if got := kindOf(c, key); got != row[1] {
			t.Errorf("%s: the page says %s, want %s", key, row[1], got)
		}
	}
}

// kindOf is the type of an attribute's value, in the page's words.
func kindOf(c *collector, key string) string {
	for _, s := range c.spans.GetSpans() {
		for _, kv := range s.Attributes {
			if string(kv.Key) == key {
				return map[attribute.Type]string{attribute.STRING: "string", attribute.BOOL: "bool", attribute.INT64: "int"}[kv.Value.Type()]
			}
		}
	}
	return "nothing"
}

// What the library logs is written in other packages; the page lists all of it.
func TestThePageListsEveryLogLine(t *testing.T) {
	var logged []string
	for _, dir := range []string{"../internal/engine", "../pubsub", "../watchdog", "../internal/script"} {
		logged = append(logged, logLines(t, dir)...)
	}
	slices.Sort(logged)
	logged = slices.Compact(logged)
	var listed []string
	for _, row := range table(t, "Logs") {
		listed = append(listed, names(row[0])...)
	}
	slices.Sort(listed)
	if len(logged) == 0 || !slices.Equal(listed, logged) {
		t.Errorf("section Logs: got\n%s\nwant\n%s", strings.Join(listed, "\n"), strings.Join(logged, "\n"))
	}
}

// logLines finds the texts that the files of a package hand to methods called log or
// warn, which put "holdfast: " in front.
func logLines(t *testing.T, dir string) (lines []string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "log" || f.Sel.Name == "warn") {
				lines = append(lines, firstText(call.Args)...)
			}
			return true
		})
	}
	return lines
}

// firstText is the first argument that is a literal, as a line of the log has it.
func firstText(args []ast.Expr) []string {
	for _, arg := range args {
		if literal, ok := arg.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil {
				return []string{"holdfast: " + text}
			}
		}
	}
	return nil
}

// The boundaries on the page are those of the histograms.
func TestThePageTellsTheBuckets(t *testing.T) {
	c := collect(t)
	c.tracer.Acquire(t.Context(), "rlock", "orders").End(tracing.Acquired, "id:1", false, time.Second, nil)
	var want []string
	for _, b := range c.instruments()[tracing.MetricAcquireDuration].buckets {
		want = append(want, strconv.FormatFloat(b, 'f', -1, 64))
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if line := "in seconds: " + strings.Join(want, ", ") + ".\n"; !strings.Contains(string(text), line) {
		t.Errorf("%s does not tell the boundaries %s", page, line)
	}
}
