package mail

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Host is one place to try for a domain: an MX host, or the target of a static route.
type Host struct {
	Name string     // A-label host name in lower case, or the text of Addr where a route names an address
	Addr netip.Addr // set where the route names an address; invalid = resolve Name
	Port uint16
	Pref uint16 // MX preference, smaller first
}

// ParseHost reads the name or the address of a host, without brackets; false where it is neither.
func ParseHost(text string, port uint16) (Host, bool) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return Host{Name: a.String(), Addr: a, Port: port}, true
	}
	d, err := ParseDomain(text)
	return Host{Name: string(d), Port: port}, err == nil
}

// Route is where mail for a domain goes at the moment.
type Route struct {
	Hosts  []Host // in the order to try; equal preference already shuffled
	Static bool   // from the node file, not from DNS: a relay the operator owns
	Until  time.Time
}

// Key names the set of hosts independent of the order to try them, so that destinations with equal keys can share a
// connection.
func (r Route) Key() string {
	if len(r.Hosts) == 1 {
		return r.Hosts[0].Name + ":" + strconv.Itoa(int(r.Hosts[0].Port))
	}
	names := make([]string, len(r.Hosts))
	for i, h := range r.Hosts {
		names[i] = strconv.Itoa(int(h.Pref)) + "=" + h.Name + ":" + strconv.Itoa(int(h.Port))
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// Job is a delivery on its way: the record, its bytes, and whatever its owner needs to find it again.
type Job struct {
	Delivery Delivery
	Body     []byte // the message as it goes out, CRLF line ends, not dot-stuffed; read only
}
