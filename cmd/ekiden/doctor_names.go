package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"net/smtp"
	"slices"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/delivery/standing"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/alignment"
)

// addresses checks the machine's own sources, those of the senders' pools, and the EHLO name.
func (d *doctor) addresses(own []netip.Addr, senders []sender) {
	all := slices.Clone(own)
	for _, s := range senders {
		all = append(all, s.sources...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	for _, ip := range slices.Compact(all) {
		if slices.Contains(own, ip) {
			d.local(ip)
		}
		d.source(ip)
	}
	level := warn // mail that leaves for private networks needs no name there
	if slices.ContainsFunc(all, alignment.Public) {
		level = fail
	}
	d.helo(level)
}

// local checks that an address is this machine's.
func (d *doctor) local(ip netip.Addr) {
	check := "source " + ip.String()
	if ln, err := net.Listen("tcp", netip.AddrPortFrom(ip, 0).String()); err != nil {
		d.say(fail, check, "add it to an interface, or take it out of node.source_ips", "is not an address of this machine: %v", err)
	} else {
		_ = ln.Close()
		d.say(pass, check, "", "is an address of this machine")
	}
}

// judge asks the DNS until f knows all it wants to.
func (d *doctor) judge(f func(alignment.Records)) {
	standing.NewAnswers(d.names).Complete(d.ctx, f)
}

const noAnswer = "look at the name servers"

// source checks that mail from ip looks as if it came from a mail server: it has a name that leads back to it.
func (d *doctor) source(ip netip.Addr) {
	check := "source " + ip.String()
	if !alignment.Public(ip) {
		d.say(warn, check, "", "is not a public address: receivers on the Internet see another one")
		return
	}
	var name string
	var confirmed, known bool
	d.judge(func(r alignment.Records) { name, confirmed, known = alignment.Reverse(r, ip) })
	switch {
	case confirmed:
		d.say(pass, check, "", "is %s, and back", name)
	case !known:
		d.say(fail, check, noAnswer, "nobody knows its name at the moment")
	case name == "":
		d.say(fail, check, "set a PTR record; the large receivers refuse mail without one", "has no name (PTR)")
	default:
		d.say(fail, check, "give that name an A or AAAA record of the address", "is %s, but that name does not lead back", name)
	}
}

// helo checks the name that outbound sessions greet with; level is that of a fault.
func (d *doctor) helo(level string) {
	name := d.helloName
	check := "EHLO " + name
	var found []alignment.Finding
	d.judge(func(r alignment.Records) { found = alignment.Helo(r, name) })
	for _, f := range found {
		d.say(level, check, f.Advice, "%s", f.Text)
	}
	if len(found) > 0 {
		return
	}
	addrs, err := within(d, func(ctx context.Context) ([]netip.Addr, error) { return d.names.Addrs(ctx, name, true, true) })
	if err != nil {
		d.say(warn, check, noAnswer, "%v", err)
		return
	}
	d.say(pass, check, "", "has the address %s", addrs[0])
}

// incoming checks that bounces and answers to name can be delivered.
func (d *doctor) incoming(name mail.Domain) {
	check := "MX " + string(name)
	hosts, err := within(d, func(ctx context.Context) ([]dns.MX, error) {
		hosts, _, err := d.names.MX(ctx, name)
		return hosts, err
	})
	switch {
	case errors.Is(err, dns.ErrNullMX):
		d.say(warn, check, "many receivers refuse senders that cannot be answered", "takes no mail (null MX)")
		return
	case err != nil && !dns.Final(err):
		d.say(fail, check, noAnswer, "%v", err)
		return
	case err != nil:
		d.say(fail, check, "give the domain an MX record", "has neither MX nor A nor AAAA records")
		return
	}
	host := hosts[0].Host
	addrs, err := within(d, func(ctx context.Context) ([]netip.Addr, error) { return d.names.Addrs(ctx, host, true, true) })
	switch {
	case err != nil:
		d.say(fail, check, "give it an A or AAAA record", "leads to %s, which has no address", host)
		return
	case host == string(name):
		d.say(warn, check, "give the domain an MX record", "has no MX record; its address %s stands in", addrs[0])
		return
	}
	d.say(pass, check, "", "leads to %s (%s)", host, addrs[0])
	d.tls(host)
}

// tls checks that the domain's own mail host offers TLS with a certificate of its name.
func (d *doctor) tls(host string) {
	check := "TLS " + host
	conn, err := (&net.Dialer{Timeout: d.timeout}).DialContext(d.ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(d.config.Delivery.Port)))
	if err != nil {
		d.say(warn, check, "", "cannot be looked at from here: %v", err)
		return
	}
	defer conn.Close()
	if err := conn.SetDeadline(clock.Wall().Add(4 * d.timeout)); err != nil {
		d.say(warn, check, "", "%v", err)
		return
	}
	c, err := smtp.NewClient(conn, host)
	if err == nil {
		err = c.Hello(d.config.Node.Hostname)
	}
	if err != nil {
		d.say(warn, check, "", "does not speak SMTP with us: %v", err)
		return
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); !ok {
		d.say(warn, check, "offer STARTTLS", "does not offer STARTTLS")
		return
	}
	if err := c.StartTLS(&tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}); err != nil {
		d.say(warn, check, "use a certificate of that name from a public authority", "%v", err)
		return
	}
	state, _ := c.TLSConnectionState()
	d.say(pass, check, "", "%s, certificate valid until %s", tls.VersionName(state.Version), state.PeerCertificates[0].NotAfter.Format(time.DateOnly))
}
