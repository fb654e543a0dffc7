package shaping

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

var noon = time.Date(2026, 7, 1, 12, 30, 0, 0, time.UTC)

func reply(stage mail.Stage, code int) mail.Outcome {
	o := mail.Outcome{Stage: stage, Reply: smtp.Reply{Code: code}}
	switch {
	case code >= 500:
		o.Result = mail.Failed
	case code >= 400 || code == 0:
		o.Result = mail.Deferred
	default:
		o.Result = mail.Delivered
	}
	return o
}

func TestGrant(t *testing.T) {
	tests := []struct {
		name            string
		limits          Limits
		want            int
		slots, messages int
	}{
		{"one message, one connection", Limits{Connections: 10, PerConnection: 50}, 1, 1, 1},
		{"many messages share the connections", Limits{Connections: 10, PerConnection: 50}, 1000, 10, 500},
		{"one connection for eight", Limits{Connections: 10, PerConnection: 50}, 17, 3, 17},
		{"few connections where a pace is wanted", Limits{Connections: 10, PerConnection: 50, Interval: time.Second}, 51, 2, 51},
		{"rate bounds the messages", Limits{Connections: 10, Rate: 5}, 100, 1, 5},
		{"daily cap bounds the messages", Limits{Connections: 1, PerConnection: 50, DailyCap: 3}, 100, 1, 3},
		{"connection rate bounds the slots", Limits{Connections: 10, ConnectionRate: 0.05}, 1000, 3, 600},
		{"nothing wanted", Limits{Connections: 10}, 0, 0, 0},
		{"no limit but connections", Limits{Connections: 64}, 100000, 64, 64 * perRenewal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMachine(tt.limits)
			slots, messages, until := m.Grant(noon, tt.want, nil)
			if slots != tt.slots || messages != tt.messages {
				t.Errorf("granted %d slots, %d messages; want %d, %d", slots, messages, tt.slots, tt.messages)
			}
			if slots > 0 && !until.After(noon) {
				t.Errorf("grant ends at %v", until)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name   string
		limits Limits
		at     time.Time
		before func(m *Machine, now time.Time)
		reason Reason
		again  time.Duration // from at; 0 = a release must come
	}{
		{"all connections out", Limits{Connections: 1}, noon, func(m *Machine, now time.Time) { m.Grant(now, 1, nil) }, Connections, 0},
		{"pace", Limits{Connections: 9, Rate: 2}, noon, func(m *Machine, now time.Time) { m.Grant(now, 2, nil) }, Rate, 500 * time.Millisecond},
		{"new connections", Limits{Connections: 2, ConnectionRate: 0.01}, noon, func(m *Machine, now time.Time) {
			m.Grant(now, 1, nil)
			m.Release(now, 1, 0, nil)
		}, ConnectionRate, 100 * time.Second},
		{"daily cap", Limits{Connections: 9, DailyCap: 1}, noon, func(m *Machine, now time.Time) { m.Grant(now, 1, nil) }, DailyCap, 11*time.Hour + 30*time.Minute},
		{"blocked", Limits{Connections: 9, BlockPause: time.Minute}, noon, func(m *Machine, now time.Time) {
			for range 3 {
				m.Observe(now, reply(mail.StageGreeting, 421), false, nil)
			}
		}, BlockedPause, time.Minute},
		{"top of the hour", Limits{Receiver: "docomo", Connections: 9, TopOfHour: time.Minute}, noon.Truncate(time.Hour), func(*Machine, time.Time) {}, TopOfHour, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMachine(tt.limits)
			tt.before(&m, tt.at)
			slots, messages, until := m.Grant(tt.at, 2, nil)
			if slots != 0 || messages != 0 || m.Refusal() != tt.reason {
				t.Fatalf("granted %d, %d; reason %q, want %q", slots, messages, m.Refusal(), tt.reason)
			}
			switch {
			case tt.again == 0 && !until.IsZero(), tt.again > 1 && !until.Equal(tt.at.Add(tt.again)):
				t.Errorf("ask again at %v, want %v after %v", until, tt.again, tt.at)
			case tt.again > 0:
				if slots, _, _ := m.Grant(until, 1, nil); slots != 1 {
					t.Errorf("asked again in time and refused: %q", m.Refusal())
				}
			}
		})
	}
}

func TestTopOfHourStaysInItsWindow(t *testing.T) {
	m := NewMachine(Limits{Receiver: "au", Connections: 100, TopOfHour: time.Minute})
	hour := noon.Truncate(time.Hour)
	for i := range 100 {
		at := hour.Add(time.Duration(i) * time.Hour)
		if slots, _, until := m.Grant(at, 1, nil); slots == 0 && until.Sub(at) > time.Minute {
			t.Fatalf("%v: waits until %v", at, until)
		}
		m.Release(at, 1, 1, nil)
		if slots, _, _ := m.Grant(at.Add(time.Minute), 1, nil); slots != 1 {
			t.Fatalf("%v: still waiting after a minute", at)
		}
		m.Release(at, 1, 1, nil)
	}
}

// TestTopOfHourHoldsOpenConnections: what was granted before the full hour is to be begun before it, and no more is granted
// until the pause is over (requirement D2).
func TestTopOfHourHoldsOpenConnections(t *testing.T) {
	m := NewMachine(Limits{Receiver: "docomo", Connections: 2, TopOfHour: time.Minute})
	hour := noon.Truncate(time.Hour)
	if n, _, until := m.Grant(hour.Add(-10*time.Second), 1, nil); n != 1 || until.After(hour) {
		t.Fatalf("%d granted until %s", n, until)
	}
	n, until := m.Renew(hour, 10, nil)
	if n != 0 || m.Refusal() != TopOfHour || !until.After(hour) || until.After(hour.Add(time.Minute)) {
		t.Fatalf("%d at the full hour, %q until %s", n, m.Refusal(), until)
	}
	if n, _ := m.Renew(until, 10, nil); n == 0 {
		t.Errorf("nothing at the end of the pause: %q", m.Refusal())
	}
}

func TestBlockProbeOpen(t *testing.T) {
	m := NewMachine(Limits{Connections: 10, PerConnection: 50, BlockPause: time.Minute})
	now := noon
	m.Grant(now, 20, nil) // three connections out
	step := func(what string, want State) {
		t.Helper()
		if got, _ := m.State(); got != want {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	reset := mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, Detail: "connection reset"}
	m.Observe(now, reset, true, nil)
	m.Observe(now, reset, true, nil)
	step("two resets", Open)
	m.Observe(now, reply(mail.StageRcpt, 550), true, nil)
	step("unknown user is no signal", Open)
	m.Observe(now, reset, true, nil)
	step("an answer between", Open)
	m.Observe(now, reset, true, nil)
	step("four resets and one answer", Blocked)
	if n, until := m.Renew(now, 5, nil); n != 0 || !until.Equal(now.Add(time.Minute)) {
		t.Errorf("renewed %d until %v while blocked", n, until)
	}
	now = now.Add(time.Minute)
	slots, messages, _ := m.Grant(now, 100, nil)
	step("pause over", Probing)
	if slots != 1 || messages != 1 {
		t.Fatalf("probe of %d slots, %d messages", slots, messages)
	}
	m.Release(now, 3, 0, nil) // the old connections end; the probe is still out
	if slots, _, _ := m.Grant(now, 100, nil); slots != 0 || m.Refusal() != ProbeOut {
		t.Fatalf("a second probe: %d, %q", slots, m.Refusal())
	}
	m.Observe(now, reply(mail.StageGreeting, 421), false, nil)
	m.Release(now, 1, 1, nil)
	step("probe failed", Blocked)
	if _, until := m.State(); !until.Equal(now.Add(2 * time.Minute)) {
		t.Errorf("second pause ends %v", until)
	}
	now = now.Add(2 * time.Minute)
	m.Grant(now, 100, nil)
	m.Release(now, 1, 1, nil) // came back without an outcome
	if slots, _, _ := m.Grant(now, 100, nil); slots != 1 {
		t.Fatalf("no further probe: %q", m.Refusal())
	}
	m.Observe(now, reply(mail.StageDot, 250), true, nil)
	m.Release(now, 1, 0, nil)
	step("probe succeeded", Open)
	if slots, _, _ := m.Grant(now, 100, nil); slots != 10 {
		t.Errorf("open again with %d slots", slots)
	}
}

func TestSignals(t *testing.T) {
	tests := []struct {
		name      string
		outcome   mail.Outcome
		connected bool
		want      bool
	}{
		{"delivered", reply(mail.StageDot, 250), true, false},
		{"session ended in peace", mail.Outcome{}, true, false},
		{"connection refused", mail.Outcome{Result: mail.Deferred, Stage: mail.StageConnect}, false, true},
		{"banner 554", reply(mail.StageGreeting, 554), false, true},
		{"421 at RCPT", reply(mail.StageRcpt, 421), true, true},
		{"450 at RCPT (greylisting)", reply(mail.StageRcpt, 450), true, false},
		{"550 at RCPT", reply(mail.StageRcpt, 550), true, false},
		{"550 that names our address", mail.Outcome{Result: mail.Failed, Stage: mail.StageMail, Scope: mail.ScopeSource, Reply: smtp.Reply{Code: 550}}, true, true},
		{"reset after the dot", mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot}, true, true},
		{"SERVFAIL", mail.Outcome{Result: mail.Deferred, Stage: mail.StageDNS}, false, false},
		{"handshake failed", mail.Outcome{Result: mail.Deferred, Stage: mail.StageTLS}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := signal(tt.outcome, tt.connected); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestDailyCapOverMidnight(t *testing.T) {
	m := NewMachine(Limits{Connections: 2, PerConnection: 8, DailyCap: 8})
	evening := time.Date(2026, 7, 1, 23, 59, 0, 0, time.UTC)
	_, n, until := m.Grant(evening, 8, nil)
	if midnight := evening.Add(time.Minute); n != 8 || !until.Equal(midnight) {
		t.Fatalf("granted %d until %v", n, until)
	}
	morning := evening.Add(2 * time.Minute)
	_, n, _ = m.Grant(morning, 8, nil)
	m.Release(morning, 1, 8, nil) // of yesterday: today's cap stays spent
	if _, more, _ := m.Grant(morning, 8, nil); n != 8 || more != 0 || m.Refusal() != DailyCap {
		t.Errorf("granted %d, then %d more (%q)", n, more, m.Refusal())
	}
}

// TestNeverAboveALimit lets an adversary order the calls as it likes and keeps books of its own.
func TestNeverAboveALimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{
			Connections:    rapid.IntRange(1, 12).Draw(t, "connections"),
			PerConnection:  rapid.IntRange(0, 60).Draw(t, "per connection"),
			Rate:           rapid.SampledFrom([]float64{0, 0.5, 3, 40}).Draw(t, "rate"),
			ConnectionRate: rapid.SampledFrom([]float64{0, 0.02, 1}).Draw(t, "connection rate"),
			DailyCap:       rapid.SampledFrom([]int{0, 1, 30}).Draw(t, "daily cap"),
			BlockPause:     time.Minute,
		}
		m := NewMachine(l)
		now := noon.Add(11 * time.Hour)
		start := now
		var slots []int // messages left on each connection that is out
		var granted, returned, sessions int
		today, day := 0, now.Day()
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "wait ms")) * time.Millisecond)
			if now.Day() != day {
				today, day = 0, now.Day()
			}
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				before, _ := m.State()
				s, n, until := m.Grant(now, rapid.IntRange(1, 500).Draw(t, "want"), nil)
				if (s == 0) != (n == 0) || (s > 0) != (m.Refusal() == NotRefused) || s > 0 && !until.After(now) {
					t.Fatalf("granted %d slots, %d messages, until %v, refusal %q", s, n, until, m.Refusal())
				}
				if l.PerConnection > 0 && n > s*l.PerConnection {
					t.Fatalf("%d messages on %d connections of %d", n, s, l.PerConnection)
				}
				if before == Probing && s > 1 {
					t.Fatalf("%d connections to probe with", s)
				}
				for i := range s {
					slots = append(slots, n/s+min(1, max(0, n%s-i)))
				}
				granted, today, sessions = granted+n, today+n, sessions+s
			case 1:
				if len(slots) > 0 {
					n, _ := m.Renew(now, rapid.IntRange(1, 500).Draw(t, "renew"), nil)
					slots[0] += n
					granted, today = granted+n, today+n
				}
			case 2:
				if len(slots) > 0 {
					unused := rapid.IntRange(0, slots[0]).Draw(t, "unused")
					m.Release(now, 1, unused, nil)
					returned += unused
					slots = slots[1:]
				}
			case 3:
				m.Observe(now, reply(mail.StageDot, 250), true, nil)
			case 4:
				m.Observe(now, reply(mail.StageRcpt, 421), true, nil)
			}
			if len(slots) > l.Connections || m.Used() != len(slots) {
				t.Fatalf("%d connections out, machine says %d, limit %d", len(slots), m.Used(), l.Connections)
			}
			elapsed := now.Sub(start).Seconds()
			if most := max(1, l.Rate) + l.Rate*elapsed; l.Rate > 0 && float64(granted-returned) > most+1e-6 {
				t.Fatalf("%d messages in %.3f s at %v/s", granted-returned, elapsed, l.Rate)
			}
			if most := m.sessions.size + l.ConnectionRate*elapsed; l.ConnectionRate > 0 && float64(sessions) > most+1e-6 {
				t.Fatalf("%d connections in %.3f s at %v/s", sessions, elapsed, l.ConnectionRate)
			}
			if l.DailyCap > 0 && today-returned > l.DailyCap {
				t.Fatalf("%d messages today, cap %d", today, l.DailyCap)
			}
		}
	})
}

