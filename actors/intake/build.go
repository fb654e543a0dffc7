package intake

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/directive"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/alignment"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/schedule"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// NormalPriority is that of mail no filter matches (R35).
const NormalPriority = 50

// build makes work of s, or refuses it.
func (in *Intake) build(s *mail.Submission) (*work, error) {
	index := in.Settings()
	m := index.Composition(s.Tenant, s.Composition)
	if m == nil { // removed while the session was open
		return nil, refuse(451, smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 5}, "settings have changed, connect again")
	}
	if n := directive.MboxLine(s.Data); n > 0 {
		bare := *s
		bare.Data, s = s.Data[n:], &bare
	}
	// Such a line continues a field, and there is none: with ours in front it would belong to that, and what follows it would
	// be no header in the eyes of some.
	if len(s.Data) > 0 && (s.Data[0] == ' ' || s.Data[0] == '\t') {
		return nil, refuse(554, smtp.EnhancedCode{Class: 5, Subject: 6, Detail: 0}, "the first line begins with white space, where a header field is to begin")
	}
	c := m.Composition
	names := directive.Names{Group: c.Headers.Group, Cleaning: c.Headers.Cleaning, Appoint: c.Headers.Appoint, SubjectTime: c.Headers.SubjectTime}
	d, h := directive.Scan(s.Data, &names, c.Received == "strip")
	if h.Received >= directive.MaxReceived {
		return nil, refuse(554, smtp.EnhancedCode{Class: 5, Subject: 4, Detail: 6}, "too many hops, this message is in a loop")
	}
	// The client keeps it and tries again: it must be taken once the group is resumed, and not bounce before.
	if d.Group != "" && in.Stopped != nil && in.Stopped(s.Tenant, d.Group) {
		return nil, refuse(451, smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 2}, "delivery group stopped, try again later")
	}
	// MAIL FROM was checked when it was given; the null sender could not be (E-25).
	if s.From.IsNull() && !m.AllowsFrom(fromDomain(h.From)) {
		return nil, refuse(553, smtp.EnhancedCode{Class: 5, Subject: 7, Detail: 1}, "this FROM domain is not registered")
	}
	faults, err := in.comply(s, m, &h)
	if err != nil {
		return nil, err
	}
	values := m.Filters.Read(s.Data[:h.End])
	to := unique(forward(&values, s.To))
	if len(to) == 0 {
		return nil, refuse(554, smtp.EnhancedCode{Class: 5, Subject: 5, Detail: 1}, "no recipients")
	}

	now := s.At
	if now.IsZero() {
		now = in.Clock.Now()
	}
	now = now.Truncate(time.Millisecond)
	w := &work{}
	a := &w.accepted
	a.ID = mail.MessageID{Lineage: in.Store.Lineage(), Seq: in.Store.Allot(len(to))}
	a.Tenant, a.Key = s.Tenant, keyFor(d.Key, s.To)
	top := 0
	a.Body, top = in.body(s, c.Received, now, h.Cut)
	for _, text := range d.Warnings {
		in.Log.Warn("steering header ignored", slog.String("message", a.ID.String()), slog.String("why", text))
	}

	var p plan
	p.suppressed, p.hours, p.values = in.Suppressed, index.QuietHours, values
	p.fill(s, m, &d, &h, now)
	p.delivery.Message, p.delivery.Size = a.ID, len(a.Body)
	p.event.Message, p.event.Size, p.event.Detail = a.ID, len(a.Body), faults
	a.Deliveries, a.Events = w.oneDelivery[:0], w.oneEvent[:0]
	if len(to) > 1 {
		a.Deliveries = make([]mail.Delivery, 0, len(to))
		a.Events = make([]mail.Event, 0, len(to))
	}
	for i, rcpt := range to {
		p.split(a, rcpt, a.ID.Seq+mail.Seq(i))
	}
	if len(p.links) > 0 {
		if err := in.addLinks(a, &p, s.Data[:h.End], top); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// fromDomain is the domain of a From field's first mailbox, "" where that is no address.
func fromDomain(value []byte) mail.Domain {
	a := mail.Address(directive.Mailbox(value))
	if local, _ := a.Split(); local == "" || local[0] != '"' && strings.ContainsAny(local, " \t<>()@,;:") {
		return ""
	}
	return a.Domain()
}

// unique drops recipients that repeat an earlier one to the octet; whoever differs in case only is kept, since only
// the receiver knows whether it is the same mailbox (E-36, E-38). The order stays.
func unique(to []mail.Address) []mail.Address {
	if len(to) <= 1 {
		return to
	}
	seen := make(map[mail.Address]struct{}, len(to))
	out := make([]mail.Address, 0, len(to))
	for _, a := range to {
		if _, ok := seen[a]; !ok {
			seen[a] = struct{}{}
			out = append(out, a)
		}
	}
	return out
}

// keyFor is what an idempotency key says of a message to these recipients. A client may split a message with many of them
// over several transactions, all with one key: only one with the same recipients is the same message again, in whatever
// order they stand. "" where there is no key.
func keyFor(key string, to []mail.Address) string {
	if key == "" {
		return ""
	}
	names := make([]string, 0, len(to))
	for _, a := range to {
		if local, domain := a.Split(); domain != "" {
			names = append(names, local+"@"+strings.ToLower(domain))
		} else {
			names = append(names, string(a))
		}
	}
	slices.Sort(names)
	sum := sha256.New()
	for _, name := range slices.Compact(names) {
		_, _ = io.WriteString(sum, name+"\n") // no address holds a line break
	}
	return key + "\n" + hex.EncodeToString(sum.Sum(nil)[:16]) // nor does a key
}

// body is the message as it goes out: Received in front, which takes top octets, steering headers out, the rest to the
// octet.
func (in *Intake) body(s *mail.Submission, mode string, now time.Time, cut []directive.Range) (b []byte, top int) {
	b = make([]byte, 0, in.receivedMax(mode, s)+len(s.Data)-directive.Len(cut))
	b = in.appendReceived(b, mode, s, now)
	return directive.Append(b, s.Data, cut), len(b)
}

// plan is what all recipients of a message have in common.
type plan struct {
	member   *settings.Member
	values   filter.Values
	sender8  bool          // the sender's local part needs SMTPUTF8
	utf8     bool          // declared by the client
	lifetime time.Duration // of the time that is not quiet
	quiet    string        // hours the message asks for itself
	delivery mail.Delivery
	event    mail.Event

	suppressed func(tenant, list string, to mail.Address) (mail.Suppression, bool) // Config.Suppressed
	hours      func(mail.Domain) schedule.Hours                                    // of a domain
	links      []link                                                              // of recipients that can leave a list
}

// fill works out p for s, which is taken now.
func (p *plan) fill(s *mail.Submission, m *settings.Member, d *directive.Directives, h *directive.Header, now time.Time) {
	c := m.Composition
	p.member, p.utf8, p.quiet = m, s.UTF8, d.QuietHours
	p.sender8 = h.EightBit || !s.From.IsASCII()
	due, reserved := now, false
	if d.Start.After(now) {
		due, reserved = d.Start.Truncate(time.Millisecond), true
	}
	lifetime, every := time.Duration(c.Retry.Lifetime), time.Duration(c.Retry.Interval)
	if d.Lifetime > 0 {
		lifetime = d.Lifetime
	}
	if d.Retry > 0 {
		every = d.Retry
	}
	p.delivery = mail.Delivery{
		Tenant: s.Tenant, Composition: s.Composition, User: s.User, Group: d.Group, Pool: c.Pool, From: s.From, Taken: now,
		Due: due, Reserved: reserved, Expires: schedule.Expires(now, due, lifetime, nil), RetryEvery: every,
		Priority: NormalPriority, Cleaning: d.Cleaning || c.CleaningDefault,
		EightBit: h.EightBit || smtp.HasEightBit(s.Data[h.End:]),
	}
	if h.Signed { // receivers may hold mail by that
		p.delivery.Signers = alignment.Signers(s.Data[:h.End])
	}
	p.event = mail.Event{
		At: now, Kind: mail.EventAccepted, Tenant: s.Tenant, Group: d.Group, From: s.From,
		Composition: s.Composition, Client: s.Client, User: s.User, Cleaning: p.delivery.Cleaning,
	}
	if reserved {
		p.event.Due = due
	}
	p.lifetime = lifetime
	p.facts(h, c.StoreSubject == nil || *c.StoreSubject)
}

// facts fills what logs show of the header. The three that nearly every message has share one string.
func (p *plan) facts(h *directive.Header, subject bool) {
	from, id := directive.Mailbox(h.From), directive.Trim(h.MessageID)
	var buf [512]byte
	both := append(append(buf[:0], from...), id...)
	s := string(both)
	p.event.HeaderFrom = directive.Clean(s[:len(from)])
	p.event.HeaderID = directive.Clean(s[len(from):])
	if subject {
		p.event.Subject = directive.Text(h.Subject)
	}
	if h.APIData != nil {
		p.event.APIData = directive.Text(h.APIData)
		p.delivery.APIData = p.event.APIData
	}
}

// split adds one recipient: a delivery and its event, or, for an address that cannot be mailed or gets no mail, the event
// and its end (E-41, E-42: the form of an address is looked at first).
func (p *plan) split(a *mail.Accepted, to mail.Address, seq mail.Seq) {
	e := p.event
	e.Delivery, e.To, e.Domain = seq, to, to.Domain()
	a.Events = append(a.Events, e)
	if err := to.Check(); err != nil {
		end := ending(&e)
		end.Kind, end.Status, end.Detail = mail.EventFailed, mail.StatusFormat, err.Error()
		a.Events = append(a.Events, end)
		return
	}
	list, name := p.values.List(to), ""
	if list != nil {
		name = list.Name
	}
	if p.suppressed != nil {
		if why, no := p.suppressed(e.Tenant, name, to); no {
			a.Events = append(a.Events, why.Event(ending(&e)))
			return
		}
	}
	a.Deliveries = append(a.Deliveries, p.delivery)
	d := &a.Deliveries[len(a.Deliveries)-1]
	d.Seq, d.To, d.Domain, d.List = seq, to, e.Domain, name
	if list != nil {
		p.links = append(p.links, link{delivery: len(a.Deliveries) - 1, event: len(a.Events) - 1, list: list})
	}
	d.UTF8 = p.utf8 && (p.sender8 || !to.IsASCII())
	if n := p.values.Priority(to); n > 0 {
		d.Priority = n
	}
	if p.keepQuiet(d) {
		a.Events[len(a.Events)-1].Due = d.Due
	}
}

// ending is what the end of a delivery has in common with its acceptance e, of the same moment.
func ending(e *mail.Event) mail.Event {
	return mail.Event{At: e.At, Taken: e.At, Message: e.Message, Delivery: e.Delivery, Tenant: e.Tenant, Group: e.Group, From: e.From,
		To: e.To, Domain: e.Domain, Composition: e.Composition, User: e.User, APIData: e.APIData, Cleaning: e.Cleaning}
}

// addsReceived tells whether a mode of R58 adds a Received header.
func addsReceived(mode string) bool { return mode != "keep" && mode != "strip" }
