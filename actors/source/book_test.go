package source

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// box is an outbox that only counts.
type box struct {
	protocol.Outbox // what is not used panics
	name            string
	waiting         int
	joined, left    int
	withdrawn       int
	told            []any
}

func (b *box) Join(int)                                      { b.joined++ }
func (b *box) Withdraw(_, n int)                             { b.withdrawn += n }
func (b *box) Leave(time.Time, int, []*protocol.Parcel, any) { b.left++ }
func (b *box) Linger(int, protocol.Waker) bool               { return b.waiting == 0 }
func (b *box) Unlinger(int, protocol.Waker)                  {}
func (b *box) Tell(m any)                                    { b.told = append(b.told, m) }
func (b *box) Take(time.Time, int, netip.Addr, string) (*protocol.Parcel, time.Time) {
	if b.waiting == 0 {
		return nil, time.Time{}
	}
	b.waiting--
	return &protocol.Parcel{Job: mail.Job{Delivery: mail.Delivery{Domain: mail.Domain(b.name)}}}, time.Time{}
}

var testStart = time.Date(2026, 1, 1, 12, 30, 0, 0, time.UTC)

func newBook(quantum int) *Book {
	cfg := Config{Quantum: quantum}
	cfg.Defaults()
	return NewBook(netip.MustParseAddr("192.0.2.1"), &cfg, &Counters{})
}

func askFor(b *box, want int, l *shaping.Limits, key string) protocol.Ask {
	return protocol.Ask{Outbox: b, Want: want, Key: key, Limits: l, Deadline: testStart.Add(time.Minute)}
}

func started(es []Effect) (out []*Session) {
	for _, e := range es {
		if e.Kind == EffectStart {
			out = append(out, e.Session)
		}
	}
	return out
}

func TestSlotsAreGivenUpToTheLimitAndThenInTurn(t *testing.T) {
	b := newBook(2)
	l := &shaping.Limits{Receiver: "r", Connections: 1}
	boxes := []*box{{name: "a", waiting: 5}, {name: "b", waiting: 3}, {name: "c", waiting: 1}}
	var ss []*Session
	for _, x := range boxes {
		ss = append(ss, started(b.Step(testStart, askFor(x, 1, l, "k")))...)
	}
	if len(ss) != 1 {
		t.Fatalf("%d sessions started, the receiver bears one", len(ss))
	}
	var order []string
	for {
		p, v, _, _ := b.Next(testStart, ss[0], true)
		if v != Busy {
			break
		}
		order = append(order, string(p.Job.Delivery.Domain))
		if n := len(order); n == 2 || n == 4 { // who is left with work asks again, as Leave makes the destination do
			b.Step(testStart, askFor(boxes[(n/2-1)%2], 1, l, "k"))
		}
	}
	want := []string{"a", "a", "b", "b", "c", "a", "a", "b"}
	if !slices.Equal(order, want) {
		t.Errorf("served %v, want %v", order, want)
	}
}

func TestIdleSessionIsHandedOver(t *testing.T) {
	b := newBook(10)
	l := &shaping.Limits{Receiver: "r", Connections: 1}
	first, second := &box{name: "a", waiting: 1}, &box{name: "b", waiting: 1}
	s := started(b.Step(testStart, askFor(first, 1, l, "k")))[0]
	b.Next(testStart, s, true)
	if _, v, _, _ := b.Next(testStart, s, true); v != Dry {
		t.Fatalf("verdict %d, want dry", v)
	}
	es := b.Step(testStart, askFor(second, 1, l, "k"))
	if len(es) != 1 || es[0].Kind != EffectWake || es[0].Session != s {
		t.Fatalf("effects %+v, want a wake of the idle session", es)
	}
	if !b.Woken(s) {
		t.Fatal("nothing was assigned")
	}
	p, v, _, _ := b.Next(testStart, s, true)
	if v != Busy || p.Job.Delivery.Domain != "b" || first.left != 1 || second.joined != 1 {
		t.Errorf("verdict %d, left %d, joined %d", v, first.left, second.joined)
	}
}

func TestIdleSessionOfAnotherRoadMakesRoom(t *testing.T) {
	b := newBook(10)
	l := &shaping.Limits{Receiver: "r", Connections: 1}
	s := started(b.Step(testStart, askFor(&box{name: "a"}, 1, l, "k1")))[0]
	b.Next(testStart, s, true)
	es := b.Step(testStart, askFor(&box{name: "b"}, 1, l, "k2"))
	if len(es) != 1 || es[0].Kind != EffectWake {
		t.Fatalf("effects %+v, want a wake", es)
	}
	if _, v, _, _ := b.Next(testStart, s, true); v != End {
		t.Fatalf("verdict %d, want the end", v)
	}
	b.Close(testStart, s, nil, nil)
	if ss := started(b.Step(testStart, protocol.Reported{Session: s.ID, Report: protocol.Report{Connected: true}})); len(ss) != 1 {
		t.Errorf("%d sessions started for who waits", len(ss))
	}
}