func TestPauseGrows(t *testing.T) {
	tests := []struct {
		name   string
		limits Limits
		want   []time.Duration
	}{
		{"four times at most", Limits{BlockPause: time.Minute}, []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 4 * time.Minute}},
		{"own bound", Limits{BlockPause: time.Minute, BlockPauseMax: 90 * time.Second}, []time.Duration{time.Minute, 90 * time.Second, 90 * time.Second}},
		{"stays", Limits{BlockPause: 2 * time.Second, BlockPauseMax: 2 * time.Second}, []time.Duration{2 * time.Second, 2 * time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, now := NewMachine(tt.limits), noon
			for range 2 {
				m.Observe(now, reply(mail.StageGreeting, 421), false, nil)
			}
			for i, want := range tt.want {
				m.Observe(now, reply(mail.StageGreeting, 421), false, nil)
				m.Release(now, 1, 1, nil)
				state, until := m.State()
				if state != Blocked || until.Sub(now) != want {
					t.Fatalf("block %d: %v for %v, want %v", i, state, until.Sub(now), want)
				}
				now = until
				if slots, _, _ := m.Grant(now, 1, nil); slots != 1 {
					t.Fatalf("block %d: no probe: %q", i, m.Refusal())
				}
			}
			m.Observe(now, reply(mail.StageDot, 250), true, nil)
			if state, _ := m.State(); state != Open {
				t.Fatalf("%v after a success", state)
			}
			for range 3 {
				m.Observe(now, reply(mail.StageGreeting, 421), false, nil)
			}
			if _, until := m.State(); until.Sub(now) != tt.want[0] {
				t.Errorf("the pause starts at %v again", until.Sub(now))
			}
		})
	}
}

