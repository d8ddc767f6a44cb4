package docstest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"testing"
)

// TestNamedFunctionsExist checks that every file.go:Function and file.go:Type.Method that a document names exists.
func TestNamedFunctionsExist(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile(`^([\w./-]+\.go):(\w+(?:\.\w+)?)$`)
	found := 0
	for _, d := range documents(t) {
		for _, span := range d.spans() {
			m := named.FindStringSubmatch(span)
			if m == nil {
				continue
			}
			found++
			functions, err := functionsOf(filepath.Join(root, filepath.FromSlash(m[1])))
			if err != nil || !functions[m[2]] {
				t.Errorf("%s names %s: there is no such function (%v)", d.path, span, err)
			}
		}
	}
	if found == 0 {
		t.Error("no document names a function")
	}
}

// functionsOf returns the functions of a Go file, methods as Type.Method.
func functionsOf(path string) (map[string]bool, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	functions := make(map[string]bool)
	for _, declaration := range file.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil {
			name = receiver(f.Recv.List[0].Type) + "." + name
		}
		functions[name] = true
	}
	return functions, nil
}

// receiver returns the name of a method's type, without pointer and type parameters.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
