package holdfast_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/holdfast-go/holdfast"

// floors is the plan of the house: a package may import only what lies on a lower
// floor. A new package gets its floor here first.
var floors = map[string]int{
	"locking":         0,
	"internal/script": 0,
	"internal/keys":   0,
	"tracing":         0,
	"pubsub":          1,
	"watchdog":        1,
	"internal/engine": 2,
	"rlock":           3,
	"fairlock":        3,
	"multilock":       3,
	"":                4, // the roof: package holdfast
}

// sideways are the imports within a floor that are meant.
var sideways = map[string]string{
	"fairlock":        "rlock",         // a plain lock with a queue before it: what a hold does is the same
	"internal/script": "internal/keys", // it splits calls by slot
}

// yard are the folders outside of the house. They enter through the root like
// anyone else; only tests of the house use those under internal.
var yard = []string{"cmd", "examples", "docs", "interop", "bench", "soak", "internal/locktest", "internal/redistest", "internal/faultproxy"}

// libraries are the modules that the house may stand on.
var libraries = []string{
	"github.com/redis/go-redis/v9", "github.com/google/uuid", "github.com/cenkalti/backoff/v4", "go.opentelemetry.io/otel",
}

func TestImportsOnlyGoDown(t *testing.T) {
	seen := map[string]bool{}
	err := fs.WalkDir(os.DirFS("."), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		pkg := path.Dir(file)
		if pkg == "." {
			pkg = ""
		}
		if outside(pkg) {
			return nil
		}
		floor, ok := floors[pkg]
		if !ok {
			t.Errorf("package %s has no floor", pkg)
			return nil
		}
		seen[pkg] = true
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			checkImport(t, file, pkg, floor, imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range floors {
		if !seen[pkg] {
			t.Errorf("package %q has a floor but no files", pkg)
		}
	}
}

func outside(pkg string) bool {
	for _, folder := range yard {
		if pkg == folder || strings.HasPrefix(pkg, folder+"/") {
			return true
		}
	}
	return false
}

func checkImport(t *testing.T, file, pkg string, floor int, imported string) {
	t.Helper()
	inner, ours := strings.CutPrefix(imported, module)
	if !ours {
		if strings.Contains(strings.Split(imported, "/")[0], ".") && !fromLibrary(imported) {
			t.Errorf("%s imports %s, which is none of the library's dependencies", file, imported)
		}
		return
	}
	inner = strings.TrimPrefix(inner, "/")
	switch below, ok := floors[inner]; {
	case !ok:
		t.Errorf("%s imports %s, which has no floor", file, imported)
	case below > floor, below == floor && sideways[pkg] != inner:
		t.Errorf("%s on floor %d imports %s on floor %d", file, floor, inner, below)
	}
}

func fromLibrary(imported string) bool {
	for _, library := range libraries {
		if imported == library || strings.HasPrefix(imported, library+"/") {
			return !strings.HasPrefix(imported, "go.opentelemetry.io/otel/sdk")
		}
	}
	return false
}
