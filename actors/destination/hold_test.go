package destination

import (
	"cmp"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// A rule about an answer holds the mail it concerns, at that receiver, and nobody else's (N4).
func TestHoldsByScope(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	ours, sibling, stranger := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("198.51.100.1")
	d := &mail.Delivery{Tenant: "shop", Group: "june", From: "news@Shop.Example", Domain: "gmail.com"}
	other := func(change func(*mail.Delivery)) *mail.Delivery {
		x := *d
		change(&x)
		return &x
	}
	tenant := other(func(x *mail.Delivery) { x.Tenant, x.From = "bank", "a@bank.example" })
	group := other(func(x *mail.Delivery) { x.Group = "july" })
	from := other(func(x *mail.Delivery) { x.From = "a@other.example" })
	signed := func(by string) *mail.Delivery { return other(func(x *mail.Delivery) { x.Signers = by }) }
	agency := other(func(x *mail.Delivery) {
		x.Tenant, x.From, x.Signers = "bank", "a@bank.example", "bank.example,esp.example"
	})
	sameFrom := other(func(x *mail.Delivery) { x.Tenant, x.Group = "bank", "" })

	tests := []struct {
		name   string
		scope  mail.Scope
		also   []mail.Scope
		held   []*mail.Delivery // by the source that was answered
		free   []*mail.Delivery
		others bool // other sources hold it too
		near   bool // the sibling does
		id     string
		of     *mail.Delivery // that was answered; nil = d
	}{
		{name: "tenant", scope: mail.ScopeTenant, held: []*mail.Delivery{d, group, from}, free: []*mail.Delivery{tenant}, others: true, near: true,
			id: "r/x google tenant=shop"},
		{name: "group", scope: mail.ScopeGroup, held: []*mail.Delivery{d, from}, free: []*mail.Delivery{tenant, group}, others: true, near: true,
			id: "r/x google tenant=shop group=june"},
		{name: "DKIM domain: the signature's, not the sender's", scope: mail.ScopeDKIM, of: signed("esp.example"),
			held: []*mail.Delivery{signed("esp.example"), agency}, free: []*mail.Delivery{d, from, signed("shop.example"), signed("x.esp.example")},
			others: true, near: true, id: "r/x google dkim=esp.example"},
		{name: "DKIM domains", scope: mail.ScopeDKIM, of: signed("shop.example,esp.example"),
			held: []*mail.Delivery{signed("esp.example"), signed("shop.example"), agency}, free: []*mail.Delivery{d, from, signed("bank.example")},
			others: true, near: true, id: "r/x google dkim=shop.example, r/x google dkim=esp.example"},
		{name: "DKIM domain of unsigned mail", scope: mail.ScopeDKIM, held: []*mail.Delivery{d, group, sameFrom}, free: []*mail.Delivery{tenant, from},
			others: true, near: true, id: "r/x google from=shop.example"},
		{name: "netblock", scope: mail.ScopeNetblock, held: []*mail.Delivery{d, tenant}, near: true, id: "r/x google network=192.0.2.0/24"},
		{name: "source: its own affair", scope: mail.ScopeSource, free: []*mail.Delivery{d, tenant}},
		{name: "recipient", scope: mail.ScopeRecipient, free: []*mail.Delivery{d, tenant}},
		{name: "source and SPF domain", scope: mail.ScopeSource, also: []mail.Scope{mail.ScopeSource, mail.ScopeSPF}, held: []*mail.Delivery{d, sameFrom},
			free: []*mail.Delivery{from}, others: true, near: true, id: "r/x google from=shop.example"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &Env{Suspensions: &Suspensions{}}
			o := mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, Scope: tt.scope, Source: ours, Reply: smtp.Reply{Code: 421, Text: "no"},
				Advice: &mail.Advice{Rule: "r/x", Action: mail.ActSuspend, Scopes: tt.also, For: time.Hour}}
			if got := e.hold(now, cmp.Or(tt.of, d), &o, "google"); got != (tt.id != "") {
				t.Fatalf("held: %v", got)
			}
			held := func(at time.Time, receiver string, a netip.Addr, x *mail.Delivery) bool {
				return e.Suspensions.match(at, x.Domain, receiver, a, x) != nil
			}
			for _, x := range tt.held {
				if !held(now, "google", ours, x) {
					t.Errorf("goes on: %+v", x)
				}
				if held(now, "yahoo", ours, x) || held(now.Add(time.Hour), "google", ours, x) {
					t.Errorf("held elsewhere, or for longer: %+v", x)
				}
				if held(now, "google", sibling, x) != tt.near || held(now, "google", stranger, x) != tt.others {
					t.Errorf("by the sibling %v, by a stranger %v", held(now, "google", sibling, x), held(now, "google", stranger, x))
				}
			}
			for _, x := range tt.free {
				if held(now, "google", ours, x) {
					t.Errorf("slowed although it is not meant: %+v", x)
				}
			}
			var ids []string
			for _, s := range e.Suspensions.List(now) {
				if ids = append(ids, s.ID()); s.Reason != "421 no" {
					t.Errorf("reason %q", s.Reason)
				}
			}
			if got := strings.Join(ids, ", "); got != tt.id {
				t.Errorf("listed as %s", got)
			}
		})
	}
}

