package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

var (
	errSPFQuestions = errors.New("more than 10 questions to the DNS (RFC 7208 §4.6.4)")
	errSPFMacro     = errors.New("macros are not evaluated here")
	errSPFRecord    = errors.New("not exactly one SPF record")
)

// spfVerdict evaluates the SPF record of name for ip: the qualifier of the first mechanism that matches, '?' where
// none does. It knows what static records are made of (RFC 7208 §5: all, include, a, mx, ip4, ip6, and redirect); for
// exists, ptr and macros it reports errSPFMacro.
func (d *doctor) spfVerdict(name string, ip netip.Addr, questions *int) (byte, error) {
	found, err := d.txt(name, "v=spf1")
	if err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%s: %w", name, errSPFRecord)
	}
	redirect := ""
	for _, term := range strings.Fields(found[0])[1:] {
		if to, ok := strings.CutPrefix(strings.ToLower(term), "redirect="); ok {
			redirect = to
			continue
		}
		if strings.Contains(term, "=") {
			continue // exp= and modifiers of the future
		}
		qualifier := byte('+')
		if strings.ContainsRune("+-~?", rune(term[0])) {
			qualifier, term = term[0], term[1:]
		}
		match, err := d.spfMatch(term, name, ip, questions)
		if err != nil {
			return 0, fmt.Errorf("%s in %s: %w", term, name, err)
		}
		if match {
			return qualifier, nil
		}
	}
	if redirect == "" {
		return '?', nil
	}
	if err := spend(questions); err != nil {
		return 0, err
	}
	return d.spfVerdict(redirect, ip, questions)
}

func spend(questions *int) error {
	*questions--
	if *questions < 0 {
		return errSPFQuestions
	}
	return nil
}

// spfMatch tells whether one mechanism of the record of name matches ip.
func (d *doctor) spfMatch(term, name string, ip netip.Addr, questions *int) (bool, error) {
	if strings.Contains(term, "%") {
		return false, errSPFMacro
	}
	word, value, _ := strings.Cut(term, ":")
	mechanism, bits, _ := strings.Cut(strings.ToLower(word), "/")
	switch mechanism {
	case "all":
		return true, nil
	case "ip4", "ip6":
		return inNetwork(value, ip)
	case "include":
		if err := spend(questions); err != nil {
			return false, err
		}
		verdict, err := d.spfVerdict(value, ip, questions)
		return verdict == '+', err
	case "a", "mx":
		if err := spend(questions); err != nil {
			return false, err
		}
		host := value
		if h, b, ok := strings.Cut(value, "/"); ok {
			host, bits = h, b
		}
		if host == "" {
			host = name
		}
		hosts := []string{host}
		if mechanism == "mx" {
			var err error
			if hosts, err = d.exchangers(host); err != nil {
				return false, err
			}
		}
		return d.hostMatches(hosts, bits, ip)
	case "exists", "ptr":
		return false, errSPFMacro
	}
	return false, errors.New("unknown mechanism")
}

func (d *doctor) exchangers(domain string) ([]string, error) {
	mx, err := within(d, func(ctx context.Context) ([]*net.MX, error) { return d.resolver.LookupMX(ctx, domain) })
	if err != nil && !absent(err) {
		return nil, err
	}
	var hosts []string
	for _, m := range mx[:min(len(mx), 10)] {
		hosts = append(hosts, m.Host)
	}
	return hosts, nil
}

// hostMatches tells whether ip is an address of one of hosts; bits is "24" or "24//64".
func (d *doctor) hostMatches(hosts []string, bits string, ip netip.Addr) (bool, error) {
	four, six, _ := strings.Cut(bits, "//")
	if ip.Is6() {
		four = six
	}
	length := ip.BitLen()
	if four != "" {
		n, err := strconv.Atoi(four)
		if err != nil || n < 0 || n > ip.BitLen() {
			return false, fmt.Errorf("bad length %q", four)
		}
		length = n
	}
	for _, host := range hosts {
		addrs, err := within(d, func(ctx context.Context) ([]netip.Addr, error) { return d.resolver.LookupNetIP(ctx, "ip", host) })
		if err != nil && !absent(err) {
			return false, err
		}
		for _, a := range addrs {
			if p, err := a.Unmap().Prefix(length); err == nil && p.Contains(ip) {
				return true, nil
			}
		}
	}
	return false, nil
}

func inNetwork(value string, ip netip.Addr) (bool, error) {
	if a, err := netip.ParseAddr(value); err == nil {
		return a.Unmap() == ip, nil
	}
	p, err := netip.ParsePrefix(value)
	if err != nil {
		return false, err
	}
	return p.Contains(ip), nil
}
