package stats

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// TestCounters is the scripted sink of requirement R60: one event of each kind gives exactly one in each.
func TestCounters(t *testing.T) {
	for _, c := range []struct {
		name string
		e    mail.Event
		want []Counter
	}{
		{"delivered", mail.Event{Kind: mail.EventDelivered, Stage: mail.StageDot}, []Counter{Succeeded}},
		{"user unknown", mail.Event{Kind: mail.EventFailed, Stage: mail.StageRcpt, Status: mail.StatusUserUnknown,
			Reply: smtp.Reply{Code: 550}}, []Counter{Failed}},
		{"malformed", mail.Event{Kind: mail.EventFailed, Status: mail.StatusFormat}, []Counter{Failed}},
		{"4xx", mail.Event{Kind: mail.EventDeferred, Stage: mail.StageRcpt, Reply: smtp.Reply{Code: 450}}, []Counter{Temporary}},
		{"cut in DATA", mail.Event{Kind: mail.EventDeferred, Stage: mail.StageDot, InDoubt: true}, []Counter{Temporary}},
		{"put off by ourselves", mail.Event{Kind: mail.EventDeferred}, nil},
		{"SERVFAIL", mail.Event{Kind: mail.EventDeferred, Stage: mail.StageDNS}, []Counter{DNSTemporary}},
		{"NXDOMAIN", mail.Event{Kind: mail.EventFailed, Stage: mail.StageDNS, Status: mail.StatusHostUnknown}, []Counter{DNSFailed}},
		{"refused", mail.Event{Kind: mail.EventDeferred, Stage: mail.StageConnect}, []Counter{ConnectFailed}},
		{"banner 421", mail.Event{Kind: mail.EventDeferred, Stage: mail.StageGreeting, Reply: smtp.Reply{Code: 421}}, []Counter{ConnectError}},
		{"handshake", mail.Event{Kind: mail.EventDeferred, Stage: mail.StageTLS}, []Counter{ConnectError}},
		{"banner 554", mail.Event{Kind: mail.EventFailed, Stage: mail.StageGreeting, Status: mail.StatusRefused}, []Counter{Failed, ConnectError}},
		{"expired", mail.Event{Kind: mail.EventFailed, Status: mail.StatusTimeout}, []Counter{Expired}},
		{"expired in DNS", mail.Event{Kind: mail.EventFailed, Stage: mail.StageDNS, Status: mail.StatusTimeout}, []Counter{Expired}},
		{"discarded", mail.Event{Kind: mail.EventDiscarded}, []Counter{Interrupted}},
		{"interrupted", mail.Event{Kind: mail.EventFailed, Status: mail.StatusInterrupted}, []Counter{Interrupted}},
		{"suppressed", mail.Event{Kind: mail.EventSuppressed, Status: mail.StatusBlockListed}, []Counter{Suppressed}},
		{"accepted", mail.Event{Kind: mail.EventAccepted}, []Counter{Accepted}},
		{"taken over", mail.Event{Kind: mail.EventTakenOver}, []Counter{TakenOver}},
		{"handed over", mail.Event{Kind: mail.EventHandedOver}, []Counter{HandedOver}},
		{"unknown kind", mail.Event{Kind: 99, Stage: mail.StageRcpt}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := New(Config{})
			c.e.At = time.Unix(1e9, 0)
			table.Add(&c.e)
			var want Counts
			for _, n := range c.want {
				want[n]++
			}
			got := table.Buckets(Total, Of{}, c.e.At)[0].Counts
			if got != want {
				t.Errorf("counted %v, want %v", got, want)
			}
			if final := c.e.Kind.IsFinal() && c.e.Kind <= mail.EventDiscarded; (got.Finished() == 1) != final {
				t.Errorf("%d finished", got.Finished())
			}
		})
	}
}

func randomEvent(r *rand.Rand, at time.Time) mail.Event {
	return mail.Event{At: at, Kind: mail.EventKind(1 + r.IntN(6)), Stage: mail.Stage(r.IntN(10)),
		Status: []mail.Status{0, 1, 2, 3, 7, 12}[r.IntN(6)], Reply: smtp.Reply{Code: 400 + r.IntN(200)},
		Attempt: uint16(r.IntN(3)), Group: []string{"", "g1", "g2"}[r.IntN(3)], Domain: mail.Domain(fmt.Sprintf("d%d.example", r.IntN(5)))}
}

