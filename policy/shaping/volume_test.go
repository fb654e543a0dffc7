package shaping

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// counting answers as a receiver does that takes so many messages of a span, by its own clock.
func counting(most int, span time.Duration) (func(time.Time) mail.Outcome, *int) {
	backoff := &mail.Advice{Rule: "r/busy", Action: mail.ActBackoff}
	var of, n, refused int
	return func(now time.Time) mail.Outcome {
		if i := int(now.Unix()) / int(span.Seconds()); i != of {
			of, n = i, 0
		}
		if n++; n > most {
			refused++
			return slower(backoff)
		}
		return fine(now)
	}, &refused
}

// Who counts by the hour is sent what he takes in one, spread over it, with few messages lost to finding out.
func TestVolumeIsLearned(t *testing.T) {
	const most = 2400
	m, now := NewMachine(Limits{Connections: 1, Start: 1, BlockPause: time.Minute}), noon
	answer, refused := counting(most, time.Hour)
	run(&m, &now, 4*time.Hour, answer)
	*refused = 0
	sent := run(&m, &now, 8*time.Hour, answer)
	if taken := sent - *refused; taken < 8*most*95/100 || *refused > sent/100 {
		t.Errorf("%d of %d taken in eight hours, %d refused", taken, 8*most, *refused)
	}
}

// A receiver that takes nothing is asked now and then only, and as soon as it takes mail again the pace comes back.
func TestTrickle(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 1, Rate: 5, BlockPause: time.Minute}), noon
	run(&m, &now, 10*time.Minute, fine)
	backoff := &mail.Advice{Rule: "r/busy", Action: mail.ActBackoff}
	n := run(&m, &now, 30*time.Minute, func(time.Time) mail.Outcome { return slower(backoff) })
	if n > 40 {
		t.Errorf("%d messages in half an hour to a receiver that refuses all", n)
	}
	if _, _, until := m.Grant(now, 1, nil); until.Sub(now) > trickle {
		t.Errorf("whoever waits is told to come in %s", until.Sub(now))
	}
	run(&m, &now, 10*time.Minute, fine)
	if m.Pace() < 1 {
		t.Errorf("pace %.2f ten minutes after it takes mail again", m.Pace())
	}
}

// The silence after objections lasts as long as it is meant to, though the pace goes down while it does.
func TestSilenceEnds(t *testing.T) {
	backoff := &mail.Advice{Rule: "r/busy", Action: mail.ActBackoff}
	limit := &mail.Advice{Rule: "r/limit", Action: mail.ActLimit, Rate: 0.1, For: time.Hour}
	tests := []struct {
		name     string
		advice   []*mail.Advice // four seconds apart
		from, to time.Duration  // after the last, when the next message is granted
	}{
		{"two objections", []*mail.Advice{backoff, backoff}, hush, hush + time.Second},
		{"three objections", []*mail.Advice{backoff, backoff, backoff}, hush, trickle},
		{"four objections", []*mail.Advice{backoff, backoff, backoff, backoff}, trickle, 2 * trickle},
		{"a rule's limit after two", []*mail.Advice{backoff, backoff, limit}, hush - 4*time.Second, hush - 4*time.Second + 11*time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, now := NewMachine(Limits{Connections: 1, Rate: 10, BlockPause: time.Minute}), noon
			run(&m, &now, 10*time.Minute, fine)
			for i, a := range tt.advice {
				if i > 0 {
					now = now.Add(4 * time.Second)
				}
				m.Observe(now, slower(a), true, nil)
			}
			last := now
			for ; now.Sub(last) < time.Hour; now = now.Add(time.Second / 10) {
				if _, n, _ := m.Grant(now, 1, nil); n > 0 {
					break
				}
			}
			if d := now.Sub(last); d < tt.from || d > tt.to {
				t.Errorf("the next message is granted %s after the last objection, want %s to %s", d, tt.from, tt.to)
			}
		})
	}
}

// What was saved up before an objection does not go after it: the receiver's count is full.
func TestNothingSavedUpOutlastsAnObjection(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 1, Rate: 10, BlockPause: time.Minute}), noon
	run(&m, &now, 10*time.Minute, fine)
	now = now.Add(10 * time.Second)
	m.Observe(now, slower(&mail.Advice{Action: mail.ActBackoff}), true, nil)
	if _, n, until := m.Grant(now, 1, nil); n > 0 || until.Sub(now) > time.Second {
		t.Errorf("%d messages granted at once, the next in %s", n, until.Sub(now))
	}
}

// After a night without mail the pace begins at half of what was borne, and comes back.
func TestPaceRestartsWithCare(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 1, Rate: 20, BlockPause: time.Minute}), noon
	run(&m, &now, time.Minute, fine)
	m.Observe(now, slower(&mail.Advice{Action: mail.ActBackoff}), true, nil)
	run(&m, &now, 6*time.Minute, fine)
	near(t, "pace in the evening", m.Pace(), hover*20, 0.1)
	y := m.Remember(now)
	now = now.Add(8 * time.Hour)
	m.Grant(now, 1, nil)
	near(t, "pace in the morning", m.Pace(), 10, 0.1)
	again := NewMachine(m.Limits())
	again.Recall(now, y)
	near(t, "pace in the morning, recalled", again.Pace(), 10, 0.1)
	m.Release(now, m.Used(), 0, nil)
	run(&m, &now, 6*time.Minute, fine)
	near(t, "pace a little later", m.Pace(), 19.7, 0.4)
}

// A pace that is borne beyond the ceiling that was met before grows faster: the receiver bears more than then.
func TestPaceGoesOnward(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 1, Rate: 40, BlockPause: time.Minute}), noon
	m.k.pace, m.k.ceiling, m.k.met, m.k.grown = 10, 10, 10, momentOf(now)
	m.k.objected = now.Add(-calm)
	m.repace(momentOf(now))
	run(&m, &now, 20*time.Minute, fine)
	if m.Pace() < 13 {
		t.Errorf("pace %.1f after twenty minutes beyond a ceiling of 10", m.Pace())
	}
}

// What a rule's limit holds back teaches nothing: after it the pace begins at half of what was too much, not beyond it.
func TestNothingIsLearnedBelowALimit(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 1, Start: 5, BlockPause: time.Minute}), noon
	m.k.ceiling, m.k.met, m.k.objected = 5, 5, now
	run(&m, &now, 5*time.Minute, fine)
	m.Observe(now, slower(&mail.Advice{Action: mail.ActLimit, Rate: 0.0167, Connections: 1, For: 90 * time.Minute}), true, nil)
	run(&m, &now, 90*time.Minute, fine)
	m.Grant(now, 1, nil)
	if m.Pace() > 3.5 {
		t.Errorf("pace %.2f after the limit, objected to at 5", m.Pace())
	}
}
