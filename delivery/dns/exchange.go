package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// udpSize is the largest UDP answer we ask for: it fits every path unfragmented (DNS flag day 2020).
const udpSize = 1232

// ask returns the answer to one question, remembered or new.
func (r *Resolver) ask(ctx context.Context, name string, qtype uint16) (answer, error) {
	q := question{strings.ToLower(strings.TrimSuffix(name, ".")), qtype}
	return r.cache.get(ctx, q, func() (answer, error) {
		r.flight <- struct{}{}
		defer func() { <-r.flight }()
		a, err := r.chase(q)
		if err != nil && !final(err) {
			a.until = time.Time{}
			r.cfg.Log.Debug("dns question failed", "name", q.name, "type", dns.TypeToString[qtype], "error", err)
		}
		return a, err
	})
}

// chase puts q to the servers and follows aliases: those inside an answer first, and by a question of its own where
// the answer ends with one.
func (r *Resolver) chase(q question) (answer, error) {
	ttl := maxTTL
	aliases := 0
	for name := q.name; ; {
		m, err := r.exchange(question{name, q.qtype})
		if err != nil {
			return answer{}, err
		}
		f := read(m, name, q.qtype, &aliases)
		ttl = min(ttl, f.ttl)
		until := clock.Wall().Add(max(ttl, minTTL))
		switch {
		case f.err != nil:
			return answer{until: until}, f.err
		case f.next != "":
			name = f.next
		default:
			return answer{mx: f.mx, addrs: f.addrs, texts: f.texts, until: until}, nil
		}
	}
}

// found is what one message said about a question.
type found struct {
	mx    []MX
	addrs []netip.Addr
	texts []string
	next  string // the alias to ask about instead
	ttl   time.Duration
	err   error
}

// read takes the answer to (name, qtype) out of m, a message with rcode NOERROR or NXDOMAIN. Whatever in m does not
// belong to the chain of aliases that starts at name is passed over. aliases counts the chain across messages.
func read(m *dns.Msg, name string, qtype uint16, aliases *int) (f found) {
	f.ttl = maxTTL
	name = dns.CanonicalName(name)
	for {
		target := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != name {
				continue
			}
			if c, ok := rr.(*dns.CNAME); ok && target == "" {
				target = dns.CanonicalName(c.Target)
				f.ttl = min(f.ttl, seconds(h.Ttl))
			}
			if h.Rrtype == qtype {
				f.take(rr)
				f.ttl = min(f.ttl, seconds(h.Ttl))
			}
		}
		if f.any() || target == "" {
			break
		}
		if *aliases++; *aliases > MaxCNAME {
			return found{ttl: minTTL, err: ErrAliases}
		}
		name = target
		f.next = strings.TrimSuffix(target, ".")
	}
	switch {
	case f.any():
		f.next = ""
		f.finishMX()
	case m.Rcode == dns.RcodeNameError:
		f.next, f.err = "", ErrNoName
		f.ttl = min(f.ttl, negativeTTL(m))
	case f.next == "" || hasSOA(m): // the server followed the chain to its end
		f.next, f.err = "", ErrNoData
		f.ttl = min(f.ttl, negativeTTL(m))
	}
	return f
}

// any tells whether a record of the type asked for was found.
func (f *found) any() bool { return f.mx != nil || f.addrs != nil || f.texts != nil }

// take adds one record of the type asked for.
func (f *found) take(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.MX:
		f.mx = append(f.mx, MX{Host: strings.TrimSuffix(dns.CanonicalName(rr.Mx), "."), Pref: rr.Preference})
	case *dns.A:
		if a, ok := netip.AddrFromSlice(rr.A.To4()); ok && len(f.addrs) < MaxAddrs {
			f.addrs = append(f.addrs, a)
		}
	case *dns.AAAA:
		if a, ok := netip.AddrFromSlice(rr.AAAA); ok && len(f.addrs) < MaxAddrs {
			f.addrs = append(f.addrs, a) // an IPv4-mapped one stays visible as such to the guard
		}
	case *dns.TXT:
		if t := strings.Join(rr.Txt, ""); len(f.texts) < MaxTexts && len(t) <= MaxText {
			f.texts = append(f.texts, unescape(t))
		}
	case *dns.PTR:
		if len(f.texts) < MaxTexts {
			f.texts = append(f.texts, strings.TrimSuffix(dns.CanonicalName(rr.Ptr), "."))
		}
	}
}

