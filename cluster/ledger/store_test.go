package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ekiden-mta/ekiden/mail"
)

// everyKind is at least one command of each part of the book.
func everyKind() []Command {
	op := Signed{Author: "ops@console", Origin: "192.0.2.9", At: moment(1)}
	own := Signed{At: moment(2)}
	return []Command{
		&Admit{Signed: op, Name: "n1", Address: "10.0.0.1:7950", Role: "member", Voter: true},
		&Admit{Signed: op, Name: "n2", Address: "10.0.0.2:7950", Role: "member", Voter: true},
		&PutObjects{Signed: op, Changes: []ObjectChange{{Kind: "tenant", Name: "canary-tenant", Data: []byte("canary-settings")}}},
		&Suppress{Signed: op, Add: []Suppression{black("canary-a@example.jp"), black("canary-b@example.jp")}},
		&Unsuppress{Signed: op, Remove: []Suppressed{black("canary-b@example.jp").Suppressed}},
		&SetGate{Signed: op, Gate: Gate{GateID: GateID{"canary-tenant", "canary-group"}, Closed: true, HoldExpiry: true}},
		&Register{Signed: own, Lineage: 7, Node: "n1", Address: "10.0.0.1:7950"},
		&SetStandbys{Signed: own, LineageEpoch: LineageEpoch{7, 1}, Standbys: []Standby{{"n2", true}}},
		&Renew{Signed: own, Lineages: []LineageEpoch{{7, 1}, {8, 1}}},
		&Seen{Signed: own, Names: []string{"n1"}},
		&BeginKey{Signed: op, Version: 1, Print: []byte("p")},
		&KeyReady{Signed: own, Version: 1, Print: []byte("p"), Node: "n1"},
		&KeyReady{Signed: own, Version: 1, Print: []byte("p"), Node: "n2"},
		&KeyDone{Signed: own, Version: 1},
		&KeyWrapped{Signed: own, Version: 1, Node: "n2"},
		&PutCredential{Signed: op, Credential: Credential{CredentialID: CredentialID{Token, "canary-token"}, Role: "administrator",
			SecretHash: "canary-hash"}},
		&PutCredential{Signed: op, Credential: Credential{CredentialID: CredentialID{Account, "canary-account"}, Tenant: "shop"}},
		&PutMeta{Signed: own, Name: "canary-meta", Data: []byte("canary-value")},
		&Note{Signed: own, Action: "unseal", Subject: "n2", Detail: "from n1"},
	}
}

// what compares the parts of two stores that are held in memory.
func what(s *Store) []any {
	st := s.State()
	return []any{s.Applied(), s.SuppressionCount(), st.Objects(""), st.Gates(), st.Lineages(), st.Members(), st.Tokens(),
		st.Accounts(), st.Keys(), st.meta.m, st.audit}
}

