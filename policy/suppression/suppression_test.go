package suppression

import (
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name         string
		black, count bool
		want         []List
	}{
		{"neither", false, false, []List{Unsubscribe, BlockList}},
		{"black box", true, false, []List{BlackBox, Unsubscribe, BlockList}},
		{"all", true, true, []List{BlackBox, Unsubscribe, BlockList, ErrorCount}},
	} {
		if got := Order(c.black, c.count); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for l, want := range map[List]mail.Status{BlackBox: 2, Unsubscribe: 11, BlockList: 10, ErrorCount: 10} {
		if got := Verdict(l); got.Status != want || got.Detail[:3] != "591" {
			t.Errorf("list %d: %+v", l, got)
		}
	}
}

func TestCounts(t *testing.T) {
	unknown := mail.Event{Kind: mail.EventFailed, Status: mail.StatusUserUnknown, Stage: mail.StageRcpt, To: "a@b.example"}
	with := func(change func(*mail.Event)) mail.Event { e := unknown; change(&e); return e }
	for _, c := range []struct {
		name           string
		e              mail.Event
		counts, learns bool
	}{
		{"user unknown", unknown, true, true},
		{"rule says it means nothing", with(func(e *mail.Event) { e.NoSuppress = true }), false, false},
		{"our own bounce", with(func(e *mail.Event) { e.Own = true }), false, false},
		{"reported later", with(func(e *mail.Event) { e.Kind = mail.EventBounced }), true, true},
		{"a complaint", with(func(e *mail.Event) { e.Kind = mail.EventComplained }), false, false},
		{"deferred", with(func(e *mail.Event) { e.Kind = mail.EventDeferred }), false, false},
		{"suppressed", with(func(e *mail.Event) { e.Kind = mail.EventSuppressed }), false, false},
		{"host unknown", with(func(e *mail.Event) { e.Status = mail.StatusHostUnknown }), true, false},
		{"mailbox full", with(func(e *mail.Event) { e.Status = mail.StatusOverCapacity }), true, false},
		{"refused by policy", with(func(e *mail.Event) { e.Status = mail.StatusRefused }), false, false},
		{"too large", with(func(e *mail.Event) { e.Status = mail.StatusSize }), false, false},
		{"malformed", with(func(e *mail.Event) { e.Status = mail.StatusFormat }), false, false},
		{"malformed, as a receiver says", with(func(e *mail.Event) { e.Status, e.Reply = mail.StatusFormat, smtp.Reply{Code: 553} }), true, false},
		{"discarded", with(func(e *mail.Event) { e.Status = mail.StatusInterrupted }), false, false},
		{"other", with(func(e *mail.Event) { e.Status = mail.StatusOther }), true, false},
	} {
		if Counts(&c.e) != c.counts || Learns(&c.e) != c.learns {
			t.Errorf("%s: counts %v, learns %v", c.name, Counts(&c.e), Learns(&c.e))
		}
	}
}

func TestErrors(t *testing.T) {
	c := ParseErrors("")
	for _, s := range []mail.Status{5, 2, 5} {
		c.Add(s)
	}
	if c.String() != "2=1,5=2" || c.Total() != 3 {
		t.Errorf("%s, total %d", c, c.Total())
	}
	if again := ParseErrors(c.String()); again.String() != c.String() {
		t.Errorf("read again: %s", again)
	}
	if got := ParseErrors("2=x,=3,300=1,5=0,7=99999,3=4"); got.String() != "3=4" {
		t.Errorf("what makes no sense: %s", got)
	}
	if c.Excluded(4) || !c.Excluded(3) || ParseErrors("").Excluded(0) {
		t.Error("threshold")
	}
	for _, row := range []struct {
		reasons map[int]int
		status  mail.Status
		stopped bool
	}{
		{nil, 0, false}, {map[int]int{2: 1}, 2, true}, {map[int]int{2: 2}, 0, false}, {map[int]int{5: 2, 2: 2}, 5, true},
		{map[int]int{2: 0}, 0, false}, {map[int]int{3: 1}, 0, false},
	} {
		if s, ok := c.Stopped(row.reasons); s != row.status || ok != row.stopped {
			t.Errorf("%v: %d %v", row.reasons, s, ok)
		}
	}
	full := Errors{2: maxErrors}
	if full.Add(2); full[2] != maxErrors {
		t.Error("the count grows without end")
	}
}

func TestStopReason(t *testing.T) {
	for _, row := range []struct {
		reason   string
		status   mail.Status
		occurred int
	}{
		{StopReason(mail.StatusUserUnknown, 3), mail.StatusUserUnknown, 3},
		{StopReason(mail.StatusOther, 1), mail.StatusOther, 1},
		{"delivery stop: status 5", mail.StatusOverCapacity, 0}, // as older releases wrote it
		{"delivery stop: status x, occurred 3", 0, 0},
		{"delivery stop: status 300", 0, 0},
		{"delivery stop: status 2, occurred -4", mail.StatusUserUnknown, 0},
		{"asked by phone", 0, 0},
		{"", 0, 0},
	} {
		if s, n := ParseStopReason(row.reason); s != row.status || n != row.occurred {
			t.Errorf("%q: %d %d", row.reason, s, n)
		}
	}
}

func TestEvidence(t *testing.T) {
	at := time.Date(2026, 3, 10, 3, 0, 0, 0, time.UTC)
	e := mail.Event{At: at, Status: mail.StatusOverCapacity, Message: mail.MessageID{Lineage: 1, Seq: 2}, Delivery: 2,
		Reply: smtp.Reply{Code: 552, Text: "full, status 7, really"}}
	if got, status := ParseEvidence(Evidence(&e)); !got.Equal(at) || status != mail.StatusOverCapacity {
		t.Errorf("%s: %v %d", Evidence(&e), got, status)
	}
	for _, other := range []string{"", "message 000000010000000000000002, delivery 2: 552 full", "yesterday status 5, ", "2026-03-10T03:00:00Z status x,"} {
		if got, status := ParseEvidence(other); !got.IsZero() || status != 0 {
			t.Errorf("%q: %v %d", other, got, status)
		}
	}
}
