package settings

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Bounds of a file read by Strict: files of an operator are far below them, files made to exhaust us are not.
const (
	maxFile  = 4 << 20
	maxDepth = 32
)

// Lines tells on which line of a file a key stands, by the key's path ("tenants[0].name").
type Lines map[string]int

// Of returns the line of path, or of the nearest key above it, or 0.
func (l Lines) Of(path string) int {
	for path != "" {
		if n, ok := l[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return l[""]
}

// fromNode is a value that reads its own shape from a file (a list or the name of a file, say).
type fromNode interface {
	decodeNode(d *strictDecoder, n ast.Node, path string)
}

// Strict decodes one YAML document into the struct that into points to, by its `yaml` tags. Unknown and repeated keys,
// anchors, aliases, tags and values of the wrong type are errors, and all of them are reported, each with its line and
// what would be allowed there. Keys that are absent leave into as it was. The error is an Errors.
func Strict(src []byte, into any) (lines Lines, err error) {
	if len(src) > maxFile {
		return nil, Errors{{Text: "file is larger than 4 MiB"}}
	}
	defer func() { // the YAML parser is given whatever someone wrote; a fault of its must not end the node
		if r := recover(); r != nil {
			lines, err = nil, Errors{{Text: fmt.Sprintf("not YAML: %v", r)}}
		}
	}()
	file, err := parser.ParseBytes(src, 0)
	if err != nil {
		return nil, Errors{syntaxError(err)}
	}
	d := &strictDecoder{lines: Lines{}}
	body := false
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body {
			d.fail(doc.Body, "", "a second document in one file; only one is allowed")
			break
		}
		body = true
		d.value(doc.Body, reflect.ValueOf(into).Elem(), "", 0)
	}
	return d.lines, d.errs.orNil()
}

func syntaxError(err error) *Error {
	var y yaml.Error
	if errors.As(err, &y) {
		e := &Error{Text: "not YAML: " + y.GetMessage()}
		if t := y.GetToken(); t != nil && t.Position != nil {
			e.Line = t.Position.Line
		}
		return e
	}
	return &Error{Text: "not YAML: " + err.Error()}
}

type strictDecoder struct {
	lines Lines
	errs  Errors
}

func (d *strictDecoder) fail(n ast.Node, path, text string) {
	d.errs = append(d.errs, &Error{Line: lineOf(n), Key: path, Text: text})
}

func lineOf(n ast.Node) int {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		n = m.Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// value decodes n into v.
func (d *strictDecoder) value(n ast.Node, v reflect.Value, path string, depth int) {
	if _, ok := d.lines[path]; !ok {
		d.lines[path] = lineOf(n)
	}
	if depth > maxDepth {
		d.fail(n, path, "nested too deeply")
		return
	}
	switch n.Type() {
	case ast.NullType:
		return // "key:" with nothing behind it means: as if absent
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType, ast.DirectiveType:
		d.fail(n, path, "anchors, aliases, merge keys and tags are not allowed")
		return
	}
	if v.CanAddr() {
		if own, ok := v.Addr().Interface().(fromNode); ok {
			own.decodeNode(d, n, path)
			return
		}
		if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			if s, ok := d.scalar(n, path, "a text"); ok {
				if err := text.UnmarshalText([]byte(s)); err != nil {
					d.fail(n, path, err.Error())
				}
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path, depth)
	case reflect.Struct:
		d.structure(n, v, path, depth)
	case reflect.Slice:
		d.list(n, v, path, depth)
	case reflect.Map:
		d.mapping(n, v, path, depth)
	default:
		d.leaf(n, v, path)
	}
}

// pairs returns the entries of a mapping, refusing repeated keys.
func (d *strictDecoder) pairs(n ast.Node, path string) ([]*ast.MappingValueNode, bool) {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		d.fail(n, path, "must be a mapping of keys to values")
		return nil, false
	}
	seen := make(map[string]bool, len(values))
	for _, e := range values {
		k := keyOf(e)
		if seen[k] {
			d.fail(e.Key, join(path, k), "key appears twice")
			return nil, false
		}
		seen[k] = true
	}
	return values, true
}

func keyOf(e *ast.MappingValueNode) string {
	if t := e.Key.GetToken(); t != nil {
		return t.Value
	}
	return ""
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (d *strictDecoder) structure(n ast.Node, v reflect.Value, path string, depth int) {
	values, ok := d.pairs(n, path)
	if !ok {
		return
	}
	fields := map[string]reflect.Value{}
	var names []string
	collectFields(v, fields, &names)
	for _, e := range values {
		k := keyOf(e)
		f, ok := fields[k]
		if !ok {
			d.fail(e.Key, join(path, k), "unknown key; allowed here: "+strings.Join(names, ", "))
			continue
		}
		d.lines[join(path, k)] = lineOf(e.Key)
		d.value(e.Value, f, join(path, k), depth+1)
	}
}

// collectFields lists the settable fields of v by the first part of their yaml tag, embedded structs marked inline
// included.
func collectFields(v reflect.Value, fields map[string]reflect.Value, names *[]string) {
	t := v.Type()
	for i := range t.NumField() {
		tag, opts, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if opts == "inline" {
			collectFields(v.Field(i), fields, names)
			continue
		}
		if tag == "" || tag == "-" {
			continue
		}
		fields[tag] = v.Field(i)
		*names = append(*names, tag)
	}
}

func (d *strictDecoder) list(n ast.Node, v reflect.Value, path string, depth int) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(n, path, "must be a list")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, e := range seq.Values {
		d.value(e, out.Index(i), path+"["+strconv.Itoa(i)+"]", depth+1)
	}
	v.Set(out)
}

func (d *strictDecoder) mapping(n ast.Node, v reflect.Value, path string, depth int) {
	values, ok := d.pairs(n, path)
	if !ok {
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(values))
	for _, e := range values {
		at := join(path, keyOf(e))
		key := reflect.New(v.Type().Key()).Elem()
		val := reflect.New(v.Type().Elem()).Elem()
		before := len(d.errs)
		d.leaf(e.Key, key, at)
		d.value(e.Value, val, at, depth+1)
		if len(d.errs) == before {
			out.SetMapIndex(key, val)
		}
	}
	v.Set(out)
}

// scalar returns the text of a single value, as it was written.
func (d *strictDecoder) scalar(n ast.Node, path, want string) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	d.fail(n, path, "must be "+want)
	return "", false
}

