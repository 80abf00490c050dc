package holdfast_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An exported name is what a user may write: New, WithLease, ErrLost, Lock, or with its
// type Client.RLock, Lock.TryLock, Hold.Unlock.
type exported struct {
	recv, name string
	doc        bool
}

func (e exported) String() string { return strings.TrimPrefix(e.recv+"."+e.name, ".") }

// parsed are the syntax trees of files.
func parsed(t *testing.T, files []string) (trees []*ast.File) {
	t.Helper()
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tree)
	}
	return trees
}

// api is what the root package exports: its own names, and the methods of the interfaces
// that it has from the contract.
func api(t *testing.T) (all []exported) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(file string) bool { return strings.HasSuffix(file, "_test.go") })
	for _, tree := range parsed(t, files) {
		for _, decl := range tree.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				all = append(all, exported{receiver(decl), decl.Name.Name, decl.Doc != nil})
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						all = append(all, exported{"", spec.Name.Name, spec.Doc != nil || decl.Doc != nil})
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							all = append(all, exported{"", name.Name, spec.Doc != nil})
						}
					}
				}
			}
		}
	}
	for _, tree := range parsed(t, []string{"locking/locking.go"}) {
		ast.Inspect(tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			for _, method := range spec.Type.(*ast.InterfaceType).Methods.List {
				all = append(all, exported{spec.Name.Name, method.Names[0].Name, method.Doc != nil})
			}
			return false
		})
	}
	return slices.DeleteFunc(all, func(e exported) bool {
		return !ast.IsExported(e.name) || e.recv != "" && !ast.IsExported(e.recv)
	})
}

func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	recv := f.Recv.List[0].Type
	if star, ok := recv.(*ast.StarExpr); ok {
		recv = star.X
	}
	return recv.(*ast.Ident).Name
}

// An example is what a function of the example files selects: holdfast.New as "New", of
// whatever else a method as ".Unlock".
type example map[string]bool

// examples are all that the go tool compares with an output, and so runs.
func examples(t *testing.T) map[string]example {
	t.Helper()
	files, err := filepath.Glob("example*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	all := map[string]example{}
	for _, tree := range parsed(t, files) {
		for _, decl := range tree.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "Example") {
				continue
			}
			if !compares(tree, f) {
				t.Errorf("%s has no output, so it is compiled only", f.Name.Name)
			}
			uses := example{}
			ast.Inspect(f, func(n ast.Node) bool {
				if selector, ok := n.(*ast.SelectorExpr); ok {
					if of, ok := selector.X.(*ast.Ident); ok && of.Name == "holdfast" {
						uses[selector.Sel.Name] = true
					} else {
						uses["."+selector.Sel.Name] = true
					}
				}
				return true
			})
			all[f.Name.Name] = uses
		}
	}
	return all
}

// compares tells whether an example says what it prints.
func compares(tree *ast.File, f *ast.FuncDecl) bool {
	return slices.ContainsFunc(tree.Comments, func(c *ast.CommentGroup) bool {
		return c.Pos() > f.Body.Pos() && c.End() < f.Body.End() && strings.HasPrefix(c.Text(), "Output:")
	})
}

// Each name that a user may write has a doc comment and is used in an example. A method
// has one that is named for it (of the interfaces in lower case: to go vet they are not
// of this package).
func TestEveryExportedNameHasADocAndAnExample(t *testing.T) {
	names, examples := api(t), examples(t)
	if len(names) < 40 {
		t.Fatalf("got %d exported names, want all of them", len(names))
	}
	for _, e := range names {
		if !e.doc {
			t.Errorf("%v has no doc comment", e)
		}
		switch e.recv {
		case "":
			if !slices.ContainsFunc(slices.Collect(maps.Values(examples)), func(x example) bool { return x[e.name] }) {
				t.Errorf("%v is in no example", e)
			}
		case "Lock", "Hold":
			name := "Example" + e.recv + "_" + strings.ToLower(e.name[:1]) + e.name[1:]
			wantUsed(t, e, name, examples)
		default:
			wantUsed(t, e, "Example"+e.recv+"_"+e.name, examples)
		}
	}
}

func wantUsed(t *testing.T, e exported, name string, examples map[string]example) {
	t.Helper()
	if !examples[name]["."+e.name] {
		t.Errorf("%v: got no %s that calls it, want one", e, name)
	}
}
