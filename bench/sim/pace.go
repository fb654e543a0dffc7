package sim

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/bounce"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// PaceResult is how one source fared with one receiver that hides its quota. Shares are of the time after the first
// hour, in which the source has to find out.
type PaceResult struct {
	Receiver string
	Seed     int64
	Days     float64
	Accepted int // or refused for the recipient's sake: what the quota was used for
	Attempts int
	Refused  int     // temporary refusals, greylisting left out
	Used     float64 // accepted ÷ what the quota would have allowed
	Blocks   int     // times the receiver blocked the source
	Err      error   // a limit was exceeded
}

// RefusedShare is temporary refusals per attempt.
func (r PaceResult) RefusedShare() float64 { return float64(r.Refused) / float64(max(r.Attempts, 1)) }

// warm is the time that does not count.
const warm = time.Hour

// Pace lets one source send to a receiver for a time as fast as the policy lets it, with mail always waiting.
func Pace(seed int64, m *Model, rules *bounce.Rules, length time.Duration) PaceResult {
	rng := rand.New(rand.NewPCG(uint64(seed), uint64(len(m.Name))<<32|uint64(m.Name[0])))
	start := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	p := &pace{m: m, rules: rules, rng: rng, now: start, start: start, end: start.Add(length),
		machine: shaping.NewMachine(m.Limits), server: newServer(m, rng, start), result: PaceResult{Receiver: m.Name, Seed: seed}}
	p.dispatch()
	for p.queue.Len() > 0 && p.result.Err == nil {
		e := heap.Pop(&p.queue).(event)
		if e.at.After(p.end) {
			break
		}
		p.now = e.at
		e.do()
	}
	r := p.result
	r.Days = (length - warm).Hours() / 24
	r.Blocks = p.server.blocks
	r.Used = float64(r.Accepted) / p.server.allowed(p.start.Add(warm), p.end)
	return r
}

// pace is one such run: connections of one source, each sending message after message.
type pace struct {
	m       *Model
	rules   *bounce.Rules
	rng     *rand.Rand
	now     time.Time
	start   time.Time
	end     time.Time
	machine shaping.Machine
	server  *server
	queue   agenda
	seq     int
	open    int
	again   time.Time // when dispatch is called next
	result  PaceResult
}

// conn is one connection.
type conn struct {
	left   int // messages the grant holds
	until  time.Time
	served int
	most   int // messages, as the policy said when it was opened; 0 = no bound
}

func (p *pace) at(t time.Time, do func()) {
	p.seq++
	heap.Push(&p.queue, event{at: t, order: p.seq, do: do})
}

// took is how long something took with the receiver.
func (p *pace) took() time.Duration {
	return time.Duration(float64(p.m.Latency) * (0.5 + p.rng.Float64()))
}

// dispatch opens connections as far as the policy goes.
func (p *pace) dispatch() {
	for {
		slots, n, until := p.machine.Grant(p.now, 1)
		if slots == 0 {
			if until.After(p.now) && (!p.again.After(p.now) || until.Before(p.again)) {
				p.again = until
				p.at(until, p.dispatch)
			}
			return
		}
		if p.open++; p.open > p.m.Limits.Connections {
			p.result.Err = fmt.Errorf("%d connections to %s, the limit is %d", p.open, p.m.Name, p.m.Limits.Connections)
		}
		c := &conn{left: n, until: until, most: p.machine.PerConnection()}
		p.at(p.now.Add(p.took()), func() { p.greet(c) })
	}
}

func (p *pace) greet(c *conn) {
	if o := p.server.greet(p.now, p.open); o.Result != 0 {
		p.observe(p.rules.Classify(p.m.Receiver, o, ""), false)
		p.close(c)
		return
	}
	p.next(c)
}

// next sends one more message, or ends the connection.
func (p *pace) next(c *conn) {
	if c.most > 0 && c.served >= c.most {
		p.close(c)
		return
	}
	if c.left == 0 || !p.now.Before(c.until) {
		p.machine.Release(p.now, 0, c.left)
		c.left = 0
		want := 100
		if pc := p.machine.Pace(); pc > 0 {
			want = max(1, min(want, int(pc/float64(4*p.open))))
		}
		n, until := p.machine.Renew(p.now, want)
		if n == 0 {
			if p.machine.Refusal() == shaping.Rate && until.After(p.now) && until.Sub(p.now) < 30*time.Second {
				p.at(until, func() { p.next(c) })
				return
			}
			p.close(c)
			return
		}
		c.left, c.until = n, until
	}
	c.left--
	o, ends := p.server.message(p.now, c.served)
	d := max(p.took(), p.m.Limits.Interval)
	p.at(p.now.Add(d), func() { p.answered(c, o, ends) })
}

