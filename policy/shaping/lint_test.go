package shaping

import (
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/policy/settings"
)

// TestLint (N14): planted rows that can never match, and figures that can never be reached, are found; the built-in rows
// have neither.
func TestLint(t *testing.T) {
	row := func(name string, domains ...string) settings.ReceiverRule {
		return settings.ReceiverRule{Name: name, Domains: domains}
	}
	mx := func(name string, hosts ...string) settings.ReceiverRule {
		return settings.ReceiverRule{Name: name, MX: hosts}
	}
	with := func(edit func(*settings.ReceiverRule)) settings.ReceiverRule {
		r := row("x", "x.example")
		edit(&r)
		return r
	}
	tests := []struct {
		name  string
		rows  []settings.ReceiverRule
		wrong []string // "receiver: text"
		meant []string
	}{
		{"nothing of one's own", nil, nil, nil},
		{"a row of one's own", []settings.ReceiverRule{row("x", "x.example", "*.x.example")}, nil, nil},
		{"a dead row", []settings.ReceiverRule{row("dead", "x.example"), row("live", "X.example", "y.example")},
			[]string{"dead: never matches: all it names is that of receivers/live"}, nil},
		{"half of a row", []settings.ReceiverRule{row("half", "x.example", "y.example"), row("live", "x.example")},
			[]string{"half: loses domain x.example to receivers/live"}, nil},
		{"an exact domain is no suffix", []settings.ReceiverRule{row("a", "x.example"), row("b", "*.x.example"), row("c", "a.x.example")}, nil, nil},
		{"MX hosts", []settings.ReceiverRule{mx("dead", ".mx.example"), mx("live", ".mx.example")},
			[]string{"dead: never matches: all it names is that of receivers/live"}, nil},
		{"a longer MX suffix", []settings.ReceiverRule{mx("a", ".mx.example"), mx("b", ".a.mx.example")}, nil, nil},
		{"MX hosts behind every domain", []settings.ReceiverRule{mx("dead", ".mx.example"), row("all", "*")},
			[]string{"dead: never matches: all it names is that of receivers/all"}, []string{"google: never matches: all it names is that of receivers/all"}},
		{"nobody", []settings.ReceiverRule{{Name: "typo", Connections: 3}},
			[]string{"typo: never matches: it names neither domains nor mx"}, nil},
		{"a built-in row, on purpose", []settings.ReceiverRule{row("mine", "docomo.ne.jp"), mx("mine too", "mfsmax.docomo.ne.jp")}, nil,
			[]string{"docomo: loses domain docomo.ne.jp to receivers/mine", "docomo: loses mx mfsmax.docomo.ne.jp to receivers/mine too"}},
		{"a cap of the day behind that of the hour", []settings.ReceiverRule{with(func(r *settings.ReceiverRule) { r.HourlyCap, r.DailyCap = 10, 1000 })},
			[]string{"x: daily_cap 1000 is never reached: hourly_cap is 10"}, nil},
		{"a cap of the hour behind that of the day", []settings.ReceiverRule{with(func(r *settings.ReceiverRule) { r.HourlyCap, r.DailyCap = 100, 50 })},
			[]string{"x: hourly_cap 100 is never reached: daily_cap is 50"}, nil},
		{"both caps", []settings.ReceiverRule{with(func(r *settings.ReceiverRule) { r.HourlyCap, r.DailyCap = 100, 1000 })}, nil, nil},
		{"a rate behind the interval", []settings.ReceiverRule{with(func(r *settings.ReceiverRule) {
			r.Connections, r.Interval, r.Rate = 2, settings.Duration(time.Second), 5
		})}, []string{"x: rate 5 is never reached: 2 connections with an interval of 1s carry 2 a second"}, nil},
		{"a cap behind the rate", []settings.ReceiverRule{with(func(r *settings.ReceiverRule) { r.Rate, r.DailyCap = 1, 100_000 })},
			[]string{"x: daily_cap 100000 is never reached: the rate is 1 a second"}, nil},
		{"a start that is faster", []settings.ReceiverRule{with(func(r *settings.ReceiverRule) { r.Rate, r.Start = 10, 20 })},
			[]string{"x: start 20 is never reached: the rate is 10 a second"}, nil},
		{"a start of what learns nothing", []settings.ReceiverRule{with(func(r *settings.ReceiverRule) { r.Fixed, r.Start = true, 20 })},
			[]string{"x: start 20 counts for nothing: a fixed row learns nothing"}, nil},
		{"more than a session has time for", []settings.ReceiverRule{with(func(r *settings.ReceiverRule) {
			r.Interval, r.SessionTime, r.PerConnection = settings.Duration(time.Second), settings.Duration(10*time.Second), 50
		})}, []string{"x: per_connection 50 is never reached: session_time is 10s and interval 1s"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := mustRules(t, tt.rows...)
			var wrong, meant []string
			for _, f := range r.Lint() {
				if f.Rule != "receivers/"+f.Receiver {
					t.Errorf("%+v", f)
				}
				if f.Meant {
					meant = append(meant, f.Receiver+": "+f.Text)
				} else {
					wrong = append(wrong, f.Receiver+": "+f.Text)
				}
			}
			if strings.Join(wrong, "\n") != strings.Join(tt.wrong, "\n") {
				t.Errorf("found %q, want %q", wrong, tt.wrong)
			}
			for _, w := range tt.meant {
				if !strings.Contains("\n"+strings.Join(meant, "\n")+"\n", "\n"+w+"\n") {
					t.Errorf("%q is not among the notes %q", w, meant)
				}
			}
			if tt.meant == nil && meant != nil {
				t.Errorf("notes %q", meant)
			}
		})
	}
}

// What destinations can have for a receiver: rows, and those without one by their hosts.
func TestNames(t *testing.T) {
	r := mustRules(t, settings.ReceiverRule{Name: "mine", Domains: []string{"x.example"}})
	for name, want := range map[string]bool{"mine": true, "docomo": true, "docmo": false, "": false, "mx:mx.example": true, "domain:a.example": true,
		"route:127.0.0.1:25": true} {
		if r.Names(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// TestRows: an operator's rows stand first, and each receiver's mail counts for one row.
func TestRows(t *testing.T) {
	r := mustRules(t, settings.ReceiverRule{Name: "mine", Domains: []string{"x.example"}, MX: []string{".x.example"}, Connections: 3, HourlyCap: 7})
	rows := r.Rows()
	if one := rows[0]; one.Name != "mine" || !one.Own || strings.Join(one.Matches, " ") != "x.example mx .x.example" ||
		one.Limits != "3 connections, 100 messages each, 100/s, 7 an hour" {
		t.Errorf("%+v", one)
	}
	if rows[1].Name != defaultRule || rows[1].Own {
		t.Errorf("%+v", rows[1])
	}
	for receiver, want := range map[string]string{"mine": "mine", "docomo": "docomo", "mx:a.example": "default", "domain:a.example": "default", "route:127.0.0.1:25": ""} {
		if got, ok := r.RowOf(receiver); got != want || ok != (want != "") {
			t.Errorf("%s: %q", receiver, got)
		}
	}
}