func TestBlockRefusesWhoWaits(t *testing.T) { // R67
	b := newBook(10)
	l := &shaping.Limits{Receiver: "r", Connections: 2, BlockPause: time.Minute}
	other := &shaping.Limits{Receiver: "other", Connections: 2}
	x := &box{name: "a", waiting: 9}
	refused := protocol.Report{Outcome: mail.Outcome{Result: mail.Deferred, Stage: mail.StageConnect, Detail: "connection refused"}}
	var es []Effect
	for range 3 {
		for _, s := range started(b.Step(testStart, askFor(x, 1, l, "k"))) {
			b.Close(testStart, s, nil, nil)
			es = b.Step(testStart, protocol.Reported{Session: s.ID, Report: refused})
		}
	}
	if st := b.Snapshot(testStart)[0]; st.State != shaping.Blocked || st.Connections != 0 {
		t.Fatalf("after three refused connections: %+v, %+v", st, es)
	}
	es = b.Step(testStart, askFor(x, 4, l, "k"))
	if len(es) != 1 || es[0].Kind != EffectRefuse || es[0].Want != 4 || es[0].Refused.Reason != protocol.ReasonBlocked ||
		!es[0].Refused.Until.Equal(testStart.Add(time.Minute)) {
		t.Errorf("effects %+v, want a refusal until the probe", es)
	}
	if ss := started(b.Step(testStart, askFor(x, 1, other, "o"))); len(ss) != 1 {
		t.Error("another receiver is blocked as well")
	}
	later := testStart.Add(61 * time.Second)
	a := askFor(x, 4, l, "k")
	a.Deadline = later.Add(time.Minute)
	if ss := started(b.Step(later, a)); len(ss) != 1 {
		t.Errorf("%d probes, want one", len(ss))
	}
}

func TestRestartNeitherLeaksNorForgets(t *testing.T) {
	b := newBook(10)
	l := &shaping.Limits{Receiver: "r", Connections: 2}
	x := &box{name: "a", waiting: 100}
	ss := started(b.Step(testStart, askFor(x, 3, l, "k")))
	if len(ss) != 2 {
		t.Fatalf("%d sessions", len(ss))
	}
	ss[0].Begin()
	ss[0].Finish(protocol.Report{Connected: true, Messages: 1}) // its report is lost with the actor, and so is the other's start
	es := started(b.Step(testStart, protocol.Restarted{}))
	if len(es) != 2 || !slices.Contains(es, ss[1]) {
		t.Errorf("%d sessions started, want the one that was lost and one for the slot that is free", len(es))
	}
	if n := b.Live(); n != 2 {
		t.Errorf("%d live sessions", n)
	}
}

func TestPaceIsWaitedFor(t *testing.T) {
	b := newBook(10)
	l := &shaping.Limits{Receiver: "r", Connections: 2, Rate: 1}
	s := started(b.Step(testStart, askFor(&box{name: "a", waiting: 5}, 1, l, "k")))[0]
	now, got := testStart, 0
	for range 100 {
		p, v, at, _ := b.Next(now, s, true)
		switch {
		case p != nil:
			got++
		case v == Hold && at.After(now):
			now = at
		default:
			t.Fatalf("verdict %d, at %v", v, at)
		}
		if got == 5 {
			break
		}
	}
	if d := now.Sub(testStart); d < 4*time.Second || d > 5*time.Second {
		t.Errorf("five messages took %s at one a second", d)
	}
}

