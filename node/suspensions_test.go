package node_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// held is a suspension as the list shows it.
type held struct {
	Subject            map[string]any
	Reason, Rule, Node string
	Author             string
	Until              *time.Time
}

func (r *rig) suspensions() (out []held) {
	r.Helper()
	var a struct{ Suspensions []held }
	r.call("POST", adminPath+"ListSuspensions", map[string]any{}, &a)
	return a.Suspensions
}

// TestSuspensionsHoldEverywhere: what is suspended at one member is at every one, also at one that comes up later; it is
// listed and lifted at any of them, and stands in the audit trail (N12). What a rule suspends by itself too.
func TestSuspensionsHoldEverywhere(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "rcpt" && strings.HasPrefix(arg, "foul") {
			return "550 we want none of it"
		}
		return ""
	})
	trio := newTrio(t, sink)
	n1, n2, n3 := trio[0], trio[1], trio[2]
	must := func(r *rig, call string, body any) {
		t.Helper()
		if status := r.call("POST", adminPath+call, body, nil); status != 200 {
			t.Fatalf("%s: %d", call, status)
		}
	}
	waits := func(r *rig, to string) bool {
		var a struct{ Waiting []struct{ Binding string } }
		r.call("POST", adminPath+"Trace", map[string]string{"address": to}, &a)
		return len(a.Waiting) == 1 && a.Waiting[0].Binding == "suspension"
	}

	group := map[string]any{"subject": map[string]string{"domain": "a.test", "of_group": "june"}, "for": "3600s", "reason": "asked for"}
	must(n1, "Suspend", group)
	// acts waits until a member holds mail to a domain, and returns who waits. The list is everybody's: only mail tells.
	acts := func(at *rig, header, domain string) (held string) {
		t.Helper()
		probe := 0
		mustBecome(t, "held at "+at.cfg.Node.Name, func() bool {
			probe++
			held = fmt.Sprintf("probe%d@%s", probe, domain)
			at.session().mustSend(text(header), held)
			return becomes(time.Second, func() bool { return waits(n1, held) })
		})
		return held
	}
	acts(n2, "X-Relay-Group: june\n", "a.test")
	early := sink.count()
	n2.session().mustSend(text("X-Relay-Group: june\n"), "june@a.test")
	n2.session().mustSend(text("X-Relay-Group: july\n"), "july@a.test")
	n2.session().mustSend(text("X-Relay-Group: june\n"), "june@b.test")
	sink.mustGet(t, early+2)
	if !waits(n1, "june@a.test") {
		t.Error("the trace does not tell what binds")
	}
	list := n3.suspensions()
	if len(list) != 1 || list[0].Subject["domain"] != "a.test" || list[0].Subject["of_group"] != "june" || list[0].Node != "n1" ||
		list[0].Reason != "asked for" || list[0].Author != "operator" || list[0].Until == nil {
		t.Errorf("n3 lists %+v", list)
	}
	n2.stop()
	n2.start()
	n2.takesMail()
	if len(n2.suspensions()) != 1 || sink.tried("june@a.test") != 0 {
		t.Fatal("the suspension did not outlive a restart")
	}
	must(n3, "Unsuspend", map[string]any{"subject": group["subject"]})
	if !becomes(20*time.Second, func() bool { return sink.tried("june@a.test") == 1 }) {
		t.Error("the mail does not go on")
	}
	if !n1.audited("suspend") || !n1.audited("unsuspend") {
		t.Error("it is not in the audit trail")
	}

	// By a rule: the tenant's mail to that receiver, at every member.
	must(n1, "ApplySettings", map[string]string{"yaml": `tenants: [{name: shop, compositions: [{name: main, networks: [127.0.0.0/8]}]}]
receivers:
  - {name: foul, domains: [foul.test], replies: [{name: no, codes: [550], text: [none of it], status: refused, scope: tenant, act: suspend, for: 1h}]}
`})
	mustBecome(t, "n2 has the rule", func() bool {
		var a struct{ Rules []struct{ Rule string } }
		n2.call("POST", adminPath+"ListReplyRules", map[string]any{}, &a)
		return len(a.Rules) > 0 && a.Rules[0].Rule == "own/foul/no"
	})
	n2.session().mustSend(text(""), "foul@foul.test")
	if !becomes(20*time.Second, func() bool { return len(n3.suspensions()) == 1 && len(n1.suspensions()) == 1 }) {
		t.Fatalf("n1 lists %+v, n3 %+v", n1.suspensions(), n3.suspensions())
	}
	one := n3.suspensions()[0]
	if one.Rule != "own/foul/no" || one.Node != "n2" || one.Until == nil || !strings.Contains(one.Reason, "none of it") {
		t.Errorf("n3 lists %+v", one)
	}
	fine := acts(n1, "", "foul.test")
	must(n3, "Unsuspend", map[string]any{"subject": one.Subject})
	if !becomes(20*time.Second, func() bool { return sink.tried(fine) == 1 }) {
		t.Error("the mail does not go on")
	}
}

