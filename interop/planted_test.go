package interop

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A case that cannot fail proves nothing: with one small difference from Redisson
// planted in the library, these tests must fail. The changed file lies beside the
// source and is only overlaid when the tests are built once more.
func TestPlantedDifferencesAreFound(t *testing.T) {
	if os.Getenv(plantedVariable) != "" {
		return
	}
	t.Parallel()
	for _, planted := range []struct {
		name, file, old, new string
		test                 string // of which all must fail
	}{
		{
			"another channel", "internal/keys/keys.go", `"redisson_lock__channel"`, `"redisson_lock_channel"`,
			"TestCases/SITE/RLock/names",
		},
		{
			"a score without the waiter lease", "fairlock/acquire.lua", "local till = now + place + allowed", "local till = now + allowed",
			"TestFairQueue/SITE/FairLock/queue:_scores",
		},
	} {
		t.Run(planted.name, func(t *testing.T) {
			t.Parallel()
			overlay := plant(t, planted.file, planted.old, planted.new)
			wanted := strings.ReplaceAll(planted.test, "SITE", strings.ReplaceAll(sites[0].name, " ", "_"))
			parts := strings.Split(wanted, "/")
			for i, part := range parts {
				parts[i] = "^" + regexp.QuoteMeta(part) + "$"
			}
			run := exec.Command("go", "test", "-count=1", "-timeout=120s", "-overlay", overlay, "-run", strings.Join(parts, "/"))
			run.Env = append(os.Environ(), plantedVariable+"=1", sitesVariable+"="+sites[0].name)
			out, err := run.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: "+wanted) {
				t.Errorf("got %v, want a failure of %s:\n%s", err, wanted, out)
				return
			}
			results.note("planted: %s: found by %s", planted.name, wanted)
		})
	}
}

// plantedVariable tells a run that it is the one with the difference.
const plantedVariable = "HOLDFAST_INTEROP_PLANTED"

// plant writes the changed file and the overlay that puts it in the place of the library's.
func plant(t *testing.T, file, before, after string) (overlay string) {
	t.Helper()
	library, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/holdfast-go/holdfast").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(library)), file)
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), before) != 1 {
		t.Fatalf("%s has %q %d times, want it once: plant the difference somewhere else", file, before, strings.Count(string(text), before))
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, "changed")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), before, after, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}
