package source

import (
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// TestBlockHoldsForAllKindsOfMail: what a receiver said to one kind of mail is said to the source (N4, R67): connections of
// the other kinds end with their present transaction, and nothing is opened before the probe.
func TestBlockHoldsForAllKindsOfMail(t *testing.T) {
	b := newBook(10)
	plain := shaping.Limits{Receiver: "r", Connections: 10, BlockPause: time.Minute}
	cleaning, fixed := plain.Cleaning(), plain.Filtered("t/f", 2, time.Second, true)
	x := &box{name: "a", waiting: 100}
	var ss []*Session
	for _, l := range []*shaping.Limits{&plain, &cleaning, &fixed} {
		ss = append(ss, started(b.Step(testStart, askFor(x, 1, l, "k")))...)
	}
	for _, s := range ss {
		if _, v, _, _ := b.Next(testStart, s, true); v != Busy {
			t.Fatal("no work")
		}
	}
	stop := mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, Scope: mail.ScopeSource, Reply: smtp.Reply{Code: 421},
		Advice: &mail.Advice{Action: mail.ActProbe, For: 10 * time.Minute}}
	b.Settled(testStart, ss[0], &stop)
	for i, s := range ss {
		if _, v, _, _ := b.Next(testStart, s, true); v != End {
			t.Errorf("session %d goes on", i)
		}
		b.Close(testStart, s, nil, nil)
		b.Step(testStart, protocol.Reported{Session: s.ID, Report: protocol.Report{Connected: true, Messages: 1}})
	}
	for _, l := range []*shaping.Limits{&plain, &cleaning, &fixed} {
		es := b.Step(testStart.Add(time.Second), askFor(x, 1, l, "k"))
		if len(es) != 1 || es[0].Kind != EffectRefuse || es[0].Refused.Reason != protocol.ReasonBlocked ||
			es[0].Refused.Lane != l.Kind.Name || !es[0].Refused.Until.Equal(testStart.Add(10*time.Minute)) {
			t.Errorf("%q: %+v, want a refusal until the probe", l.Kind.Name, es)
		}
	}
	if found, _ := b.Lift(testStart.Add(2*time.Minute), "r"); !found {
		t.Fatal("no block to lift")
	}
	probes := 0
	for _, l := range []*shaping.Limits{&plain, &cleaning, &fixed} {
		a := askFor(x, 1, l, "k")
		a.Deadline = testStart.Add(time.Hour)
		probes += len(started(b.Step(testStart.Add(2*time.Minute), a)))
	}
	if probes != 1 {
		t.Errorf("%d probes, want one for all kinds", probes)
	}
}

// TestKindsOfMailTakeTurns: two kinds whose mail never ends share a receiver's connections, cleaning mail has a tenth of them
// though it might have more, and what comes later waits no longer than a turn or two. It is time on a connection that they
// share, however long a message takes and however small the destinations are.
func TestKindsOfMailTakeTurns(t *testing.T) {
	for _, row := range []struct {
		name        string
		connections int
		route       bool
		every       [4]time.Duration // from one message to the next
		small       [4]bool          // each destination has one message
		begun       int              // most connections in ten minutes
	}{
		{name: "one connection", connections: 1, begun: 2 * 600},
		{name: "two", connections: 2, begun: 2 * 600},
		{name: "ten", connections: 10, begun: 5 * 600},
		{name: "a relay", connections: 64, route: true, begun: 5 * 600},
		{name: "small destinations", connections: 2, small: [4]bool{true, true}, begun: 2 * 600},
		{name: "some small, some large", connections: 3, small: [4]bool{true, false}, begun: 2 * 600},
		{name: "a long interval", connections: 1, every: [4]time.Duration{1: 3 * time.Second, 2: 3 * time.Second}, begun: 2 * 600},
	} {
		plain := shaping.Limits{Receiver: "r", Connections: row.connections, Fixed: row.route}
		filtered, cleaning, late := plain.Filtered("t/f", 0, 0, true), plain.Cleaning(), plain.Filtered("t/late", 0, time.Millisecond, false)
		cleaning.Kind.Connections = row.connections
		b, c := newBook(100), &crowd{t: t, bears: row.connections, all: []*shaping.Limits{&plain, &filtered, &cleaning, &late},
			every: row.every, small: row.small, due: map[*Session]time.Time{}}
		c.book = b
		for i := range 3 {
			c.fill(testStart, i)
		}
		arrives, served := testStart.Add(5*time.Minute), time.Duration(0)
		for now := testStart; now.Before(testStart.Add(10 * time.Minute)); now = now.Add(100 * time.Millisecond) {
			if now.Equal(arrives) {
				c.ask(now, 3, 1)
			}
			c.turn(now)
			if served == 0 && c.time[3] > 0 {
				served = now.Sub(arrives)
			}
		}
		share := func(i int) float64 { return float64(c.time[i]) / float64(c.time[0]+c.time[1]+c.time[2]) }
		if c := share(2); c < 0.02 || c > 0.12 {
			t.Errorf("%s: cleaning mail has %.2f of the connections", row.name, c)
		}
		if a, f := share(0), share(1); a < 0.38 || f < 0.38 {
			t.Errorf("%s: the two others have %.2f and %.2f", row.name, a, f)
		}
		if most := 2*turnLife + max(row.every[1], row.every[2]); served == 0 || served > most {
			t.Errorf("%s: who comes later waits %s", row.name, served)
		}
		if c.begun > row.begun {
			t.Errorf("%s: %d connections were opened in ten minutes", row.name, c.begun)
		}
	}
}

