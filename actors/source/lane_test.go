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
// though it might have more, and what comes later waits no longer than a turn or two.
func TestKindsOfMailTakeTurns(t *testing.T) {
	for _, connections := range []int{1, 2, 10} {
		plain := shaping.Limits{Receiver: "r", Connections: connections}
		filtered, cleaning, late := plain.Filtered("t/f", 0, 0, false), plain.Cleaning(), plain.Filtered("t/late", 0, time.Millisecond, false)
		all := []*shaping.Limits{&plain, &filtered, &cleaning, &late}
		b, c := newBook(100), &crowd{t: t, bears: connections}
		c.book = b
		for i, l := range all {
			c.boxes = append(c.boxes, &endless{box: box{name: l.Lane()}})
			if i < 3 {
				c.ask(testStart, i, l, 10)
			}
		}
		arrives, served := testStart.Add(5*time.Minute), time.Duration(0)
		for now := testStart; now.Before(testStart.Add(10 * time.Minute)); now = now.Add(100 * time.Millisecond) {
			if now.Equal(arrives) {
				c.ask(now, 3, &late, 1)
			}
			c.turn(now, all)
			if served == 0 && c.time[3] > 0 {
				served = now.Sub(arrives)
			}
		}
		share := func(i int) float64 { return float64(c.time[i]) / float64(c.time[0]+c.time[1]+c.time[2]) }
		if c := share(2); c < 0.02 || c > 0.12 {
			t.Errorf("%d connections: cleaning mail has %.2f of them", connections, c)
		}
		if a, f := share(0), share(1); a < 0.35 || f < 0.35 {
			t.Errorf("%d connections: the two others have %.2f and %.2f", connections, a, f)
		}
		if served == 0 || served > 2*turnLife {
			t.Errorf("%d connections: who comes later waits %s", connections, served)
		}
		if c.begun > 3*600 {
			t.Errorf("%d connections were opened in ten minutes", c.begun)
		}
	}
}

// crowd works sessions that have something to send whenever they ask.
type crowd struct {
	t     *testing.T
	book  *Book
	boxes []*endless
	open  [4][]*Session
	time  [4]int // steps with a connection
	begun int
	bears int
}

func (c *crowd) ask(now time.Time, i int, l *shaping.Limits, want int) {
	a := askFor(nil, want, l, "k")
	a.Outbox, a.Deadline = c.boxes[i], now.Add(time.Hour)
	c.take(c.book.Step(now, a))
}

func (c *crowd) take(es []Effect) {
	for _, s := range started(es) {
		for i, x := range c.boxes {
			if s.nextBox == x {
				c.open[i] = append(c.open[i], s)
				c.begun++
			}
		}
	}
}

// turn has every session begin a message. All but the last, which has one only, always want one more.
func (c *crowd) turn(now time.Time, all []*shaping.Limits) {
	for i := range c.open {
		for _, s := range c.open[i] {
			c.time[i]++
			if _, v, _, es := c.book.Next(now, s, true); v == End || i == 3 {
				c.take(es)
				c.open[i] = remove(c.open[i], s)
				c.book.Close(now, s, nil, nil)
				c.take(c.book.Step(now, protocol.Reported{Session: s.ID, Report: protocol.Report{Connected: true, Messages: 1}}))
			}
		}
	}
	for _, l := range c.book.order[0].lanes[:3] {
		if l.waiting == 0 {
			c.ask(now, slices.Index(all, l.limits), l.limits, 1)
		}
	}
	if n := len(c.open[0]) + len(c.open[1]) + len(c.open[2]) + len(c.open[3]); n > c.bears {
		c.t.Fatalf("%d connections at once, the receiver bears %d", n, c.bears)
	}
}

func remove(ss []*Session, s *Session) (out []*Session) {
	for _, x := range ss {
		if x != s {
			out = append(out, x)
		}
	}
	return out
}
