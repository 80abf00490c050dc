package holdfast_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// pages are the documents for users.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("docs/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	return append(docs, "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
}

var block = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

// goBlocks are the Go code blocks of a page.
func goBlocks(t *testing.T, page string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range block.FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, match[1])
	}
	return blocks
}

// A code block is a program, which is compiled here, or it stands word for word in an
// example, which is compiled and run with the tests.
func TestCodeOfThePagesCompiles(t *testing.T) {
	files, err := filepath.Glob("example*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var examples []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		examples = append(examples, text...)
	}
	total := 0
	for _, page := range pages(t) {
		for _, code := range goBlocks(t, page) {
			total++
			if formatted, err := format.Source([]byte(code)); err != nil || string(formatted) != code {
				t.Errorf("%s: gofmt would change this block (%v):\n%s", page, err, code)
			}
			switch {
			case strings.HasPrefix(code, "package main"):
				if out, err := goTool(t, code, "build", "-o", os.DevNull); err != nil {
					t.Errorf("%s: the program does not compile: %v\n%s", page, err, out)
				}
			case !strings.Contains(flat(string(examples)), flat(code)):
				t.Errorf("%s: this block is in no example:\n%s", page, code)
			}
		}
	}
	if total < 3 {
		t.Errorf("got %d code blocks in all pages, want more: are they still found?", total)
	}
}

// flat is code without its indentation.
func flat(code string) string {
	lines := strings.Split(strings.TrimSpace(code), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// goTool runs a command of go on a program, as if that were a package of this module;
// nothing is written into the tree.
func goTool(t *testing.T, program string, command ...string) (output string, err error) {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "readme-program", "main.go"): source}})
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{source: []byte(program), overlay: text} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := append(command, "-overlay", overlay, "./readme-program")
	cmd := exec.Command("go", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// The README's program runs as it is against a real server, but for its address.
func TestProgramOfTheReadmeRuns(t *testing.T) {
	t.Parallel()
	program := goBlocks(t, "README.md")[0]
	const address = "localhost:6379"
	if !strings.Contains(program, address) {
		t.Fatalf("the README's first block does not dial %s:\n%s", address, program)
	}
	server := redistest.Start(t)
	out, err := goTool(t, strings.Replace(program, address, server.Addr(), 1), "run")
	if want := "order 42 is ours alone\n"; err != nil || out != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	if n, err := server.Do(t.Context(), "DBSIZE").Int(); n != 0 || err != nil {
		t.Errorf("it left %d keys (%v), want none", n, err)
	}
}

var pageLink = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)

// Links within the tree lead somewhere.
func TestLinksOfThePages(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range pageLink.FindAllStringSubmatch(string(text), -1) {
			if target := match[1]; !strings.Contains(target, "://") {
				if _, err := os.Stat(filepath.Join(filepath.Dir(page), target)); err != nil {
					t.Errorf("%s: a link leads nowhere: %v", page, err)
				}
			}
		}
	}
}

var (
	errorName = regexp.MustCompile(`(?m)^\t(Err\w+) += `)
	errorRow  = regexp.MustCompile("(?m)^\\| `(Err\\w+)` \\| [^|]*[^| ] \\| [^|]*[^| ] \\|$")
)

// Each error has a row that tells what it means and what to do.
func TestErrorsOfTheReadme(t *testing.T) {
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var declared, told []string
	for _, match := range errorName.FindAllStringSubmatch(string(source), -1) {
		declared = append(declared, match[1])
	}
	for _, match := range errorRow.FindAllStringSubmatch(string(text), -1) {
		told = append(told, match[1])
	}
	if len(declared) == 0 || !slices.Equal(told, declared) {
		t.Errorf("rows of the README with all that they need: got %v, want %v", told, declared)
	}
}

// What is refused before anything is sent is told in the words of the page.
func TestRefusalsOfTheFailuresPage(t *testing.T) {
	text, err := os.ReadFile("docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	defer rdb.Close()
	client, err := holdfast.New(rdb)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	unnamed, err := holdfast.New(rdb, holdfast.WithNameMapper(func(string) string { return "" }))
	if err != nil {
		t.Fatal(err)
	}
	defer unnamed.Close()
	lock := func(client *holdfast.Client, name string, lease time.Duration) error {
		_, err := client.RLock(name).Lock(t.Context(), holdfast.WithLease(lease))
		return err
	}
	_, watchdog := holdfast.New(rdb, holdfast.WithWatchdogTimeout(50*time.Millisecond))
	for _, err := range []error{
		lock(client, "orders", 500*time.Microsecond), lock(client, "orders", -1), lock(client, "orders", 20*365*24*time.Hour), watchdog,
		lock(client, "", time.Second), lock(client, strings.Repeat("x", 513), time.Second), lock(unnamed, "orders", time.Second),
		lock(client, "a{b", time.Second),
	} {
		if !errors.Is(err, holdfast.ErrInvalidDuration) && !errors.Is(err, holdfast.ErrInvalidName) {
			t.Errorf("got %v, want a refusal", err)
			continue
		}
		_, reason, _ := strings.Cut(err.Error(), ": holdfast: invalid ")
		_, reason, _ = strings.Cut(reason, ": ")
		if !strings.Contains(string(text), err.Error()+"`") && (reason == "" || !strings.Contains(string(text), "`… "+reason+"`")) {
			t.Errorf("docs/failures.md: got neither %q nor its end, want one", err)
		}
	}
}

// What a program's own mistakes are told, too.
func TestMistakesOfTheFailuresPage(t *testing.T) {
	text, err := os.ReadFile("docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer rdb.Close()
	ring := redis.NewRing(&redis.RingOptions{})
	defer ring.Close()
	client, err := holdfast.New(rdb)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	closed, err := holdfast.New(rdb)
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	made := func(rdb redis.UniversalClient, opts ...holdfast.Option) error {
		_, err := holdfast.New(rdb, opts...)
		return err
	}
	lock := func(l holdfast.Lock, opts ...holdfast.AcquireOption) error {
		_, err := l.Lock(t.Context(), opts...)
		return err
	}
	_, look := closed.RLock("orders").IsLocked(t.Context())
	var none *holdfast.Client
	for _, err := range []error{
		made(nil), made(rdb, nil), made(ring), lock(none.RLock("orders")), lock(closed.RLock("orders")), look,
		lock(client.RLock("orders", nil)), lock(client.RLock("orders"), nil),
	} {
		if err == nil {
			t.Error("got no error, want one")
			continue
		}
		told, _, _ := strings.Cut(err.Error(), "it moves keys") // the page leaves the reason out
		_, end, _ := strings.Cut(told, ": holdfast: ")
		if told = strings.TrimSpace(told); !strings.Contains(string(text), "`"+told) && (end == "" || !strings.Contains(string(text), "`… "+end+"`")) {
			t.Errorf("docs/failures.md: got neither %q nor its end, want one", told)
		}
	}
	if err := none.Close(); err != nil {
		t.Errorf("Close of a nil client: got %v, want nil", err)
	}
}