// TestMomentIsPassedOn: where the mail of a connection is gone when it may begin some, whoever was promised the last moment begins
// instead, and that moment is the next to be promised: at a slow pace nothing is saved up, and it would be lost. Who is to end has
// no use for it.
func TestMomentIsPassedOn(t *testing.T) {
	for _, row := range []struct {
		name string
		ends bool // the session that was promised the last moment is to end
		to   int
	}{
		{"to who was promised the last", false, 1},
		{"to the one before, if that ends", true, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBook(10)
			l := &shaping.Limits{Receiver: "r", Connections: 4, Start: 0.5}
			busy, gone := &box{name: "busy", waiting: 100}, &box{name: "gone"}
			now := testStart
			var ss []*Session
			for len(ss) < 2 { // each connection takes the message with it that the pace leaves
				ss = append(ss, started(b.Step(now, askFor(busy, 1, l, "k")))...)
				if _, v, _, _ := b.Next(now, ss[len(ss)-1], true); v != Busy {
					t.Fatalf("verdict %d at the begin", v)
				}
				now = now.Add(2 * time.Second)
			}
			late := started(b.Step(now, askFor(gone, 1, l, "k")))[0]
			var at [2]time.Time
			for i, s := range ss {
				var v Verdict
				if _, v, at[i], _ = b.Next(now, s, true); v != Hold || !at[i].After(now) {
					t.Fatalf("session %d: verdict %d, at %v, want a moment", i, v, at[i])
				}
			}
			if row.ends {
				b.end(ss[1])
				b.flush()
			}
			_, v, _, es := b.Next(now, late, true)
			if v != Dry || len(es) != 1 || es[0].Kind != EffectWake || es[0].Session != ss[row.to] {
				t.Fatalf("verdict %d, effects %+v, want a wake of session %d", v, es, row.to)
			}
			b.Woken(ss[row.to])
			if p, v, _, _ := b.Next(now, ss[row.to], true); p == nil {
				t.Fatalf("who was woken finds verdict %d", v)
			}
			if _, v, next, _ := b.Next(now, ss[row.to], true); v != Hold || next.Before(at[row.to]) || next.Sub(at[1]) > time.Second/10 {
				t.Errorf("verdict %d, the next moment is %s after the one that was passed on", v, next.Sub(at[row.to]))
			}
		})
	}
}

// TestNewLimitsCountOldConnections: an operator who takes connections away under load has no more of them than he says as soon
// as the old ones have ended, and none is opened for those that were too many.
func TestNewLimitsCountOldConnections(t *testing.T) {
	b := newBook(10)
	x := &box{name: "a", waiting: 1000}
	ss := started(b.Step(testStart, askFor(x, 10, &shaping.Limits{Receiver: "r", Connections: 10}, "k")))
	for _, s := range ss {
		look(b, testStart, s)
	}
	fresh := started(b.Step(testStart, askFor(x, 10, &shaping.Limits{Receiver: "r", Connections: 2}, "k")))
	for i, s := range ss {
		if _, v, _ := look(b, testStart, s); v != End {
			t.Fatalf("session %d goes on", i)
		}
		b.Close(testStart, s, nil, nil)
		fresh = append(fresh, started(b.Step(testStart, protocol.Reported{Session: s.ID, Report: protocol.Report{Connected: true, Messages: 1}}))...)
		if n := b.Live(); len(fresh) > 0 && n > 2 {
			t.Fatalf("%d were opened when %d are open, two may be", len(fresh), n)
		}
	}
	if len(fresh) != 2 {
		t.Errorf("%d opened in the end", len(fresh))
	}
}

// TestSettledBesideNewRules is for the race detector: what a session is told and what an ask brings come at once.
func TestSettledBesideNewRules(t *testing.T) {
	b := newBook(10)
	l := shaping.Limits{Receiver: "r", Connections: 1}.Filtered("t/f", 1, time.Millisecond, true)
	x := &box{name: "a", waiting: 10}
	s := started(b.Step(testStart, askFor(x, 1, &l, "k")))[0]
	told := make(chan struct{})
	go func() {
		defer close(told)
		for range 100 {
			b.Settled(testStart, s, &mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot})
		}
	}()
	for i := range 100 {
		again := l
		again.Kind.Fixed = i%2 == 0
		b.Step(testStart, askFor(x, 1, &again, "k"))
	}
	<-told
	if at := b.order[0].served.Load(); at != testStart.UnixNano() {
		t.Errorf("last delivered at %d", at)
	}
}

// TestRelimitedWithoutAnAsk: edited rules reach connections of a destination that has no need to ask for more.
func TestRelimitedWithoutAnAsk(t *testing.T) {
	b := newBook(10)
	old := shaping.Limits{Receiver: "r", Connections: 2, Edition: 1}
	edited := shaping.Limits{Receiver: "r", Connections: 2, Interval: 10 * time.Second, Edition: 2}
	other := shaping.Limits{Receiver: "other", Connections: 2, Edition: 2}
	x := &box{name: "a", waiting: 1000}
	ss := started(b.Step(testStart, askFor(x, 2, &old, "k")))
	if len(ss) != 2 {
		t.Fatalf("%d connections", len(ss))
	}
	b.Step(testStart, protocol.Relimited{Limits: &old})
	b.Step(testStart, protocol.Relimited{Limits: &other})
	for _, s := range ss {
		if s.quit.Load() {
			t.Error("a connection ends for rules that are not others")
		}
	}
	b.Step(testStart, protocol.Relimited{Limits: &edited})
	for _, s := range ss {
		if !s.quit.Load() {
			t.Error("a connection keeps to figures that are in force no more")
		}
	}
	if len(b.order) != 1 {
		t.Error("a receiver was made that nobody asked for")
	}
}

