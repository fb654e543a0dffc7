package shaping

import (
	"math"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// run lets m send as fast as it may for d, one connection, and returns how many messages that were. answer is asked for
// each one.
func run(m *Machine, now *time.Time, d time.Duration, answer func(now time.Time) mail.Outcome) (sent int) {
	end := now.Add(d)
	slots, left, _ := m.Grant(*now, 1, nil)
	for now.Before(end) {
		if slots == 0 {
			*now = now.Add(100 * time.Millisecond)
			slots, left, _ = m.Grant(*now, 1, nil)
			continue
		}
		if left == 0 {
			if left, _ = m.Renew(*now, 1, nil); left == 0 {
				if r := m.Refusal(); r != Rate {
					m.Release(*now, slots, 0, nil)
					slots = 0
				}
			}
			*now = now.Add(20 * time.Millisecond)
			continue
		}
		left--
		sent++
		m.Observe(*now, answer(*now), true, nil)
		*now = now.Add(20 * time.Millisecond)
	}
	m.Release(*now, slots, left, nil)
	return sent
}

func fine(time.Time) mail.Outcome { return reply(mail.StageDot, 250) }

func slower(advice *mail.Advice) mail.Outcome {
	o := reply(mail.StageMail, 451)
	o.Scope, o.Advice = mail.ScopeSource, advice
	o.Reply.Text = "too fast"
	return o
}

func near(t *testing.T, what string, got, want, by float64) {
	t.Helper()
	if math.Abs(got-want) > by {
		t.Errorf("%s is %.3f, want %.3f", what, got, want)
	}
}

// The pace after an objection: down, back to just under what was too much, and on only after a calm time.
func TestPaceIsLearned(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 1, Rate: 20, BlockPause: time.Minute}), noon
	backoff := &mail.Advice{Rule: "r/busy", Action: mail.ActBackoff}
	run(&m, &now, time.Minute, fine)
	m.Observe(now, slower(backoff), true, nil)
	near(t, "pace after an objection", m.Pace(), 17, 0.1)
	if s, _ := m.State(); s != Slowed || m.Cause() != (Cause{"r/busy", "451 too fast"}) {
		t.Errorf("%v because of %+v", s, m.Cause())
	}
	m.Observe(now.Add(time.Second), slower(backoff), true, nil)
	near(t, "pace after an answer to what was under way", m.Pace(), 17, 0.1)
	run(&m, &now, 5*time.Minute, fine)
	near(t, "pace after five minutes", m.Pace(), hover*20, 0.1)
	run(&m, &now, 4*time.Minute, fine)
	near(t, "pace before the calm time is over", m.Pace(), hover*20, 0.1)
	run(&m, &now, 30*time.Minute, fine)
	near(t, "pace half an hour later: the limit", m.Pace(), 20, 0.001)
	if s, _ := m.State(); s != Open || m.Cause() != (Cause{}) {
		t.Errorf("%v at the limit, because of %+v", s, m.Cause())
	}
}

func TestPaceRestsWithoutDemand(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 1, Rate: 20, BlockPause: time.Minute}), noon
	run(&m, &now, time.Minute, fine)
	m.Observe(now, slower(&mail.Advice{Action: mail.ActBackoff}), true, nil)
	before := m.Pace()
	now = now.Add(8 * time.Hour)
	m.Grant(now, 1, nil)
	if m.Pace() > before*1.1 {
		t.Errorf("the pace grew from %.2f to %.2f although nobody sent", before, m.Pace())
	}
}

