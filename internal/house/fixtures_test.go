package house

import (
	"strings"
	"testing"
	"testing/fstest"
)

const doc = "// Package x is a fixture. It must never be built.\n"

// mustCheck checks a small house made of files, path to text.
func mustCheck(t *testing.T, files map[string]string) []Violation {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	found, err := Check(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A breach of each rule is found, at its place, and what the rule allows beside it is not.
func TestRulesFindTheirBreach(t *testing.T) {
	house := func(dir string) string { return `import _ "` + module + "/" + dir + "\"\n" }
	lib := func(path string) string { return `import _ "` + path + "\"\n" }
	inFunc := func(head, body string) string { return head + "func f() {\n" + body + "\n}\n" }
	rows := []struct {
		name, path, code string
		want             string // part of the only violation; "" where there must be none
	}{
		// The import table.
		{"a sibling", "smtpd/a.go", house("storage/queue"), "smtpd/a.go:3: smtpd may not import storage/queue"},
		{"a sibling, in a test", "smtpd/a_test.go", house("storage/queue"), "smtpd may not import storage/queue"},
		{"a sibling, below", "storage/queue/a.go", house("actors/protocol"), "storage may not import actors/protocol"},
		{"its own room", "storage/queue/a.go", house("storage/seal"), ""},
		{"the ground", "storage/queue/a.go", house("internal/clock"), ""},
		{"node knows all", "node/a.go", house("cluster/ledger"), ""},
		{"node knows no main", "node/a.go", house("bench/sink"), "node may not import bench/sink"},
		{"nobody knows node", "admin/rpc/a.go", house("node"), "admin may not import node"},
		{"policy knows the words", "policy/bounce/a.go", house("mail/smtp"), ""},
		{"policy knows no policy", "policy/bounce/a.go", house("policy/shaping"), "policy/bounce may not import policy/shaping"},
		{"policy knows no ground", "policy/bounce/a.go", house("internal/clock"), "policy/bounce may not import internal/clock"},
		{"mail knows mail only", "mail/smtp/a.go", house("policy/bounce"), "mail may not import policy/bounce"},
		{"ground knows no house", "internal/clock/a.go", house("mail"), "internal/clock may not import mail"},
		{"ground knows no ground", "internal/wheel/a.go", house("internal/clock"), "internal/wheel may not import internal/clock"},
		{"test tools in a test", "internal/wheel/a_test.go", house("internal/testkit"), ""},
		{"test tools in code", "node/a.go", house("internal/testkit"), "outside a test"},
		{"the server ships no bench", "cmd/ekiden/a.go", house("bench/sink"), "cmd/ekiden may not import bench/sink"},
		{"the runner drives bench", "cmd/ekiden-bench/a.go", house("bench/sink"), ""},
		{"no room", "queue/a.go", "", "in no room"},
		{"the rules", "node/a.go", house("internal/house"), "fenced"},

		// Fences.
		{"badger outside", "node/a.go", lib("github.com/dgraph-io/badger/v4"), "fenced in storage/..."},
		{"badger inside", "storage/queue/a.go", lib("github.com/dgraph-io/badger/v4/options"), ""},
		{"raft's stores too", "storage/queue/a.go", lib("github.com/hashicorp/raft-wal"), "fenced in cluster"},
		{"protoactor's own cluster", "actors/a.go", lib("github.com/asynkron/protoactor-go/cluster"), "fenced in"},
		{"protoactor's actor", "actors/a.go", lib("github.com/asynkron/protoactor-go/actor"), ""},
		{"go-smtp in delivery", "delivery/a.go", lib("github.com/emersion/go-smtp"), "fenced in smtpd"},
		{"go-smtp in the client", "delivery/smtpc/a_test.go", lib("github.com/emersion/go-smtp"), ""},
		{"dns in the courier", "delivery/a_test.go", lib("github.com/miekg/dns"), "fenced in delivery/dns"},
		{"prometheus", "smtpd/a.go", lib("github.com/prometheus/client_golang/prometheus"), "fenced in internal/metrics"},
		{"mail and encodings", "mail/a.go", lib("golang.org/x/text/encoding/japanese"), ""},
		{"mail and the net", "mail/a.go", lib("golang.org/x/net/http2"), "mail may not import golang.org/x/net/http2"},
		{"mail and test libraries", "mail/a_test.go", lib("pgregory.net/rapid"), ""},
		{"mail and signing", "mail/sign/a.go", lib("github.com/emersion/go-msgauth/dkim"), ""},

		// Purity.
		{"policy and the disk", "policy/bounce/a.go", lib("os"), "policy/bounce may not import os"},
		{"policy and the net", "policy/bounce/a.go", lib("net/http"), "policy/bounce may not import net/http"},
		{"policy and addresses", "policy/bounce/a.go", lib("net/netip"), ""},
		{"policy and chance", "policy/bounce/a.go", lib("math/rand/v2"), "policy/bounce may not import math/rand/v2"},
		{"policy tests and chance", "policy/bounce/a_test.go", lib("math/rand/v2"), ""},
		{"mail and the disk", "mail/a.go", lib("os"), "mail may not import os"},
		{"policy and goroutines", "policy/bounce/a.go", inFunc("", "go f()"), "goroutine"},
		{"policy waits", "policy/bounce/a.go", inFunc("import \"time\"\n", "<-time.After(1)"), "time.After"},

		// The clock.
		{"now", "smtpd/a.go", inFunc("import \"time\"\n", "_ = time.Now()"), "smtpd/a.go:5: time.Now outside"},
		{"now, renamed", "smtpd/a.go", inFunc("import clock \"time\"\n", "_ = clock.Now()"), "time.Now outside"},
		{"now, as a value", "smtpd/a.go", inFunc("import \"time\"\n", "x := time.Since; _ = x"), "time.Since outside"},
		{"now, of something else", "smtpd/a.go", inFunc("", "time := c{}; time.Now()"), ""},
		{"now, in a test", "smtpd/a_test.go", inFunc("import \"time\"\n", "_ = time.Now()"), ""},
		{"now, in bench", "bench/a.go", inFunc("import \"time\"\n", "_ = time.Now()"), ""},
		{"a duration", "smtpd/a.go", inFunc("import \"time\"\n", "_ = time.Second"), ""},

		// State.
		{"init", "smtpd/a.go", "func init() {}", "func init"},
		{"a method init", "smtpd/a.go", "type t struct{}\nfunc (t) init() {}", ""},
		{"no value", "smtpd/a.go", "var n int", "without a value"},
		{"an error", "smtpd/a.go", "import \"errors\"\nvar ErrX = errors.New(`x`)", ""},
		{"a pattern", "smtpd/a.go", "import \"regexp\"\nvar re = regexp.MustCompile(`x`)", ""},
		{"a file", "smtpd/a.go", "import _ \"embed\"\n//go:embed a.txt\nvar text string", ""},
		{"an assertion", "smtpd/a.go", "var _ error = (*t)(nil)\ntype t struct{}", ""},
		{"a table", "smtpd/a.go", "var table = map[string]int{`a`: 1}\nfunc f() int { return table[`a`] }", ""},
		{"a table made", "smtpd/a.go", "var table = made()\nfunc made() []int { t := []int{1}; t[0] = 2; return t }", ""},
		{"a lock", "smtpd/a.go", "import \"sync\"\nvar mu = sync.Mutex{}", "holds sync.Mutex"},
		{"an atomic", "smtpd/a.go", "import \"sync/atomic\"\nvar n atomic.Int64", "without a value"},
		{"a pool in a table", "smtpd/a.go", "import \"sync\"\nvar p = []*sync.Pool{nil}", "holds sync.Pool"},
		{"a buffer", "smtpd/a.go", "import \"bytes\"\nvar b = bytes.Buffer{}", "holds bytes.Buffer"},
		{"a pointer", "smtpd/a.go", "var p = &struct{ n int }{}", "holds a pointer"},
		{"new", "smtpd/a.go", "var p = new(int)", "holds a pointer"},
		{"a channel", "smtpd/a.go", "var c = make(chan int)", "holds a channel"},
		{"a registry", "smtpd/a.go", "import \"net/http\"\nvar m = http.NewServeMux()", "http.NewServeMux"},
		{"assigned", "smtpd/a.go", "var n = 1\nfunc f() { n = 2 }", "smtpd/a.go:4: assigns to package-level variable n"},
		{"counted", "smtpd/a.go", "var n = 1\nfunc f() { n++ }", "assigns to package-level variable n"},
		{"entry assigned", "smtpd/a.go", "var m = map[int]int{}\nfunc f() { m[1] = 2 }", "assigns to package-level variable m"},
		{"field assigned", "smtpd/a.go", "var s = struct{ a []int }{}\nfunc f() { (s.a)[0] += 2 }", "assigns to"},
		{"deleted", "smtpd/a.go", "var m = map[int]int{}\nfunc f() { delete(m, 1) }", "deletes package-level variable m"},
		{"ranged into", "smtpd/a.go", "var n = 1\nfunc f() { for n = range 3 {\n} }", "assigns to"},
		{"address taken", "smtpd/a.go", "var n = 1\nfunc f() *int { return &n }", "takes the address"},
		{"a local of the same name", "smtpd/a.go", "var n = 1\nfunc f() { n := 2; n++; _ = n }", ""},
		{"a parameter of the same name", "smtpd/a.go", "var n = 1\nfunc f(n int) { n++ }", ""},
		{"another package's", "smtpd/a.go", "import \"net/http\"\nfunc f() { http.DefaultClient.Timeout = 1 }", "assigns to"},
		{"a test's own", "smtpd/a_test.go", "var n int\nfunc f() { n++ }", ""},

		// Names and texts.
		{"a drawer", "storage/helpers/a.go", "", "package name"},
		{"long file", "smtpd/a.go", strings.Repeat("\n", maxLines), "without a line"},
		{"long file with a reason", "smtpd/a.go", longFile + "a table.\n" + strings.Repeat("\n", maxLines), ""},
		{"unfinished", "smtpd/a.go", "// " + bannedWords()[1] + ": later", "smtpd/a.go:3: the word"},
		{"a longer word", "smtpd/a.go", "// A" + bannedWords()[2] + "L is a size", ""},
		{"broken", "smtpd/a.go", "func {", "does not parse"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			files := map[string]string{row.path: doc + "package x\n" + row.code}
			// The rows write one file; its package comment stands where the row's file is a test.
			if strings.HasSuffix(row.path, "_test.go") {
				files[row.path] = "package x\n" + row.code
			}
			found := mustCheck(t, files)
			switch {
			case row.want == "" && len(found) > 0:
				t.Errorf("found %v", found)
			case row.want != "" && (len(found) != 1 || !strings.Contains(found[0].String(), row.want)):
				t.Errorf("found %v; want %q", found, row.want)
			}
		})
	}
}

func TestPackageComments(t *testing.T) {
	for text, want := range map[string]string{
		"package x\n": "has no package comment",
		"// Package x says one thing and never more.\npackage x\n":                "fewer than two sentences",
		"// Package x keeps mail. It keeps it well.\npackage x\n":                 "must never do",
		"// Package x keeps mail. It must never lose it.\npackage x\n":            "",
		"// Package x keeps mail.\n//\n// Never does it lose any.\n\npackage x\n": "has no package comment",
	} {
		found := mustCheck(t, map[string]string{"smtpd/a.go": text, "smtpd/a_test.go": "// Tests. They never lie.\npackage x_test\n"})
		if want == "" && len(found) > 0 || want != "" && (len(found) != 1 || !strings.Contains(found[0].Text, want)) {
			t.Errorf("%q: %v, want %q", text, found, want)
		}
	}
}

func TestGeneratedCode(t *testing.T) {
	const generated = "// Code generated by hand. DO NOT EDIT.\n\npackage x\n\nvar n int\n\nfunc init() { n++ }\n"
	rows := map[string]struct {
		files map[string]string
		want  string
	}{
		"in its place":      {map[string]string{"admin/xpb/a.pb.go": generated, "admin/xpb/doc.go": doc + "package x\n"}, ""},
		"elsewhere":         {map[string]string{"admin/a.pb.go": generated, "admin/doc.go": doc + "package x\n"}, "outside a *pb package"},
		"with written code": {map[string]string{"admin/xpb/a.go": doc + "package x\n"}, "written code in a *pb package"},
	}
	for name, row := range rows {
		found := mustCheck(t, row.files)
		if row.want == "" && len(found) > 0 || row.want != "" && (len(found) != 1 || !strings.Contains(found[0].Text, row.want)) {
			t.Errorf("%s: %v, want %q", name, found, row.want)
		}
	}
}

// State is found across the files of a package, and what is not the house is not looked at.
func TestTheWalk(t *testing.T) {
	found := mustCheck(t, map[string]string{
		"smtpd/a.go":            doc + "package smtpd\n\nvar table = []int{1}\n",
		"smtpd/b.go":            "package smtpd\n\nfunc f() { table[0]++ }\n",
		"smtpd/testdata/bad.go": "package util\nfunc init() {}\n",
		".cache/bad.go":         "package util\n",
		"bin/bad.go":            "package util\n",
		"docs/a.md":             "one\n" + bannedWords()[0] + "x) two\n",
		".ci/run":               "# " + bannedWords()[1] + "\n",
		"docs/picture.svg":      bannedWords()[1],
	})
	want := []string{".ci/run:1: the word", "docs/a.md:2: the word", "smtpd/b.go:3: assigns to package-level variable table"}
	if len(found) != len(want) {
		t.Fatalf("found %v", found)
	}
	for i, v := range found {
		if !strings.HasPrefix(v.String(), want[i]) {
			t.Errorf("found %s; want %s", v, want[i])
		}
	}
}

// The table itself is in order: every row has a reason, and no row is hidden behind an earlier one.
func TestTableHasReasons(t *testing.T) {
	rules := table()
	for i, r := range rules {
		if r.why == "" {
			t.Errorf("row %s has no reason", r.from)
		}
		for _, earlier := range rules[:i] {
			if dir, _ := cutRest(r.from); matches(dir, earlier.from) {
				t.Errorf("row %s is hidden behind %s", r.from, earlier.from)
			}
		}
	}
	for _, list := range [][]fence{fences(), wordsMay(), pure()} {
		for _, f := range list {
			if f.why == "" {
				t.Errorf("fence of %s has no reason", f.library)
			}
		}
	}
}
