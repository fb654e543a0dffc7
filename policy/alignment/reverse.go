package alignment

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxNames bounds the names of one address that are followed back.
const maxNames = 10

// Reverse tells whether a has a name that leads back to it (forward-confirmed reverse DNS), and that name; else a name it
// has, or "". known is false where the DNS has not told enough.
func Reverse(r Records, a netip.Addr) (name string, confirmed, known bool) {
	names, ok := r.Lookup(Question{a.String(), PTR})
	if !ok {
		return "", false, false
	}
	known = true
	for _, n := range names.Names[:min(len(names.Names), maxNames)] {
		n = canonical(n)
		back, ok := r.Lookup(Question{n, Hosts})
		switch {
		case !ok:
			known = false
		case holds(back.Addrs, a):
			return n, true, true
		case name == "":
			name = n
		}
	}
	return name, false, known
}

// reverse looks at all source addresses.
func reverse(r Records, sources []netip.Addr) (found []Finding) {
	var nameless, unconfirmed []netip.Addr
	stray := ""
	for _, a := range sources {
		switch name, confirmed, known := Reverse(r, a); {
		case confirmed || !known:
		case name == "":
			nameless = append(nameless, a)
		default:
			if unconfirmed = append(unconfirmed, a); stray == "" {
				stray = name
			}
		}
	}
	if len(nameless) > 0 {
		found = append(found, Finding{RulePTR, some(nameless) + " has no name (PTR record)",
			"have the owner of the network set a PTR record; large receivers refuse mail without one", code(25)})
	}
	if len(unconfirmed) > 0 {
		found = append(found, Finding{RulePTR, fmt.Sprintf("%s is called %s, which does not lead back to it", some(unconfirmed), stray),
			"give that name an A or AAAA record of the address", code(25)})
	}
	return found
}

// Helo looks at the EHLO name: it must be a host's (RFC 5321 §4.1.4, §2.3.5).
func Helo(r Records, name string) []Finding {
	const advice = "give the name an A or AAAA record, or set delivery.helo to a name that has one"
	if !strings.Contains(name, ".") {
		return []Finding{{RuleHelo, fmt.Sprintf("the EHLO name %q is not a full domain name", name), "set delivery.helo to the full name of this host", code(1)}}
	}
	if a, known := r.Lookup(Question{canonical(name), Hosts}); !known || len(a.Addrs) > 0 {
		return nil
	}
	return []Finding{{RuleHelo, fmt.Sprintf("the EHLO name %s has no address", name), advice, code(1)}}
}

// canonical is the spelling of a name in questions.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func holds(all []netip.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(b netip.Addr) bool { return b.Unmap() == a })
}
