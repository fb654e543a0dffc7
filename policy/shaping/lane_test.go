package shaping

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// kinds are all other mail, a filter's, a fixed filter's and cleaning mail to one receiver.
func kinds(l Limits) map[string]*Lane {
	filtered, fixed, cleaning := l.Filtered("t/f", 0, time.Second, false), l.Filtered("t/x", 0, time.Second, true), l.Cleaning()
	return map[string]*Lane{"": NewLane(&l), "filter": NewLane(&filtered), "fixed": NewLane(&fixed), "cleaning": NewLane(&cleaning)}
}

// TestWhatAReceiverSaysHoldsForAllKinds: what one kind of mail is told, every kind is told (N4, R67).
func TestWhatAReceiverSaysHoldsForAllKinds(t *testing.T) {
	stop := mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, Scope: mail.ScopeSource,
		Reply:  smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 7, Detail: 28}},
		Advice: &mail.Advice{Action: mail.ActProbe, For: 10 * time.Minute}}
	less := mail.Outcome{Result: mail.Deferred, Stage: mail.StageMail, Scope: mail.ScopeSource, Reply: smtp.Reply{Code: 451},
		Advice: &mail.Advice{Action: mail.ActLimit, Rate: 1. / 60, Connections: 1, For: time.Hour}}
	for _, told := range []string{"", "filter", "fixed", "cleaning"} {
		l := Limits{Receiver: "r", Connections: 10, BlockPause: time.Minute}
		all := kinds(l)
		m := NewMachine(l)
		m.Grant(noon, 1, all[told])
		m.Observe(noon, stop, true, all[told])
		m.Release(noon, 1, 0, all[told])
		for name, x := range all {
			if n, _, until := m.Grant(noon.Add(9*time.Minute), 1, x); n > 0 || m.Refusal() != BlockedPause || !until.Equal(noon.Add(10*time.Minute)) {
				t.Errorf("%q was told to stop: %q has %d connections, %s until %s", told, name, n, m.Refusal(), until)
			}
		}
		probes := 0
		for _, x := range all {
			n, _, _ := m.Grant(noon.Add(11*time.Minute), 1, x)
			probes += n
		}
		if probes != 1 {
			t.Errorf("%q was told to stop: %d probes after the pause", told, probes)
		}

		all, m = kinds(l), NewMachine(l)
		m.Grant(noon, 1, all[told])
		m.Observe(noon, less, true, all[told])
		for name, x := range all {
			if n, _, _ := m.Grant(noon, 1, x); n > 0 {
				t.Errorf("%q was told to have one connection: %q has a second", told, name)
			}
		}
		for minute := range 5 { // one of them has the message, whichever asks first
			sent := 0
			for range 2 {
				for _, x := range all {
					n, _ := m.Renew(noon.Add(time.Duration(minute)*time.Minute), 1, x)
					sent += n
				}
			}
			if sent != 1 {
				t.Errorf("%q was told a message a minute: all kinds have %d in minute %d", told, sent, minute)
			}
		}
		m.Release(noon.Add(5*time.Minute), 1, 0, all[told])
		slots := 0
		for _, x := range all {
			n, _, _ := m.Grant(noon.Add(5*time.Minute), 1, x)
			slots += n
		}
		if slots != 1 {
			t.Errorf("%q was told to have one connection: all kinds have %d", told, slots)
		}
	}
}

// TestKindsShareAReceiversLimits: connections, caps, warm-up and rate are those of all kinds together.
func TestKindsShareAReceiversLimits(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits Limits
		plan   *Plan
		slots  int // that are granted in the end
		n      int // messages that are; 0 = any number
	}{
		{"connections", Limits{Receiver: "r", Connections: 7}, nil, 7, 0},
		{"a daily cap", Limits{Receiver: "r", Connections: 50, DailyCap: 90}, nil, 50, 90},
		{"an hourly cap", Limits{Receiver: "r", Connections: 20, HourlyCap: 40}, nil, 20, 40},
		{"warm-up", Limits{Receiver: "r", Connections: 20}, &Plan{Name: "p", Span: time.Hour, Steps: []int{25, 50}}, 20, 25},
		{"a rate", Limits{Receiver: "r", Connections: 20, Rate: 30}, nil, 20, 30},
		{"a cap below the connections", Limits{Receiver: "r", Connections: 20, DailyCap: 15}, nil, 15, 15},
	} {
		all := kinds(row.limits)
		m := NewMachine(row.limits)
		m.Warm(noon, row.plan)
		slots, n := 0, 0
		for range 100 {
			for _, x := range all {
				s, got, _ := m.Grant(noon, 1, x)
				slots, n = slots+s, n+got
			}
		}
		for range 100 {
			for _, x := range all {
				got, _ := m.Renew(noon, 1, x)
				n += got
			}
		}
		if slots != row.slots || row.n > 0 && n != row.n {
			t.Errorf("%s: %d connections and %d messages, want %d and %d", row.name, slots, n, row.slots, row.n)
		}
	}
}

