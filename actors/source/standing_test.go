package source

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// TestStandingNamesWhatBinds: whatever keeps the next message of a kind of mail back is named, with its end where a time ends it
// (N12).
func TestStandingNamesWhatBinds(t *testing.T) {
	plain := shaping.Limits{Receiver: "r", Connections: 1, BlockPause: time.Minute}
	rated := shaping.Limits{Receiver: "r", Connections: 10, ConnectionRate: 0.1}
	paced := shaping.Limits{Receiver: "r", Connections: 2, Rate: 0.25}
	filter := plain.Filtered("t/f", 1, 4*time.Second, true)
	busy := mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, Scope: mail.ScopeSource, Reply: smtp.Reply{Code: 421},
		Advice: &mail.Advice{Action: mail.ActProbe, For: 10 * time.Minute}}
	for _, row := range []struct {
		name   string
		limits *shaping.Limits
		asks   int
		looks  int // of each session for a message
		answer *mail.Outcome
		want   protocol.Reason
		until  time.Duration // from the start; 0 = not known
	}{
		{name: "nothing", limits: &rated, asks: 1, looks: 1, want: protocol.ReasonNone},
		{name: "every connection is at work", limits: &plain, asks: 2, looks: 1, want: protocol.ReasonSlots},
		{name: "new connections", limits: &rated, asks: 7, looks: 1, want: protocol.ReasonConnects, until: 10 * time.Second},
		{name: "an interval", limits: &filter, asks: 2, looks: 2, want: protocol.ReasonInterval, until: 4 * time.Second},
		{name: "the pace", limits: &paced, asks: 1, looks: 2, want: protocol.ReasonRate, until: 4 * time.Second},
		{name: "a block", limits: &plain, asks: 1, looks: 1, answer: &busy, want: protocol.ReasonBlocked, until: 10 * time.Minute},
	} {
		t.Run(row.name, func(t *testing.T) {
			b, x := newBook(100), &box{name: "a", waiting: 100}
			var ss []*Session
			for range row.asks {
				ss = append(ss, started(b.Step(testStart, askFor(x, 1, row.limits, "k")))...)
			}
			for _, s := range ss {
				for range row.looks {
					b.Next(testStart, s, true)
				}
			}
			if row.answer != nil {
				b.Settled(testStart, ss[0], row.answer)
			}
			all := b.Snapshot(testStart.Add(time.Millisecond))
			if len(all) != 1 {
				t.Fatalf("%d standings", len(all))
			}
			until := time.Duration(0)
			if !all[0].BindsUntil.IsZero() {
				until = all[0].BindsUntil.Sub(testStart)
			}
			if all[0].Binds != row.want || until.Round(time.Millisecond) != row.until {
				t.Errorf("%s until %s, want %s until %s", all[0].Binds, until, row.want, row.until)
			}
		})
	}
}

// TestTheSoonerWayBinds: a kind of mail goes on an open connection or on a new one, and is told what ends first.
func TestTheSoonerWayBinds(t *testing.T) {
	soon, late := testStart.Add(time.Second), testStart.Add(time.Minute)
	interval := func(at time.Time) bound { return bound{protocol.ReasonInterval, at} }
	for _, row := range []struct {
		name       string
		held, next bound
		want       bound
	}{
		{"no connection may be begun", interval(soon), bound{reason: protocol.ReasonSlots}, interval(soon)},
		{"one may be begun before", interval(late), bound{protocol.ReasonConnects, soon}, bound{protocol.ReasonConnects, soon}},
		{"one may be begun later", interval(soon), bound{protocol.ReasonConnects, late}, interval(soon)},
		{"one more would not help", bound{protocol.ReasonRate, late}, bound{protocol.ReasonConnects, soon}, bound{protocol.ReasonRate, late}},
		{"none is open", bound{}, bound{protocol.ReasonConnects, late}, bound{protocol.ReasonConnects, late}},
	} {
		limits := shaping.Limits{Receiver: "r", Connections: 4}
		control := shaping.NewMachine(limits)
		l := &lane{to: &receiver{control: &control}, limits: &limits, waiting: 1, bound: row.next}
		if got := l.binds(testStart, row.held); got != row.want {
			t.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
	}
}

// TestSourceOfAnotherNode: nothing is begun from an address that is not this node's, until it is (N6).
func TestSourceOfAnotherNode(t *testing.T) {
	b, holds := newBook(10), false
	b.cfg.Holds = func(netip.Addr) bool { return holds }
	l, x := &shaping.Limits{Receiver: "r", Connections: 1}, &box{name: "a", waiting: 1}
	es := b.Step(testStart, askFor(x, 1, l, "k"))
	if len(es) != 1 || es[0].Kind != EffectRefuse || es[0].Refused.Reason != protocol.ReasonElsewhere {
		t.Errorf("%+v, want a refusal", es)
	}
	holds = true
	if n := len(started(b.Step(testStart, askFor(x, 1, l, "k")))); n != 1 {
		t.Errorf("%d sessions started from a source of this node", n)
	}
}
