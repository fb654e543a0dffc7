package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/directive"
	"github.com/ekiden-mta/ekiden/mail/report"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/smtpd"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// The refusals of the bounce listener (requirement R94, threat T14).
var (
	replyOwnFrom = smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{Class: 5, Subject: 7, Detail: 1}, Text: "nobody here writes to a return address"}
	replyToFrom  = smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{Class: 5, Subject: 7, Detail: 1}, Text: "From and To are the same"}
	replyForged  = smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{Class: 5, Subject: 1, Detail: 1}, Text: "no such return address"}
	replyLoop    = smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{Class: 5, Subject: 4, Detail: 6}, Text: "too many hops, this message is in a loop"}
	replyUnheard = smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{Class: 4, Subject: 3, Detail: 0}, Text: "the log cannot be asked at the moment, try again later"}
)

// maxNamed bounds the recipients of one report that are looked for in the log by their names.
const maxNamed = 5

// receive takes what comes to the bounce listener (requirements R93-R95): a report on a delivery becomes a late event
// of it (R65), everything else a line of the bounce log (R71). It answers nobody, so there is no loop.
func (n *Node) receive(ctx context.Context, e *engine, s *mail.Submission) (mail.MessageID, error) {
	if r := n.unwanted(s); !r.IsZero() {
		n.metrics.InboundReports.With("refused").Inc()
		return mail.MessageID{}, &smtpd.Refusal{Reply: r}
	}
	id := mail.MessageID{Lineage: e.store.Lineage(), Seq: e.store.Allot(1)}
	r := report.Read(s.Data)
	about, genuine := 0, len(s.To)
	for _, to := range s.To {
		found, err := n.concerned(ctx, e, to, &r)
		switch {
		case errors.Is(err, errForged):
			genuine--
			continue
		case err != nil:
			n.log.Warn("a report waits for the log", "error", err)
			return mail.MessageID{}, &smtpd.Refusal{Reply: replyUnheard}
		}
		about += len(found)
		if len(found) == 0 {
			found = n.unattributed(to, &r)
		}
		for _, c := range found {
			if err := n.record(e, c, &r, s.Data); err != nil {
				return mail.MessageID{}, told(err)
			}
		}
	}
	switch {
	case genuine == 0:
		n.metrics.InboundReports.With("forged").Inc()
		return mail.MessageID{}, &smtpd.Refusal{Reply: replyForged}
	case about == 0 && r.Failure():
		n.metrics.InboundReports.With("unattributed").Inc()
	default:
		n.metrics.InboundReports.With(r.Kind.String()).Inc()
	}
	return id, nil
}

// unwanted tells why a message is not for a return address at all.
func (n *Node) unwanted(s *mail.Submission) smtp.Reply {
	_, h := directive.Scan(s.Data, &directive.Names{}, false)
	if h.Received >= directive.MaxReceived {
		return replyLoop
	}
	from := directive.Mailbox(h.From)
	if len(from) == 0 {
		return smtp.Reply{}
	}
	if _, own := n.book.now.Load().inbound[mail.Address(from).Domain()]; own {
		return replyOwnFrom
	}
	if to := directive.Mailbox(directive.Find(s.Data[:h.End], "To")); bytes.EqualFold(to, from) {
		return replyToFrom
	}
	return smtp.Reply{}
}

// errForged: the address has the form of a return address, and we did not make it.
var errForged = errors.New("no return address of ours")

// concern is a delivery that a report is about.
type concern struct {
	sent        mail.Event // the last that is known of it
	composition string
	reply       smtp.Reply
}

// concerned finds the deliveries that a report to an address is about: the one of a return address; else those to the
// recipients it names, if we sent a message of that id in the name of the address.
func (n *Node) concerned(ctx context.Context, e *engine, to mail.Address, r *report.Report) ([]concern, error) {
	index := e.ring.Index
	if report.IsReturn(to) {
		ret, ok := report.ParseReturn(index, to)
		if !ok {
			return nil, errForged
		}
		c, err := n.sent(ctx, service.EventQuery{Message: ret.Message}, "", func(ev *mail.Event) bool { return ret.Names(index, ev.To) })
		if c == nil || err != nil {
			return nil, err
		}
		for _, f := range r.Failed { // of several, the one about him
			if c.reply.IsZero() || strings.EqualFold(string(f.To), string(c.sent.To)) {
				c.reply = f.Reply
			}
		}
		return []concern{*c}, nil
	}
	var out []concern
	named := r.Failed
	for _, a := range r.To {
		named = append(named, report.Failed{To: a})
	}
	for _, f := range named[:min(len(named), maxNamed)] {
		if r.ID == "" || f.To == "" {
			continue
		}
		c, err := n.sent(ctx, service.EventQuery{To: f.To, From: to}, r.ID, func(*mail.Event) bool { return true })
		if err != nil {
			return nil, err
		}
		if c != nil {
			c.reply = f.Reply
			out = append(out, *c)
		}
	}
	return out, nil
}

// sent looks for the newest delivery of a query that is about it and that a receiver took, or may have taken; nil = none.
// id is the Message-ID it must have, "" = any.
func (n *Node) sent(ctx context.Context, q service.EventQuery, id string, about func(*mail.Event) bool) (*concern, error) {
	accepted := map[mail.MessageID]mail.Event{}
	var c *concern
	err := n.sentLog.Search(ctx, q, func(ev mail.Event, _ string) bool {
		switch {
		case !about(&ev):
		case ev.Kind == mail.EventAccepted || ev.Kind == mail.EventTakenOver:
			accepted[ev.Message] = ev
		case id != "" && accepted[ev.Message].HeaderID != id:
		case ev.Kind == mail.EventDelivered || ev.InDoubt:
			c = &concern{sent: ev}
		}
		return true
	})
	if c == nil {
		return nil, err // nil where nothing was sent; else a member that knows of it may be missing
	}
	c.composition = accepted[c.sent.Message].Composition
	return c, nil
}

