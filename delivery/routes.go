package delivery

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
)

// RouteRule sends mail for some domains to one host, whatever the DNS says (requirement R42, contract 3).
type RouteRule struct {
	Domain string // a domain, "*.suffix" for every domain below suffix, or "*"
	To     string // "host:port", "ip:port" or "[ipv6]:port"
}

// Routes is a table of static routes. The zero value has none. It is immutable, so safe for concurrent use.
type Routes struct {
	exact    map[mail.Domain]mail.Route
	suffix   map[mail.Domain]mail.Route // keyed without "*."
	fallback *mail.Route
}

// ParseRoutes builds the table. The error names the entry at fault, counted from 0 as in a path of the node file.
func ParseRoutes(rules []RouteRule) (*Routes, error) {
	r := &Routes{exact: map[mail.Domain]mail.Route{}, suffix: map[mail.Domain]mail.Route{}}
	for i, rule := range rules {
		fail := func(key, format string, args ...any) (*Routes, error) {
			return nil, fmt.Errorf("routes[%d].%s: %s", i, key, fmt.Sprintf(format, args...))
		}
		route, err := parseTarget(rule.To)
		if err != nil {
			return fail("to", "%v", err)
		}
		if rule.Domain == "*" {
			if r.fallback != nil {
				return fail("domain", "%q stands twice", rule.Domain)
			}
			r.fallback = &route
			continue
		}
		name, wild := strings.CutPrefix(rule.Domain, "*.")
		d, err := mail.ParseDomain(name)
		if err != nil {
			return fail("domain", "%q is no domain, \"*.suffix\" or \"*\"", rule.Domain)
		}
		table := r.exact
		if wild {
			table = r.suffix
		}
		if _, twice := table[d]; twice {
			return fail("domain", "%q stands twice", rule.Domain)
		}
		table[d] = route
	}
	return r, nil
}

func parseTarget(to string) (mail.Route, error) {
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return mail.Route{}, fmt.Errorf("%q must be host:port or address:port", to)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return mail.Route{}, fmt.Errorf("%q needs a port of 1-65535", to)
	}
	h := mail.Host{Port: uint16(n)}
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		h.Addr, h.Name = a, a.String()
	} else if d, err := mail.ParseDomain(host); err == nil {
		h.Name = string(d)
	} else {
		return mail.Route{}, fmt.Errorf("%q names neither a host nor an address", to)
	}
	return mail.Route{Hosts: []mail.Host{h}, Static: true}, nil
}

// Lookup returns the route for d: an exact entry beats the longest "*.suffix", which beats "*".
func (r *Routes) Lookup(d mail.Domain) (mail.Route, bool) {
	if r == nil {
		return mail.Route{}, false
	}
	if route, ok := r.exact[d]; ok {
		return route, true
	}
	for rest := string(d); len(r.suffix) > 0; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		if route, ok := r.suffix[mail.Domain(rest)]; ok {
			return route, true
		}
	}
	if r.fallback != nil {
		return *r.fallback, true
	}
	return mail.Route{}, false
}