// TestOneWaiterEndsOneSession: who waits for a connection has one idle or one working session end, not one for each lane that
// looks or each turn that ends before it is gone.
func TestOneWaiterEndsOneSession(t *testing.T) {
	b := newBook(1)
	plain := shaping.Limits{Receiver: "r", Connections: 8}
	a := askFor(&box{}, 4, &plain, "k")
	a.Outbox = &endless{}
	ss := started(b.Step(testStart, a))
	idle := &box{name: "idle"}
	rest := plain.Filtered("t/rest", 0, 0, false)
	ss = append(ss, started(b.Step(testStart, askFor(idle, 4, &rest, "k")))...)
	for _, s := range ss {
		look(b, testStart, s)
	}
	if len(ss) != 8 {
		t.Fatalf("%d sessions", len(ss))
	}
	quitting := func() (n int) {
		for _, s := range ss {
			if s.quit.Load() {
				n++
			}
		}
		return n
	}
	for i, name := range []string{"t/a", "t/b", "t/c"} {
		l := plain.Filtered(name, 0, 0, false)
		b.Step(testStart, askFor(&box{name: name, waiting: 1}, 1, &l, "k"))
		for _, s := range ss[:4] { // with a quantum of one each has a turn end
			look(b, testStart.Add(2*turnLife), s)
		}
		if n := quitting(); n != i+1 {
			t.Errorf("%d sessions end for %d who wait", n, i+1)
		}
	}
}

// crowd works sessions as the courier does: it looks, and waits only where it has found nothing.
type crowd struct {
	t     *testing.T
	book  *Book
	all   []*shaping.Limits
	every [4]time.Duration
	small [4]bool
	open  [4][]*Session
	due   map[*Session]time.Time
	time  [4]int // steps with a connection
	sent  [4]int
	begun int
	bears int
}

// ask asks for sessions of a kind of mail: for a destination that always has one more message, or has one only.
func (c *crowd) ask(now time.Time, i, want int) {
	a := askFor(&box{name: "small", waiting: 1}, want, c.all[i], "k")
	if a.Deadline = now.Add(time.Hour); !c.small[i] {
		a.Outbox = &endless{box: box{name: "large"}}
	}
	c.take(now, c.book.Step(now, a))
}

func (c *crowd) take(now time.Time, es []Effect) {
	for _, s := range started(es) {
		i := slices.Index(c.all, s.road.lane.limits)
		c.open[i] = append(c.open[i], s)
		c.due[s] = now
		c.begun++
	}
}

// look is how the courier looks for its next message.
func look(b *Book, now time.Time, s *Session) (*protocol.Parcel, Verdict, []Effect) {
	b.Woken(s)
	p, v, _, es := b.Next(now, s, false)
	if p == nil {
		var more []Effect
		p, v, _, more = b.Next(now, s, true)
		es = append(es, more...)
	}
	return p, v, es
}

// turn has every session begin a message that is not at one. Of the last kind there is one only.
func (c *crowd) turn(now time.Time) {
	for i := range c.open {
		for _, s := range slices.Clone(c.open[i]) {
			if c.time[i]++; now.Before(c.due[s]) {
				continue
			}
			c.due[s] = now.Add(c.every[i])
			p, v, es := look(c.book, now, s)
			if p != nil {
				c.sent[i]++
			}
			c.take(now, es)
			c.fill(now, min(i, 2))
			if v == End || i == 3 {
				c.open[i] = remove(c.open[i], s)
				c.book.Close(now, s, nil, nil)
				c.take(now, c.book.Step(now, protocol.Reported{Session: s.ID, Report: protocol.Report{Connected: true, Messages: 1}}))
			}
		}
	}
	if n := len(c.open[0]) + len(c.open[1]) + len(c.open[2]) + len(c.open[3]); n > c.bears {
		c.t.Fatalf("%d connections at once, the receiver bears %d", n, c.bears)
	}
}

// fill has enough mail of a kind wait.
func (c *crowd) fill(now time.Time, i int) {
	waiting := func() int {
		for _, l := range c.lanes() {
			if l.limits == c.all[i] {
				return l.waiting
			}
		}
		return 0
	}
	if !c.small[i] {
		if waiting() == 0 {
			c.ask(now, i, 10)
		}
		return
	}
	for waiting() < 20 {
		c.ask(now, i, 1)
	}
}

func (c *crowd) lanes() []*lane {
	if len(c.book.order) == 0 {
		return nil
	}
	return c.book.order[0].lanes
}

func remove(ss []*Session, s *Session) (out []*Session) {
	for _, x := range ss {
		if x != s {
			out = append(out, x)
		}
	}
	return out
}