// TestCleaningStaysATenth: of the receiver's pace in force, its connections and its caps, also where no other mail goes.
func TestCleaningStaysATenth(t *testing.T) {
	l := Limits{Receiver: "r", Connections: 20, Rate: 50, DailyCap: 1000}
	x := kinds(l)["cleaning"]
	m := NewMachine(l)
	slots, sent := 0, 0
	for now := noon; now.Before(noon.Add(time.Minute)); now = now.Add(50 * time.Millisecond) {
		s, n, _ := m.Grant(now, 1, x)
		more, _ := m.Renew(now, 1, x)
		slots, sent = slots+s, sent+n+more
	}
	if slots != 2 || sent != 100 {
		t.Errorf("%d connections, %d messages of the day; want 2 and 100", slots, sent)
	}
	if n, _, until := m.Grant(noon.Add(time.Hour), 1, nil); n != 1 {
		t.Errorf("other mail has nothing until %s", until)
	}
	y := m.Remember(noon)
	own := x.Remember()
	if y.Spent != 101 || own.Spent != 100 {
		t.Errorf("remembered %d and %d of it", y.Spent, own.Spent)
	}
	next := kinds(l)["cleaning"]
	next.Recall(own)
	if n, _, _ := m.Grant(noon.Add(time.Hour), 1, next); n != 0 || m.Refusal() != DailyCap {
		t.Errorf("after a restart it begins anew: %d, %s", n, m.Refusal())
	}
	l.DailyCap = 0
	x, m = kinds(l)["cleaning"], NewMachine(l)
	sent = 0
	m.Grant(noon, 1, x)
	for now := noon; now.Before(noon.Add(time.Minute)); now = now.Add(50 * time.Millisecond) {
		n, _ := m.Renew(now, 1, x)
		sent += n
	}
	if sent < 295 || sent > 305 {
		t.Errorf("%d a minute at 50 a second, want a tenth", sent)
	}
}

// TestFixedGoesAtItsOwnPace: what was learned does not hold it back, and leaves the others what it does not use.
func TestFixedGoesAtItsOwnPace(t *testing.T) {
	l := Limits{Receiver: "r", Connections: 10, Start: 20, Rate: 40}
	all := kinds(l)
	m := NewMachine(l)
	m.Grant(noon, 1, all["fixed"])
	m.Grant(noon, 1, nil)
	fixed, others := 0, 0
	for now := noon; now.Before(noon.Add(10 * time.Second)); now = now.Add(20 * time.Millisecond) {
		if now.UnixMilli()%100 == 0 { // as the operator set it
			n, _ := m.Renew(now, 1, all["fixed"])
			fixed += n
		}
		n, _ := m.Renew(now, 1, nil)
		others += n
	}
	if fixed != 100 || others < 90 || others > 130 {
		t.Errorf("%d fixed and %d others in ten seconds", fixed, others)
	}
	m.Observe(noon.Add(10*time.Second), mail.Outcome{Result: mail.Deferred, Stage: mail.StageMail, Scope: mail.ScopeSource,
		Reply: smtp.Reply{Code: 451}}, true, all["fixed"])
	if s, _ := m.State(); s != Slowed || m.k.ceiling != 0 {
		t.Errorf("%s, ceiling %g: something was learned from it", s, m.k.ceiling)
	}
}

