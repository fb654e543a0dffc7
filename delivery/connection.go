package delivery

import (
	"net"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Connection is one TCP connection to a receiver, or the attempt at one, for the connection log (requirement R70).
type Connection struct {
	Began, Ended time.Time // product time
	Domain       mail.Domain
	Receiver     string
	Host         string // its name
	Source       netip.Addr
	Remote       netip.AddrPort
	TLS          bool
	Greeting     smtp.Reply   // zero where none came
	Outcome      mail.Outcome // zero: it ended in peace; else what went wrong
	Served       mail.Served
	Tenant       string // whose mail it carried; "" where that was none, or several tenants'
}

// begun notes that a connection is tried.
func (a *attempt) begun(h mail.Host, to netip.AddrPort) {
	if a.c.cfg.Notify != nil {
		a.last = Connection{Began: a.c.cfg.Clock.Now(), Domain: a.t.Domain, Receiver: a.t.Receiver, Host: h.Name, Source: a.t.Source, Remote: to}
	}
}

func (a *attempt) greeted(r smtp.Reply) { a.last.Greeting = r }

// ended tells of a connection that is over.
func (a *attempt) ended(o mail.Outcome) {
	if a.c.cfg.Notify == nil {
		return
	}
	a.last.Ended, a.last.Outcome = a.c.cfg.Clock.Now(), o
	a.c.cfg.Notify(a.last)
}

// addressOf is the IP of an end of a TCP connection.
func addressOf(end net.Addr) netip.Addr {
	if t, ok := end.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// countedWork counts the outcomes of a session on their way, and whose mail it was.
type countedWork struct {
	Work
	to   *Connection
	more bool // than one tenant's
}

// Settle implements Work.
func (w *countedWork) Settle(j *mail.Job, o mail.Outcome, durable func(error)) {
	switch o.Result {
	case mail.Delivered:
		w.to.Served.Delivered++
	case mail.Deferred:
		w.to.Served.Deferred++
	case mail.Failed:
		w.to.Served.Failed++
	}
	switch t := j.Delivery.Tenant; {
	case w.more || w.to.Tenant == t:
	case w.to.Tenant == "":
		w.to.Tenant = t
	default:
		w.to.Tenant, w.more = "", true
	}
	w.Work.Settle(j, o, durable)
}
