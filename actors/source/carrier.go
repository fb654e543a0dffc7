package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// Runner is what sessions run on.
type Runner struct {
	Courier protocol.Courier
	Clock   *clock.Clock
	Log     *slog.Logger
	Context context.Context // ends when the node gives up waiting for sessions
	Linger  time.Duration   // how long a dry session waits on its outbox before it is free for others; default 80 ms
}

// lingering is Runner.Linger's default: longer than the gaps of a steady stream, shorter than anybody waits.
const lingering = 80 * time.Millisecond

// holdMost is how long a session keeps its connection for mail that may go then: a filter's distance is no longer, nor is the promise that a
// connection is given where many share a slow pace. Without mail it lingers as the courier says.
const holdMost = 10 * time.Second

// carrier is a Session with a goroutine: the Work that a courier carries.
type carrier struct {
	run   *Runner
	book  *Book
	s     *Session
	act   func([]Effect)
	wake  chan struct{}
	timer *time.Timer
	load  []load             // taken, and not yet settled or returned
	back  []*protocol.Parcel // returned, not yet given back
	boxes []protocol.Outbox  // of back
}

// load is a parcel in the courier's hands.
type load struct {
	p       *protocol.Parcel
	box     protocol.Outbox
	cleared bool // its dot may have been sent
}

var _ protocol.Work = (*carrier)(nil)

// carry runs one session to its end and reports it.
func (r *Runner) carry(b *Book, s *Session, act func([]Effect), report func(protocol.Reported)) {
	c := &carrier{run: r, book: b, s: s, act: act, wake: s.waker.(wakeChan)}
	rep := c.travel()
	now := r.Clock.Now()
	c.unload(now)
	box, shelf := s.Outbox()
	if box == nil {
		box, shelf = s.nextBox, s.nextShelf
	}
	var news any
	if box != nil && rep.Messages == 0 && rep.Outcome.Result != 0 {
		news = protocol.Troubled{Source: b.source, Shelf: shelf, Report: rep}
	}
	var own []*protocol.Parcel
	for i, p := range c.back {
		if c.boxes[i] == box {
			own = append(own, p)
		} else {
			c.boxes[i].Return(p)
		}
	}
	b.Close(now, s, own, news)
	s.Finish(rep)
	report(protocol.Reported{Session: s.ID, Report: rep})
}

// travel lets the courier carry, and survives it.
func (c *carrier) travel() (rep protocol.Report) {
	defer func() {
		if x := recover(); x != nil {
			c.book.counters.Lost.Add(1)
			c.run.Log.Error("courier failed", "receiver", c.s.Receiver(), "reason", fmt.Sprint(x), "stack", string(debug.Stack()))
			rep = protocol.Report{Messages: 1} // no trouble of the receiver's
		}
	}()
	return c.run.Courier.Run(c.run.Context, c.s.Trip(c.book), c)
}

// unload takes back what the courier left behind. What had been cleared may have reached the receiver.
func (c *carrier) unload(now time.Time) {
	for _, l := range c.load {
		if !l.cleared {
			c.giveBack(l)
			continue
		}
		l.box.Settle(now, l.p, mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, Status: mail.StatusOther,
			Detail: "session ended without an answer", InDoubt: true, Source: c.book.source, At: now}, c.s.Receiver(), nil)
	}
	c.load = nil
}

// Next implements protocol.Work.
func (c *carrier) Next(wait time.Duration) *mail.Job {
	c.flushBack()
	var start time.Time
	if wait > 0 {
		start = clock.Wall()
	}
	for {
		now := c.run.Clock.Now()
		p, v, at, effects := c.book.Next(now, c.s, wait > 0)
		c.act(effects)
		switch v {
		case Busy:
			if j := c.fetch(now, p); j != nil {
				return j
			}
			continue
		case End:
			return nil
		}
		if wait <= 0 {
			return nil
		}
		left := wait - clock.Since(start)
		if v == Hold {
			if d := at.Sub(now); d > max(left, holdMost) || !c.sleepUntilWake(d, true) {
				return nil
			}
			continue
		}
		if !c.rest(left) {
			return nil
		}
	}
}

// fetch reads the body where it is not in memory. A message that cannot be read is deferred: the store may recover. One
// that is damaged never will; its sender is told at once instead of at the end of its lifetime.
func (c *carrier) fetch(now time.Time, p *protocol.Parcel) *mail.Job {
	box := c.s.box
	if err := box.Fetch(p); err != nil {
		c.run.Log.Error("message could not be read", "message", p.Job.Delivery.Message.String(), "error", err)
		o := mail.Outcome{Result: mail.Deferred, Stage: mail.StageNone, Status: mail.StatusOther,
			Detail: "message could not be read from the store", At: now, Advice: &mail.Advice{NoSuppress: true}}
		if errors.Is(err, mail.ErrDamaged) {
			o.Result = mail.Failed
		}
		box.Settle(now, p, o, c.s.Receiver(), nil)
		return nil
	}
	if slices.ContainsFunc(c.load, func(l load) bool { return l.cleared }) {
		p.Behind.Store(now.UnixMilli())
	}
	c.load = append(c.load, load{p: p, box: box})
	return &p.Job
}

