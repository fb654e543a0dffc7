package settings

import (
	"encoding"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Words of Change.Change.
const (
	Added   = "added"
	Changed = "changed"
	Removed = "removed"
)

// Change is an object that is not as it was.
type Change struct {
	Kind, Name string // as those of Object
	Change     string // one of the words above
	Lines      []Line // what of it; of an object that was removed, all it held
}

// Line is a key that is not as it was. Secrets are never shown, only that they changed.
type Line struct {
	Key string // "compositions[main].intake.sessions"
	Old string // "" where it was not set
	New string // "" where it is no longer set
}

// Diff tells what changes where old is replaced by now. Both must have their defaults filled in.
func Diff(old, now *Settings) []Change {
	was := map[[2]string]any{}
	before := parts(old)
	for _, p := range before {
		was[[2]string{p.kind, p.name}] = p.value
	}
	var out []Change
	for _, p := range parts(now) {
		k := [2]string{p.kind, p.name}
		old, ok := was[k]
		delete(was, k)
		c := Change{Kind: p.kind, Name: p.name, Change: Added, Lines: compare(nil, flatten(p.value))}
		if ok {
			c.Change, c.Lines = Changed, compare(flatten(old), flatten(p.value))
		}
		if !ok || len(c.Lines) > 0 {
			out = append(out, c)
		}
	}
	for _, p := range before {
		if _, left := was[[2]string{p.kind, p.name}]; left {
			out = append(out, Change{Kind: p.kind, Name: p.name, Change: Removed, Lines: compare(flatten(p.value), nil)})
		}
	}
	return out
}

// Difference writes changes for people, one object after the other; "" where there are none.
func Difference(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(c.Change + " " + c.Kind)
		if c.Name != "" {
			b.WriteString(" " + shown(c.Name))
		}
		b.WriteByte('\n')
		for _, l := range c.Lines {
			switch c.Change {
			case Added:
				fmt.Fprintf(&b, "    %s: %s\n", l.Key, l.New)
			case Changed:
				fmt.Fprintf(&b, "    %s: %s -> %s\n", l.Key, orNone(l.Old), orNone(l.New))
			}
		}
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// leaf is one key of an object and its value.
type leaf struct {
	key    string
	value  string
	zero   string   // what stands for the value where the key is absent
	secret bool     // value is compared, never shown
	order  []string // the names of a list; only their order is compared
}

func flatten(v any) []leaf {
	var f flattener
	f.value(reflect.ValueOf(v), "", false)
	return f.leaves
}

type flattener struct{ leaves []leaf }

func (f *flattener) add(key, value, zero string, secret bool) {
	f.leaves = append(f.leaves, leaf{key: key, value: value, zero: zero, secret: secret})
}

func (f *flattener) value(v reflect.Value, path string, secret bool) {
	if v.Kind() == reflect.Pointer {
		switch {
		case v.IsNil():
		case v.Elem().Kind() == reflect.Bool: // what is pointed to says something even where it is false
			f.add(path, strconv.FormatBool(v.Elem().Bool()), "", false)
		default:
			f.value(v.Elem(), path, secret)
		}
		return
	}
	if text, ok := v.Interface().(encoding.TextMarshaler); ok {
		if raw, err := text.MarshalText(); err == nil && !v.IsZero() {
			f.add(path, string(raw), "0s", secret)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		f.structure(v, path)
	case reflect.Slice:
		f.list(v, path)
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return int(a.Int() - b.Int()) })
		for _, k := range keys {
			f.add(join(path, strconv.FormatInt(k.Int(), 10)), fmt.Sprint(v.MapIndex(k)), "", false)
		}
	case reflect.String:
		if !v.IsZero() {
			text, password, given := splitPassword(v.String())
			f.add(path, shown(text), "", secret)
			if given {
				f.add(path+" (password)", password, "", true)
			}
		}
	case reflect.Bool:
		if v.Bool() {
			f.add(path, "true", "false", false)
		}
	default:
		if !v.IsZero() {
			f.add(path, fmt.Sprint(v.Interface()), "0", false)
		}
	}
}

func (f *flattener) structure(v reflect.Value, path string) {
	t := v.Type()
	for i := range t.NumField() {
		tag, options, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			f.structure(v.Field(i), path)
		case tag == "" || tag == "-" || tag == "name": // a name stands in the key, or in the heading
		default:
			f.value(v.Field(i), join(path, tag), isSecret(tag))
		}
	}
}

