package shaping

import (
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// sendAll takes all that m gives in a span and tells how much that was and why it was no more.
func sendAll(m *Machine, now time.Time) (sent int, why Reason, until time.Time) {
	for {
		slots, n, at := m.Grant(now, 1000, nil)
		if slots == 0 {
			return sent, m.Refusal(), at
		}
		sent += n
		for {
			n, _ := m.Renew(now, 1000, nil)
			if n == 0 {
				break
			}
			sent += n
		}
		m.Release(now, slots, 0, nil)
	}
}

func TestPublishedPlans(t *testing.T) {
	for name, p := range Plans(nil) {
		if p.Name != name || planNumber(p) == 0 {
			t.Errorf("%s calls itself %q and has number %d", name, p.Name, planNumber(p))
		}
		for i := 1; i < len(p.Steps); i++ {
			if p.Steps[i] <= p.Steps[i-1] {
				t.Errorf("%s: step %d allows %d after %d", name, i, p.Steps[i], p.Steps[i-1])
			}
		}
		text := "tenants: []\npools:\n  - {name: fresh, sources: [192.0.2.1], warmup: " + name + "}\n"
		if _, err := settings.Decode([]byte(text), nil); err != nil && strings.Contains(err.Error(), "warmup") {
			t.Errorf("settings do not know %s: %v", name, err)
		}
	}
	p := Plans(nil)
	if s := p[PlanSendGrid].Steps; len(s) != 36 || s[0] != 20 || s[15] != 3111 || s[35] != 2_600_000 {
		t.Errorf("sendgrid: %v", s)
	}
	if s := p[PlanSparkPost].Steps; len(s) != 29 || s[0] != 200 || s[16] != 500_000 || s[28] != 10_000_000 {
		t.Errorf("sparkpost: %v", s)
	}
}

func TestWarmup(t *testing.T) { // R149, N13
	day := func(n int) time.Time { return noon.AddDate(0, 0, n) }
	blocked := slower(&mail.Advice{Action: mail.ActSuspend, For: time.Hour})
	tests := []struct {
		name string
		plan string
		days []int // on which all that may be is sent
		bad  int   // day after whose mail the receiver suspends us; -1 = none
		want []int // sent in one span on each of days
	}{
		{"by the hour, a step a day", PlanSendGrid, []int{0, 1, 2, 3}, -1, []int{20, 28, 39, 55}},
		{"by the day", PlanSparkPost, []int{0, 1, 2}, -1, []int{200, 500, 1000}},
		{"a week's pause costs nothing, and no step is won in it", PlanSparkPost, []int{0, 1, 8}, -1, []int{200, 500, 1000}},
		{"each further day costs a step", PlanSparkPost, []int{0, 1, 2, 3, 11}, -1, []int{200, 500, 1000, 2000, 2000}},
		{"half a month and it is new again", PlanSparkPost, []int{0, 1, 2, 3, 20}, -1, []int{200, 500, 1000, 2000, 200}},
		{"a step back after a suspension, and that day does not count", PlanSparkPost, []int{0, 1, 2, 3}, 1, []int{200, 500, 200, 500}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMachine(Limits{Receiver: "r", Connections: 2, BlockPause: time.Minute, Fixed: true}) // no pace in the way
			m.Warm(day(0), Plans(nil)[tt.plan])
			for i, d := range tt.days {
				if d > 0 {
					m.Observe(day(d), fine(day(d)), true, nil)
				}
				if s, _ := m.State(); s == Blocked || s == Probing { // let the probe through, which costs nothing of the day
					m.state = Open
				}
				n, why, until := sendAll(&m, day(d))
				if n != tt.want[i] || why != Warmup || !until.After(day(d)) {
					t.Errorf("day %d: %d sent until %q at %v, want %d", d, n, why, until, tt.want[i])
				}
				if tt.bad == i {
					m.Observe(day(d), blocked, true, nil)
				}
			}
		})
	}
}