// unattributed is what is known of mail to a return address that fits no delivery: whose address it is, and whom it
// names. Nothing is sent about it, and nothing counts.
func (n *Node) unattributed(to mail.Address, r *report.Report) []concern {
	m := n.book.now.Load().inbound[to.Domain()]
	if m == nil || r.Kind == report.Other { // a letter to an address that was guessed is what spam is
		return nil
	}
	c := concern{composition: m.Composition.Name, sent: mail.Event{Tenant: m.Tenant.Name, From: to}}
	switch {
	case len(r.Failed) > 0:
		c.sent.To, c.reply = r.Failed[0].To, r.Failed[0].Reply
	case len(r.To) > 0:
		c.sent.To = r.To[0]
	}
	c.sent.Domain = c.sent.To.Domain()
	return []concern{c}
}

// record writes down, once in a day, what came in about a delivery and what told of it (requirement R71): that quotes the
// message, so it is not kept where subjects are not (R112).
func (n *Node) record(e *engine, c concern, r *report.Report, data []byte) error {
	ev := n.lateEvent(&c, r)
	m := n.book.now.Load().index.Composition(ev.Tenant, c.composition)
	if m == nil || m.Composition.StoreSubject == nil || *m.Composition.StoreSubject {
		ev.Mail = string(data[:min(len(data), mail.MaxReportMail)])
	}
	a := &mail.Accepted{ID: mail.MessageID{Lineage: e.store.Lineage(), Seq: e.store.Allot(1)}, Tenant: ev.Tenant,
		Events: []mail.Event{ev}, Key: "\x00" + ev.Kind.String() + ev.Message.String() + ev.To.Fold()}
	if ev.Kind == mail.EventReceived { // a delivery may be delayed twice, and strangers are told apart by what they write
		sum := sha256.Sum256(data)
		a.Key += hex.EncodeToString(sum[:16])
	}
	if own := e.bounces.about(&ev, c.composition, nil); own != nil {
		a.With = []*mail.Accepted{own}
	}
	done := make(chan error, 1)
	e.store.Put(a, func(err error) { done <- err })
	err := <-done // what the store has it keeps, whoever waits
	var twin *queue.DuplicateError
	switch {
	case errors.As(err, &twin):
		return nil
	case err != nil:
		return err
	}
	if len(a.With) > 0 {
		e.bounces.stored(a.With...)
	}
	if ev.Kind == mail.EventReceived {
		return nil
	}
	n.metrics.LateReports.With(ev.Receiver).Inc()
	if ev.Kind == mail.EventBounced {
		e.lates.reported(n, ev.Receiver)
	}
	return nil
}

// lateEvent is the line that a report becomes: of the delivery it is about, or of the tenant alone. Only a failure or a
// complaint about a delivery of ours says anything about its address.
func (n *Node) lateEvent(c *concern, r *report.Report) mail.Event {
	ev := mail.Event{At: n.clock.Now().Truncate(time.Millisecond), Kind: mail.EventReceived, Message: c.sent.Message,
		Delivery: c.sent.Delivery, Tenant: c.sent.Tenant, Group: c.sent.Group, From: c.sent.From, To: c.sent.To, Domain: c.sent.Domain,
		Composition: c.composition, User: c.sent.User, APIData: c.sent.APIData, Cleaning: c.sent.Cleaning, Taken: c.sent.Taken,
		Own: c.sent.Own, Attempt: c.sent.Attempt, Receiver: c.sent.Receiver, Source: c.sent.Source}
	switch {
	case !r.Failure():
		ev.Detail = r.Kind.Words()
	case ev.Message.IsZero():
		ev.Detail, ev.Reply = "unattributed "+r.Kind.Words(), c.reply
	case r.Kind == report.Complaint:
		ev.Kind, ev.Detail = mail.EventComplained, r.Feedback
	default:
		o := n.book.now.Load().replies.Reported(c.sent.Receiver, c.reply, c.sent.To)
		ev.Judge(&o)
		ev.Kind, ev.Reply, ev.Detail = mail.EventBounced, o.Reply, "reported"
		if r.Reporter != "" {
			ev.Detail = "reported by " + directive.Clean(r.Reporter)
		}
	}
	return ev
}

// ByRecipientDomain implements smtpd.Inbound: every domain of a composition's return addresses is ours.
func (b *book) ByRecipientDomain(d mail.Domain) (smtpd.Grant, bool) {
	e := b.now.Load()
	m, ok := e.inbound[d]
	if !ok {
		return smtpd.Grant{}, false
	}
	return e.grants[m], true
}

// returns tells the domain of a composition's return addresses; "" = the sender's address stays (requirement R59).
func returns(m *settings.Member) mail.Domain {
	if !m.Composition.EnvelopeFrom.Rewrite {
		return ""
	}
	return mail.Domain(m.Composition.EnvelopeFrom.Domain)
}

// sender is the envelope sender of a delivery as receivers see it. While nobody rewrites it costs one load.
func (n *Node) sender(index report.Index) func(*mail.Delivery) mail.Address {
	return func(d *mail.Delivery) mail.Address {
		book := n.book.now.Load()
		if len(book.inbound) == 0 || d.From.IsNull() || d.Own {
			return d.From
		}
		m := book.index.Composition(d.Tenant, d.Composition)
		if m == nil || returns(m) == "" {
			return d.From
		}
		return report.ReturnAddress(index, d.Message, d.To, string(returns(m)))
	}
}
