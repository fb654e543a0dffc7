package node

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxConfigFile is the largest node file that is read, in octets.
const maxConfigFile = 1 << 20

// ReadConfig reads and validates the node file at path over the defaults. A file that cannot be used is a
// *ConfigError; any other error is trouble with reading it.
func ReadConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("read node file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return Config{}, fmt.Errorf("read node file: %w", err)
	}
	if len(data) > maxConfigFile {
		return Config{}, &ConfigError{[]Problem{{File: path, Text: "is larger than 1 MiB"}}}
	}
	return DecodeConfig(path, data)
}

// DecodeConfig reads the text of a node file over the defaults, without validating the whole: call Validate after
// Override. file names it in messages and is where its relative paths start. Every error is a *ConfigError.
func DecodeConfig(file string, data []byte) (Config, error) {
	c := DefaultConfig()
	c.file, c.lines = file, map[string]int{}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return Config{}, &ConfigError{[]Problem{syntaxProblem(file, err)}}
	}
	d := &decoder{file: file, lines: c.lines}
	switch {
	case len(tree.Docs) > 1:
		d.bad(tree.Docs[1].Body, "", "a node file is one YAML document")
	case len(tree.Docs) == 1 && tree.Docs[0].Body != nil:
		d.value(tree.Docs[0].Body, reflect.ValueOf(&c).Elem(), "")
	}
	if len(d.problems) > 0 {
		return Config{}, newConfigError(d.problems)
	}
	c.settle()
	return c, nil
}

// settle fills what follows from other keys.
func (c *Config) settle() {
	for i := range c.SMTP.Listeners {
		l := &c.SMTP.Listeners[i]
		if l.Role == "" {
			l.Role = "relay"
		}
		if l.TLS == "" {
			l.TLS = "optional"
		}
	}
	// The short forms stand for a list of one, unless a list is written out: then they are its last resort.
	_, listed := c.lines["keys.unseal"]
	if (c.Keys.Exec != "" || c.Keys.File != "") && !listed {
		c.Keys.Unseal = nil
	}
	if c.Keys.Exec != "" {
		c.Keys.Unseal = append(c.Keys.Unseal, UnsealConfig{Kind: UnsealExec, Arg: c.Keys.Exec})
	}
	if c.Keys.File != "" {
		c.Keys.Unseal = append(c.Keys.Unseal, UnsealConfig{Kind: UnsealFile, Arg: c.Keys.File})
	}
	if c.Cluster.Address != "" {
		if _, set := c.lines["cluster.standbys"]; !set && c.Cluster.Role != roleWitness {
			c.Cluster.Standbys = 1
		}
		if !listed && c.Keys.Exec == "" && c.Keys.File == "" {
			c.Keys.Unseal = []UnsealConfig{{Kind: UnsealKeyring}, {Kind: UnsealPeer}, {Kind: UnsealRecovery}}
		}
	}
	c.Keys.Exec, c.Keys.File = "", ""
	c.resolvePaths()
}

func syntaxProblem(file string, err error) Problem {
	p := Problem{File: file, Text: err.Error()}
	var y yaml.Error
	if errors.As(err, &y) {
		p.Text = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			p.Line = t.Position.Line
		}
	}
	return p
}

// decoder lays a YAML tree over Go values: strict, and with a line for every complaint.
type decoder struct {
	file     string
	lines    map[string]int
	problems []Problem
}

func (d *decoder) bad(n ast.Node, key, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: d.file, Line: lineOf(n), Key: key, Text: fmt.Sprintf(format, args...)})
}

func lineOf(n ast.Node) int {
	if n == nil {
		return 0
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// value decodes n into v, whose path is key.
func (d *decoder) value(n ast.Node, v reflect.Value, key string) {
	switch n.(type) {
	case *ast.NullNode:
		return // "key:" with nothing behind it keeps the default
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.bad(n, key, "anchors, aliases and tags are not allowed in a node file")
		return
	}
	switch target := v.Addr().Interface().(type) {
	case *UnsealConfig:
		d.unseal(n, target, key)
		return
	case *time.Duration:
		if s, ok := d.text(n, key, "a duration such as 5s"); ok {
			p, err := time.ParseDuration(s)
			if err != nil {
				d.bad(n, key, "%q must be a duration such as 5s or 300ms", s)
			}
			*target = p
		}
		return
	case encoding.TextUnmarshaler:
		d.textual(n, target, key)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, key)
	case reflect.Slice:
		d.sequence(n, v, key)
	default:
		d.scalar(n, v, key)
	}
}

func (d *decoder) mapping(n ast.Node, v reflect.Value, key string) {
	var entries []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		entries = m.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{m}
	default:
		d.bad(n, key, "must be a mapping with the keys %s", strings.Join(keysOf(v.Type()), ", "))
		return
	}
	seen := map[string]bool{}
	for _, e := range entries {
		name, ok := e.Key.(*ast.StringNode)
		if !ok {
			d.bad(e.Key, key, "the key %s is not allowed; allowed: %s", quoteToken(e.Key), strings.Join(keysOf(v.Type()), ", "))
			continue
		}
		path := name.Value
		if key != "" {
			path = key + "." + path
		}
		field := fieldOf(v, name.Value)
		switch {
		case !field.IsValid():
			d.bad(e.Key, path, "unknown key; allowed: %s", strings.Join(keysOf(v.Type()), ", "))
		case seen[name.Value]:
			d.bad(e.Key, path, "stands twice")
		case e.Value != nil:
			d.lines[path] = lineOf(e.Key)
			d.value(e.Value, field, path)
		}
		seen[name.Value] = true
	}
}

