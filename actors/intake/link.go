package intake

import (
	"fmt"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/directive"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/mail/unsubscribe"
	"github.com/ekiden-mta/ekiden/policy/filter"
)

// maxCopies bounds what becomes of one message whose recipients each get a copy, in octets.
const maxCopies = 16 << 20

// link is a recipient that can leave a list.
type link struct {
	delivery, event int // places in Accepted
	list            *filter.List
}

// addLinks gives each recipient that can leave a list the header fields by which it does (requirements R104, R105, RFC
// 8058). A link is one recipient's alone, so each has a message of its own, with its own id, stored in the same commit. A
// message that says itself how to leave stays as it is. header is that of the message as it came; the fields go into
// the body behind top octets, so that whoever signs it covers them.
func (in *Intake) addLinks(a *mail.Accepted, p *plan, header []byte, top int) error {
	if in.Key == nil || directive.Find(header, "List-Unsubscribe") != nil {
		return nil
	}
	if n := len(p.links); n > 1 && n*len(a.Body) > maxCopies {
		return refuse(550, smtp.EnhancedCode{Class: 5, Subject: 5, Detail: 3}, fmt.Sprintf("%d recipients each get a copy with their own "+
			"unsubscribe link: recipients times size must not exceed %d octets, send it to fewer at a time", n, maxCopies))
	}
	post := directive.Find(header, "List-Unsubscribe-Post") == nil
	whole, all, events := a.Body, a.Deliveries, a.Events
	linked := func(l *link) ([]byte, *mail.Delivery, *mail.Event) {
		d, e := &all[l.delivery], &events[l.event]
		to := unsubscribe.Link{Tenant: d.Tenant, List: l.list.Name, To: d.To}
		base := l.list.URL
		if base == "" {
			base = "https://" + in.Hostname
		}
		body := make([]byte, 0, len(whole)+512)
		body = append(body, whole[:top]...)
		body = to.AppendFields(body, in.Key, base, l.list.OneClick && post)
		body = append(body, whole[top:]...)
		d.Size, e.Size = len(body), len(body)
		return body, d, e
	}
	links := p.links
	if len(links) == len(all) { // nobody gets it without: the first copy is the message
		a.Body, _, _ = linked(&links[0])
		links = links[1:]
	}
	if len(links) == 0 {
		return nil
	}
	apart, told := make(map[int]bool, len(links)), make(map[int]bool, len(links)) // by place, of deliveries and of events
	for i := range links {
		l := &links[i]
		body, d, e := linked(l)
		d.Message = mail.MessageID{Lineage: a.ID.Lineage, Seq: d.Seq}
		e.Message = d.Message
		apart[l.delivery], told[l.event] = true, true
		a.With = append(a.With, &mail.Accepted{ID: d.Message, Tenant: a.Tenant, Body: body,
			Deliveries: []mail.Delivery{*d}, Events: []mail.Event{*e}})
	}
	a.Deliveries, a.Events = without(all, apart), without(events, told)
	return nil
}

// without returns a copy of list but for the places that drop names.
func without[T any](list []T, drop map[int]bool) []T {
	out := make([]T, 0, len(list)-len(drop))
	for i := range list {
		if !drop[i] {
			out = append(out, list[i])
		}
	}
	return out
}