// TestRetrying tells lives of a delivery, and whether it is scheduled for redelivery afterwards (counter 2 of R60).
func TestRetrying(t *testing.T) {
	accepted := mail.Event{Kind: mail.EventAccepted}
	tried := func(attempt uint16) mail.Event {
		return mail.Event{Kind: mail.EventDeferred, Stage: mail.StageRcpt, Attempt: attempt}
	}
	ended := func(kind mail.EventKind, stage mail.Stage, attempt uint16) mail.Event {
		return mail.Event{Kind: kind, Stage: stage, Attempt: attempt}
	}
	for _, c := range []struct {
		name string
		life []mail.Event
		want int64
	}{
		{"waits", []mail.Event{accepted}, 0},
		{"delivered at once", []mail.Event{accepted, ended(mail.EventDelivered, mail.StageDot, 1)}, 0},
		{"put off", []mail.Event{accepted, tried(1)}, 1},
		{"put off often", []mail.Event{accepted, tried(1), tried(2), tried(3)}, 1},
		{"put off as often as is counted", []mail.Event{accepted, tried(1), tried(1<<16 - 1), tried(1<<16 - 1)}, 1},
		{"put off and delivered", []mail.Event{accepted, tried(1), ended(mail.EventDelivered, mail.StageDot, 2)}, 0},
		{"put off and expired", []mail.Event{accepted, tried(1), ended(mail.EventFailed, mail.StageNone, 1)}, 0},
		{"put off and refused", []mail.Event{accepted, tried(1), ended(mail.EventFailed, mail.StageRcpt, 2)}, 0},
		{"put off and discarded", []mail.Event{accepted, tried(1), ended(mail.EventDiscarded, mail.StageNone, 1)}, 0},
		{"put off and suppressed", []mail.Event{accepted, tried(1), ended(mail.EventSuppressed, mail.StageNone, 1)}, 0},
		{"put off and handed over", []mail.Event{accepted, tried(1), ended(mail.EventHandedOver, mail.StageNone, 1)}, 0},
		{"never tried and handed over", []mail.Event{accepted, ended(mail.EventHandedOver, mail.StageNone, 0)}, 0},
		{"taken over", []mail.Event{ended(mail.EventTakenOver, mail.StageNone, 0)}, 0},
		{"taken over after attempts", []mail.Event{ended(mail.EventTakenOver, mail.StageNone, 2)}, 1},
		{"put off there, and here again", []mail.Event{ended(mail.EventTakenOver, mail.StageNone, 2), tried(3)}, 1},
		{"put off by ourselves", []mail.Event{accepted, {Kind: mail.EventDeferred}}, 0},
		{"put off by ourselves again", []mail.Event{accepted, tried(1), {Kind: mail.EventDeferred, Attempt: 1}}, 1},
		{"bounced late", []mail.Event{accepted, tried(1), ended(mail.EventDelivered, mail.StageDot, 2),
			{Kind: mail.EventBounced, Attempt: 2}}, 0},
		{"address blocked", []mail.Event{{Kind: mail.EventBlocked, Attempt: 3}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, own := New(Config{}), New(Config{})
			for _, e := range c.life {
				e.At, e.Tenant, e.Group, e.Domain = time.Unix(1e9, 0), "shop", "g", "d.example"
				table.Add(&e)
				e.Own = true
				own.Add(&e)
			}
			for _, of := range []Of{{}, {Tenant: "shop"}, {Group: "g"}, {Domain: "d.example"}} {
				total := table.Buckets(Total, of, time.Unix(1e9, 0))[0].Counts
				if got := total.Retrying(); got != c.want {
					t.Errorf("%+v: %d, want %d", of, got, c.want)
				}
			}
			if total := own.Buckets(Total, Of{}, time.Unix(1e9, 0))[0].Counts; !total.isZero() || own.Retrying() != c.want {
				t.Errorf("our own: %d, want %d; %v among the customers'", own.Retrying(), c.want, total)
			}
		})
	}
}

// TestBruteForce compares every window of every name with a count over all events, under a clock that only goes on, and
// across snapshots.
func TestBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	table := New(Config{})
	now := time.Unix(1_700_000_000, 0).UTC()
	var all []mail.Event
	for step := range 200 {
		for range r.IntN(20) {
			e := randomEvent(r, now)
			all = append(all, e)
			table.Add(&e)
		}
		now = now.Add(time.Duration(r.IntN(900)) * time.Second)
		if step%20 == 7 { // a restart
			next := New(Config{})
			if err := next.Restore(table.Snapshot(nil)); err != nil {
				t.Fatal(err)
			}
			table = next
		}
		for _, u := range []Unit{Total, Hour, Five} {
			for _, who := range []struct {
				group  string
				domain mail.Domain
			}{{}, {group: "g1"}, {domain: "d3.example"}, {domain: "never.example"}} {
				for i, b := range table.Buckets(u, Of{Group: who.group, Domain: who.domain}, now) {
					if want := brute(all, u, b.Start, who.group, who.domain); b.Counts != want {
						t.Fatalf("step %d unit %d bucket %d (%v) of %v: %v, want %v", step, u, i, b.Start, who, b.Counts, want)
					}
				}
			}
		}
	}
	if n := len(table.Buckets(Hour, Of{}, now)); n != 6 {
		t.Errorf("%d hours", n)
	}
	fives := table.Buckets(Five, Of{}, now)
	if last := fives[len(fives)-1]; len(fives) != 12 || now.Before(last.Start) || now.Sub(last.Start) >= 5*time.Minute {
		t.Errorf("%d fives, the last from %v at %v", len(fives), last.Start, now)
	}
}

