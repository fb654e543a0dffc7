package schedule

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ekiden-mta/ekiden/mail"
)

var start = time.Date(2026, 7, 1, 9, 0, 0, 0, time.UTC)

func TestNext(t *testing.T) {
	deferred := mail.Outcome{Result: mail.Deferred}
	tests := []struct {
		name    string
		every   time.Duration
		expires time.Duration // after start, 0 = never
		outcome mail.Outcome
		jitter  float64
		want    time.Duration
		ok      bool
	}{
		{"earliest", time.Minute, time.Hour, deferred, 0, 60 * time.Second, true},
		{"middle", time.Minute, time.Hour, deferred, 0.5, 60_300 * time.Millisecond, true},
		{"just inside the lifetime", time.Minute, time.Minute, deferred, 0, time.Minute, true},
		{"beyond the lifetime", time.Minute, time.Minute, deferred, 0.5, 0, false},
		{"no lifetime", time.Minute, 0, deferred, 0, time.Minute, true},
		{"no distance is one second", 0, time.Hour, deferred, 0, time.Second, true},
		{"delivered", time.Minute, time.Hour, mail.Outcome{Result: mail.Delivered}, 0.5, 0, false},
		{"failed", time.Minute, time.Hour, mail.Outcome{Result: mail.Failed}, 0.5, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &mail.Delivery{RetryEvery: tt.every}
			if tt.expires > 0 {
				d.Expires = start.Add(tt.expires)
			}
			due, ok := Next(start, d, tt.outcome, tt.jitter)
			if ok != tt.ok || ok && due.Sub(start) != tt.want {
				t.Errorf("got %v, %v", due.Sub(start), ok)
			}
		})
	}
}

// TestThirtyAttempts: a minute's distance and half an hour's lifetime make about thirty attempts (R46).
func TestThirtyAttempts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &mail.Delivery{RetryEvery: time.Minute, Expires: Expires(start, time.Time{}, 30*time.Minute, nil)}
		now, attempts := start, 0
		for {
			attempts++
			due, ok := Next(now, d, mail.Outcome{Result: mail.Deferred}, rapid.Float64Range(0, 0.999).Draw(t, "jitter"))
			if !ok {
				break
			}
			if due.After(d.Expires) || due.Sub(now) < 60*time.Second || due.Sub(now) > 61*time.Second {
				t.Fatalf("due %v after %v, end %v", due, now, d.Expires)
			}
			now = due
		}
		if attempts < 29 || attempts > 31 {
			t.Fatalf("%d attempts", attempts)
		}
	})
}

// TestGreylist: a receiver that puts mail off for three minutes takes the fourth attempt (R47), whether it says that it
// greylists or not; where it says so and wants long, it is asked less often after the first few.
func TestGreylist(t *testing.T) {
	later := mail.Outcome{Result: mail.Deferred}
	says := mail.Outcome{Result: mail.Deferred, Scope: mail.ScopeRecipient, Advice: &mail.Advice{Action: mail.ActSameSource, For: 5 * time.Minute}}
	for _, row := range []struct {
		name    string
		outcome mail.Outcome
		wants   time.Duration
		want    uint16
	}{
		{"three minutes, not said", later, 3 * time.Minute, 4},
		{"three minutes", says, 3 * time.Minute, 4},
		{"five minutes", says, 5 * time.Minute, 6},
		{"fifteen minutes", says, 15 * time.Minute, 8},
	} {
		t.Run(row.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				d := &mail.Delivery{RetryEvery: time.Minute, Expires: Expires(start, time.Time{}, 30*time.Minute, nil)}
				now := start
				for ; now.Before(start.Add(row.wants)); d.Attempts++ {
					now, _ = Next(now, d, row.outcome, rapid.Float64Range(0, 0.999).Draw(t, "jitter"))
				}
				if attempts := d.Attempts + 1; attempts != row.want {
					t.Fatalf("%d attempts, want %d", attempts, row.want)
				}
			})
		})
	}
}

func TestExpires(t *testing.T) {
	tests := []struct {
		name        string
		reservation time.Time
		want        time.Time
	}{
		{"from acceptance", time.Time{}, start.Add(time.Hour)},
		{"from the reservation", start.Add(time.Minute), start.Add(61 * time.Minute)},
		{"a reservation in the past", start.Add(-time.Minute), start.Add(time.Hour)},
		{"rounded up", start.Add(time.Millisecond), start.Add(time.Hour + time.Second)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Expires(start, tt.reservation, time.Hour, nil); !got.Equal(tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestExpired(t *testing.T) {
	d := &mail.Delivery{Expires: start}
	if Expired(start, d) || !Expired(start.Add(1), d) || Expired(start, &mail.Delivery{}) {
		t.Error("a lifetime ends after its last moment, and only where there is one")
	}
}

// A receiver that greylists, or that has had enough for one recipient, gets the time it asks for, as far as the lifetime has it.
func TestNextAsTheReceiverWishes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		attempts uint16 // before the one that is deferred
		scope    mail.Scope
		act      mail.Action
		wants    time.Duration
		lifetime time.Duration // 0 = no end
		want     time.Duration
	}{
		{"greylisted for the first time", 0, mail.ScopeRecipient, mail.ActSameSource, 5 * time.Minute, 30 * time.Minute, time.Minute},
		{"greylisted", soon, mail.ScopeRecipient, mail.ActSameSource, 5 * time.Minute, 30 * time.Minute, 5 * time.Minute},
		{"greylisted, nothing said", soon, mail.ScopeRecipient, mail.ActSameSource, 0, 30 * time.Minute, time.Minute},
		{"greylisted shortly before the end", soon, mail.ScopeRecipient, mail.ActSameSource, 5 * time.Minute, 4 * time.Minute, 2 * time.Minute},
		{"recipient's rate", 0, mail.ScopeRecipient, mail.ActSuspend, time.Hour, 24 * time.Hour, time.Hour},
		{"recipient's rate, no end", 0, mail.ScopeRecipient, mail.ActSuspend, time.Hour, 0, time.Hour},
		{"the source's affair", soon, mail.ScopeSource, mail.ActSuspend, time.Hour, 24 * time.Hour, time.Minute},
	} {
		d := &mail.Delivery{RetryEvery: time.Minute, Attempts: tt.attempts}
		if tt.lifetime > 0 {
			d.Expires = start.Add(tt.lifetime)
		}
		o := mail.Outcome{Result: mail.Deferred, Scope: tt.scope, Advice: &mail.Advice{Action: tt.act, For: tt.wants}}
		if due, ok := Next(start, d, o, 0); !ok || due.Sub(start) != tt.want {
			t.Errorf("%s: in %v, %v, want %v", tt.name, due.Sub(start), ok, tt.want)
		}
	}
}