// TestSignalsToBlock: "repeated" of R67 is twice where the receiver took the connection and turned us away, else three
// times.
func TestSignalsToBlock(t *testing.T) {
	reset := func(s mail.Stage) mail.Outcome { return mail.Outcome{Result: mail.Deferred, Stage: s} }
	tests := []struct {
		name    string
		outcome mail.Outcome
		want    int
	}{
		{"refused", reset(mail.StageConnect), 3},
		{"reset at the greeting", reset(mail.StageGreeting), 2},
		{"reset at EHLO", reset(mail.StageEHLO), 2},
		{"banner 421", reply(mail.StageGreeting, 421), 2},
		{"421 at RCPT", reply(mail.StageRcpt, 421), 2},
		{"reset after MAIL", reset(mail.StageMail), 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, success := range []bool{false, true} {
				m, n := NewMachine(Limits{Connections: 4, BlockPause: time.Minute}), 0
				for s, _ := m.State(); s != Blocked && n < 10; s, _ = m.State() {
					m.Observe(noon, tt.outcome, true, nil)
					if n++; n == 1 && success {
						m.Observe(noon, reply(mail.StageDot, 250), true, nil)
					}
				}
				want := tt.want
				if success { // it takes a little back
					want++
				}
				if n != want {
					t.Errorf("blocked after %d signals, want %d (a success in between: %v)", n, want, success)
				}
			}
		})
	}
}

