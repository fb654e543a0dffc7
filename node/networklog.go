package node

import (
	"cmp"
	"net/netip"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/delivery"
	"github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Figures of the network log.
const (
	networkMost  = 10_000 // events that wait to be written; more are lost
	networkBatch = 500    // events of one commit
	networkEvery = 250 * time.Millisecond
)

// networkLog gathers what the domain log and the connection log tell (requirements R69, R70), and alarms, so that a question
// or a connection costs no commit of its own. Nobody waits for it: what does not fit is lost, and said to be.
type networkLog struct {
	mu      sync.Mutex
	waiting []mail.Event
	lost    int
}

func (x *networkLog) note(e mail.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.waiting) >= networkMost {
		x.lost++
		return
	}
	x.waiting = append(x.waiting, e)
}

// write stores what waits, in the order in which it came.
func (x *networkLog) write(n *Node, e *engine) {
	x.mu.Lock()
	list, lost := x.waiting, x.lost
	x.waiting, x.lost = nil, 0
	x.mu.Unlock()
	for len(list) > 0 {
		part := list[:min(len(list), networkBatch)]
		list = list[len(part):]
		a := &mail.Accepted{ID: mail.MessageID{Lineage: e.store.Lineage(), Seq: e.store.Allot(1)}, Events: part}
		done := make(chan error, 1)
		e.store.Put(a, func(err error) { done <- err })
		if err := <-done; err != nil {
			lost += len(part)
			n.log.Debug("look-ups and connections could not be logged", "error", err)
		}
	}
	if lost > 0 {
		n.log.Warn("look-ups and connections are missing in the log", "events", lost)
	}
}

// soleTenant is whose the whole network log is where there is one tenant only.
func (n *Node) soleTenant() string {
	if t := n.book.now.Load().index.Settings.Tenants; len(t) == 1 {
		return t[0].Name
	}
	return ""
}

// looked notes a question to the DNS.
func (n *Node) looked(x *networkLog) func(dns.Lookup) {
	return func(l dns.Lookup) {
		n.metrics.DNSLookups.With(l.Status).Inc()
		ev := mail.Event{At: n.clock.Now().Truncate(time.Millisecond), Kind: mail.EventLookup, Domain: mail.Domain(l.Name), Stage: mail.StageDNS,
			Tenant: n.soleTenant(), Reply: smtp.Reply{Text: l.Status}, Detail: l.Type}
		if l.Detail != "" {
			ev.Detail += " " + l.Detail
		}
		ev.Remote, _ = netip.ParseAddrPort(l.Server)
		x.note(ev)
	}
}

// connected notes a connection that has ended.
func (n *Node) connected(x *networkLog) func(delivery.Connection) {
	return func(c delivery.Connection) {
		o := &c.Outcome
		ev := mail.Event{At: c.Ended.Truncate(time.Millisecond), Kind: mail.EventConnection, Taken: c.Began.Truncate(time.Millisecond),
			Domain: c.Domain, Receiver: c.Receiver, MX: c.Host, Source: c.Source, Remote: c.Remote, TLS: c.TLS, Reply: c.Greeting,
			Served: c.Served, Tenant: cmp.Or(c.Tenant, n.soleTenant()), Stage: o.Stage, Detail: o.Detail}
		if ev.Detail == "" && !o.Reply.IsZero() && o.Reply != c.Greeting {
			ev.Detail = o.Reply.String()
		}
		if o.Result != 0 && ev.Detail == "" {
			ev.Detail = "refused"
		}
		x.note(ev)
	}
}
