package dns

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// TXT returns the texts at a name, the strings of each record joined (RFC 7208 §3.3). until is when the answer is to be
// asked for again; errors are as those of MX.
func (r *Resolver) TXT(ctx context.Context, name string) (texts []string, until time.Time, err error) {
	a, err := r.ask(ctx, name, dns.TypeTXT)
	return a.texts, a.until, err
}

// PTR returns the names of an address, as TXT does.
func (r *Resolver) PTR(ctx context.Context, ip netip.Addr) (names []string, until time.Time, err error) {
	reverse, err := dns.ReverseAddr(ip.Unmap().String())
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %s", ErrNoName, ip)
	}
	a, err := r.ask(ctx, reverse, dns.TypePTR)
	return a.texts, a.until, err
}

// Lookup returns the addresses of host, IPv4 first, as TXT does.
func (r *Resolver) Lookup(ctx context.Context, host string) ([]netip.Addr, time.Time, error) {
	return r.addrs(ctx, host, true, true)
}

// Exchangers returns the hosts of the MX records of a name, preferred first, as TXT does. Unlike MX it takes no address in
// place of one that is missing.
func (r *Resolver) Exchangers(ctx context.Context, name string) (hosts []string, until time.Time, err error) {
	a, err := r.ask(ctx, name, dns.TypeMX)
	for _, m := range a.mx {
		hosts = append(hosts, m.Host)
	}
	return hosts, a.until, err
}

// unescape undoes the library's \" \\ and \DDD in texts.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b = append(b, s[i])
		case i+3 < len(s) && digit(s[i+1]) && digit(s[i+2]) && digit(s[i+3]):
			b = append(b, byte(int(s[i+1]-'0')*100+int(s[i+2]-'0')*10+int(s[i+3]-'0')))
			i += 3
		default:
			i++
			b = append(b, s[i])
		}
	}
	return string(b)
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
