package source

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// ride is a book with sessions at work, each with a mail in hand, and idle ones on the same road of a receiver that is quick.
type ride struct {
	t            *testing.T
	b            *Book
	limits       *shaping.Limits
	atWork, idle []*Session
	now          time.Time
	looks        []time.Time // to come
	woken        []*Session
	refused      int
}

func newRide(t *testing.T, atWork, idle int, l shaping.Limits) *ride {
	x := &ride{t: t, b: newBook(100), limits: &l, now: testStart}
	busy := &box{name: "busy", waiting: atWork}
	all := started(x.b.Step(x.now, askFor(busy, atWork+idle, x.limits, "k")))
	if len(all) != atWork+idle {
		t.Fatalf("%d sessions started", len(all))
	}
	for i, s := range all {
		s.Begin()
		if _, v, _, _ := x.b.Next(x.now, s, true); (v == Busy) != (i < atWork) {
			t.Fatalf("session %d: verdict %d", i, v)
		}
	}
	x.atWork, x.idle = all[:atWork], all[atWork:]
	all[0].road.dotted(5 * time.Millisecond)
	return x
}

func (x *ride) take(es []Effect) {
	for _, e := range es {
		switch e.Kind {
		case EffectLook:
			x.looks = append(x.looks, e.At)
		case EffectWake:
			x.woken = append(x.woken, e.Session)
		case EffectRefuse:
			x.refused += e.Want
		}
	}
}

// ask has a destination with little to send ask.
func (x *ride) ask(o protocol.Outbox, want int) {
	x.take(x.b.Step(x.now, protocol.Ask{Outbox: o, Want: want, Key: "k", Limits: x.limits, Deadline: x.now.Add(time.Minute), Rides: true}))
}

// pass lets time go by, and the looks come that are due.
func (x *ride) pass(d time.Duration) {
	for end := x.now.Add(d); ; {
		i := -1
		for j, at := range x.looks {
			if !at.After(end) && (i < 0 || at.Before(x.looks[i])) {
				i = j
			}
		}
		if i < 0 {
			x.now = end
			return
		}
		if x.looks[i].After(x.now) {
			x.now = x.looks[i]
		}
		x.looks = slices.Delete(x.looks, i, i+1)
		x.take(x.b.Step(x.now, protocol.Looked{}))
	}
}

// dry has a session at work look for more, as behind a body or as when it has nothing left.
func (x *ride) dry(s *Session, block bool) Verdict {
	_, v, _, es := x.b.Next(x.now, s, block)
	x.take(es)
	return v
}

func (x *ride) waiting() int { return x.b.Snapshot(x.now)[0].Waiting }