// Connections that ask in vain come back one after the other as the pace leaves them something, and none does in vain.
func TestEachConnectionHasItsTurn(t *testing.T) {
	m := NewMachine(Limits{Connections: 4, Rate: 2})
	now := noon
	for range 4 { // which begins with two messages' worth
		if slots, _, _ := m.Grant(now, 1, nil); slots != 1 {
			t.Fatal("no connection")
		}
		now = now.Add(500 * time.Millisecond)
	}
	var turns []time.Time
	for len(turns) < 4 {
		if n, until := m.Renew(now, 1, nil); n == 0 {
			turns = append(turns, until)
		}
	}
	for i, at := range turns {
		if i > 0 && at.Sub(turns[i-1]) < 500*time.Millisecond {
			t.Errorf("connection %d is told to come %s after the one before", i, at.Sub(turns[i-1]))
		}
		if n, _ := m.Renew(at, 1, nil); n != 1 {
			t.Errorf("connection %d came when it was told to, and got %d", i, n)
		}
	}
	if n, until := m.Renew(turns[3], 1, nil); n > 0 || until.Sub(turns[3]) > time.Second {
		t.Errorf("an old promise holds up the next by %s", until.Sub(turns[3]))
	}
}

// TestWhoIsALittleEarlyWaitsALittle: a connection that comes when it was told to, and finds that what another one gave back has put
// the moment off a little, does not lose its turn by that: nobody else would come then.
func TestWhoIsALittleEarlyWaitsALittle(t *testing.T) {
	m, now := NewMachine(Limits{Connections: 4, Rate: 0.5}), noon
	for range 2 {
		m.Grant(now, 1, nil)
		now = now.Add(2 * time.Second)
	}
	m.Release(now, 0, 1, nil) // the bucket is full: what has come in meanwhile is lost
	m.Renew(now.Add(3*time.Millisecond), 1, nil)
	_, first := m.Renew(now.Add(4*time.Millisecond), 1, nil)
	_, second := m.Renew(now.Add(5*time.Millisecond), 1, nil)
	if d := second.Sub(first); d < 2*time.Second {
		t.Fatalf("the second is told to come %s after the first", d)
	}
	early := first.Add(-20 * time.Millisecond)
	if n, again := m.Renew(early, 1, nil); n > 0 || again.Sub(early) > 25*time.Millisecond {
		t.Errorf("%d messages for who comes 20 ms early, and he is to come again in %s", n, again.Sub(early))
	}
}

