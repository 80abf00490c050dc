package interop

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// document is docs/wire-format.md, parts of which are what these tests see. A part
// begins with a line "<!-- interop: NAME -->" and ends with "<!-- end -->".
var document = page{path: filepath.Join("..", "docs", "wire-format.md")}

var update = flag.Bool("update", false, "write what is seen into docs/wire-format.md")

type page struct {
	path string
	mu   sync.Mutex
}

// want checks that the part of that name says this; with -update it makes it so.
func (p *page) want(t testing.TB, name, got string) {
	t.Helper()
	if problem := p.compare(name, got); problem != "" {
		t.Error(problem)
	}
}

// has tells whether the page has this line.
func (p *page) has(line string) bool {
	text, err := os.ReadFile(p.path)
	return err != nil || strings.Contains(string(text), "\n"+line+"\n")
}

// compare tells what is wrong with the part of that name, or nothing.
func (p *page) compare(name, got string) (problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, err := os.ReadFile(p.path)
	if err != nil {
		return err.Error()
	}
	before, rest, found := strings.Cut(string(text), "<!-- interop: "+name+" -->\n")
	said, after, ended := strings.Cut(rest, "<!-- end -->\n")
	if !found || !ended {
		return p.path + " has no part " + name + "; it would be:\n" + got
	}
	if said == got {
		return ""
	}
	if *update {
		err := os.WriteFile(p.path, []byte(before+"<!-- interop: "+name+" -->\n"+got+"<!-- end -->\n"+after), 0o644)
		if err != nil {
			return err.Error()
		}
		return ""
	}
	return p.path + " says of " + name + ":\n" + said + "seen was:\n" + got +
		"(scripts/interop.sh -update writes it into the page)"
}