// TestOlderRulesAreNotGoneBackTo: while destinations look at edited rules one after the other, those that have not looked yet
// do not put the old figures in force again.
func TestOlderRulesAreNotGoneBackTo(t *testing.T) {
	b := newBook(10)
	old := shaping.Limits{Receiver: "r", Connections: 10, Edition: 1}
	edited := shaping.Limits{Receiver: "r", Connections: 2, Edition: 2}
	filter := func(l shaping.Limits, every time.Duration) *shaping.Limits {
		l = l.Filtered("t/f", 0, every, false)
		return &l
	}
	x := &box{name: "a", waiting: 1000}
	b.Step(testStart, askFor(x, 1, &old, "k"))
	b.Step(testStart, askFor(x, 1, filter(old, time.Second), "k"))
	b.Step(testStart, askFor(x, 1, &edited, "k"))
	b.Step(testStart, askFor(x, 1, filter(edited, 2*time.Second), "k"))
	b.endAll(func(s *Session) bool { return true })
	for id := range b.live {
		b.Step(testStart, protocol.Reported{Session: id, Report: protocol.Report{Connected: true, Messages: 1}})
	}
	ss := started(b.Step(testStart, askFor(x, 10, &edited, "k")))
	for range 3 {
		ss = append(ss, started(b.Step(testStart, askFor(x, 10, &old, "k")))...)
		ss = append(ss, started(b.Step(testStart, askFor(x, 10, filter(old, time.Second), "k")))...)
	}
	if len(ss) != 0 || b.Live() != 2 {
		t.Errorf("%d more opened, %d are open; the new rules allow two", len(ss), b.Live())
	}
	for _, s := range b.live {
		if s.quit.Load() {
			t.Error("a connection under the new rules is to end for the old ones")
		}
	}
	if got := b.order[0].named["speed t/f"].limits.Every(); got != 2*time.Second {
		t.Errorf("the filter's messages go every %s again", got)
	}
	same := edited
	same.Edition = 4
	b.Step(testStart, askFor(x, 1, &same, "k"))
	between := old
	between.Edition = 3
	b.Step(testStart, askFor(x, 1, &between, "k"))
	if n := b.order[0].control.Connections(); n != 2 {
		t.Errorf("%d connections by rules that were replaced before those in force", n)
	}
}

// asked is a controller that counts what it is asked for.
type asked struct {
	*shaping.Machine
	grants int
}

func (c *asked) Grant(now time.Time, want int, x *shaping.Lane) (int, int, time.Time) {
	c.grants++
	return c.Machine.Grant(now, want, x)
}

// TestFullReceiverIsAskedOnce: however many kinds of mail wait for a receiver that bears no more connections, who comes next has
// it asked once, and each of them has its turn all the same.
func TestFullReceiverIsAskedOnce(t *testing.T) {
	const kinds = 50
	b := newBook(1)
	plain := shaping.Limits{Receiver: "r", Connections: 2}
	control := &asked{}
	b.cfg.Controller = func(l shaping.Limits) Controller {
		m := shaping.NewMachine(l)
		control.Machine = &m
		return control
	}
	a := askFor(&box{}, 2, &plain, "k")
	a.Outbox = &endless{}
	open := started(b.Step(testStart, a))
	for i := range kinds {
		l := plain.Filtered(fmt.Sprint("t/", i), 0, 0, false)
		a := askFor(&box{name: fmt.Sprint(i), waiting: 1}, 1, &l, "k")
		a.Deadline = testStart.Add(time.Hour)
		control.grants = 0
		if es := started(b.Step(testStart, a)); len(es) != 0 || control.grants > 1 {
			t.Fatalf("%d kinds wait: %d connections are opened, and the controller is asked %d times", i, len(es), control.grants)
		}
	}
	served := map[mail.Domain]bool{}
	for now := testStart; len(served) <= kinds && now.Before(testStart.Add(10*time.Minute)); now = now.Add(turnLife) {
		for _, s := range slices.Clone(open) {
			p, v, es := look(b, now, s)
			open = append(open, started(es)...)
			if p != nil {
				served[p.Job.Delivery.Domain] = true
			}
			if v == End {
				open = remove(open, s)
				b.Close(now, s, nil, nil)
				open = append(open, started(b.Step(now, protocol.Reported{Session: s.ID, Report: protocol.Report{Connected: true, Messages: 1}}))...)
			}
		}
	}
	if len(served) != kinds+1 {
		t.Errorf("%d kinds were served, of %d", len(served), kinds+1)
	}
}
