package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A planted bug whose text is not in the library any more would only be noticed when the
// controls are built.
func TestPlantedBugsFitTheLibrary(t *testing.T) {
	root, err := libraryRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, c := range controls {
		for _, e := range c.edits {
			path := filepath.Join(root, e.file)
			if _, read := texts[path]; !read {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				texts[path] = string(text)
			}
			if n := strings.Count(texts[path], e.old); n != 1 {
				t.Errorf("%s: %s has its text %d times, want once: %q", c.name, e.file, n, e.old)
			}
		}
	}
}
