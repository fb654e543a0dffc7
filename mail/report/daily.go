package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Daily is what became of the mail of one day, told to whoever wants it every morning (requirement R84).
type Daily struct {
	Notify  mail.Address // who is told
	Host    string       // name of this node
	ID      string       // local part of the Message-ID
	At      time.Time    // now
	Date    string       // the day
	Tenant  string
	User    string // whose mail it was; "" = everybody's of the tenant
	Sent    uint64 // without what the tenant's own lists kept back
	Done    uint64 // delivered
	Failed  uint64 // not delivered, for good
	Refused uint64 // of these: refused by the receiver's policy (status 4)
	Blocked uint64 // kept back by the tenant's own lists
	Rates   [2]string
	Missing []string // members whose part is not counted
}

// Title is the subject of the mail.
func (d *Daily) Title() string { return "Delivery report " + d.Date }

// Mail is the whole message. It is US-ASCII; other octets of a name are written as \x{E5}.
func (d *Daily) Mail() []byte {
	b := append(append(make([]byte, 0, 1024), "From: postmaster@"...), d.Host...)
	b = append(b, "\r\nTo: "...)
	b = appendASCII(b, string(d.Notify))
	b = append(append(append(b, "\r\nSubject: "...), d.Title()...), "\r\nDate: "...)
	b = d.At.AppendFormat(b, time.RFC1123Z)
	b = append(append(append(b, "\r\nMessage-ID: <"...), d.ID...), '@')
	b = append(append(b, d.Host...), ">\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"...)
	whose := "tenant " + d.Tenant
	if d.User != "" {
		whose += ", user " + d.User
	}
	b = appendASCII(b, "Mail accepted on "+d.Date+", "+whose)
	b = append(b, "\r\n\r\n"...)
	waiting := d.Sent - min(d.Done+d.Failed, d.Sent)
	for _, line := range [...]string{
		fmt.Sprintf("sent         %12d", d.Sent),
		fmt.Sprintf("delivered    %12d  %5s %%", d.Done, d.Rates[0]),
		fmt.Sprintf("undelivered  %12d  %5s %%", d.Failed, d.Rates[1]),
		fmt.Sprintf("refused      %12d", d.Refused),
		fmt.Sprintf("waiting      %12d", waiting),
		fmt.Sprintf("not sent     %12d  (lists)", d.Blocked),
	} {
		b = append(append(b, line...), "\r\n"...)
	}
	if len(d.Missing) > 0 {
		b = appendASCII(append(b, "\r\nNot counted, because they did not answer: "...), strings.Join(d.Missing, ", "))
		b = append(b, "\r\n"...)
	}
	return b
}