// TestRidersWaitForSessionsAtWork: who has a mail or two waits for one of the sessions at work, and no longer than two looks; where few are at
// work, or the receiver is slow, or the asker does not want to, an idle session is woken at once.
func TestRidersWaitForSessionsAtWork(t *testing.T) {
	for _, row := range []struct {
		name   string
		atWork int
		want   int
		first  func(x *ride) // before the ask
		then   func(x *ride) // after it
		woken  int
		ridden int
		left   int // still waiting
	}{
		{name: "it rides", atWork: 4, want: 1, left: 1},
		{name: "few are at work", atWork: 3, want: 1, woken: 1},
		{name: "it must not wait", atWork: 4, want: 0, then: func(x *ride) { x.take(x.b.Step(x.now, askFor(&box{}, 1, x.limits, "k"))) }, woken: 1},
		{name: "how quick the receiver is nobody knows", atWork: 4, want: 1, first: func(x *ride) { x.atWork[0].road.dot.Store(0) }, woken: 1},
		{name: "the receiver is slow", atWork: 4, want: 1, first: func(x *ride) { slowDots(x, 40) }, woken: 1},
		{name: "it was slow once", atWork: 4, want: 1, first: func(x *ride) { slowDots(x, 1) }, left: 1},
		{name: "one look goes by", atWork: 4, want: 1, then: func(x *ride) { x.pass(behindLook) }, left: 1},
		{name: "two looks go by", atWork: 4, want: 1, then: func(x *ride) { x.pass(2 * behindLook) }, woken: 1},
		{name: "two looks, for three where two are idle", atWork: 4, want: 3, then: func(x *ride) { x.pass(2 * behindLook) }, woken: 2, left: 1},
		{name: "one at work comes by", atWork: 4, want: 1, then: func(x *ride) { x.dry(x.atWork[0], false) }, ridden: 1},
		{name: "one comes by for the first of two", atWork: 4, want: 2, then: func(x *ride) { x.dry(x.atWork[0], false) }, ridden: 1, left: 1},
		{name: "the other of them is woken for", atWork: 4, want: 2, then: func(x *ride) {
			x.dry(x.atWork[0], false)
			x.pass(2 * behindLook)
		}, ridden: 1, woken: 1},
		{name: "three come by for one", atWork: 4, want: 1, then: func(x *ride) {
			for _, s := range x.atWork[:3] {
				x.dry(s, true)
			}
			x.pass(3 * behindLook)
		}, ridden: 1},
		{name: "sessions end until few are at work", atWork: 4, want: 0, then: func(x *ride) {
			x.b.Close(x.now, x.atWork[0], nil, nil)
			x.take(x.b.Step(x.now, protocol.Reported{Session: x.atWork[0].ID}))
			x.ask(&box{}, 1)
		}, woken: 1},
		{name: "the actor fails", atWork: 4, want: 1, then: func(x *ride) {
			x.looks = nil // with it
			x.take(x.b.Step(x.now, protocol.Restarted{}))
			x.pass(2 * behindLook)
		}, woken: 1},
		{name: "the actor fails, and others ask", atWork: 4, want: 0, then: func(x *ride) {
			x.take(x.b.Step(x.now, protocol.Restarted{}))
			x.ask(&box{}, 1)
		}, left: 1},
		{name: "the clock is set back", atWork: 4, want: 1, then: func(x *ride) {
			x.now = x.now.Add(-time.Hour)
			x.ask(&box{}, 1)
			x.pass(2 * behindLook)
		}, woken: 2},
		{name: "a look was lost", atWork: 4, want: 1, then: func(x *ride) {
			x.looks, x.now = nil, x.now.Add(2*lookLost)
			x.ask(&box{}, 1)
			x.pass(2 * behindLook)
		}, woken: 2},
		{name: "what is no answer to a dot says nothing", atWork: 4, want: 1, first: func(x *ride) {
			x.atWork[0].Cleared(x.now)
			x.b.Settled(x.now, x.atWork[0], &mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot})
			x.now = x.now.Add(time.Hour)
			x.b.Settled(x.now, x.atWork[0], &mail.Outcome{Result: mail.Deferred, Stage: mail.StageMail})
		}, left: 1},
		{name: "its time is over", atWork: 4, want: 1, then: func(x *ride) {
			x.now = x.now.Add(time.Minute)
			x.pass(0)
			x.pass(2 * behindLook)
		}},
		{name: "its time is over when a session comes by", atWork: 4, want: 1, then: func(x *ride) {
			x.now = x.now.Add(time.Minute)
			x.dry(x.atWork[0], false)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			x := newRide(t, row.atWork, 2, shaping.Limits{Receiver: "r", Connections: row.atWork + 2})
			if row.first != nil {
				row.first(x)
			}
			mine := &box{name: "mine", waiting: 9}
			if row.want > 0 {
				x.ask(mine, row.want)
			}
			if row.then != nil {
				row.then(x)
			}
			if len(x.woken) != row.woken || mine.joined != row.ridden || x.waiting() != row.left || x.refused > 0 {
				t.Errorf("%d woken, %d ridden, %d left, %d refused; want %d, %d, %d, 0", len(x.woken), mine.joined, x.waiting(), x.refused,
					row.woken, row.ridden, row.left)
			}
			if x.waiting() > 0 && len(x.idle[0].road.idle) > 0 && len(x.looks) == 0 {
				t.Error("nobody will look")
			}
		})
	}
}

func slowDots(x *ride, n int) {
	for range n {
		s := x.atWork[0]
		s.Cleared(x.now)
		x.now = x.now.Add(3 * quickDot)
		x.b.Settled(x.now, s, &mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot})
	}
}

// TestLooksGoOn: looks end when nothing rides, begin again with the next rider, and are not put off by asks that keep coming.
func TestLooksGoOn(t *testing.T) {
	x := newRide(t, 4, 6, shaping.Limits{Receiver: "r", Connections: 10})
	for round := range 3 {
		x.ask(&box{name: "mine"}, 1)
		x.pass(2 * behindLook)
		if len(x.woken) != round+1 {
			t.Fatalf("round %d: %d woken", round, len(x.woken))
		}
		x.pass(2 * behindLook)
		if len(x.looks) > 0 {
			t.Fatalf("round %d: a look at nothing", round)
		}
	}
	x.woken = nil
	for range 5 { // 25 ms
		x.ask(&box{name: "mine"}, 1)
		x.pass(behindLook / 2)
	}
	if len(x.woken) != 2 { // of those that came before the first look
		t.Errorf("%d woken for asks that keep coming", len(x.woken))
	}
}

// TestRidersWithoutIdleSessions: what nobody comes for has a connection opened, or stands in line where there may be no more.
func TestRidersWithoutIdleSessions(t *testing.T) {
	for _, row := range []struct{ most, opened, line int }{{5, 1, 0}, {4, 0, 1}} {
		x := newRide(t, 4, 0, shaping.Limits{Receiver: "r", Connections: row.most})
		x.ask(&box{}, 1)
		opened := x.b.counters.Opened.Load()
		x.pass(2 * behindLook)
		if n := int(x.b.counters.Opened.Load() - opened); n != row.opened || x.atWork[0].road.line.len() != row.line {
			t.Errorf("at most %d: %d opened, %d in line", row.most, n, x.atWork[0].road.line.len())
		}
		if x.ask(&box{}, 1); row.line > 0 && x.atWork[0].road.line.len() != row.line+1 {
			t.Errorf("where others stand in line the next one does not")
		}
	}
}

