package unseal

import (
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	fresh := func(n string) Status { return Status{Name: n, State: StateNew} }
	sealed := func(n string) Status { return Status{Name: n, State: StateSealed, Store: "s"} }
	open := func(n string) Status { return Status{Name: n, State: StateUnsealed, Store: "s"} }
	for _, row := range []struct {
		name   string
		own    Status
		peers  []Status
		expect int
		want   Action
		ask    string
	}{
		{"alone", fresh("n1"), nil, 1, Found, ""},
		{"alone without expectation", fresh("n1"), nil, 0, Found, ""},
		{"one of three is missing", fresh("n1"), []Status{fresh("n2")}, 3, Wait, ""},
		{"all there, first name", fresh("n1"), []Status{fresh("n3"), fresh("n2")}, 3, Found, ""},
		{"all there, not the first", fresh("n2"), []Status{fresh("n3"), fresh("n1")}, 3, Wait, ""},
		{"the founder is through", fresh("n2"), []Status{fresh("n3"), open("n1")}, 3, Ask, "n1"},
		{"a new node meets a sealed cluster", fresh("n0"), []Status{sealed("n1"), sealed("n2"), sealed("n3")}, 3, Wait, ""},
		{"one sealed member among new ones", fresh("n0"), []Status{sealed("n1"), fresh("n2")}, 2, Wait, ""},
		{"reboot of one", sealed("n2"), []Status{open("n3"), open("n1")}, 3, Ask, "n1"},
		{"reboot of all", sealed("n1"), []Status{sealed("n2"), sealed("n3")}, 3, Wait, ""},
		{"keys of another cluster", sealed("n2"), []Status{{Name: "n1", State: StateUnsealed, Store: "t"}}, 3, Wait, ""},
		{"two nodes of one name do not count twice", fresh("n1"), []Status{fresh("n1"), fresh("n2")}, 3, Wait, ""},
		{"unsealed already", open("n1"), []Status{open("n2")}, 2, Wait, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := Decide(row.own, row.peers, row.expect)
			if got.Action != row.want {
				t.Fatalf("action %d, want %d", got.Action, row.want)
			}
			if row.ask != "" && got.Members[0].Name != row.ask {
				t.Fatalf("asks %s first, want %s", got.Members[0].Name, row.ask)
			}
		})
	}
}

func TestRelease(t *testing.T) {
	never := Facts{Admitted: -1}
	member := func(edit func(*Facts)) Facts {
		f := never
		f.Member, f.Renewed = true, time.Minute
		edit(&f)
		return f
	}
	for _, row := range []struct {
		name  string
		facts Facts
		want  bool
	}{
		{"restarted a minute after its last renewal", member(func(*Facts) {}), true},
		{"at the end of the window", member(func(f *Facts) { f.Renewed = Window }), true},
		{"past the window: a stolen disk waits longer", member(func(f *Facts) { f.Renewed = Window + 1 }), false},
		{"still alive: somebody else holds its certificate", member(func(f *Facts) { f.Alive = true }), false},
		{"given once already", member(func(f *Facts) { f.Given = true }), false},
		{"given once, admitted since", member(func(f *Facts) { f.Given, f.Admitted = true, time.Minute }), true},
		{"removed, although admitted once", member(func(f *Facts) { f.Removed, f.Admitted = true, time.Minute }), false},
		{"admission too old", member(func(f *Facts) { f.Renewed, f.Admitted = time.Hour, Window+1 }), false},
		{"never seen, cluster forming", Facts{Admitted: -1, Missing: 1}, true},
		{"never seen, cluster complete", Facts{Admitted: -1}, false},
		{"never seen, founded long ago", Facts{Admitted: -1, Missing: 1, Forming: Window + 1}, false},
		{"never seen, admitted", Facts{Forming: time.Hour, Admitted: 0}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, why := Release(row.facts)
			if got != row.want || why == "" {
				t.Fatalf("released %v (%q), want %v", got, why, row.want)
			}
		})
	}
}