// list writes values as one line; of structs, each is found again by its name.
func (f *flattener) list(v reflect.Value, path string) {
	if v.Len() == 0 {
		return
	}
	if v.Type().Elem().Kind() != reflect.Struct {
		raw, _ := json.Marshal(v.Interface()) // texts and numbers always can be
		if path == "" {
			path = "names" // of KindOrder
		}
		f.add(path, string(raw), "", false)
		return
	}
	names := make([]string, v.Len())
	for i := range v.Len() {
		name := nameOf(v.Index(i))
		if name == "" || slices.Contains(names[:i], name) {
			name = strconv.Itoa(i)
		}
		names[i] = name
		at := path + "[" + shown(name) + "]"
		before := len(f.leaves)
		f.structure(v.Index(i), at)
		if len(f.leaves) == before {
			f.add(at, "{}", "", false)
		}
	}
	f.leaves = append(f.leaves, leaf{key: strings.TrimPrefix(path+" (order)", " "), order: names})
}

// nameOf is what tells an element of a list from the others.
func nameOf(v reflect.Value) string {
	t := v.Type()
	for _, want := range [...]string{"name", "url", "address", "domain"} {
		for i := range t.NumField() {
			tag, options, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if options == "inline" {
				if name := nameOf(v.Field(i)); name != "" {
					return name
				}
			}
			if tag == want && v.Field(i).Kind() == reflect.String {
				name, _, _ := splitPassword(v.Field(i).String())
				return name
			}
		}
	}
	return ""
}

// compare lists the keys that differ, those of now first.
func compare(old, now []leaf) []Line {
	was := make(map[string]leaf, len(old))
	for _, l := range old {
		was[l.key] = l
	}
	var out []Line
	for _, l := range now {
		before, ok := was[l.key]
		delete(was, l.key)
		switch {
		case l.order != nil:
			if a, b := common(before.order, l.order), common(l.order, before.order); !slices.Equal(a, b) {
				out = append(out, Line{l.key, strings.Join(a, ", "), strings.Join(b, ", ")})
			}
		case !ok && old == nil:
			out = append(out, Line{Key: l.key, New: l.show()})
		case !ok:
			out = append(out, Line{l.key, l.zero, l.show()})
		case before.value != l.value && l.secret:
			out = append(out, Line{l.key, l.show(), "(another secret)"})
		case before.value != l.value:
			out = append(out, Line{l.key, before.value, l.value})
		}
	}
	for _, l := range old {
		if _, left := was[l.key]; left && l.order == nil {
			line := Line{Key: l.key, Old: l.show()}
			if now != nil {
				line.New = l.zero
			}
			out = append(out, line)
		}
	}
	return out
}

func (l leaf) show() string {
	if l.secret {
		return "(secret)"
	}
	return l.value
}

// common returns what of list stands in other too, in the order of list.
func common(list, other []string) []string {
	var out []string
	for _, s := range list {
		if slices.Contains(other, s) {
			out = append(out, s)
		}
	}
	return out
}

// shown is s as a difference shows it: as it is, or quoted where it would be hard to read.
func shown(s string) string {
	odd := func(r rune) bool { return !unicode.IsGraphic(r) || r == unicode.ReplacementChar }
	if s == "" || s != strings.TrimSpace(s) || strings.ContainsFunc(s, odd) {
		return strconv.Quote(s)
	}
	return s
}

// splitPassword masks the password of an address and tells it apart; any other text is as it was.
func splitPassword(s string) (text, password string, given bool) {
	u, err := url.Parse(s)
	if err != nil {
		return s, "", false
	}
	if password, given = u.User.Password(); !given {
		return s, "", false
	}
	return u.Redacted(), password, true
}

// isSecret tells of keys whose values are never shown.
func isSecret(tag string) bool {
	return tag == "secret" || tag == "second_secret" || tag == "secret_hash" || tag == "api_key" || tag == "bearer"
}