func TestHoldsOnTheThirdAnswer(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	e := &Env{Suspensions: &Suspensions{}}
	d := &mail.Delivery{Tenant: "shop", Domain: "gmail.com"}
	o := mail.Outcome{Result: mail.Failed, Scope: mail.ScopeTenant, Reply: smtp.Reply{Code: 550, Text: "no"},
		Advice: &mail.Advice{Rule: "r/x", Action: mail.ActSuspend, For: time.Hour, After: 3, Within: time.Minute}}
	for i, want := range []bool{false, false, true, false} {
		if got := e.hold(now.Add(time.Duration(i)*10*time.Second), d, &o, "google"); got != want {
			t.Errorf("answer %d: held %v", i+1, got)
		}
	}
	if e.hold(now.Add(time.Hour), d, &o, "google") {
		t.Error("answers of an hour ago were counted")
	}
}

// What the members agreed on takes effect, but for what an answer made last longer meanwhile; what is lifted before its time
// is lifted.
func TestUpdate(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	rule := func(minutes int) Suspension {
		return Suspension{Receiver: "google", Rule: "r/x", Tenant: "shop", Until: now.Add(time.Duration(minutes) * time.Minute)}
	}
	domain := Suspension{Domain: "a.example"}
	tests := []struct {
		name            string
		have, put, drop []Suspension
		want            []Suspension // at now
	}{
		{"new", nil, []Suspension{domain, rule(5)}, nil, []Suspension{domain, rule(5)}},
		{"longer", []Suspension{rule(5)}, []Suspension{rule(9)}, nil, []Suspension{rule(9)}},
		{"an answer came meanwhile", []Suspension{rule(9)}, []Suspension{rule(5)}, nil, []Suspension{rule(9)}},
		{"lifted", []Suspension{rule(9), domain}, nil, []Suspension{rule(5)}, []Suspension{domain}},
		{"over", []Suspension{rule(-2), domain}, nil, []Suspension{rule(-2)}, []Suspension{domain}},
		{"over, but for an answer", []Suspension{rule(9)}, nil, []Suspension{rule(-2)}, []Suspension{rule(9)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := &Suspensions{}
			for _, s := range tt.have {
				x.Add(s)
			}
			x.Update(now, tt.put, tt.drop)
			got := x.List(now)
			if len(got) != len(tt.want) {
				t.Fatalf("got %+v", got)
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("got %+v, want %+v", got[i], tt.want[i])
				}
			}
		})
	}
}

// A hold that a rule wants ended by a probe goes Google's way (4.7.28): after its time one delivery at a time, one more with each
// success, and from the start after a refusal. Nobody else's mail waits for it.
func TestProbation(t *testing.T) {
	start := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	source := netip.MustParseAddr("192.0.2.7")
	advice := &mail.Advice{Rule: "google/rate-spf", Action: mail.ActProbe, For: 10 * time.Minute}
	var told int
	e := &Env{Suspensions: &Suspensions{Self: "n1"}}
	b := NewOutbox(mail.Destination{Domain: "gmail.com"}, e, func(any) { told++ })
	seq := mail.Seq(0)
	fresh := func(from mail.Address) *mail.Delivery {
		seq++
		return &mail.Delivery{Seq: seq, Tenant: "shop", From: from, Domain: "gmail.com"}
	}
	refuse := func(now time.Time) {
		o := mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, Scope: mail.ScopeSPF, Source: source, Reply: smtp.Reply{Code: 421}, Advice: advice}
		if !e.hold(now, fresh("a@shop.example"), &o, "google") {
			t.Fatal("not held")
		}
	}
	begin := func(now time.Time, d *mail.Delivery) bool {
		return e.Suspensions.match(now, d.Domain, "google", source, d) == nil && e.Suspensions.admit(now, b, d, source, "google")
	}
	// fill begins as many as are let through, and none of another sender's is held.
	fill := func(now time.Time) (flight []mail.Seq) {
		for range 2 * openMost {
			if d := fresh("a@shop.example"); begin(now, d) {
				flight = append(flight, d.Seq)
			}
		}
		if !begin(now, fresh("a@other.example")) {
			t.Error("another sender's mail is held")
		}
		return flight
	}
	phase := func(now time.Time) string {
		if l := e.Suspensions.List(now); len(l) == 1 {
			return l[0].Phase
		}
		return "gone"
	}

	refuse(start)
	if n := len(fill(start.Add(10*time.Minute - 1))); n != 0 || phase(start) != PhaseHeld {
		t.Fatalf("%d let through while it is %s", n, phase(start))
	}
	now := start.Add(10 * time.Minute)
	flight := fill(now)
	if len(flight) != 1 || phase(now) != PhaseProbing {
		t.Fatalf("%d probes while it is %s", len(flight), phase(now))
	}
	e.Suspensions.answered(flight[0], false) // no such user: says nothing of the hold
	if flight = fill(now); len(flight) != 1 || told == 0 {
		t.Fatalf("%d probes after an answer that says nothing; woken %d times", len(flight), told)
	}
	e.Suspensions.answered(flight[0], true)
	if flight = fill(now); len(flight) != 2 || phase(now) != PhaseOpening {
		t.Fatalf("%d in flight after one success, %s", len(flight), phase(now))
	}

	refuse(now)
	e.Suspensions.answered(flight[0], true) // was under way: no success of the new probation
	if n := len(fill(now.Add(time.Minute))); n != 0 {
		t.Fatalf("%d let through after a refusal", n)
	}
	now = now.Add(10 * time.Minute)
	flight = fill(now)
	for want := 1; want <= openMost; want++ {
		if len(flight) != want {
			t.Fatalf("%d in flight, want %d", len(flight), want)
		}
		gone := e.Suspensions.answered(flight[0], true)
		if gone != (want == openMost) {
			t.Fatalf("gone after %d successes: %v", want, gone)
		}
		flight = append(flight[1:], fill(now)...)
	}
	if len(flight) <= 2*openMost || phase(now) != "gone" {
		t.Errorf("%d in flight when it should be gone, but is %s", len(flight), phase(now))
	}
}

