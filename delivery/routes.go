package delivery

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
)

// RouteRule sends mail for some domains to one host, whatever the DNS says (requirement R42, contract 3).
type RouteRule struct {
	Domain string // a domain, "*.suffix" for every domain below suffix, or "*"
	To     string // "host:port", "ip:port" or "[ipv6]:port"; the port may be missing where ParseRoutes is told one
}

// Routes is a table of static routes. The zero value has none. It is immutable, so safe for concurrent use.
type Routes struct {
	exact    map[mail.Domain]mail.Route
	suffix   map[mail.Domain]mail.Route // keyed without "*."
	fallback *mail.Route
}

// RouteError is what is wrong with one rule.
type RouteError struct {
	Index int    // of the rule, 0 = first
	Key   string // domain or to
	Text  string
}

func (e RouteError) Error() string { return fmt.Sprintf("routes[%d].%s: %s", e.Index, e.Key, e.Text) }

// RouteErrors is everything that is wrong with a table, in the order of its rules; never empty.
type RouteErrors []RouteError

func (e RouteErrors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// ParseRoutes builds the table. port is that of targets which name none, 1-65535; 0 = every target must name one. The
// error is a RouteErrors.
func ParseRoutes(rules []RouteRule, port int) (*Routes, error) {
	r := &Routes{exact: map[mail.Domain]mail.Route{}, suffix: map[mail.Domain]mail.Route{}}
	var wrong RouteErrors
	for i, rule := range rules {
		route, err := parseTarget(rule.To, port)
		if err != nil {
			wrong = append(wrong, RouteError{i, "to", err.Error()})
		}
		if err := r.add(rule.Domain, route); err != nil {
			wrong = append(wrong, RouteError{i, "domain", err.Error()})
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return r, nil
}

// add enters route for the domains that pattern means.
func (r *Routes) add(pattern string, route mail.Route) error {
	twice := fmt.Errorf("%q stands twice", pattern)
	if pattern == "*" {
		if r.fallback != nil {
			return twice
		}
		r.fallback = &route
		return nil
	}
	name, wild := strings.CutPrefix(pattern, "*.")
	d, err := mail.ParseDomain(name)
	if err != nil {
		return fmt.Errorf(`%q must be a domain, "*.suffix" or "*"`, pattern)
	}
	table := r.exact
	if wild {
		table = r.suffix
	}
	if _, there := table[d]; there {
		return twice
	}
	table[d] = route
	return nil
}

// parseTarget reads host:port, address:port or [address]:port; with a default port also host, address or [address].
func parseTarget(to string, port int) (mail.Route, error) {
	host, portText, err := net.SplitHostPort(to)
	if err != nil {
		if port == 0 {
			return mail.Route{}, fmt.Errorf("%q must be host:port or address:port", to)
		}
		host, portText = strings.TrimSuffix(strings.TrimPrefix(to, "["), "]"), strconv.Itoa(port)
	}
	n, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || n == 0 {
		return mail.Route{}, fmt.Errorf("%q needs a port of 1-65535", to)
	}
	h, ok := mail.ParseHost(host, uint16(n))
	if !ok {
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
