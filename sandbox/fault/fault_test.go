package fault

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestPoints: each name is listed once and stands in the source once, so that
// a test which goes through the list misses none.
func TestPoints(t *testing.T) {
	var listed []string
	for _, points := range Points {
		listed = append(listed, points...)
	}
	var called []string
	for _, part := range []string{"cmd", "config", "executor", "sandbox"} {
		err := filepath.WalkDir(filepath.Join("../..", part), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				f, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || f.Sel.Name != "At" {
					return true
				}
				if of, ok := f.X.(*ast.Ident); !ok || of.Name != "fault" {
					return true
				}
				name, ok := call.Args[0].(*ast.BasicLit)
				if !ok {
					t.Errorf("%s: a point without a plain name", path)
					return true
				}
				text, _ := strconv.Unquote(name.Value)
				called = append(called, text)
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(listed)
	slices.Sort(called)
	if !slices.Equal(listed, called) {
		t.Errorf("listed:\n%s\ncalled:\n%s", strings.Join(listed, "\n"), strings.Join(called, "\n"))
	}
}