// rest waits for work for at most left: first on the outbox, then free for whoever asks. false: nothing came.
func (c *carrier) rest(left time.Duration) bool {
	if c.s.queued {
		linger := c.run.Linger
		if linger == 0 {
			linger = lingering
		}
		if c.sleepUntilWake(min(linger, left), false) {
			c.book.Woken(c.s)
			return true
		}
		c.book.Park(c.run.Clock.Now(), c.s)
		left -= linger
	}
	woken := left > 0 && c.sleepUntilWake(left, false)
	return c.book.Woken(c.s) || woken
}

// sleepUntilWake waits for d or a wake, and tells whether it was woken; timeout tells what to answer when d passes.
func (c *carrier) sleepUntilWake(d time.Duration, timeout bool) bool {
	if c.timer == nil {
		c.timer = time.NewTimer(d)
	} else {
		c.timer.Reset(d)
	}
	defer c.timer.Stop()
	select {
	case <-c.wake:
		return true
	case <-c.timer.C:
		return timeout
	case <-c.run.Context.Done():
		c.s.quit.Store(true)
		return true
	}
}

// Ready implements protocol.Work.
func (c *carrier) Ready(j *mail.Job) bool {
	l := &c.load[c.find(j)]
	return l.box.Ready(l.p)
}

// Clear implements protocol.Work.
func (c *carrier) Clear(j *mail.Job) bool {
	i := c.find(j)
	l := &c.load[i]
	now := c.run.Clock.Now()
	if !l.box.Clear(now, l.p, c.book.source, c.s.Receiver()) || !l.p.Claim() {
		return false
	}
	l.cleared = true
	c.s.Cleared(now)
	for k := range c.load { // what was taken ahead cannot begin before this one is answered
		if k != i {
			c.load[k].p.Behind.Store(now.UnixMilli())
		}
	}
	return true
}

// Sent implements protocol.Work.
func (c *carrier) Sent(j *mail.Job) {
	l := &c.load[c.find(j)]
	l.box.Sent(c.run.Clock.Now(), l.p)
}

// Settle implements protocol.Work.
func (c *carrier) Settle(j *mail.Job, o mail.Outcome, done func(error)) {
	l := c.remove(c.find(j))
	if o.Result == 0 {
		o.Result = mail.Deferred
	}
	now := c.run.Clock.Now()
	if o.Stage <= mail.StageConnect { // no transaction: the receiver is owed no pause for it
		c.s.next = time.Time{}
	}
	effects := c.book.Settled(now, c.s, &o)
	for k := range c.load {
		c.load[k].p.Behind.Store(0)
	}
	if l.p.Claim() {
		l.box.Settle(now, l.p, o, c.s.Receiver(), done)
	} else if done != nil { // recalled: somebody else carries it
		done(nil)
	}
	c.act(effects)
}

// Return implements protocol.Work. What comes back is not given away again before the courier asks for more or ends:
// a connection that fails should be known as such before its mail is tried elsewhere.
func (c *carrier) Return(j *mail.Job) { c.giveBack(c.remove(c.find(j))) }

func (c *carrier) giveBack(l load) {
	if !l.p.Claim() { // recalled: it is back already
		return
	}
	c.back = append(c.back, l.p)
	c.boxes = append(c.boxes, l.box)
}

func (c *carrier) flushBack() {
	for i, p := range c.back {
		c.boxes[i].Return(p)
	}
	c.back, c.boxes = c.back[:0], c.boxes[:0]
}

// find looks for a job among the few in hand. A job that is not there was settled twice, which is a fault of the
// courier's that must not pass.
func (c *carrier) find(j *mail.Job) int {
	i := slices.IndexFunc(c.load, func(l load) bool { return &l.p.Job == j })
	if i < 0 {
		panic("source: a job was settled or returned that is not in hand")
	}
	return i
}

func (c *carrier) remove(i int) load {
	l := c.load[i]
	c.load = slices.Delete(c.load, i, i+1)
	return l
}

// wakeChan is a Waker for one goroutine.
type wakeChan chan struct{}

func (w wakeChan) Wake() {
	select {
	case w <- struct{}{}:
	default:
	}
}