// TestManyRidersDeserveMoreSessions: of so many that ride behind four sessions some are served at once.
func TestManyRidersDeserveMoreSessions(t *testing.T) {
	x := newRide(t, 4, 8, shaping.Limits{Receiver: "r", Connections: 12})
	const asks = 60
	for range asks {
		x.ask(&box{waiting: 1}, 1)
	}
	if len(x.woken) != 4 || x.waiting() != asks-4 {
		t.Errorf("%d woken, %d ride", len(x.woken), x.waiting())
	}
}

// TestRidersAreNotRefusedForTheLine: what keeps new connections back is nothing to those that ride behind the ones there are.
func TestRidersAreNotRefusedForTheLine(t *testing.T) {
	x := newRide(t, 4, 0, shaping.Limits{Receiver: "r", Connections: 20, ConnectionRate: 4.0 / 60})
	x.b.cfg.Patience = time.Second
	x.ask(&box{}, 1)
	big := askFor(&box{waiting: 1000}, 2, x.limits, "k")
	x.take(x.b.Step(x.now, big))
	if x.refused != 2 || x.waiting() != 1 {
		t.Errorf("%d refused", x.refused)
	}
	if n := x.atWork[0].road.riders.len(); n != 1 {
		t.Errorf("%d ride", n)
	}
}

// TestBlockedRiders: what rides is refused like any other ask when the receiver blocks, a look or two later.
func TestBlockedRiders(t *testing.T) {
	x := newRide(t, 4, 0, shaping.Limits{Receiver: "r", Connections: 4})
	x.ask(&box{}, 1)
	x.take(x.b.Settled(x.now, x.atWork[0], &mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, Scope: mail.ScopeSource,
		Advice: &mail.Advice{Action: mail.ActSuspend, For: time.Hour}}))
	x.pass(2 * behindLook)
	if x.refused != 1 || x.waiting() != 0 {
		t.Errorf("%d refused, %d wait", x.refused, x.waiting())
	}
}

// TestStoppedRiders: and when the node stops.
func TestStoppedRiders(t *testing.T) {
	x := newRide(t, 4, 0, shaping.Limits{Receiver: "r", Connections: 4})
	x.ask(&box{}, 1)
	x.take(x.b.Stop(x.now))
	x.pass(2 * behindLook)
	if x.refused != 1 || x.waiting() != 0 {
		t.Errorf("%d refused, %d wait", x.refused, x.waiting())
	}
}

// none is an outbox that nothing can be taken from at the moment.
type none struct{ box }

func (*none) Take(time.Time, int, netip.Addr, string) (*protocol.Parcel, time.Time) {
	return nil, time.Time{}
}

// TestVainRiders: asks that come to nothing end no session, however many they are.
func TestVainRiders(t *testing.T) {
	x := newRide(t, 16, 2, shaping.Limits{Receiver: "r", Connections: 18})
	for range 100 {
		x.ask(&none{}, 1)
	}
	rode := x.waiting()
	if v := x.dry(x.atWork[0], true); v != Dry || rode-x.waiting() != vainMost {
		t.Errorf("verdict %d after %d of %d", v, rode-x.waiting(), rode)
	}
	x = newRide(t, 4, 0, shaping.Limits{Receiver: "r", Connections: 4})
	for range 3 { // a session that does get mail goes on
		for range vainMost - 1 {
			x.ask(&none{}, 1)
		}
		x.ask(&box{waiting: 1}, 1)
	}
	for range 3 {
		if v := x.dry(x.atWork[0], true); v != Busy {
			t.Fatalf("verdict %d", v)
		}
	}
}

// TestRidersNeedAnAllowance: a session that looks for an envelope to send behind a body, and has given its allowance up to others at the same
// pace, takes no rider: it might not send that mail, and nobody else would.
func TestRidersNeedAnAllowance(t *testing.T) {
	x := newRide(t, 4, 0, shaping.Limits{Receiver: "r", Connections: 4, Rate: 1000})
	mine := &box{waiting: 1}
	x.ask(mine, 1)
	if x.dry(x.atWork[0], false); mine.joined != 0 {
		t.Error("a session without an allowance took the ask")
	}
	if v := x.dry(x.atWork[0], true); mine.joined != 1 || v != Busy {
		t.Errorf("one that may wait did not: verdict %d", v)
	}
}

// TestRidersKeepTheConnection: a session with riders is not idle, so that another kind of mail does not get its connection.
func TestRidersKeepTheConnection(t *testing.T) {
	x := newRide(t, 4, 0, shaping.Limits{Receiver: "r", Connections: 4})
	mine := &box{waiting: 1}
	x.ask(mine, 1)
	other := shaping.Limits{Receiver: "r", Connections: 4, Kind: shaping.Kind{Name: "cleaning"}}
	x.take(x.b.Step(x.now, askFor(&box{waiting: 1}, 1, &other, "k")))
	if v := x.dry(x.atWork[0], true); v != Busy || mine.joined != 1 {
		t.Errorf("verdict %d, %d joined", v, mine.joined)
	}
	if v := x.dry(x.atWork[1], true); v != End {
		t.Errorf("verdict %d: the other kind waits, and nothing rides", v)
	}
}