func TestRestart(t *testing.T) {
	r := newRig(t)
	r.must(everyKind()...)
	before := what(r.Store)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	books, err := filepath.Glob(filepath.Join(r.cfg.Dir, bookPrefix+"*"))
	if err != nil || len(books) != 1 {
		t.Fatalf("books %v, %v", books, err)
	}
	for _, name := range []string{"09999.mem", "009999.vlog"} { // as a kill leaves them
		if err := os.WriteFile(filepath.Join(books[0], name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.open()
	if diff := cmp.Diff(before, what(r.Store)); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
	if !r.suppressed("canary-a@example.jp", moment(5)) || r.suppressed("canary-b@example.jp", moment(5)) {
		t.Error("suppressions after a restart are wrong")
	}
}

// Entries that the book holds are skipped, alone or in front of new ones.
func TestReplay(t *testing.T) {
	r := newRig(t)
	list := r.entries(everyKind()...)
	if _, err := r.ApplyBatch(list[:9]); err != nil {
		t.Fatal(err)
	}
	results, err := r.ApplyBatch(list[3:])
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range results {
		if want := i < 6; (got.Code == Skipped) != want {
			t.Errorf("result %d: %s", i, got)
		}
	}
	before := what(r.Store)
	if _, err := r.ApplyBatch(list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, what(r.Store)); diff != "" {
		t.Errorf("replayed: %s", diff)
	}
}

// The same entries make the same book, however they are batched.
func TestBatching(t *testing.T) {
	one, many := newRig(t), newRig(t)
	cmds := everyKind()
	all := one.must(cmds...)
	for i, cmd := range cmds {
		if diff := cmp.Diff(all[i:i+1], many.must(cmd)); diff != "" {
			t.Errorf("%T: %s", cmd, diff)
		}
	}
	if diff := cmp.Diff(what(one.Store), what(many.Store)); diff != "" {
		t.Error(diff)
	}
}

// Nothing readable lies on the disk.
func TestNoPlaintext(t *testing.T) {
	r := newRig(t)
	r.must(everyKind()...)
	snapshot := r.snapshot()
	if bytes.Contains(snapshot, []byte("canary")) {
		t.Error("plaintext in the snapshot")
	}
	if err := r.Restore(bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	r.reopen()
	files := 0
	err := filepath.WalkDir(r.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		raw, err := os.ReadFile(path)
		for _, word := range []string{"canary", "example.jp", "ops@console", "10.0.0.1", "n1"} {
			// Two bytes turn up by chance.
			if len(word) > 2 && bytes.Contains(raw, []byte(word)) {
				t.Errorf("%q in %s", word, path)
			}
		}
		return err
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files: %v", files, err)
	}
}

// An entry that does not open, or comes from a later version, stops this member for good; one that only does not decode
// is refused by all members alike.
func TestEntriesThatCannotBeRead(t *testing.T) {
	box := newTestBox(t, "root")
	seal := func(plain string) []byte { return box.Seal(nil, []byte(plain), []byte(entryIdentity)) }
	rows := map[string]struct {
		data []byte
		want error
	}{
		"another key":     {newTestBox(t, "other").Seal(nil, []byte{codecVersion, byte(codeNote)}, []byte(entryIdentity)), ErrFailed},
		"later version":   {seal(string([]byte{codecVersion + 1, byte(codeNote)})), ErrVersion},
		"unknown command": {seal(string([]byte{codecVersion, 0xfe})), ErrVersion},
		"cut":             {seal(string([]byte{codecVersion, 1, 5})), nil},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			failed := make(chan error, 1)
			_ = r.Close()
			r.cfg.OnFail = func(err error) { failed <- err }
			r.open()
			good := r.entries(&Note{Action: "a"})
			results, err := r.ApplyBatch(append(good, Entry{Index: r.next, Data: row.data}))
			if !errors.Is(err, row.want) {
				t.Fatalf("%v, want %v", err, row.want)
			}
			if row.want == nil {
				if results[1].Code != Refused || r.AppliedIndex() != r.next {
					t.Errorf("%v at %d", results, r.AppliedIndex())
				}
				return
			}
			if err := <-failed; !errors.Is(err, ErrFailed) {
				t.Errorf("told %v", err)
			}
			if _, err := r.ApplyBatch(good); !errors.Is(err, ErrFailed) {
				t.Errorf("goes on: %v", err)
			}
			if r.AppliedIndex() != 0 {
				t.Errorf("applied %d", r.AppliedIndex())
			}
			r.cfg.OnFail = nil
		})
	}
}

// A record under another key than its own does not open.
func TestTampered(t *testing.T) {
	r := newRig(t)
	r.must(&Suppress{Add: []Suppression{black("a@example.jp"), black("b@example.jp")}})
	key := func(a string) []byte {
		return suppressionKey((&namer{box: r.cfg.Box}).place(&Suppressed{Scope{List: Blackbox}, a}))
	}
	txn := r.book.db.NewTransaction(true)
	item, err := txn.Get(key("a@example.jp"))
	if err != nil {
		t.Fatal(err)
	}
	value, _ := item.ValueCopy(nil)
	if err := errors.Join(txn.Set(key("b@example.jp"), value), txn.Commit()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Suppressed("b@example.jp", moment(1), Scope{List: Blackbox}); !errors.Is(err, ErrTampered) {
		t.Errorf("moved record: %v", err)
	}
}

func TestWrongKey(t *testing.T) {
	r := newRig(t)
	r.must(everyKind()...)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := r.cfg
	cfg.Box = newTestBox(t, "other")
	if s, err := Open(cfg); !errors.Is(err, ErrTampered) {
		t.Errorf("opened %v: %v", s, err)
	}
}

func TestSuppressed(t *testing.T) {
	r := newRig(t)
	shop := Scope{List: Blocklist, Tenant: "shop"}
	news := Scope{List: Unsubscribe, Tenant: "shop", Filter: "news"}
	r.must(&Suppress{Signed: Signed{At: moment(0)}, Add: []Suppression{
		black("black@a.jp"),
		{Suppressed: Suppressed{shop, "shop@a.jp"}, Expires: moment(100)},
		{Suppressed: Suppressed{news, "news@a.jp"}},
		{Suppressed: Suppressed{news, "black@a.jp"}},
	}})
	rows := []struct {
		name, address string
		at            int
		scopes        []Scope
		want          List
	}{
		{"on the list", "black@a.jp", 1, []Scope{{List: Blackbox}}, Blackbox},
		{"first scope wins", "black@a.jp", 1, []Scope{news, {List: Blackbox}}, Unsubscribe},
		{"another list", "black@a.jp", 1, []Scope{shop}, 0},
		{"no scopes", "black@a.jp", 1, nil, 0},
		{"another tenant", "shop@a.jp", 1, []Scope{{List: Blocklist, Tenant: "bank"}}, 0},
		{"its tenant", "shop@a.jp", 99, []Scope{{List: Blackbox}, shop}, Blocklist},
		{"expired", "shop@a.jp", 100, []Scope{shop}, 0},
		{"another filter", "news@a.jp", 1, []Scope{{List: Unsubscribe, Tenant: "shop", Filter: "shoes"}}, 0},
		{"unknown", "nobody@a.jp", 1, []Scope{{List: Blackbox}, shop, news}, 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			v, yes, err := r.Suppressed(row.address, moment(row.at), row.scopes...)
			if err != nil || yes != (row.want != 0) || v.List != row.want {
				t.Errorf("%v %v %v", v, yes, err)
			}
		})
	}
	all, err := r.SuppressionsOf("black@a.jp")
	if err != nil || len(all) != 2 {
		t.Errorf("black@a.jp: %v, %v", all, err)
	}
	if all[0].Since != moment(0) || all[1].Since != moment(0) {
		t.Error("the command's time is not the suppression's")
	}
}

func TestSuppressionPages(t *testing.T) {
	r := newRig(t)
	var add []Suppression
	for i := range 1000 {
		add = append(add, black(fmt.Sprintf("u%d@a.jp", i)))
	}
	r.must(&Suppress{Add: add})
	seen := map[string]bool{}
	var cursor []byte
	for pages := 0; ; pages++ {
		page, next, err := r.Suppressions(cursor, 150, func(v *Suppression) bool { return strings.HasPrefix(v.Address, "u") })
		if err != nil || pages > 10 {
			t.Fatalf("page %d: %v", pages, err)
		}
		for _, v := range page {
			if seen[v.Address] {
				t.Errorf("%s twice", v.Address)
			}
			seen[v.Address] = true
		}
		if cursor = next; next == nil {
			break
		}
	}
	if len(seen) != 1000 {
		t.Errorf("%d of 1000", len(seen))
	}
}

func TestWatch(t *testing.T) {
	r := newRig(t)
	got := make(chan Change)
	stop := r.Watch(func(c Change) { got <- c })
	r.must(&PutMeta{Name: "a", Base: Any, Data: []byte("1")})
	// The watcher is busy with the first word until it is received: the next ones are told together, and nobody waits.
	r.must(&Suppress{Add: []Suppression{black("a@a.jp")}})
	r.must(&Register{Lineage: 1, Node: "n1"})
	first := <-got
	if !first.Has(KindMeta) {
		t.Errorf("first %v", first)
	}
	told := map[Kind]bool{}
	for c := first; ; c = <-got { // a watcher that begins late hears of all at once
		for _, k := range c.Kinds {
			told[k] = true
		}
		if told[KindSuppression] && told[KindLineage] {
			break
		}
	}
	stop()
	stop()
	r.must(&PutMeta{Name: "a", Base: Any, Data: []byte("2")})
}

func TestAudit(t *testing.T) {
	r := newRig(t)
	r.must(everyKind()...)
	r.must(&PutObjects{Signed: Signed{Author: "eve"}, Changes: []ObjectChange{{Kind: "tenant", Name: "canary-tenant", Base: 99}}})
	lines, err := r.AuditTail(100)
	if err != nil || VerifyAudit(lines) != nil {
		t.Fatal(err, VerifyAudit(lines))
	}
	last := lines[len(lines)-1]
	if last.Author != "eve" || !strings.HasPrefix(last.Detail, "conflict tenant/canary-tenant version=3") {
		t.Errorf("last line %+v", last)
	}
	if tail, err := r.AuditTail(2); err != nil || len(tail) != 2 || tail[1] != last {
		t.Errorf("tail %v, %v", tail, err)
	}
	for name, change := range map[string]func([]AuditEntry) []AuditEntry{
		"changed":  func(l []AuditEntry) []AuditEntry { l[3].Author = "nobody"; return l },
		"left out": func(l []AuditEntry) []AuditEntry { return append(l[:3:3], l[4:]...) },
	} {
		if VerifyAudit(change(append([]AuditEntry(nil), lines...))) == nil {
			t.Errorf("%s line not found out", name)
		}
	}
}

// Readers and one writer at once, for the race detector; a state that was read does not change.
func TestReadersWhileWriting(t *testing.T) {
	r := newRig(t)
	r.must(everyKind()...)
	old := r.State()
	want := fmt.Sprint(old.Lineages(), old.Objects(""), old.Members())
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, yes, err := r.Suppressed("canary-a@example.jp", moment(1), Scope{List: Blackbox}); !yes || err != nil {
					t.Errorf("look-up: %v %v", yes, err)
					return
				}
				_ = fmt.Sprint(r.State().Lineages(), r.AppliedIndex())
			}
		})
	}
	for i := range 100 {
		r.must(&Renew{Lineages: []LineageEpoch{{7, 1}}},
			&Suppress{Add: []Suppression{black(fmt.Sprintf("x%d@a.jp", i))}},
			&PutObjects{Changes: []ObjectChange{{Kind: "k", Name: "n", Base: Any, Data: []byte{byte(i)}}}})
		if i == 50 {
			if err := r.Restore(bytes.NewReader(r.snapshot())); err != nil {
				t.Error(err)
			}
		}
	}
	close(done)
	readers.Wait()
	if got := fmt.Sprint(old.Lineages(), old.Objects(""), old.Members()); got != want {
		t.Error("a published state changed")
	}
	if l, _ := r.State().Lineage(mail.Lineage(7)); l.Renewed < 200 {
		t.Errorf("renewed at %d", l.Renewed)
	}
}

// Entries as large as they may be, and many in one batch: each goes into one commit.
func TestLargeEntries(t *testing.T) {
	r := newRig(t)
	var cmds []Command
	for i := range 12 {
		s := &Suppress{}
		for j := range maxItems {
			s.Add = append(s.Add, Suppression{Suppressed: Suppressed{Scope{List: Blackbox}, fmt.Sprintf("%d.%d", i, j)},
				Since: time.UnixMilli(1).UTC(), Evidence: strings.Repeat("e", 90)})
		}
		cmds = append(cmds, s)
	}
	for _, got := range r.must(cmds...) {
		if got.Added != maxItems {
			t.Error(got)
		}
	}
	if r.SuppressionCount() != 12*maxItems {
		t.Errorf("%d suppressions", r.SuppressionCount())
	}
	data := bytes.Repeat([]byte("d"), maxCommand-100)
	r.must(&PutObjects{Changes: []ObjectChange{{Kind: "k", Name: "n", Data: data}}})
	if _, err := Encode(&PutMeta{Name: "m", Data: append(data, data...)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}
