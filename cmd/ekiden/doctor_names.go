package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"net/smtp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// source checks that mail from ip looks as if it came from a mail server: the address is this machine's, and it has a
// name that leads back to it.
func (d *doctor) source(ip netip.Addr) {
	check := "source " + ip.String()
	if ln, err := net.Listen("tcp", netip.AddrPortFrom(ip, 0).String()); err != nil {
		d.say(fail, check, "add it to an interface, or take it out of node.source_ips", "is not an address of this machine: %v", err)
	} else {
		_ = ln.Close()
		d.say(pass, check, "", "is an address of this machine")
	}
	if ip.IsLoopback() || ip.IsPrivate() {
		d.say(warn, check, "", "is not a public address: receivers on the Internet see another one")
		return
	}
	names, err := within(d, func(ctx context.Context) ([]string, error) { return d.resolver.LookupAddr(ctx, ip.String()) })
	if err != nil || len(names) == 0 {
		d.say(fail, check, "set a PTR record; the large receivers refuse mail without one", "has no name (PTR): %v", err)
		return
	}
	for _, name := range names {
		back, err := within(d, func(ctx context.Context) ([]netip.Addr, error) { return d.resolver.LookupNetIP(ctx, "ip", name) })
		if err == nil && slices.ContainsFunc(back, func(a netip.Addr) bool { return a.Unmap() == ip }) {
			d.say(pass, check, "", "is %s, and back", strings.TrimSuffix(name, "."))
			return
		}
	}
	d.say(fail, check, "give that name an A or AAAA record of the address", "is %s, but that name does not lead back", names[0])
}

// domain checks the records that receivers look at when mail claims to come from name.
func (d *doctor) domain(name, selector string, sources []netip.Addr) {
	d.incoming(name)
	d.spf(name, sources)
	d.dkim(name, selector)
	d.dmarc(name)
}

// incoming checks that bounces and answers to name can be delivered.
func (d *doctor) incoming(name string) {
	check := "MX " + name
	mx, err := within(d, func(ctx context.Context) ([]*net.MX, error) { return d.resolver.LookupMX(ctx, name) })
	switch {
	case err != nil && !absent(err):
		d.say(fail, check, "look at the name servers", "%v", err)
		return
	case len(mx) == 1 && mx[0].Host == ".":
		d.say(warn, check, "many receivers refuse senders that cannot be answered", "takes no mail (null MX)")
		return
	case len(mx) == 0:
		addrs, err := within(d, func(ctx context.Context) ([]netip.Addr, error) { return d.resolver.LookupNetIP(ctx, "ip", name) })
		if err != nil || len(addrs) == 0 {
			d.say(fail, check, "give the domain an MX record", "has neither MX nor A nor AAAA records")
			return
		}
		d.say(warn, check, "give the domain an MX record", "has no MX record; its address %s stands in", addrs[0])
		return
	}
	host := strings.TrimSuffix(mx[0].Host, ".")
	addrs, err := within(d, func(ctx context.Context) ([]netip.Addr, error) { return d.resolver.LookupNetIP(ctx, "ip", host) })
	if err != nil || len(addrs) == 0 {
		d.say(fail, check, "give it an A or AAAA record", "leads to %s, which has no address", host)
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

func (d *doctor) txt(name, prefix string) ([]string, error) {
	all, err := within(d, func(ctx context.Context) ([]string, error) { return d.resolver.LookupTXT(ctx, name) })
	if err != nil && !absent(err) {
		return nil, err
	}
	var found []string
	for _, t := range all {
		if len(t) >= len(prefix) && strings.EqualFold(t[:len(prefix)], prefix) {
			found = append(found, t)
		}
	}
	return found, nil
}

func (d *doctor) spf(name string, sources []netip.Addr) {
	check := "SPF " + name
	found, err := d.txt(name, "v=spf1")
	switch {
	case err != nil:
		d.say(fail, check, "look at the name servers", "%v", err)
		return
	case len(found) == 0:
		d.say(fail, check, `publish a TXT record such as "v=spf1 ip4:192.0.2.7 -all"`, "has no SPF record")
		return
	case len(found) > 1:
		d.say(fail, check, "keep one of them", "has %d SPF records, which counts as none (RFC 7208 §4.5)", len(found))
		return
	}
	d.say(pass, check, "", "%s", found[0])
	for _, ip := range sources {
		if ip.IsLoopback() || ip.IsPrivate() {
			continue
		}
		questions := 10 // RFC 7208 §4.6.4
		verdict, err := d.spfVerdict(name, ip, &questions)
		switch {
		case err != nil:
			d.say(fail, check, "", "cannot be evaluated for %s: %v", ip, err)
		case verdict == '+':
			d.say(pass, check, "", "allows %s", ip)
		default:
			d.say(fail, check, "add the address to the record", "does not allow %s", ip)
		}
	}
}

func (d *doctor) dkim(name, selector string) {
	check := "DKIM " + name
	if selector == "" {
		d.say(warn, check, "give --selector, the s= of your signatures", "not checked: no selector given")
		return
	}
	found, err := d.txt(selector+"._domainkey."+name, "")
	switch {
	case err != nil:
		d.say(fail, check, "look at the name servers", "%v", err)
	case len(found) == 0:
		d.say(fail, check, "publish the key", "%s._domainkey.%s does not exist", selector, name)
	default:
		p, ok := tagOf(found[0], "p")
		if !ok || p == "" {
			d.say(fail, check, "publish the key", "the record of %s holds no key (revoked)", selector)
			return
		}
		d.say(pass, check, "", "key of %s, %d octets of base64", selector, len(p))
	}
}

func (d *doctor) dmarc(name string) {
	check := "DMARC " + name
	found, err := d.txt("_dmarc."+name, "v=DMARC1")
	if err != nil {
		d.say(fail, check, "look at the name servers", "%v", err)
		return
	}
	if len(found) != 1 {
		d.say(fail, check, `publish a TXT record at _dmarc such as "v=DMARC1; p=none; rua=mailto:…"`,
			"has %d DMARC records; the large receivers ask bulk senders for one", len(found))
		return
	}
	p, _ := tagOf(found[0], "p")
	switch strings.ToLower(p) {
	case "none", "quarantine", "reject":
		d.say(pass, check, "", "%s", found[0])
	default:
		d.say(fail, check, "p must be none, quarantine or reject", "%s", found[0])
	}
}

// tagOf returns the value of a tag of a tag=value; list (RFC 6376 §3.2).
func tagOf(record, tag string) (string, bool) {
	for part := range strings.SplitSeq(record, ";") {
		k, v, ok := strings.Cut(part, "=")
		if ok && strings.TrimSpace(k) == tag {
			return strings.Join(strings.Fields(v), ""), true
		}
	}
	return "", false
}
