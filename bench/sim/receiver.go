package sim

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// mood is how a receiver behaves for a while.
type mood int

const (
	well      mood = iota
	grey           // 451 to everything
	full           // 421 at the greeting beyond a hidden number of connections
	refusing       // connections refused
	resetting      // connections reset before the dot
	picky          // 550 to some
	slow           // connections accepted, some cut after the dot
	moods
)

// receiver is the other side: what it bears, how it feels, and what it has seen.
type receiver struct {
	w      *world
	name   string
	limits shaping.Limits
	mood   mood
	quota  int // hidden
	seen   map[netip.Addr]*seen
}

// seen is what a receiver saw of a source.
type seen struct {
	open    int
	begun   int
	since   time.Time
	day     int
	dayDone int
}

func newReceiver(w *world, i int) *receiver {
	r := &receiver{w: w, name: fmt.Sprintf("mx%d.example", i), quota: 1 + w.rng.IntN(4), seen: map[netip.Addr]*seen{}}
	r.limits = shaping.Limits{Receiver: "mx:" + r.name, Connections: 1 + w.rng.IntN(4), BlockPause: time.Minute, TLS: "none"}
	if w.rng.IntN(2) == 0 {
		r.limits.PerConnection = 1 + w.rng.IntN(20)
	}
	if w.rng.IntN(3) == 0 {
		r.limits.Rate = 0.5 + 5*w.rng.Float64()
	}
	if w.rng.IntN(3) == 0 {
		r.limits.ConnectionRate = 0.2 + w.rng.Float64()
	}
	if w.rng.IntN(4) == 0 {
		r.limits.DailyCap = 20 + w.rng.IntN(100)
	}
	if w.rng.IntN(4) == 0 {
		r.limits.TopOfHour = time.Minute
	}
	return r
}

func (r *receiver) of(a netip.Addr) *seen {
	s := r.seen[a]
	if s == nil {
		s = &seen{since: r.w.now}
		r.seen[a] = s
	}
	return s
}

// open counts a connection and checks invariant I10.
func (r *receiver) open(x *sess) {
	s := r.of(x.trip.Source)
	if s.open++; s.open > r.limits.Connections {
		r.w.fail(fmt.Errorf("%d connections from %s to %s, it bears %d", s.open, x.trip.Source, r.name, r.limits.Connections))
	}
}

func (r *receiver) close(x *sess) { r.of(x.trip.Source).open-- }

// greet is connect, banner and EHLO; Result 0 = fine.
func (r *receiver) greet(x *sess) mail.Outcome {
	switch {
	case r.mood == refusing:
		return mail.Outcome{Result: mail.Deferred, Stage: mail.StageConnect, Status: mail.StatusServer, Detail: "connection refused"}
	case r.mood == full && r.of(x.trip.Source).open > r.quota:
		return mail.Outcome{Result: mail.Deferred, Stage: mail.StageGreeting, Scope: mail.ScopeSource, Reply: smtp.Reply{Code: 421, Text: "too many"}}
	}
	return mail.Outcome{}
}

// begins counts a message against a pace, of which each incarnation of the node has a second's worth at once.
func (s *seen) begins(now time.Time, rate float64, nodes int) error {
	s.begun++
	if rate == 0 {
		return nil
	}
	d := now.Sub(s.since)
	if most := max(1, rate)*float64(nodes) + rate*d.Seconds() + 1; float64(s.begun) > most {
		return fmt.Errorf("%d messages within %s, the pace is %.1f/s", s.begun, d, rate)
	}
	return nil
}

// begin counts a transaction and checks pace and cap.
func (r *receiver) begin(x *sess, p *protocol.Parcel) {
	w, s := r.w, r.of(x.trip.Source)
	l := &r.limits
	if err := s.begins(w.now, l.Rate, w.node); err != nil {
		w.fail(fmt.Errorf("from %s to %s: %w", x.trip.Source, r.name, err))
	}
	if day := int(w.now.Unix() / 86400); day != s.day {
		s.day, s.dayDone = day, 0
	}
	// What is counted is forgotten with the process: each incarnation has a cap of its own until that is stored.
	if s.dayDone++; l.DailyCap > 0 && s.dayDone > l.DailyCap*w.node {
		w.fail(fmt.Errorf("%d messages from %s to %s on one day, the cap is %d", s.dayDone, x.trip.Source, r.name, l.DailyCap))
	}
	if e, ok := w.queue.Final(p.Job.Delivery.Seq); ok {
		w.fail(fmt.Errorf("delivery %d is sent again after it was settled as %v", p.Job.Delivery.Seq, e.Kind))
	}
	if d := &p.Job.Delivery; d.Due.After(w.now) || !d.Expires.After(w.now) {
		w.fail(fmt.Errorf("delivery %d is sent at %s, due %s, expires %s", d.Seq, w.now, d.Due, d.Expires))
	}
}

func (r *receiver) connects() time.Duration {
	return 10*time.Millisecond + r.w.upTo(40*time.Millisecond)
}

func (r *receiver) takes() time.Duration { return 5*time.Millisecond + r.w.upTo(100*time.Millisecond) }

func (r *receiver) scoped(*sess, *mail.Outcome) func() { return nil }

// answer is the reply to a transaction.
func (r *receiver) answer(x *sess, p *protocol.Parcel) (mail.Outcome, bool) {
	ok := mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Reply: smtp.Reply{Code: 250}}
	switch roll := r.w.rng.IntN(4); {
	case r.mood == grey:
		return mail.Outcome{Result: mail.Deferred, Stage: mail.StageRcpt, Reply: smtp.Reply{Code: 451}}, false
	case r.mood == resetting && roll < 3:
		return mail.Outcome{Result: mail.Deferred, Stage: mail.StageMail, Detail: "connection reset"}, true
	case r.mood == picky && roll == 0:
		return mail.Outcome{Result: mail.Failed, Stage: mail.StageRcpt, Status: mail.StatusUserUnknown, Reply: smtp.Reply{Code: 550}}, false
	case r.mood == slow && roll == 0:
		return mail.Outcome{Result: mail.Deferred, Stage: mail.StageDot, InDoubt: true, Detail: "connection lost"}, false
	}
	return ok, false
}

// resolve answers for a domain: some have no hosts for a while, one never.
func (w *world) resolve(d mail.Domain) protocol.Resolved {
	i := 0
	for k, x := range w.domains {
		if x == d {
			i = k
		}
	}
	if i == 0 && len(w.domains) > 3 {
		return protocol.Resolved{Outcome: mail.Outcome{Result: mail.Failed, Stage: mail.StageDNS, Status: mail.StatusHostUnknown, Detail: "no such domain"}}
	}
	if w.now.Sub(w.start) < w.cfg.Script && w.rng.IntN(10) == 0 {
		return protocol.Resolved{Outcome: mail.Outcome{Result: mail.Deferred, Stage: mail.StageDNS, Detail: "server failure"}}
	}
	r := w.receivers[i%len(w.receivers)]
	route := mail.Route{Hosts: []mail.Host{{Name: r.name, Port: 25}}, Until: w.now.Add(time.Minute)}
	return protocol.Resolved{Route: route, Key: route.Key(), Limits: &r.limits}
}

func (w *world) receiverOf(r mail.Route) remote {
	for _, x := range w.receivers {
		if x.name == r.Hosts[0].Name {
			return x
		}
	}
	panic("sim: a route to nobody")
}
