// Package examples_test runs every example, as its reader would.
package examples_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outputs is what each example prints.
var outputs = map[string]string{
	"quickstart": "total: 10\n",
	"trylock": `somebody else has it: acquire "example:trylock": holdfast: not acquired
acquired, after the first lease had ended
the first hold: unlock "example:trylock": holdfast: hold lost
`,
	"reentrant": `hold number 2 of the same owner
still owed: 1 <nil>
with a plain context it is taken
locked after the last Unlock: false <nil>
`,
	"watchdog-loss": `after one lease and a half: <nil>
the work stops: holdfast: hold lost
Do tells too, though the work returned nil: true
`,
	"polling": "acquired without a subscription\n",
	"fair": `ticket 1: Ada
ticket 2: Grace
ticket 3: Edsger
ticket 4: Barbara
`,
	"transfer": "alice: 500 bob: 1500\n",
	"quorum":   "held with five servers\nheld with three of five\n",
}

func TestExamples(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "./...").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	s := redistest.Start(t)
	t.Run("each", func(t *testing.T) { // until all have ended
		for name, want := range outputs {
			for server, url := range map[string]string{"miniredis": "", "redis": "redis://" + s.Addr()} {
				t.Run(name+" on "+server, func(t *testing.T) {
					t.Parallel()
					cmd := exec.Command(filepath.Join(bin, name))
					cmd.Env = append(os.Environ(), "REDIS_URL="+url)
					var stderr bytes.Buffer // the library's log, among others
					cmd.Stderr = &stderr
					out, err := cmd.Output()
					if err != nil || string(out) != want {
						t.Errorf("got %v\n%s\nwant\n%s\nstderr %s", err, out, want, &stderr)
					}
					if strings.Contains("\n"+stderr.String(), "\nredis: ") {
						t.Errorf("got words of go-redis among the example's own, want none:\n%s", &stderr)
					}
				})
			}
		}
	})
	if keys, err := s.Client(t).Keys(context.Background(), "*").Result(); err != nil || len(keys) > 0 {
		t.Errorf("keys left: got %q, %v, want none", keys, err)
	}
}

// Each is short enough to be read at a glance, and begins with what it shows.
func TestExamplesAreShort(t *testing.T) {
	files, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Dir(file)
		found = append(found, name)
		if n := strings.Count(string(text), "\n"); n >= 60 {
			t.Errorf("%s: got %d lines, want fewer than 60", file, n)
		}
		if want := "// " + strings.ToUpper(name[:1]) + name[1:] + ": "; !strings.HasPrefix(string(text), want) {
			t.Errorf("%s: got no comment that begins with %q", file, want)
		}
	}
	for name := range outputs {
		if !slices.Contains(found, name) {
			t.Errorf("%s: got no such example", name)
		}
	}
	if len(found) != len(outputs) {
		t.Errorf("examples: got %v, want each of them to be run", found)
	}
}
