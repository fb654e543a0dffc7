package node

import (
	"bytes"
	"cmp"
	"time"

	"github.com/ekiden-mta/ekiden/actors/intake"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/directive"
	"github.com/ekiden-mta/ekiden/mail/report"
	"github.com/ekiden-mta/ekiden/policy/bounce"
	"github.com/ekiden-mta/ekiden/policy/schedule"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// bouncer tells tenants of failures by mail (requirements R85-R92). The bounce is stored in the commit that closes the
// delivery, so none is lost and none is sent twice; it goes out through the same queue with the null sender, which is
// why there is never a bounce of a bounce (threat T14).
type bouncer struct {
	node  *Node
	store *queue.Store
	offer func([]mail.Job) // set once the actors are there
}

// about makes the bounce of a failure, or nil where nobody is to be told. composition is that of the delivery; content is the
// message where it is not stored yet, nil = it is looked for in the store.
func (b *bouncer) about(ev *mail.Event, composition string, content []byte) *mail.Accepted {
	if ev.Kind != mail.EventFailed && ev.Kind != mail.EventSuppressed && ev.Kind != mail.EventBounced || ev.From.IsNull() {
		return nil
	}
	book := b.node.book.now.Load()
	how, ok := book.bounces[ev.Tenant]
	if !ok || how.Format == "none" {
		return nil
	}
	f := report.Failure{To: ev.To, Domain: ev.Domain, Notify: b.notify(&how, ev, content), Host: b.node.cfg.Node.Hostname,
		At: b.node.clock.Now().Truncate(time.Millisecond), Accepted: ev.Message.Seq.Time()}
	if f.Notify.Check() != nil {
		return nil
	}
	m := book.index.Composition(ev.Tenant, composition)
	id := mail.MessageID{Lineage: b.store.Lineage(), Seq: b.store.Allot(1)}
	f.ID = id.String()
	var body []byte
	if how.Format == "dsn" {
		if ev.Kind == mail.EventSuppressed && ev.Status != mail.StatusUserUnknown {
			return nil // block lists are the tenant's own (requirements D3)
		}
		body = b.notification(&f, ev, content)
	} else {
		if f.Reason = bounce.Reason(ev, b.node.book.queueOf(ev.Domain)); f.Reason == "" {
			return nil
		}
		if how.OwnDomain {
			f.From = ownDomain(m, f.Host)
		}
		body = f.Classic()
	}
	return b.accepted(&f, id, ev, m, composition, body)
}

// notify is who hears of a failure: the tenant's own address for that, else the Return-Path header that was submitted,
// where the tenant wants that one, it is a mail address and the message is still there, else the envelope sender (E-17).
func (b *bouncer) notify(how *settings.Bounce, ev *mail.Event, content []byte) mail.Address {
	if how.To != "" || !how.ReturnPath {
		return cmp.Or(mail.Address(how.To), ev.From)
	}
	if body := b.content(ev, content); body != nil {
		a := mail.Address(directive.Mailbox(directive.Find(body, "Return-Path")))
		if a != "" && a.Check() == nil {
			return a
		}
	}
	return ev.From
}

// content is the message a failure is about, as far as it is still there: the one at hand, else what is stored of it.
func (b *bouncer) content(ev *mail.Event, atHand []byte) []byte {
	if atHand != nil {
		return atHand
	}
	body, err := b.store.Body(ev.Message)
	if err != nil {
		return nil
	}
	return body
}

// ownDomain is what a tenant that does not want to write in a carrier's name calls the sender's (E-18).
func ownDomain(m *settings.Member, host string) string {
	if m != nil && m.Composition.EnvelopeFrom.Domain != "" {
		return m.Composition.EnvelopeFrom.Domain
	}
	return host
}

func (b *bouncer) notification(f *report.Failure, ev *mail.Event, content []byte) []byte {
	f.Reply, f.Detail, f.MX = ev.Reply, ev.Detail, ev.MX
	if f.Status = ev.Reply.Enhanced; f.Status.Class != 5 {
		f.Status = bounce.WordsOf(ev.Status).Enhanced
	}
	// The message is gone where it was delivered long ago: the notification does without.
	if body := b.content(ev, content); body != nil {
		if end := bytes.Index(body, []byte("\r\n\r\n")); end >= 0 {
			body = body[:end+2]
		}
		f.Header = body
	}
	return f.Notification()
}

// accepted makes work of a bounce.
func (b *bouncer) accepted(f *report.Failure, id mail.MessageID, ev *mail.Event, m *settings.Member, composition string, body []byte) *mail.Accepted {
	return b.own(ownMail{id: id, tenant: ev.Tenant, composition: composition, member: m, to: f.Notify, at: f.At,
		headerID: "<" + f.ID + "@" + f.Host + ">", subject: report.Subject, body: body})
}

// ownMail is a message of the engine's own.
type ownMail struct {
	id          mail.MessageID
	tenant      string
	composition string
	member      *settings.Member // of that composition; nil = it is none any more
	to          mail.Address
	at          time.Time // millisecond resolution
	headerID    string    // with angle brackets
	subject     string
	body        []byte
}

// own makes work of a message of ours: it goes out with the null sender, by the ways of its composition.
func (b *bouncer) own(o ownMail) *mail.Accepted {
	d := mail.Delivery{Seq: o.id.Seq, Message: o.id, Tenant: o.tenant, Composition: o.composition, To: o.to, Domain: o.to.Domain(),
		Due: o.at, Taken: o.at, RetryEvery: time.Minute, Size: len(o.body), Priority: intake.NormalPriority, Own: true}
	lifetime := 30 * time.Minute
	if o.member != nil {
		c := o.member.Composition
		d.Pool, d.RetryEvery, lifetime = c.Pool, time.Duration(c.Retry.Interval), time.Duration(c.Retry.Lifetime)
	}
	d.Expires = schedule.Expires(o.at, o.at, lifetime, b.node.book.now.Load().index.QuietHours(d.Domain))
	return &mail.Accepted{ID: o.id, Tenant: o.tenant, Body: o.body, Deliveries: []mail.Delivery{d}, Events: []mail.Event{{
		At: o.at, Kind: mail.EventAccepted, Message: o.id, Delivery: o.id.Seq, Tenant: o.tenant, To: d.To, Domain: d.Domain, Own: true,
		Composition: o.composition, HeaderID: o.headerID, Subject: o.subject, Size: len(o.body)}}}
}

// stored is to be called once bounces are on disk: they go out.
func (b *bouncer) stored(own ...*mail.Accepted) {
	jobs := make([]mail.Job, len(own))
	for i, a := range own {
		jobs[i] = mail.Job{Delivery: a.Deliveries[0], Body: a.Body}
	}
	b.node.numbers.accepted(len(own))
	b.offer(jobs)
}