// finishMX applies RFC 7505 and the caps. An MX that names nothing a host can be called is passed over.
func (f *found) finishMX() {
	if f.mx == nil {
		return
	}
	if len(f.mx) == 1 && f.mx[0].Host == "" {
		*f = found{ttl: f.ttl, err: ErrNullMX}
		return
	}
	f.mx = slices.DeleteFunc(f.mx, func(m MX) bool {
		_, err := mail.ParseDomain(m.Host)
		return err != nil
	})
	if len(f.mx) == 0 {
		*f = found{ttl: f.ttl, err: errNoHost}
		return
	}
	slices.SortStableFunc(f.mx, func(a, b MX) int { return int(a.Pref) - int(b.Pref) })
	f.mx = f.mx[:min(len(f.mx), MaxMX)]
}

// errNoHost is a domain whose MX records are all unusable. Its address records do not count instead: RFC 5321 §5.1
// falls back to them only where there is no MX at all.
var errNoHost = fmt.Errorf("%w (its MX records name no host)", ErrNullMX)

func hasSOA(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

// negativeTTL is how long "there is none" holds (RFC 2308 §5).
func negativeTTL(m *dns.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), maxNegative)
		}
	}
	return noSOA
}

func seconds(ttl uint32) time.Duration { return time.Duration(ttl) * time.Second }

// exchange puts q to one server after the other, in rounds, until one of them knows. Every question has a random id
// and goes out of a port of its own.
func (r *Resolver) exchange(q question) (*dns.Msg, error) {
	var last error
	for range 1 + r.cfg.Retries {
		for _, server := range r.cfg.Servers {
			start := clock.Wall()
			m, err := r.one(q, server)
			l := Lookup{Name: q.name, Type: dns.TypeToString[q.qtype], Server: server, Took: clock.Since(start)}
			l.Status, l.Detail = summary(m, err)
			if r.cfg.Notify != nil {
				r.cfg.Notify(l)
			}
			if err == nil && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError) {
				return m, nil
			}
			last = fmt.Errorf("%w: %s: %s", ErrTemporary, q.name, l.Status)
		}
	}
	return nil, last
}

// one puts q to one server: by UDP, by TCP where the answer does not fit, without EDNS where that is not understood.
func (r *Resolver) one(q question, server string) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(q.name), q.qtype) // with a random id
	m.SetEdns0(udpSize, false)
	reply, err := r.send(m, server, "udp")
	if err == nil && reply.Rcode == dns.RcodeFormatError {
		m.Extra = nil
		m.Id = dns.Id()
		reply, err = r.send(m, server, "udp")
	}
	if err == nil && reply.Truncated {
		m.Id = dns.Id()
		reply, err = r.send(m, server, "tcp")
	}
	return reply, err
}

var errForeign = errors.New("answer to another question")

func (r *Resolver) send(m *dns.Msg, server, network string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Timeout)
	defer cancel()
	c := dns.Client{Net: network, Timeout: r.cfg.Timeout, UDPSize: udpSize}
	reply, _, err := c.ExchangeContext(ctx, m, server)
	if err != nil {
		return nil, err
	}
	if reply.Id != m.Id || !reply.Response || len(reply.Question) != 1 ||
		reply.Question[0].Qtype != m.Question[0].Qtype ||
		!strings.EqualFold(reply.Question[0].Name, m.Question[0].Name) {
		return nil, errForeign
	}
	if reply.Truncated && network == "tcp" {
		return nil, errors.New("truncated over TCP")
	}
	return reply, nil
}

// summary puts the end of a question into the words of the domain log.
func summary(m *dns.Msg, err error) (status, detail string) {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "TIMEOUT", ""
	case err != nil:
		text := err.Error()
		return "ERROR", text[:min(len(text), 200)]
	case m.Rcode != dns.RcodeSuccess:
		if s := dns.RcodeToString[m.Rcode]; s != "" {
			return s, ""
		}
		return fmt.Sprintf("RCODE%d", m.Rcode), ""
	case len(m.Answer) == 0:
		return "NODATA", ""
	}
	var b strings.Builder
	for i, rr := range m.Answer {
		if b.Len() > 200 {
			fmt.Fprintf(&b, " … %d more", len(m.Answer)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return "NOERROR", b.String()
}