func (d *decoder) sequence(n ast.Node, v reflect.Value, key string) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.bad(n, key, "must be a list")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values))
	for i, item := range s.Values {
		path := key + "[" + strconv.Itoa(i) + "]"
		d.lines[path] = lineOf(item)
		d.value(item, out.Index(i), path)
	}
	v.Set(out)
}

func (d *decoder) scalar(n ast.Node, v reflect.Value, key string) {
	switch v.Kind() {
	case reflect.String:
		if s, ok := d.text(n, key, "text"); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.bad(n, key, "%s is not allowed; allowed: true, false", quoteToken(n))
			return
		}
		v.SetBool(b.Value)
	case reflect.Int:
		i, ok := n.(*ast.IntegerNode)
		if !ok {
			d.bad(n, key, "%s must be a whole number", quoteToken(n))
			return
		}
		switch x := i.Value.(type) {
		case int64:
			v.SetInt(x)
		case uint64:
			if x > math.MaxInt64 {
				d.bad(n, key, "%s is too large", quoteToken(n))
				return
			}
			v.SetInt(int64(x))
		}
	}
}

// text returns the text of a scalar. Numbers count as text as they stand: a node may be called 7.
func (d *decoder) text(n ast.Node, key, want string) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	d.bad(n, key, "must be %s", want)
	return "", false
}

// textual decodes addresses and networks. A bare address is allowed where a network or an address with a port is asked.
func (d *decoder) textual(n ast.Node, target encoding.TextUnmarshaler, key string) {
	s, ok := d.text(n, key, "text")
	if !ok {
		return
	}
	var err error
	switch t := target.(type) {
	case *netip.Addr:
		if *t, err = netip.ParseAddr(s); err != nil {
			d.bad(n, key, "%q is no IP address", s)
		}
		*t = t.Unmap()
	case *netip.Prefix:
		if ip, e := netip.ParseAddr(s); e == nil {
			*t = netip.PrefixFrom(ip, ip.BitLen())
		} else if *t, err = netip.ParsePrefix(s); err != nil {
			d.bad(n, key, "%q is no network; write it as 10.0.0.0/8", s)
		}
	case *netip.AddrPort:
		if ip, e := netip.ParseAddr(strings.Trim(s, "[]")); e == nil {
			*t = netip.AddrPortFrom(ip, 53)
		} else if *t, err = netip.ParseAddrPort(s); err != nil {
			d.bad(n, key, "%q is no address with a port; write it as 127.0.0.1:53", s)
		}
	default:
		if err := target.UnmarshalText([]byte(s)); err != nil {
			d.bad(n, key, "%v", err)
		}
	}
}

const unsealForms = `keyring, peer, recovery-code, {exec: "command"}, {file: "path"}`

func (d *decoder) unseal(n ast.Node, u *UnsealConfig, key string) {
	var e *ast.MappingValueNode
	switch m := n.(type) {
	case *ast.StringNode:
		if !slices.Contains([]string{UnsealKeyring, UnsealPeer, UnsealRecovery}, m.Value) {
			d.bad(n, key, "%q is not allowed; allowed: %s", m.Value, unsealForms)
		}
		u.Kind = m.Value
		return
	case *ast.MappingValueNode:
		e = m
	case *ast.MappingNode:
		if len(m.Values) == 1 {
			e = m.Values[0]
		}
	}
	if e == nil {
		d.bad(n, key, "must be one of: %s", unsealForms)
		return
	}
	u.Kind = e.Key.GetToken().Value
	if u.Kind != UnsealExec && u.Kind != UnsealFile {
		d.bad(e.Key, key, "%q is not allowed; allowed: %s", u.Kind, unsealForms)
		return
	}
	u.Arg, _ = d.text(e.Value, key+"."+u.Kind, "text")
}

func quoteToken(n ast.Node) string {
	if t := n.GetToken(); t != nil {
		return strconv.Quote(t.Value)
	}
	return `""`
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		if tag := f.Tag.Get("yaml"); tag != "" {
			keys = append(keys, tag)
		}
	}
	return keys
}

func fieldOf(v reflect.Value, key string) reflect.Value {
	t := v.Type()
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") == key && key != "" {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}
