package alignment

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxName is the longest domain name (RFC 1035 §2.3.4); what a macro makes longer loses labels on the left.
const maxName = 253

// expand fills in the macros of a domain-spec (RFC 7208 §7).
func (s *spf) expand(spec, domain string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(spec); i++ {
		if spec[i] != '%' {
			b.WriteByte(spec[i])
			continue
		}
		i++
		switch {
		case i < len(spec) && spec[i] == '%':
			b.WriteByte('%')
		case i < len(spec) && spec[i] == '_':
			b.WriteByte(' ')
		case i < len(spec) && spec[i] == '-':
			b.WriteString("%20")
		case i < len(spec) && spec[i] == '{':
			end := strings.IndexByte(spec[i:], '}')
			if end < 2 {
				return "", fmt.Errorf("%s: macro without end in %.60q", domain, spec)
			}
			text, err := s.macro(spec[i+1:i+end], domain)
			if err != nil {
				return "", err
			}
			b.WriteString(text)
			i += end
		default:
			return "", fmt.Errorf("%s: %.60q holds a %% that is no macro", domain, spec)
		}
	}
	name := canonical(b.String())
	for len(name) > maxName {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			break
		}
		name = rest
	}
	if name == "" || len(name) > maxName {
		return "", fmt.Errorf("%s: %.60q names no domain", domain, spec)
	}
	return name, nil
}

// macro is the text of one: its letter, how many parts of it from the right, "r" for reversed, and what splits it.
func (s *spf) macro(m, domain string) (string, error) {
	var text string
	switch m[0] | 0x20 {
	case 'd':
		text = domain
	case 'o':
		text = s.sender
	case 'i':
		text = dotted(s.ip)
	case 'v':
		if text = "in-addr"; s.ip.Is6() {
			text = "ip6"
		}
	case 's', 'l', 'h', 'p', 'c', 'r', 't': // of one message, one session or one moment
		return "", errUnknown
	default:
		return "", fmt.Errorf("%s: no macro is called %.10q", domain, m)
	}
	rest := m[1:]
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	keep, err := strconv.Atoi(rest[:digits])
	if digits > 0 && (err != nil || keep == 0) {
		return "", fmt.Errorf("%s: macro %.10q keeps no part", domain, m)
	}
	rest = rest[digits:]
	after, reversed := strings.CutPrefix(strings.ToLower(rest), "r")
	if after == "" {
		after = "."
	}
	if strings.Trim(after, ".-+,/_=") != "" {
		return "", fmt.Errorf("%s: macro %.10q is written wrongly", domain, m)
	}
	parts := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(after, r) })
	if reversed {
		slices.Reverse(parts)
	}
	if digits > 0 && keep < len(parts) {
		parts = parts[len(parts)-keep:]
	}
	return strings.Join(parts, "."), nil
}

// dotted is an address as macros write it: IPv6 as nibbles.
func dotted(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	raw := a.As16()
	b := make([]byte, 0, 63)
	for i, c := range raw {
		if i > 0 {
			b = append(b, '.')
		}
		b = append(b, "0123456789abcdef"[c>>4], '.', "0123456789abcdef"[c&15])
	}
	return string(b)
}