// TestNamedLimitIsNoLearnedPace: while the receiver says how much it wants, mail of a fixed pace keeps to that, and to nothing
// that was learned.
func TestNamedLimitIsNoLearnedPace(t *testing.T) {
	l := Limits{Receiver: "r", Connections: 10, Rate: 100, BlockPause: time.Minute}
	all := kinds(l)
	m := NewMachine(l)
	m.Grant(noon, 1, all["fixed"])
	m.Grant(noon, 1, nil)
	m.k.pace, m.k.grown = 0.5, momentOf(noon)
	m.Observe(noon, mail.Outcome{Result: mail.Deferred, Stage: mail.StageMail, Scope: mail.ScopeSource, Reply: smtp.Reply{Code: 451},
		Advice: &mail.Advice{Action: mail.ActLimit, Rate: 5, For: time.Hour}}, true, all["fixed"])
	count := func(x *Lane, from time.Time) (n int) {
		for now := from; now.Before(from.Add(time.Minute)); now = now.Add(20 * time.Millisecond) {
			got, _ := m.Renew(now, 1, x)
			n += got
		}
		return n
	}
	if n := count(all["fixed"], noon); n < 295 || n > 305 {
		t.Errorf("%d fixed in a minute at five a second", n)
	}
	if n := count(nil, noon.Add(time.Minute)); n < 25 || n > 35 {
		t.Errorf("%d others in a minute at one in two seconds", n)
	}
	m.Renew(noon.Add(3*time.Minute), 5, all["fixed"])
	m.Release(noon.Add(3*time.Minute), 0, 3, all["fixed"])
	if n, _ := m.Renew(noon.Add(3*time.Minute), 5, all["fixed"]); n != 3 {
		t.Errorf("%d of three that were not begun", n)
	}
}

// TestRuleIsNotTheLearnedPace: where mail of a fixed pace uses up what the rule says, the learned pace has held nothing back.
func TestRuleIsNotTheLearnedPace(t *testing.T) {
	l := Limits{Receiver: "r", Connections: 10, Rate: 10}
	m := NewMachine(l)
	m.Grant(noon, 1, nil)
	m.k.pace = 9
	m.repace(momentOf(noon))
	m.all.level, m.messages.level = 0, m.messages.size
	if n, _ := m.Renew(noon, 1, nil); n != 0 || m.Refusal() != Rate {
		t.Fatalf("%d messages, %s", n, m.Refusal())
	}
	if m.k.bound(noon) {
		t.Error("the learned pace counts as what held it back")
	}
}

// TestOneObjectionToFixedMail: what ten connections of it are told at once is one objection, as with all mail.
func TestOneObjectionToFixedMail(t *testing.T) {
	stop := mail.Outcome{Result: mail.Deferred, Stage: mail.StageMail, Scope: mail.ScopeSource, Reply: smtp.Reply{Code: 421}}
	for name, x := range kinds(Limits{Receiver: "r", Connections: 10}) {
		m := NewMachine(Limits{Receiver: "r", Connections: 10, BlockPause: time.Minute})
		for range 10 {
			m.Grant(noon, 1, x)
		}
		m.Grant(noon, 1, nil)
		m.Observe(noon, mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Reply: smtp.Reply{Code: 250}}, true, x)
		for i := range 10 {
			m.Observe(noon.Add(time.Duration(i)*100*time.Millisecond), stop, true, x)
		}
		if s, _ := m.State(); s == Blocked {
			t.Errorf("%q: ten connections that were told at once block", name)
		}
		m.Observe(noon.Add(4*time.Second), stop, true, x)
		if s, _ := m.State(); s != Blocked {
			t.Errorf("%q: a second objection later on does not block", name)
		}
	}
}

// TestPartOfThePaceGrowsBack: where only cleaning mail goes it is held back by its part of the learned pace, and that comes
// back all the same; what the receiver bore before is not put in question by so little mail.
func TestPartOfThePaceGrowsBack(t *testing.T) {
	l := Limits{Receiver: "r", Connections: 10, Rate: 100}
	less := mail.Outcome{Result: mail.Deferred, Stage: mail.StageMail, Scope: mail.ScopeSource, Reply: smtp.Reply{Code: 451}}
	x, m := kinds(l)["cleaning"], NewMachine(l)
	m.Grant(noon, 1, x)
	now, sent := noon, 0
	run := func(d time.Duration, x *Lane) {
		for end := now.Add(d); now.Before(end); now = now.Add(50 * time.Millisecond) {
			n, _ := m.Renew(now, 1, x)
			sent += n
		}
	}
	run(time.Minute, x)
	m.Observe(now, less, true, x)
	low := m.Pace()
	if low > 10 {
		t.Fatalf("after an objection to ten a second: %g", low)
	}
	if run(10*time.Minute, x); m.Pace() < 100 {
		t.Errorf("it came back from %g to %g in ten minutes", low, m.Pace())
	}

	m = NewMachine(l)
	m.Grant(now, 1, nil)
	run(5*time.Minute, nil)
	m.k.pace, m.k.binding = 50, momentOf(now)
	m.Observe(now, less, true, nil)
	ceiling := m.k.ceiling
	if run(time.Hour, x); ceiling == 0 || m.k.ceiling != ceiling || m.Pace() < 0.9*ceiling || m.Pace() > ceiling {
		t.Errorf("ceiling %g, then %g and the pace %g", ceiling, m.k.ceiling, m.Pace())
	}
}