func TestAdvice(t *testing.T) {
	probe := &mail.Advice{Rule: "google/rate-ip", Action: mail.ActProbe, For: 10 * time.Minute}
	tests := []struct {
		name   string
		fixed  bool
		advice *mail.Advice
		scope  mail.Scope
		times  int
		state  State
		pause  time.Duration
		most   int // connections
	}{
		{"suspend", false, &mail.Advice{Action: mail.ActSuspend, For: 2 * time.Hour}, mail.ScopeSource, 1, Blocked, 2 * time.Hour, 5},
		{"suspend as long as blocks last", false, &mail.Advice{Action: mail.ActSuspend}, mail.ScopeSource, 1, Blocked, time.Minute, 5},
		{"suspend on the second within an hour: one", false, &mail.Advice{Action: mail.ActSuspend, For: time.Hour, After: 2, Within: time.Hour}, mail.ScopeSource, 1, Slowed, 0, 5},
		{"… two", false, &mail.Advice{Action: mail.ActSuspend, For: time.Hour, After: 2, Within: time.Hour}, mail.ScopeSource, 2, Blocked, time.Hour, 5},
		{"probe", false, probe, mail.ScopeSource, 1, Blocked, 10 * time.Minute, 5},
		{"probe, another's scope", false, probe, mail.ScopeDKIM, 1, Open, 0, 5},
		{"probe, several scopes with ours among them", false, &mail.Advice{Action: mail.ActProbe, For: time.Minute, Scopes: []mail.Scope{mail.ScopeDKIM, mail.ScopeSource}}, mail.ScopeDKIM, 1, Blocked, time.Minute, 5},
		{"limit", false, &mail.Advice{Action: mail.ActLimit, Connections: 1, For: time.Hour}, mail.ScopeSource, 1, Slowed, time.Hour, 1},
		{"backoff where learning is off", true, &mail.Advice{Action: mail.ActBackoff}, mail.ScopeSource, 1, Open, 0, 5},
		{"tenant's fault", false, &mail.Advice{Action: mail.ActSuspend, For: time.Hour}, mail.ScopeTenant, 1, Open, 0, 5},
		{"greylisting", false, &mail.Advice{Action: mail.ActSameSource}, mail.ScopeRecipient, 1, Open, 0, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMachine(Limits{Connections: 5, PerConnection: 20, BlockPause: time.Minute, Fixed: tt.fixed})
			m.Grant(noon, 100, nil)
			for range tt.times {
				o := slower(tt.advice)
				o.Scope = tt.scope
				m.Observe(noon, o, true, nil)
			}
			state, until := m.State()
			if state != tt.state || m.Connections() != tt.most {
				t.Errorf("%v with %d connections, want %v with %d", state, m.Connections(), tt.state, tt.most)
			}
			if tt.pause > 0 && !until.Equal(noon.Add(tt.pause)) {
				t.Errorf("until %v, want %v later", until, tt.pause)
			}
		})
	}
}

// What Google asks for at 421 4.7.28: nothing for ten minutes, then one connection, and one more with each success; ten
// minutes more where the first try fails.
func TestProbeByTheBook(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 5, PerConnection: 20, BlockPause: time.Minute}), noon
	rate := slower(&mail.Advice{Rule: "google/rate-ip", Action: mail.ActProbe, For: 10 * time.Minute})
	m.Observe(now, rate, true, nil)
	for range 3 { // the probe fails: the pause stays the same
		if slots, _, until := m.Grant(now, 100, nil); slots != 0 || !until.Equal(now.Add(10*time.Minute)) {
			t.Fatalf("%d connections, again at %v", slots, until)
		}
		now = now.Add(10 * time.Minute)
		if slots, n, _ := m.Grant(now, 100, nil); slots != 1 || n != 1 {
			t.Fatalf("probe of %d connections, %d messages", slots, n)
		}
		m.Observe(now, rate, true, nil)
		m.Release(now, 1, 0, nil)
	}
	now = now.Add(10 * time.Minute)
	m.Grant(now, 100, nil)
	for most := 1; most <= 5; most++ {
		m.Observe(now, reply(mail.StageDot, 250), true, nil)
		m.Grant(now, 1000, nil)
		if m.Used() != most {
			t.Fatalf("%d connections after %d successes", m.Used(), most)
		}
	}
	if s, _ := m.State(); s != Open {
		t.Errorf("%v in the end", s)
	}
}

func TestConnectionsAreLearned(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 8, PerConnection: 10, BlockPause: time.Minute}), noon
	m.Grant(now, 1000, nil)
	m.Served(now)
	crowded := mail.Outcome{Result: mail.Deferred, Stage: mail.StageGreeting, Scope: mail.ScopeSource,
		Reply: smtp.Reply{Code: 421, Text: "too many"}, Advice: &mail.Advice{Action: mail.ActBackoff}}
	for range 4 {
		m.Observe(now, crowded, false, nil)
	}
	if m.Connections() != 6 {
		t.Errorf("%d connections after four were turned away at once", m.Connections())
	}
	if n, _ := m.Renew(now, 10, nil); n != 0 || m.Refusal() != Connections {
		t.Errorf("renewed %d (%q) while there are too many", n, m.Refusal())
	}
	now = now.Add(slotAgain)
	m.Grant(now, 1, nil)
	if m.Connections() != 7 {
		t.Errorf("%d connections after a calm time", m.Connections())
	}
}

func TestConnectionsGetShorter(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 2, PerConnection: 20}), noon
	closed := mail.Outcome{Result: mail.Deferred, Stage: mail.StageMail, Scope: mail.ScopeConnection, Detail: mail.Closed.String(),
		Advice: &mail.Advice{Action: mail.ActLimit, PerConnection: -1, For: time.Hour}}
	for range 2 {
		m.Observe(now, closed, true, nil)
	}
	if s, _ := m.State(); m.PerConnection() != 16 || s != Open {
		t.Errorf("%d messages on a connection, %v", m.PerConnection(), s)
	}
	m.Grant(now.Add(2*time.Hour), 1, nil)
	if m.PerConnection() != 20 {
		t.Errorf("%d messages on a connection an hour later", m.PerConnection())
	}
}