// TestResumeCountsWhatIsOut: a machine that takes the place of another counts all connections that are open, also where it would
// not have granted them, and lets nobody in for the end of one that is too many.
func TestResumeCountsWhatIsOut(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits Limits
		known  Memory
		after  time.Duration // when it is asked
		until  int           // how many old connections may be left when the next is granted
	}{
		{"fewer connections", Limits{Receiver: "r", Connections: 2}, Memory{}, 0, 1},
		{"a slow pace", Limits{Receiver: "r", Connections: 3, Rate: 0.5}, Memory{}, time.Minute, 2},
		{"fewer were learned", Limits{Receiver: "r", Connections: 10}, Memory{Conns: 4}, 0, 3},
		{"the day's cap is used up", Limits{Receiver: "r", Connections: 4, DailyCap: 5},
			Memory{Day: int32(unixDay(noon)), Spent: 5}, 24 * time.Hour, 3},
		{"a block", Limits{Receiver: "r", Connections: 10}, Memory{Until: noon.Add(time.Minute).Unix()}, 2 * time.Minute, 9},
	} {
		m := NewMachine(row.limits)
		m.Recall(noon, row.known)
		m.Resume(noon, 10)
		now := noon.Add(row.after)
		for old := 10; ; old-- {
			if n, _, _ := m.Grant(now, 1, nil); n > 0 {
				if old != row.until || m.Used() != old+1 {
					t.Errorf("%s: one more is granted while %d are open, %d counted", row.name, old, m.Used())
				}
				break
			}
			if old < row.until {
				t.Errorf("%s: %d are open, and no more is granted: %s", row.name, old, m.Refusal())
				break
			}
			m.Release(now, 1, 0, nil)
		}
		if n, _, _ := m.Grant(now, 1, nil); row.known.Until > 0 && n > 0 {
			t.Errorf("%s: a second probe", row.name)
		}
	}
}