// TestTraceTellsOfQuietHours: those of a filter are no reservation, whether the mail came in them or they came upon it.
func TestTraceTellsOfQuietHours(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "rcpt" && strings.HasPrefix(arg, "later") {
			return "451 4.3.0 come again"
		}
		return ""
	})
	r := newRig(t, to(sink), night)
	r.setClock(20, 58)
	c := r.session()
	c.mustSend(text(""), "later@quiet.test")
	mustBecome(t, "put off", func() bool { return r.counters("unit=total")[0]["temporary"] >= 1 })
	r.setClock(21, 30)
	c.mustSend(text(""), "came@quiet.test")
	for _, to := range []string{"came@quiet.test", "later@quiet.test"} {
		var a struct {
			Waiting []struct {
				Binding, Detail string
				Until, Expires  time.Time
			}
		}
		r.call("POST", adminPath+"Trace", map[string]string{"address": to}, &a)
		if len(a.Waiting) != 1 {
			t.Fatalf("%s: %+v", to, a)
		}
		w := a.Waiting[0]
		if w.Binding != "quiet_hours" || w.Until.UTC().Format("15:04") != "08:00" || w.Detail == "" || w.Expires.IsZero() {
			t.Errorf("%s: %+v", to, w)
		}
	}
}

// TestBlocksAreListedAndLifted: what a receiver blocks stands in the list of suspensions, and one call ends it (N12).
func TestBlocksAreListedAndLifted(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	sink := startReceiver(t, "127.0.0.1:0", func(stage, _ string) string {
		if stage == "mail" && !open.Load() {
			return "421 4.7.0 not from there"
		}
		return ""
	})
	shy := "receivers: [{name: shy, domains: [shy.test], block_pause: 10h}]\n"
	r := newRigWith(t, to(sink), ", retry: {lifetime: 2h}", func(s string) string { return s + shy })
	blocked := func() map[string]any {
		for _, s := range r.suspensions() {
			if name, _ := s.Subject["rule"].(string); strings.HasPrefix(name, "block ") && strings.Contains(s.Reason, "not from there") && s.Until != nil {
				return s.Subject
			}
		}
		return nil
	}
	c := r.session()
	for i := range 10 { // no more: what waits in front of the last mail goes slowly at first
		c.mustSend(text(""), fmt.Sprintf("u%d@shy.test", i))
	}
	if !becomes(30*time.Second, func() bool { return blocked() != nil }) {
		t.Fatalf("no block is listed: %+v", r.suspensions())
	}
	open.Store(true)
	r.advance(5 * time.Minute)
	c.mustSend(text(""), "last@shy.test")
	if sink.count() != 0 {
		t.Fatal("the block holds nothing back")
	}
	if status := r.call("POST", adminPath+"Unsuspend", map[string]any{"subject": blocked()}, nil); status != 200 {
		t.Fatalf("unsuspend: %d", status)
	}
	if !becomes(20*time.Second, func() bool { return sink.count() > 0 }) {
		t.Errorf("the mail does not go on: %+v", r.suspensions())
	}
	if blocked() != nil {
		t.Error("still listed")
	}
}

// TestUncleanLists: a tenant that writes to many unknown users of a receiver is slowed down there, over a restart, until an
// operator ends it (requirement D2).
func TestUncleanLists(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "rcpt" && strings.HasPrefix(arg, "gone") {
			return "550 5.1.1 user unknown"
		}
		return ""
	})
	r := newRigWith(t, to(sink), "", func(s string) string {
		return strings.Replace(s, "name: shop,", "name: shop, cleaning_above: 1, bounce: {format: none},", 1) + "receivers: [{name: shy, domains: [shy.test]}]\n"
	})
	slowed := func() *held {
		for _, s := range r.suspensions() {
			if s.Subject["rule"] == "cleaning shop shy" {
				return &s
			}
		}
		return nil
	}
	c := r.session()
	for i := range 10 {
		c.mustSend(text(""), fmt.Sprintf("gone%d@shy.test", i))
	}
	mustBecome(t, "ten refused", func() bool { return r.counters("unit=total")[0]["failed"] == 10 })
	if s := slowed(); s != nil {
		t.Fatalf("slowed down at the limit: %+v", s)
	}
	c.mustSend(text(""), "gone@shy.test")
	mustBecome(t, "slowed down", func() bool { return slowed() != nil })
	if s := slowed(); !strings.Contains(s.Reason, "11 of the last 11 recipients unknown") || s.Node != "n1" {
		t.Errorf("listed as %+v", s)
	}
	mustBecome(t, "in the audit trail", func() bool { return r.audited("cleaning began") })
	lane := func() bool {
		var a struct {
			Receivers []struct{ Receiver, Lane string }
		}
		r.call("POST", adminPath+"GetQueues", map[string]any{}, &a)
		for _, x := range a.Receivers {
			if x.Receiver == "shy" && x.Lane == "cleaning" {
				return true
			}
		}
		return false
	}
	c.mustSend(text(""), "fine@shy.test")
	sink.mustGet(t, 1)
	if !lane() {
		t.Error("the mail did not go as cleaning mail")
	}
	r.again()
	if slowed() == nil {
		t.Fatal("forgotten over a restart")
	}
	if status := r.call("POST", adminPath+"Unsuspend", map[string]any{"subject": slowed().Subject}, nil); status != 200 {
		t.Fatalf("unsuspend: %d", status)
	}
	if slowed() != nil {
		t.Error("still slowed down")
	}
	r.session().mustSend(text(""), "again@shy.test")
	sink.mustGet(t, 2)
	r.atRest()
}
