package shaping

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// TestEditedLimitsKeepWhatIsKnown: rules that are edited change the figures at once, and nothing else: what is out, used up and
// learned stays, and so does what the receiver said in words.
func TestEditedLimitsKeepWhatIsKnown(t *testing.T) {
	old := Limits{Receiver: "r", Connections: 10, Rate: 50, Start: 5, DailyCap: 100, ConnectionRate: 1, BlockPause: time.Minute}
	edited := old
	edited.Connections, edited.Rate, edited.DailyCap = 2, 80, 60
	named := &mail.Advice{Rule: "r/named", Action: mail.ActLimit, Rate: 1. / 60, Connections: 1, For: time.Hour}
	for _, row := range []struct {
		name   string
		to     func(*Limits)
		before func(*Machine)
		want   func(*Machine) bool
	}{
		{"nothing was learned", nil, func(*Machine) {}, func(m *Machine) bool { return m.Pace() == 5 && m.Connections() == 2 }},
		{"another start", func(l *Limits) { l.Start = 7 }, func(*Machine) {}, func(m *Machine) bool { return m.Pace() == 7 }},
		{"the old rate was borne", nil, func(m *Machine) { m.k.pace = 0 }, func(m *Machine) bool { return m.Pace() == 50 }},
		{"a pace was learned", nil, func(m *Machine) { m.k.pace, m.k.ceiling, m.k.grown = 3, 4, momentOf(noon) },
			func(m *Machine) bool { return m.Pace() == 3 && m.k.ceiling == 4 }},
		{"nothing is to be learned any more", func(l *Limits) { l.Fixed = true }, func(m *Machine) { m.k.pace, m.k.ceiling, m.k.conns = 3, 4, 1 },
			func(m *Machine) bool { return m.Pace() == 80 && m.Connections() == 2 }},
		{"connections are out", nil, func(m *Machine) {
			for range 3 {
				m.Grant(noon, 1, nil)
			}
		},
			func(m *Machine) bool {
				n, _, _ := m.Grant(noon, 1, nil)
				return n == 0 && m.Used() == 3 && m.Refusal() == Connections
			}},
		{"the cap was used in part", nil, func(m *Machine) { m.day.debit(59) }, func(m *Machine) bool { return m.day.left(10) == 1 }},
		{"the cap was used up", nil, func(m *Machine) { m.day.debit(70) },
			func(m *Machine) bool { n, _, _ := m.Grant(noon, 1, nil); return n == 0 && m.Refusal() == DailyCap }},
		{"connections were begun", nil, func(m *Machine) { m.Grant(noon, 1, nil); m.Release(noon, 1, 0, nil); m.sessions.level = 0 },
			func(m *Machine) bool {
				n, _, _ := m.Grant(noon, 1, nil)
				return n == 0 && m.Refusal() == ConnectionRate
			}},
		{"a limit was named", nil, func(m *Machine) { m.Observe(noon, slower(named), true, nil) },
			func(m *Machine) bool {
				return m.Pace() == named.Rate && m.Connections() == 1 && m.Cause() == Cause{Rule: "r/named", Reply: "451 too fast"}
			}},
		{"… and nothing is learned", func(l *Limits) { l.Fixed = true }, func(m *Machine) { m.Observe(noon, slower(named), true, nil) },
			func(m *Machine) bool { return m.Pace() == named.Rate && m.Connections() == 1 }},
		{"it blocks", nil, func(m *Machine) {
			m.Observe(noon, slower(&mail.Advice{Rule: "r/stop", Action: mail.ActSuspend, For: time.Hour}), true, nil)
		}, func(m *Machine) bool {
			s, until := m.State()
			return s == Blocked && until.Equal(noon.Add(time.Hour)) && m.Cause().Rule == "r/stop"
		}},
	} {
		m, l := NewMachine(old), edited
		m.advance(noon)
		row.before(&m)
		if row.to != nil {
			row.to(&l)
		}
		if m.Relimit(noon, l); !row.want(&m) {
			state, _ := m.State()
			t.Errorf("%s: %s, pace %g, %d connections, refused for %q, %+v", row.name, state, m.Pace(), m.Connections(), m.Refusal(), m.Cause())
		}
	}
}

// TestNamedLimitIsRemembered: a limit that the receiver named holds over a restart, until the time it said.
func TestNamedLimitIsRemembered(t *testing.T) {
	m := NewMachine(Limits{Receiver: "r", Connections: 10, BlockPause: time.Minute})
	m.Observe(noon, slower(&mail.Advice{Action: mail.ActLimit, Rate: 0.5, Connections: 2, PerConnection: 3, For: time.Hour}), true, nil)
	again := NewMachine(m.Limits())
	again.Recall(noon.Add(time.Minute), m.Remember(noon.Add(time.Minute)))
	if s, until := again.State(); again.Pace() != 0.5 || again.Connections() != 2 || again.PerConnection() != 3 || s != Slowed || !until.Equal(noon.Add(time.Hour)) {
		t.Errorf("%g a second, %d connections, %d on each, %s until %s", again.Pace(), again.Connections(), again.PerConnection(), s, until)
	}
	if again.advance(noon.Add(time.Hour)); again.Connections() != 10 {
		t.Errorf("%d connections after its end", again.Connections())
	}
	late := NewMachine(m.Limits())
	if late.Recall(noon.Add(2*time.Hour), m.Remember(noon)); late.Connections() != 10 {
		t.Errorf("%d connections in a machine that recalls it after its end", late.Connections())
	}
}

// TestRulesAreNumbered: limits tell which edition of the rules they come from, and say the same all the same.
func TestRulesAreNumbered(t *testing.T) {
	first, second := mustRules(t), mustRules(t)
	first.Succeed(nil)
	second.Succeed(first)
	route := mail.Route{Hosts: []mail.Host{{Name: "mx.example", Port: 25}}}
	for _, d := range []mail.Domain{"docomo.ne.jp", "shop.example"} {
		a, b := first.ByRoute(d, route), second.ByRoute(d, route)
		if a.Edition == 0 || b.Edition <= a.Edition || !a.Same(&b) || !a.SameReceiver(&b) {
			t.Errorf("%s: editions %d and %d, the same: %t", d, a.Edition, b.Edition, a.Same(&b))
		}
		if b.Connections++; a.Same(&b) || a.SameReceiver(&b) {
			t.Errorf("%s: limits with another connection are the same", d)
		}
	}
}
