package statistics

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
)

func TestParseDate(t *testing.T) {
	for _, s := range []string{"2026/03/01", "2026-03-01", "20260301"} {
		if d, err := ParseDate(s); err != nil || d.String() != "2026/03/01" || DateOf(d.Begin()) != d {
			t.Errorf("%s: %v %v", s, d, err)
		}
	}
	for _, s := range []string{"", "2026/02/30", "1969/12/31", "yesterday", "2026-3-1"} {
		if _, err := ParseDate(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

// TestRate has the rows that the requirement prints (R83, E-1).
func TestRate(t *testing.T) {
	for _, c := range []struct {
		success, ng uint64
		want        string
	}{
		{57, 0, "0"}, {618, 272, "30.6"}, {3029, 5, "0.2"}, {1538, 6, "0.4"}, {930, 0, "0"}, {6172, 283, "4.4"},
		{0, 0, "0"}, {0, 7, "100.0"}, {1999, 1, "0.1"}, {2001, 1, "0.0"}, {1 << 62, 1 << 62, "50.0"}, {24, 1, "4.0"},
	} {
		o := Outcome{Success: c.success, NG: c.ng}
		if got := o.Rate(); got != c.want {
			t.Errorf("%d / %d: %s, want %s", c.success, c.ng, got, c.want)
		}
	}
}

func TestDaily(t *testing.T) {
	march1, _ := ParseDate("2026/03/01")
	april2, _ := ParseDate("2026/04/02")
	rows := []Counted{
		{march1, Row{Tenant: "a", From: "x.example"}, Result{Queued: 7000, Succeeded: 6990, Failed: 10}},
		{march1, Row{Tenant: "a", From: "y.example"}, Result{Queued: 833, Succeeded: 810, Failed: 23}},
		{march1 + 1, Row{From: "y.example"}, Result{Queued: 649, Succeeded: 605, Failed: 40, Blocked: 4}},
		{april2, Row{}, Result{NG: 1}}, // what ended there was accepted before
	}
	lines, total := DailyOf(rows, false)
	if len(lines) != 2 || total.Queued != 8482 {
		t.Fatalf("%+v, %+v", lines, total)
	}
	for i, want := range []string{"2026/03/01 7833 7800 33 0 7833 0.4 99.6 false", "2026/03/02 649 605 40 4 645 6.2 93.8 true"} {
		d := lines[i]
		got := fmt.Sprint(d.Span, " ", d.Queued, d.Succeeded, d.Failed, d.Blocked, d.Valid(), " ", d.ErrorRate(), " ", d.DeliveryRate(), " ", d.Warns())
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if d.Queued != d.Succeeded+d.Failed+d.Blocked || d.Valid() != d.Queued-d.Blocked {
			t.Errorf("%s: the identities of R81 do not hold", d.Span)
		}
	}
	if months, _ := DailyOf(rows, true); len(months) != 1 || months[0].Span != "2026/03" || months[0].Queued != total.Queued {
		t.Errorf("by month: %+v", months)
	}
	late := Daily{Result: Result{Succeeded: 96, Failed: 1, Bounced: 3}}
	if late.ErrorRate() != "4.1" || !late.Warns() {
		t.Errorf("with late reports: %s, warns %v", late.ErrorRate(), late.Warns())
	}
	if at := (Daily{Result: Result{Succeeded: 97, Failed: 3}}); at.Warns() || at.ErrorRate() != "3.0" {
		t.Errorf("at 3 %%: %s, warns %v", at.ErrorRate(), at.Warns())
	}
	if few := (Daily{Result: Result{Succeeded: 1999, Failed: 1}}); few.ErrorRate() != "0.1" || few.DeliveryRate() != "99.9" {
		t.Errorf("one of 2000: %s %s", few.ErrorRate(), few.DeliveryRate())
	}
	if all := (Daily{Result: Result{Failed: 2}}); all.ErrorRate() != "100.0" || all.DeliveryRate() != "0" {
		t.Errorf("all: %s %s", all.ErrorRate(), all.DeliveryRate())
	}
	if none := (Daily{}); none.ErrorRate() != "0" || none.DeliveryRate() != "0" || none.Warns() {
		t.Errorf("without mail: %s %s", none.ErrorRate(), none.DeliveryRate())
	}
}

func TestOutcomes(t *testing.T) {
	d, _ := ParseDate("2026/03/01")
	rows := []Counted{
		{d, Row{Tenant: "a", User: "u", From: "x.example", Carrier: "docomo"}, Result{Success: 600, NG: 272}},
		{d, Row{Tenant: "a", User: "v", From: "x.example", Carrier: "docomo"}, Result{Success: 18}},
		{d, Row{Tenant: "a", From: "x.example", Carrier: "docomo", Cleaning: true}, Result{Success: 5}},
		{d, Row{Tenant: "a", From: "x.example", Carrier: "pc"}, Result{Success: 1, Queued: 9}},
		{d, Row{Tenant: "a", From: "w.example", Carrier: "pc"}, Result{Queued: 1}}, // nothing has ended
		{d + 1, Row{Tenant: "a", From: "x.example", Carrier: "docomo"}, Result{NG: 1}},
	}
	lines, total := OutcomesOf(rows, false)
	want := []Outcome{
		{"2026/03/01", "x.example", "docomo.ne.jp", false, 618, 272}, {"2026/03/01", "x.example", "docomo.ne.jp", true, 5, 0},
		{"2026/03/01", "x.example", "pc", false, 1, 0}, {"2026/03/02", "x.example", "docomo.ne.jp", false, 0, 1},
	}
	if !slices.Equal(lines, want) || total.Success != 624 || total.NG != 273 {
		t.Errorf("%+v, total %+v", lines, total)
	}
	if months, _ := OutcomesOf(rows, true); len(months) != 3 || months[0].Span != "2026/03" || months[0].NG != 273 {
		t.Errorf("by month: %+v", months)
	}
}

func TestSlices(t *testing.T) {
	of := func(domain mail.Domain, s mail.Status, n uint64) Errors {
		return Errors{ErrorsOf: ErrorsOf{Tenant: "a", Domain: domain, Status: s}, Count: n}
	}
	got := SlicesOf([]Errors{of("b.example", 2, 3), of("a.example", 5, 1), of("b.example", 2, 1), of("a.example", 2, 7)})
	want := []Slice{{Total, 2, 11}, {Total, 5, 1}, {"a.example", 2, 7}, {"a.example", 5, 1}, {"b.example", 2, 4}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