func (p *pace) answered(c *conn, o mail.Outcome, ends bool) {
	o = p.rules.Classify(p.m.Receiver, o, "x@"+mail.Address(p.m.Name)+".example")
	if !p.now.Before(p.start.Add(warm)) {
		p.result.Attempts++
		switch {
		case o.Result == mail.Delivered, o.Scope == mail.ScopeRecipient:
			p.result.Accepted++
		case o.Reply.IsZero() && c.served > 0 && o.Silence() == mail.Closed: // the message was not tried
			p.result.Attempts--
		default:
			p.result.Refused++
		}
	}
	p.observe(o, true)
	if c.served++; ends {
		p.close(c)
		return
	}
	p.next(c)
}

func (p *pace) observe(o mail.Outcome, connected bool) {
	if o.Result != mail.Delivered && connected {
		p.machine.Served(p.server.lastServed)
	}
	p.machine.Observe(p.now, o, connected)
}

func (p *pace) close(c *conn) {
	p.open--
	p.machine.Release(p.now, 1, c.left)
	p.dispatch()
}

// server is the other side: a quota that changes, hidden, and what happens beyond it.
type server struct {
	m          *Model
	rng        *rand.Rand
	base       float64   // messages a minute
	factors    []float64 // of each few hours
	start      time.Time
	window     [60]int // attempts of each second
	tried      int     // sum of window
	second     int64
	blocked    time.Time
	blocks     int
	lastServed time.Time
}

// shift is how long a quota stays.
const shift = 4 * time.Hour

func newServer(m *Model, rng *rand.Rand, start time.Time) *server {
	s := &server{m: m, rng: rng, start: start, base: m.Least * math.Pow(m.Most/m.Least, rng.Float64())}
	for range 7 * 24 / 4 * 5 {
		s.factors = append(s.factors, 0.75+0.5*rng.Float64())
	}
	return s
}

// quota is what the receiver bears in a minute, now.
func (s *server) quota(now time.Time) float64 {
	i := int(now.Sub(s.start)/shift) % len(s.factors)
	// It moves from one to the next within half an hour.
	f, next := s.factors[i], s.factors[(i+1)%len(s.factors)]
	if left := shift - now.Sub(s.start)%shift; left < 30*time.Minute {
		f += (next - f) * (1 - left.Minutes()/30)
	}
	return s.base * f
}

// allowed is how many messages the quota allows in a span of time.
func (s *server) allowed(from, to time.Time) (sum float64) {
	for t := from; t.Before(to); t = t.Add(time.Minute) {
		sum += s.quota(t)
	}
	return sum
}

func (s *server) count(now time.Time) float64 {
	sec := now.Unix()
	for s.second < sec {
		if sec-s.second > 60 {
			s.second = sec - 60
		}
		s.second++
		i := s.second % 60
		s.tried -= s.window[i]
		s.window[i] = 0
	}
	s.window[sec%60]++
	s.tried++
	return float64(s.tried) / s.quota(now)
}

func (s *server) greet(now time.Time, open int) mail.Outcome {
	switch {
	case now.Before(s.blocked) && s.m.Shut.stage <= mail.StageGreeting:
		return s.m.Shut.outcome()
	case s.m.Conns > 0 && open > s.m.Conns:
		return s.m.Crowded.outcome()
	}
	return mail.Outcome{}
}

// message answers one; ends tells that the connection is over.
func (s *server) message(now time.Time, served int) (o mail.Outcome, ends bool) {
	if now.Before(s.blocked) {
		return s.m.Shut.outcome(), true
	}
	if s.m.PerConn > 0 && served >= s.m.PerConn {
		return mail.Outcome{Result: mail.Deferred, Stage: mail.StageMail, Detail: mail.Closed.String()}, true
	}
	switch used := s.count(now); {
	case used > 1.1:
		s.blocked = now.Add(s.m.ShutFor)
		s.blocks++
		return s.m.Shut.outcome(), true
	case used > 1:
		return s.m.Over.outcome(), s.m.Over.reply.Code == 421
	}
	if s.m.Grey > 0 && s.rng.Float64() < s.m.Grey {
		return mail.Outcome{Result: mail.Deferred, Stage: mail.StageRcpt, Reply: smtp.Reply{Code: 450,
			Enhanced: smtp.EnhancedCode{Class: 4, Subject: 7, Detail: 1}, Text: "Greylisted, try again in 300 seconds"}}, false
	}
	s.lastServed = now
	return mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Reply: smtp.Reply{Code: 250}}, false
}
