package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/bounce"
	"github.com/ekiden-mta/ekiden/policy/schedule"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// loud is the tenant whose sender domain a receiver may find too loud; the others are innocent.
const (
	loud       = "loud"
	calm       = "calm"
	still      = "still"
	loudDomain = loud + ".example"
)

// hidden is a receiver that plays a model.
type hidden struct {
	w     *world
	m     *Model
	rules *bounce.Rules
	quiet schedule.Hours
	end   time.Time

	course course
	domain quota // of the loud sender
	voice  tally // its
	seen   map[netip.Addr]*caller
	grey   map[mail.Seq]visit // greylisted

	result *PaceResult
}

// visit is where and when mail was first seen.
type visit struct {
	from netip.Addr
	at   time.Time
}

// caller is what it knows of one source.
type caller struct {
	seen
	quota   quota
	tally   tally
	since   time.Time // first seen
	blocked time.Time // until
	blocks  int
	stopped time.Time // until: it has said in words that we are to stop
	used    float64
}

func newHidden(w *world, m *Model, rules *bounce.Rules, rng *rand.Rand) *hidden {
	h := &hidden{w: w, m: m, rules: rules, course: newCourse(rng), seen: map[netip.Addr]*caller{}, grey: map[mail.Seq]visit{}}
	first := newQuota(m, rng)
	for i, a := range w.addrs {
		q := first // one receiver thinks much the same of all sources of one sender, and not quite
		f := 0.8 + 0.4*rng.Float64()
		q.minute, q.hour, q.second = q.minute*f, q.hour*f, q.second*f
		q.phase += time.Duration(i) * 17 * time.Minute
		h.seen[a] = &caller{quota: q}
	}
	h.domain = quota{minute: first.minute * m.Scoped}
	return h
}

func (h *hidden) measured(c *caller) bool { return !h.w.now.Before(c.since.Add(warm)) }

// allowed is how many messages a source's quota allows from its first hour on, but for what rules of our own forbid: quiet
// hours, and the pause after the full hour.
func (h *hidden) allowed(c *caller) (sum float64) {
	for t := c.since.Add(warm); t.Before(h.end); t = t.Add(time.Minute) {
		if _, quiet := h.quiet.Until(t); !quiet {
			end := h.m.Limits.Spared(t) // of a pause that has begun before t, or in the minute
			if next := t.Add(time.Minute).Truncate(time.Hour); next.After(t) {
				end = t.Add(h.m.Limits.Spared(next).Sub(next))
			}
			spared := min(max(0, end.Sub(t)), time.Minute)
			sum += c.quota.pace() * h.course.at(t.Sub(h.w.start)) * (time.Minute - spared).Minutes()
		}
	}
	return sum
}

func (h *hidden) open(x *sess) {
	c := h.seen[x.trip.Source]
	x.caller = c
	if c.since.IsZero() {
		c.since, c.seen.since = h.w.now, h.w.now
	}
	if c.open++; c.open > h.m.Limits.Connections {
		h.exceeded(x, fmt.Errorf("%d connections, the limit is %d", c.open, h.m.Limits.Connections))
	}
}

func (h *hidden) exceeded(x *sess, err error) {
	h.result.Exceeded++
	h.w.fail(fmt.Errorf("from %s to %s: %w", x.trip.Source, h.m.Name, err))
}

func (h *hidden) close(x *sess) { x.caller.open-- }

func (h *hidden) connects() time.Duration { return h.takes() }

func (h *hidden) takes() time.Duration {
	return time.Duration(float64(h.m.Latency) * (0.5 + h.w.rng.Float64()))
}

func (h *hidden) greet(x *sess) mail.Outcome {
	switch c := x.caller; {
	case h.w.now.Before(c.blocked) && h.m.Shut.stage <= mail.StageGreeting:
		return h.meaning(h.m.Shut, x, "")
	case h.m.Conns > 0 && c.open > h.m.Conns:
		return h.meaning(h.m.Crowded, x, "")
	}
	return mail.Outcome{}
}

// meaning is an answer as the rules read it.
func (h *hidden) meaning(a answer, x *sess, to mail.Address) mail.Outcome {
	o := h.rules.Classify(h.m.Receiver, a.outcome(), to)
	o.Source, o.At = x.trip.Source, h.w.now
	return o
}

// begin checks what must hold whenever a message begins: invariants I10 and I11.
func (h *hidden) begin(x *sess, p *protocol.Parcel) {
	c := x.caller
	if h.w.now.Before(c.stopped) {
		h.exceeded(x, fmt.Errorf("a message begins, and it has said to stop until %s", c.stopped))
	}
	d := &p.Job.Delivery
	if h.suppressed(d.To) {
		h.w.fail(fmt.Errorf("delivery %d goes to %s, who is suppressed", d.Seq, d.To))
	}
	if d.Cleaning || strings.HasPrefix(string(d.To), sedate) || strings.HasPrefix(string(d.To), steady) {
		h.result.Apart++
	}
	if err := c.begins(h.w.now, h.m.Limits.Rate, 1); err != nil {
		h.exceeded(x, err)
	}
	if per := h.m.Limits.PerConnection; per > 0 && x.report.Messages >= per {
		h.exceeded(x, fmt.Errorf("message %d on one connection, the limit is %d", x.report.Messages+1, per))
	}
	if _, quiet := h.quiet.Until(h.w.now); quiet {
		h.result.QuietStarts++
		h.w.fail(fmt.Errorf("delivery %d to %s begins in quiet hours", p.Job.Delivery.Seq, h.m.Name))
	}
	if d.Due.After(h.w.now) || !d.Expires.After(h.w.now) {
		h.w.fail(fmt.Errorf("delivery %d is sent at %s, due %s, expires %s", d.Seq, h.w.now, d.Due, d.Expires))
	}
}

