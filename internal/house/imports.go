package house

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// checkImports holds a package to its row of the import table, tests included: a test that leans on a sibling ties the
// two rooms as firmly as code does.
func (t *tree) checkImports(p *pkg) {
	rules := table()
	at := slices.IndexFunc(rules, func(r row) bool { return matches(p.dir, r.from) })
	if at < 0 {
		t.reportPath(p.dir, "package %s is in no room of the house: give it a place in the import table", p.name)
		return
	}
	r := rules[at]
	own := room(p.dir)
	for _, s := range p.files {
		s.imports(func(pos token.Pos, imported string) {
			if imported == module {
				t.report(pos, "imports the root of the module, where no code lives")
				return
			}
			dir, ok := strings.CutPrefix(imported, module+"/")
			if !ok {
				return
			}
			if under(dir, "internal/testkit") && !s.test {
				t.report(pos, "imports %s outside a test: test tools do not ship", dir)
				return
			}
			testOfGround := s.test && under(dir, "internal/testkit")
			if !under(dir, own) && !matches(dir, r.may...) && !testOfGround {
				t.report(pos, "%s may not import %s (%s)", own, dir, r.why)
			}
		})
	}
}

// room returns the directory whose packages may import one another freely.
func room(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	if len(parts) > 1 && slices.Contains(apart(), parts[0]) {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

// checkFences keeps libraries in the rooms that own them.
func (t *tree) checkFences(p *pkg) {
	for _, s := range p.files {
		s.imports(func(pos token.Pos, imported string) {
			for _, f := range fences() {
				// "hashicorp/raft" stands for raft-boltdb and raft-wal too.
				if (under(imported, f.library) || strings.HasPrefix(imported, f.library+"-")) && !matches(p.dir, f.only...) {
					t.report(pos, "imports %s, which is fenced in %s (%s)", imported, strings.Join(f.only, ", "), f.why)
				}
			}
			if s.test || !matches(p.dir, "mail/...") || !strings.Contains(strings.Split(imported, "/")[0], ".") ||
				under(imported, module) {
				return
			}
			if !slices.ContainsFunc(wordsMay(), func(f fence) bool {
				return under(imported, f.library) && matches(p.dir, f.only...)
			}) {
				t.report(pos, "mail may not import %s (the words need the standard library and encodings only)", imported)
			}
		})
	}
}

// checkPure keeps I/O, chance and goroutines out of what only decides or names.
func (t *tree) checkPure(p *pkg) {
	if !matches(p.dir, pureRooms()...) {
		return
	}
	for _, s := range p.files {
		if s.test {
			continue
		}
		s.imports(func(pos token.Pos, imported string) {
			if slices.ContainsFunc(pureMay(), func(may string) bool { return under(imported, may) }) {
				return
			}
			for _, f := range pure() {
				if under(imported, f.library) {
					t.report(pos, "%s may not import %s (%s)", room(p.dir), imported, f.why)
				}
			}
		})
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.report(g.Pos(), "%s may not start a goroutine (it decides or names; who calls it acts)", room(p.dir))
			}
			return true
		})
	}
}

// checkClock keeps the machine's clock in internal/clock, and waiting out of what is pure. A function that is only
// named, as a value, reads the clock as well.
func (t *tree) checkClock(p *pkg) {
	for _, s := range p.files {
		if s.test {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || p.imported(sel.X) != "time" {
				return true
			}
			switch name := sel.Sel.Name; {
			case slices.Contains(clockReaders(), name) && !matches(p.dir, clockRooms()...):
				t.report(sel.Pos(), "time.%s outside internal/clock (tests steer the product clock, and one place reads it)", name)
			case slices.Contains(clockWaiters(), name) && matches(p.dir, pureRooms()...):
				t.report(sel.Pos(), "time.%s in %s (time is an argument there)", name, room(p.dir))
			}
			return true
		})
	}
}
