package house

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// checkState keeps packages free of init functions and of variables that change. A package-level variable must be
// something fixed at its declaration, and nothing may assign to it, to a part of it, or take its address. What a
// method or a callee does to a table it is given is not seen; that is left to the reader of a change.
func (t *tree) checkState(p *pkg) {
	for _, s := range p.files {
		if s.generated {
			continue
		}
		for _, decl := range s.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.report(d.Pos(), "func init (what is to happen is called by name)")
				}
			case *ast.GenDecl:
				if d.Tok == token.VAR && !s.test {
					t.checkVars(p, d)
				}
			}
		}
		t.checkWrites(p, s)
	}
}

// checkVars looks at one var declaration of package level.
func (t *tree) checkVars(p *pkg, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		if len(v.Names) == 1 && v.Names[0].Name == "_" || embedded(d.Doc) || embedded(v.Doc) {
			continue // an assertion about types, or a file
		}
		if len(v.Values) == 0 {
			t.report(v.Pos(), "package-level variable %s without a value (somebody must change it: state lives in values)",
				v.Names[0].Name)
			continue
		}
		if v.Type != nil {
			t.checkFixed(p, v.Names[0].Name, v.Type)
		}
		for _, value := range v.Values {
			t.checkFixed(p, v.Names[0].Name, value)
		}
	}
}

func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, "//go:embed ")
	})
}

// checkFixed reports what in a variable's type or value can change. The bodies of functions are not values.
func (t *tree) checkFixed(p *pkg, name string, x ast.Node) {
	const rule = "package-level variable %s holds %s (no package-level mutable state)"
	ast.Inspect(x, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ChanType:
			t.report(n.Pos(), rule, name, "a channel")
			return false
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				t.report(n.Pos(), rule, name, "a pointer to something that can change")
			}
		case *ast.SelectorExpr:
			from := p.imported(n.X)
			named := likelyName(from) + "." + n.Sel.Name
			if from == "sync" || from == "sync/atomic" || slices.Contains(mutable(), named) {
				t.report(n.Pos(), rule, name, named)
			}
		case *ast.CallExpr:
			if callee := p.foreignCall(n); callee != "" && !slices.Contains(fixed(), callee) {
				t.report(n.Pos(), rule, name, "what "+callee+" returns, which is not known to be fixed")
			}
			if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "new" && p.builtin(id) {
				t.report(n.Pos(), rule, name, "a pointer to something that can change")
			}
		}
		return true
	})
}

// foreignCall returns "package.Function" for a call into another package, else "": conversions, methods and functions
// of the package itself, which make a table and are read where they stand.
func (p *pkg) foreignCall(call *ast.CallExpr) string {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	from := p.imported(sel.X)
	if from == "" || from == module || strings.HasPrefix(from, module+"/") {
		return ""
	}
	return likelyName(from) + "." + sel.Sel.Name
}

func (p *pkg) builtin(id *ast.Ident) bool {
	_, ok := p.info.Uses[id].(*types.Builtin)
	return ok
}

// checkWrites reports every write to a package-level variable, of this package or of another. Variables that a test file
// declares for itself are the test's business.
func (t *tree) checkWrites(p *pkg, s *source) {
	write := func(x ast.Expr, how string) {
		name, ok := p.writtenVar(t.fset, x)
		if ok {
			t.report(x.Pos(), "%s package-level variable %s (no package-level mutable state)", how, name)
		}
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, left := range n.Lhs {
					write(left, "assigns to")
				}
			}
		case *ast.IncDecStmt:
			write(n.X, "assigns to")
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				write(n.Key, "assigns to")
				write(n.Value, "assigns to")
			}
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				write(n.X, "takes the address of")
			}
		case *ast.CallExpr:
			id, ok := n.Fun.(*ast.Ident)
			if ok && len(n.Args) > 0 && p.builtin(id) && slices.Contains([]string{"copy", "delete", "clear"}, id.Name) {
				write(n.Args[0], id.Name+"s")
			}
		}
		return true
	})
}

// writtenVar returns the package-level variable that x is, or is a part of.
func (p *pkg) writtenVar(fset *token.FileSet, x ast.Expr) (string, bool) {
	for {
		switch e := x.(type) {
		case *ast.ParenExpr:
			x = e.X
		case *ast.IndexExpr:
			x = e.X
		case *ast.SliceExpr:
			x = e.X
		case *ast.StarExpr:
			x = e.X
		case *ast.SelectorExpr:
			if from := p.imported(e.X); from != "" {
				return likelyName(from) + "." + e.Sel.Name, true
			}
			x = e.X
		case *ast.Ident:
			v := p.variable(e)
			if v == nil || strings.HasSuffix(fset.Position(v.Pos()).Filename, "_test.go") {
				return "", false
			}
			return v.Name(), true
		default: // a literal, or what a call returned
			return "", false
		}
	}
}