// answer is what comes of a message, as the rules read it, and counts it.
func (h *hidden) answer(x *sess, p *protocol.Parcel) (mail.Outcome, bool) {
	c := x.caller
	a, tried := h.decide(c, x, &p.Job.Delivery)
	o := mail.Outcome{Result: mail.Delivered, Stage: mail.StageDot, Reply: smtp.Reply{Code: 250}}
	if a != nil {
		o = h.meaning(*a, x, "x@"+mail.Address(p.Job.Delivery.Domain))
	}
	c.stop(h.w.now, &o)
	if h.measured(c) {
		h.tell(c, &o, tried)
	}
	return o, a != nil && a.reply.IsZero()
}

// stop notes that an answer, as the rules read it, wants nothing of the source for a time, whatever kind of mail it sends.
func (c *caller) stop(now time.Time, o *mail.Outcome) {
	a := o.Advice
	if a == nil || o.Scope != mail.ScopeSource || a.After > 1 || now.Before(c.stopped) {
		return
	}
	if a.Action == mail.ActProbe || a.Action == mail.ActSuspend {
		c.stopped = now.Add(a.For)
	}
}

// suppressed tells whether an address gets no mail now: one kind in every other ten minutes.
func (h *hidden) suppressed(to mail.Address) bool {
	return strings.HasPrefix(string(to), gone+"@") && h.w.now.Minute()/10%2 == 1
}

// decide is the receiver's answer, nil = taken. tried tells whether it looked at the message at all.
func (h *hidden) decide(c *caller, x *sess, d *mail.Delivery) (a *answer, tried bool) {
	now, m := h.w.now, h.m
	if now.Before(c.blocked) {
		return &m.Shut, true
	}
	if m.PerConn > 0 && x.report.Messages >= m.PerConn {
		return &answer{stage: mail.StageMail, silent: mail.Closed}, false
	}
	f := h.course.at(h.w.since)
	c.tally.count(&c.quota, h.w.since, f)
	switch used, fast := c.tally.used(&c.quota, f); {
	case used > 1 && fast:
		return &m.Fast, true
	case used > blocksAt:
		c.blocked = now.Add(m.ShutFor)
		c.blocks++
		return &m.Shut, true
	case used > 1:
		return &m.Over, true
	}
	if m.Scoped > 0 && d.Tenant == loud {
		h.voice.count(&h.domain, h.w.since, f)
		if used, _ := h.voice.used(&h.domain, f); used > 1 {
			return &m.Domain, true
		}
	}
	if m.Grey > 0 {
		return h.greylist(x.trip.Source, d), true
	}
	return nil, true
}

// greylist is the answer to mail that it may not know yet, nil = taken. From another source it is mail that was never seen.
func (h *hidden) greylist(from netip.Addr, d *mail.Delivery) *answer {
	first, known := h.grey[d.Seq]
	switch {
	case known && first.from != from:
		h.result.Strayed++
		h.grey[d.Seq] = visit{from, h.w.now}
		return greylisted()
	case known && h.w.now.Sub(first.at) < greyFor:
		return greylisted()
	case known:
		delete(h.grey, d.Seq)
	case d.Attempts == 0 && h.w.rng.Float64() < h.m.Grey:
		h.grey[d.Seq] = visit{from, h.w.now}
		h.result.Greylisted++
		return greylisted()
	}
	return nil
}

// greyFor is how long a message must wait that is greylisted.
const greyFor = 4 * time.Minute

func greylisted() *answer {
	a := says(mail.StageRcpt, 450, code(7, 1), "Greylisted, try again in 240 seconds")
	return &a
}

// tell counts an outcome.
func (h *hidden) tell(c *caller, o *mail.Outcome, tried bool) {
	if !tried {
		return
	}
	h.result.Attempts++
	switch {
	case o.Result == mail.Delivered:
		h.result.Accepted++
		c.used++
	case o.Scope == mail.ScopeRecipient: // greylisted: it has used the quota
		c.used++
	default:
		h.result.Refused++
	}
}

// scoped checks that an answer to the loud sender's mail slows down nobody else's: neither its source's pace and
// connections, nor by a suspension that concerns more than its domain.
func (h *hidden) scoped(x *sess, o *mail.Outcome) func() {
	if o.Scope != mail.ScopeDKIM {
		return nil
	}
	before := x.b.Snapshot(h.w.now)
	h.result.Scoped++
	return func() {
		after := x.b.Snapshot(h.w.now)
		for i := range before {
			if slower(&before[i], &after[i]) {
				h.result.Slowed++
			}
		}
		for _, s := range h.w.env.Suspensions.List(h.w.now) {
			if s.From != loudDomain || s.Receiver != h.m.Receiver {
				h.result.Slowed++
			}
		}
	}
}

func slower(before, after *source.Standing) bool {
	return after.Most < before.Most || after.State == shaping.Blocked && before.State != shaping.Blocked ||
		after.Pace > 0 && (before.Pace == 0 || after.Pace < 0.999*before.Pace)
}