func brute(all []mail.Event, u Unit, start time.Time, group string, domain mail.Domain) (c Counts) {
	length := map[Unit]time.Duration{Hour: time.Hour, Five: 5 * time.Minute}[u]
	for i := range all {
		e := &all[i]
		if group != "" && e.Group != group || domain != "" && e.Domain != domain ||
			u != Total && (e.At.Before(start) || !e.At.Before(start.Add(length))) {
			continue
		}
		a, b := countersOf(e)
		for _, n := range []Counter{a, b, redeliveryOf(e)} {
			if n != none {
				c[n]++
			}
		}
	}
	return c
}

// TestBound fills the table far beyond its bound: memory stays bounded, and the sum over domains stays the total.
func TestBound(t *testing.T) {
	table := New(Config{MaxNames: 100})
	now := time.Unix(1_700_000_000, 0)
	for i := range 1000 {
		e := mail.Event{At: now, Kind: mail.EventDelivered, Domain: mail.Domain(fmt.Sprintf("d%d.example", i))}
		table.Add(&e)
		now = now.Add(30 * time.Second)
	}
	smaller := New(Config{MaxNames: 10})
	if err := smaller.Restore(table.Snapshot(nil)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		table *Table
		bound int
	}{{"filled", table, 100}, {"restored under a smaller bound", smaller, 10}} {
		var sum uint64
		named := 0
		c.table.Domains(func(_, _ string, n Counts) {
			sum += n[Succeeded]
			named++
		})
		if sum != 1000 || named > c.bound+1 {
			t.Errorf("%s: %d names, sum %d", c.name, named, sum)
		}
	}
	if got := table.Buckets(Total, Of{Domain: "d999.example"}, now)[0].Counts[Succeeded]; got != 1 {
		t.Errorf("newest domain counted %d", got)
	}
}

// TestNowhere: an address without a domain counts under a name of its own, so that domains add up to the whole.
func TestNowhere(t *testing.T) {
	table, now := New(Config{}), time.Unix(1_700_000_000, 0)
	for _, domain := range []mail.Domain{"", "a.example"} {
		table.Add(&mail.Event{At: now, Kind: mail.EventFailed, Tenant: "shop", Domain: domain})
	}
	for of, want := range map[mail.Domain]uint64{Nowhere: 1, "a.example": 1, "": 2} {
		if got := table.Buckets(Total, Of{Tenant: "shop", Domain: of}, now)[0].Counts[Failed]; got != want {
			t.Errorf("domain %q: %d failed, want %d", of, got, want)
		}
	}
}

func FuzzRestore(f *testing.F) {
	table := New(Config{})
	e := mail.Event{At: time.Unix(1e9, 0), Kind: mail.EventDelivered, Group: "g", Domain: "d.example"}
	table.Add(&e)
	f.Add(table.Snapshot(nil))
	f.Add([]byte{snapshotVersion, byte(Counters), 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		first := New(Config{})
		if first.Restore(raw) != nil {
			if !first.all.total.isZero() {
				t.Error("counters of a damaged snapshot were kept")
			}
			return
		}
		again := New(Config{})
		if err := again.Restore(first.Snapshot(nil)); err != nil {
			t.Fatal(err)
		}
		if len(again.domains.by) != len(first.domains.by) || again.all.total != first.all.total {
			t.Error("a snapshot of what was restored differs")
		}
	})
}

func TestRestoreDamaged(t *testing.T) {
	table := New(Config{})
	e := mail.Event{At: time.Unix(1e9, 0), Kind: mail.EventDelivered, Group: "g", Domain: "d.example"}
	table.Add(&e)
	good := table.Snapshot(nil)
	for i := range good {
		if err := New(Config{}).Restore(good[:i]); err == nil {
			t.Errorf("the first %d bytes of %d were taken", i, len(good))
		}
	}
	if err := New(Config{}).Restore(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a byte too many was taken")
	}
}