// A day on which little was sent wins no step where steps are to be earned.
func TestStepsAreEarned(t *testing.T) {
	m := NewMachine(Limits{Receiver: "r", Connections: 1})
	m.Warm(noon, Plans(nil)[PlanSparkPost])
	slots, n, _ := m.Grant(noon, 8, nil)
	m.Release(noon, slots, 0, nil)
	if step, most, ok := m.Warmup(); n == 0 || step != 0 || most != 200 || !ok {
		t.Fatalf("%d sent at step %d of %d, %v", n, step, most, ok)
	}
	if n, _, _ := sendAll(&m, noon.AddDate(0, 0, 1)); n != 200 {
		t.Errorf("%d sent the day after, want the same step", n)
	}
}

func TestMemory(t *testing.T) {
	limits := Limits{Receiver: "r", Connections: 8, Rate: 3, DailyCap: 5000, BlockPause: time.Minute}
	m, now := NewMachine(limits), noon
	m.Warm(now, Plans(nil)[PlanSparkPost])
	run(&m, &now, time.Minute, fine)
	m.Observe(now, slower(&mail.Advice{Action: mail.ActBackoff}), true, nil)
	used := limits.DailyCap - m.day.spent
	y := m.Remember(now)
	if y.Pace == 0 || y.Ceiling == 0 || y.InPeriod == 0 {
		t.Fatalf("nothing worth keeping: %+v", y)
	}

	again := NewMachine(limits)
	again.Warm(now, Plans(nil)[PlanSparkPost])
	again.Recall(now, y)
	if got := again.Remember(now); got != y {
		t.Errorf("recalled\n%+v, want\n%+v", got, y)
	}
	if n, why, _ := sendAll(&again, now); n > used || why != Rate && why != Warmup {
		t.Errorf("%d sent at once, stopped by %q", n, why)
	}

	other := NewMachine(Limits{Receiver: "r", Connections: 8, BlockPause: time.Minute})
	other.Hint(now, y)
	if p := other.Pace(); p <= 0 || p >= float64(y.Ceiling) {
		t.Errorf("who was told begins at %v/s, another was refused at %v/s", p, y.Ceiling)
	}
	if _, _, cold := other.Warmup(); cold {
		t.Error("another source's plan was taken up")
	}

	m.Observe(now, slower(&mail.Advice{Action: mail.ActSuspend, For: time.Hour}), true, nil)
	shut := NewMachine(limits)
	shut.Recall(now, m.Remember(now))
	if s, until := shut.State(); s != Blocked || until.Unix() != now.Add(time.Hour).Unix() {
		t.Errorf("a block is kept as %v until %v", s, until)
	}
}

// FuzzRecall: what comes from a disk or another member never lifts a limit.
func FuzzRecall(f *testing.F) {
	f.Add(float32(3), float32(4), uint16(2), int64(0), int32(5), int16(3), int32(20_000), true)
	f.Add(float32(-1), float32(1e30), uint16(65535), int64(1)<<62, int32(-5), int16(-3), int32(-1), false)
	f.Fuzz(func(t *testing.T, pace, ceiling float32, conns uint16, until int64, spent int32, step int16, day int32, hint bool) {
		l := Limits{Receiver: "r", Connections: 3, Rate: 50, BlockPause: time.Minute}
		m := NewMachine(l)
		m.Warm(noon, Plans(nil)[PlanSendGrid])
		y := Memory{Pace: pace, Ceiling: ceiling, Conns: conns, Until: until, Again: spent, Day: day, Spent: spent, Plan: 1, Step: step,
			WarmDay: day, WarmLast: day, WarmSent: spent, Period: day, InPeriod: spent, Objected: until}
		if hint {
			m.Hint(noon, y)
		} else {
			m.Recall(noon, y)
		}
		if p := m.Pace(); !(p > 0 && p <= l.Rate) || m.Connections() > l.Connections || m.Connections() < 1 {
			t.Fatalf("pace %v, connections %d", p, m.Connections())
		}
		if _, until := m.State(); until.After(noon.Add(25 * time.Hour)) {
			t.Fatalf("blocked until %v", until)
		}
		sendAll(&m, noon)
	})
}