// Only the node that was refused probes; another waits as long again.
func TestProbationOfOneNode(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	x := &Suspensions{Self: "n2"}
	s := Suspension{Receiver: "google", Rule: "google/rate-spf", From: "shop.example", Since: now, Until: now.Add(10 * time.Minute), Node: "n1", Probe: true}
	x.Update(now, []Suspension{s}, nil)
	d := &mail.Delivery{Seq: 1, From: "a@shop.example", Domain: "gmail.com"}
	for _, tt := range []struct {
		after time.Duration
		held  bool
	}{{10 * time.Minute, true}, {20*time.Minute - 1, true}, {20 * time.Minute, false}} {
		if held := x.match(now.Add(tt.after), d.Domain, "google", noSource, d) != nil; held != tt.held {
			t.Errorf("held after %v: %v", tt.after, held)
		}
	}
	x.Update(now.Add(11*time.Minute), nil, []Suspension{s}) // n1 saw it through
	if l := x.List(now.Add(11 * time.Minute)); len(l) != 0 {
		t.Errorf("still in force: %+v", l)
	}
}

// What several answers ask for is held in their wake: by number, by number of sources, at one receiver or at all (receivers.md 3).
func TestHoldsThen(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	ips := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")}
	tests := []struct {
		name  string
		then  mail.Then
		from  []int         // which source is answered, one after the other
		every time.Duration // between two answers
		want  string        // in force after the last, and not before
	}{
		{"TSS04 to three sources of a tenant", mail.Then{Scope: mail.ScopeTenant, For: time.Hour, Sources: 3, Within: time.Hour}, []int{0, 0, 1, 0, 2}, time.Minute,
			"r/x/then yahoo tenant=shop"},
		{"TSS04 to one", mail.Then{Scope: mail.ScopeTenant, For: time.Hour, Sources: 3, Within: time.Hour}, []int{0, 0, 0, 0}, time.Minute, ""},
		{"4.7.500 five times", mail.Then{Scope: mail.ScopeSource, For: time.Hour, After: 5, Within: time.Hour}, []int{0, 1, 0, 0, 1, 0, 0}, time.Minute,
			"r/x/then yahoo source=192.0.2.1"},
		{"4.7.500 five times in a day", mail.Then{Scope: mail.ScopeSource, For: time.Hour, After: 5, Within: time.Hour}, []int{0, 0, 0, 0, 0}, 20 * time.Minute, ""},
		{"BL21", mail.Then{Scope: mail.ScopeSource, For: time.Hour, Everywhere: true}, []int{1}, time.Minute, "r/x/then source=192.0.2.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, at := &Env{Suspensions: &Suspensions{}}, now
			d := &mail.Delivery{Tenant: "shop", Domain: "yahoo.com"}
			for i, from := range tt.from {
				at = at.Add(tt.every)
				o := mail.Outcome{Result: mail.Deferred, Scope: mail.ScopeSource, Source: ips[from], Advice: &mail.Advice{Rule: "r/x", Then: &tt.then}}
				held := e.hold(at, d, &o, "yahoo")
				if last := i == len(tt.from)-1; held != (last && tt.want != "") {
					t.Fatalf("answer %d: held %v", i+1, held)
				}
			}
			ids := ""
			for _, s := range e.Suspensions.List(at) {
				ids += s.ID()
			}
			if ids != tt.want {
				t.Errorf("in force: %q", ids)
			}
			source := ips[tt.from[len(tt.from)-1]]
			if held := e.Suspensions.match(at, "gmail.com", "google", source, d) != nil; held != tt.then.Everywhere {
				t.Errorf("held at another receiver: %v", held)
			}
		})
	}
}
