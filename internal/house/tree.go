package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path"
	"sort"
	"strconv"
	"strings"
)

// Violation is one breach of a rule.
type Violation struct {
	Path string // file or directory, relative to the module
	Line int    // 0 where the whole file or package is meant
	Text string // what is wrong, and why the rule stands
}

// String returns "path:line: text".
func (v Violation) String() string {
	if v.Line == 0 {
		return v.Path + ": " + v.Text
	}
	return fmt.Sprintf("%s:%d: %s", v.Path, v.Line, v.Text)
}

// source is one Go file.
type source struct {
	path      string // relative to the module
	dir       string
	test      bool
	generated bool
	lines     int
	text      string
	ast       *ast.File
}

// imports calls f with each import path of the file.
func (s *source) imports(f func(at token.Pos, path string)) {
	for _, spec := range s.ast.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			f(spec.Pos(), p)
		}
	}
}

// pkg is the files of one directory that say the same package name.
type pkg struct {
	dir, name string
	files     []*source
	info      *types.Info
	types     *types.Package
}

// tree is what the checks look at.
type tree struct {
	fset  *token.FileSet
	pkgs  []*pkg
	texts map[string]string // every text file that is looked at for words, Go files included
	found []Violation
}

// Check walks the module at the root of fsys and returns what breaks the house's rules, sorted by place.
func Check(fsys fs.FS) ([]Violation, error) {
	t := &tree{fset: token.NewFileSet(), texts: map[string]string{}}
	if err := t.load(fsys); err != nil {
		return nil, fmt.Errorf("walk the house: %w", err)
	}
	for _, p := range t.pkgs {
		t.checkName(p)
		t.checkImports(p)
		t.checkFences(p)
		t.checkPure(p)
		t.checkClock(p)
		t.checkState(p)
		t.checkFiles(p)
	}
	t.checkComments()
	t.checkWords()
	sort.Slice(t.found, func(i, j int) bool {
		a, b := t.found[i], t.found[j]
		if a.Path != b.Path {
			return a.Path < b.Path
		}
		return a.Line < b.Line || a.Line == b.Line && a.Text < b.Text
	})
	return t.found, nil
}

func (t *tree) report(at token.Pos, format string, args ...any) {
	pos := t.fset.Position(at)
	t.found = append(t.found, Violation{pos.Filename, pos.Line, fmt.Sprintf(format, args...)})
}

func (t *tree) reportPath(path, format string, args ...any) {
	t.found = append(t.found, Violation{Path: path, Text: fmt.Sprintf(format, args...)})
}

// load reads and resolves every Go file, and keeps the other texts. Directories of tools, of fixtures and of what builds
// leave behind are not the house.
func (t *tree) load(fsys fs.FS) error {
	byName := map[[2]string]*pkg{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			hidden := strings.HasPrefix(base, ".") && name != "." && base != ".ci" || strings.HasPrefix(base, "_")
			if hidden || base == "testdata" || name == "bin" || name == "ekiden-data" || base == "node_modules" {
				return fs.SkipDir
			}
			return nil
		}
		if !isText(name) {
			return nil
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		t.texts[name] = string(data)
		if path.Ext(name) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(t.fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.reportPath(name, "does not parse: %v", err)
			return nil
		}
		s := &source{path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
			generated: ast.IsGenerated(f), lines: strings.Count(string(data), "\n"), text: string(data), ast: f}
		key := [2]string{s.dir, f.Name.Name}
		if byName[key] == nil {
			byName[key] = &pkg{dir: s.dir, name: f.Name.Name}
			t.pkgs = append(t.pkgs, byName[key])
		}
		byName[key].files = append(byName[key].files, s)
		return nil
	})
	for _, p := range t.pkgs {
		t.resolve(p)
	}
	return err
}

func isText(name string) bool {
	switch path.Ext(name) {
	case ".go", ".md", ".yaml", ".yml", ".proto", ".sh", ".html", ".css", ".js", ".mod":
		return true
	}
	return path.Base(name) == "Makefile" || path.Dir(name) == ".ci"
}

// resolve finds out which name means what. Imports are empty shells and much does not type-check for it; names still
// resolve to the import, the package-level variable or the local they mean, and more is not needed.
func (t *tree) resolve(p *pkg) {
	files := make([]*ast.File, len(p.files))
	for i, s := range p.files {
		files[i] = s.ast
	}
	p.info = &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: shells{}, Error: func(error) {}}
	p.types, _ = conf.Check(path.Join(module, p.dir), t.fset, files, p.info)
}

// shells imports every package as an empty one under its likely name.
type shells struct{}

// Import implements types.Importer.
func (shells) Import(imported string) (*types.Package, error) {
	shell := types.NewPackage(imported, likelyName(imported))
	shell.MarkComplete()
	return shell, nil
}

// likelyName guesses a package's name from its path: "example.com/go-smtp/v2" is smtp.
func likelyName(imported string) string {
	name := path.Base(imported)
	if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
		name = path.Base(path.Dir(imported))
	}
	if stem, _, ok := strings.Cut(name, "."); ok {
		name = stem
	}
	return strings.TrimSuffix(strings.TrimPrefix(name, "go-"), "-go")
}

// imported returns the path of the import that an expression names, or "".
func (p *pkg) imported(x ast.Expr) string {
	id, ok := x.(*ast.Ident)
	if !ok {
		return ""
	}
	if name, ok := p.info.Uses[id].(*types.PkgName); ok {
		return name.Imported().Path()
	}
	return ""
}

// variable returns the package-level variable of p that an identifier means, or nil.
func (p *pkg) variable(id *ast.Ident) *types.Var {
	v, ok := p.info.Uses[id].(*types.Var)
	if !ok || p.types == nil || v.Parent() != p.types.Scope() {
		return nil
	}
	return v
}

// cutRest takes the "/..." off a pattern.
func cutRest(pattern string) (string, bool) { return strings.CutSuffix(pattern, "/...") }

// under tells whether a path is dir or lies below it.
func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
