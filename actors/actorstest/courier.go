package actorstest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// Courier is a courier without sockets: Answer decides every outcome.
type Courier struct {
	Idle    time.Duration // how long it waits for the next message; default 5 s
	Connect func(protocol.Trip) mail.Outcome
	Answer  func(protocol.Trip, *mail.Job) mail.Outcome
	Ahead   bool            // the next message is taken before the answer to the one before, as PIPELINING wants
	Slow    func(*mail.Job) // called between clearance and the dot
	Await   bool            // the next message waits for the commit of the outcome before, as rule D6 wants

	Runs atomic.Int64
	Sent atomic.Int64
	out  atomic.Int64
	open sync.Map // source+receiver -> *gauge
}

type gauge struct{ now, most atomic.Int64 }

// Run implements protocol.Courier.
func (c *Courier) Run(_ context.Context, t protocol.Trip, w protocol.Work) protocol.Report {
	c.Runs.Add(1)
	c.out.Add(1)
	defer c.out.Add(-1)
	v, _ := c.open.LoadOrStore(t.Source.String()+" "+t.Receiver, &gauge{})
	g := v.(*gauge)
	n := g.now.Add(1)
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	defer g.now.Add(-1)
	if c.Connect != nil {
		if o := c.Connect(t); o.Result != 0 {
			o.Source = t.Source
			return protocol.Report{Outcome: o}
		}
	}
	rep := protocol.Report{Connected: true}
	idle := c.Idle
	if idle == 0 {
		idle = 5 * time.Second
	}
	durable := make(chan error, 1)
	var next *mail.Job
	for t.PerConnection == 0 || rep.Messages < t.PerConnection {
		j := next
		if next = nil; j == nil {
			j = w.Next(idle)
		}
		if j == nil {
			return rep
		}
		if !w.Ready(j) || !w.Clear(j) {
			w.Return(j)
			return rep
		}
		if c.Slow != nil {
			c.Slow(j)
		}
		w.Sent(j)
		if c.Ahead && (t.PerConnection == 0 || rep.Messages+1 < t.PerConnection) {
			next = w.Next(0)
		}
		o := mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Source: t.Source}
		if c.Answer != nil {
			o = c.Answer(t, j)
			o.Source = t.Source
		}
		c.Sent.Add(1)
		rep.Messages++
		if !c.Await {
			w.Settle(j, o, nil)
			continue
		}
		w.Settle(j, o, func(err error) { durable <- err })
		if err := <-durable; err != nil {
			if next != nil {
				w.Return(next)
			}
			return rep
		}
	}
	return rep
}

// Open is how many connections there are now.
func (c *Courier) Open() int64 { return c.out.Load() }

// Most is the largest number of connections that were open at once from source to receiver.
func (c *Courier) Most(source, receiver string) int64 {
	if v, ok := c.open.Load(source + " " + receiver); ok {
		return v.(*gauge).most.Load()
	}
	return 0
}

// Resolver sends every domain to one static route, unless Answer says otherwise.
type Resolver struct {
	Answer func(mail.Domain) (mail.Route, mail.Outcome)
	Asked  atomic.Int64
}

// Route implements protocol.Resolver.
func (r *Resolver) Route(_ context.Context, d mail.Domain) (mail.Route, mail.Outcome) {
	r.Asked.Add(1)
	if r.Answer != nil {
		return r.Answer(d)
	}
	return mail.Route{Hosts: []mail.Host{{Name: "relay.example", Port: 25}}, Static: true}, mail.Outcome{}
}