func (d *strictDecoder) leaf(n ast.Node, v reflect.Value, path string) {
	want := map[reflect.Kind]string{reflect.Bool: "true or false", reflect.String: "a text"}[v.Kind()]
	if want == "" {
		want = "a number"
	}
	s, ok := d.scalar(n, path, want)
	if !ok {
		return
	}
	quoted := slices.Contains([]ast.NodeType{ast.StringType, ast.LiteralType}, n.Type())
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
		return
	case reflect.Bool:
		var b bool
		if b, err = strconv.ParseBool(s); err == nil && !quoted {
			v.SetBool(b)
			return
		}
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Int16, reflect.Int8:
		var i int64
		if i, err = strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 10, v.Type().Bits()); err == nil {
			v.SetInt(i)
			return
		}
	case reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16, reflect.Uint8:
		var u uint64
		if u, err = strconv.ParseUint(strings.ReplaceAll(s, "_", ""), 10, v.Type().Bits()); err == nil {
			v.SetUint(u)
			return
		}
	case reflect.Float64, reflect.Float32:
		var f float64
		if f, err = strconv.ParseFloat(s, 64); err == nil && f-f == 0 { // neither infinite nor NaN
			v.SetFloat(f)
			return
		}
	}
	d.fail(n, path, fmt.Sprintf("%q must be %s", s, want))
}
