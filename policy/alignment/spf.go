package alignment

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
)

// Bounds of one evaluation (RFC 7208 §4.6.4).
const (
	maxTerms = 10 // that ask the DNS
	maxVoids = 2  // that found nothing
	maxHosts = 10 // of one mx or ptr
)

// Verdict is the result of an SPF check (RFC 7208 §2.6). Unknown stands for temperror and for what is not known yet.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota
	None
	Neutral
	Pass
	SoftFail
	Fail
	PermError
)

var verdicts = [...]string{"unknown", "none", "neutral", "pass", "softfail", "fail", "permerror"}

func (v Verdict) String() string { return verdicts[v] }

// errUnknown ends an evaluation that cannot be finished now, and what depends on a message's own text.
var errUnknown = errors.New("not known at the moment")

// SPF evaluates the record of domain for mail from ip (RFC 7208 §4). why says what is wrong with the record where it is
// PermError. Macros that stand for the sender's local part or the time are not judged: Unknown.
func SPF(r Records, domain mail.Domain, ip netip.Addr) (v Verdict, why string) {
	s := spf{records: r, ip: ip.Unmap(), sender: string(domain)}
	v, err := s.eval(string(domain))
	switch {
	case errors.Is(err, errUnknown):
		return Unknown, ""
	case err != nil:
		return PermError, err.Error()
	}
	return v, ""
}

// spf is one evaluation.
type spf struct {
	records      Records
	ip           netip.Addr
	sender       string
	terms, voids int
}

// spfRecord returns the record of a domain, "" where it has none.
func (s *spf) record(domain string) (string, error) {
	a, ok := s.records.Lookup(Question{domain, TXT})
	if !ok {
		return "", errUnknown
	}
	record, n := "", 0
	for _, t := range a.Texts {
		if version, _, _ := strings.Cut(t, " "); strings.EqualFold(version, "v=spf1") {
			record, n = t, n+1
		}
	}
	if n > 1 {
		return "", fmt.Errorf("%s has %d SPF records, which counts as none", domain, n)
	}
	return record, nil
}

func (s *spf) eval(domain string) (Verdict, error) {
	record, err := s.record(domain)
	if err != nil || record == "" {
		return None, err
	}
	redirect := ""
	for _, term := range strings.Fields(record)[1:] {
		if i := strings.IndexAny(term, "=:/"); i > 0 && term[i] == '=' {
			if strings.EqualFold(term[:i], "redirect") {
				redirect = term[i+1:]
			}
			continue // exp= and modifiers of the future
		}
		verdict := Pass
		if i := strings.IndexByte("+-~?", term[0]); i >= 0 {
			verdict, term = [...]Verdict{Pass, Fail, SoftFail, Neutral}[i], term[1:]
		}
		match, err := s.matches(term, domain)
		if err != nil {
			return None, err
		}
		if match {
			return verdict, nil
		}
	}
	if redirect == "" {
		return Neutral, nil
	}
	return s.follow(redirect, domain)
}

// follow evaluates the record of another domain, which must have one.
func (s *spf) follow(spec, domain string) (Verdict, error) {
	to, err := s.expand(spec, domain)
	if err == nil {
		err = s.spend()
	}
	if err != nil {
		return None, err
	}
	v, err := s.eval(to)
	if err == nil && v == None {
		err = fmt.Errorf("%s names %s, which has no SPF record", domain, to)
	}
	return v, err
}

func (s *spf) spend() error {
	if s.terms++; s.terms > maxTerms {
		return fmt.Errorf("more than %d terms that ask the DNS", maxTerms)
	}
	return nil
}

// lookup asks for what a term needs, and counts answers that hold nothing.
func (s *spf) lookup(q Question) (Answer, error) {
	a, ok := s.records.Lookup(q)
	if !ok {
		return a, errUnknown
	}
	if len(a.Addrs)+len(a.Names) == 0 {
		if s.voids++; s.voids > maxVoids {
			return a, fmt.Errorf("more than %d terms name what does not exist", maxVoids)
		}
	}
	return a, nil
}

// matches tells whether one mechanism of the record of domain matches (RFC 7208 §5).
func (s *spf) matches(term, domain string) (bool, error) {
	name, value := term, ""
	if i := strings.IndexAny(term, ":/"); i >= 0 {
		name, value = term[:i], term[i:]
	}
	name = strings.ToLower(name)
	switch name {
	case "all":
		return true, nil
	case "ip4", "ip6":
		return s.inNetwork(strings.TrimPrefix(value, ":"))
	case "include":
		v, err := s.follow(strings.TrimPrefix(value, ":"), domain)
		return v == Pass, err
	case "a", "mx", "ptr", "exists":
	default:
		return false, fmt.Errorf("%s has a term that is none: %.40q", domain, term)
	}
	if err := s.spend(); err != nil {
		return false, err
	}
	spec, four, six, err := targetOf(value)
	if err != nil {
		return false, fmt.Errorf("%s: %.40q: %w", domain, term, err)
	}
	target := domain
	if spec != "" {
		if target, err = s.expand(spec, domain); err != nil {
			return false, err
		}
	}
	switch name {
	case "a":
		return s.hostMatches(target, four, six)
	case "mx":
		return s.exchangerMatches(target, four, six)
	case "ptr":
		return s.nameMatches(target)
	}
	a, err := s.lookup(Question{target, Hosts})
	return len(a.Addrs) > 0, err
}

// targetOf reads ":domain/24//64". A length that is not given is -1.
func targetOf(value string) (spec string, four, six int, err error) {
	spec, bits, _ := strings.Cut(value, "/")
	spec = strings.TrimPrefix(spec, ":")
	first, second, both := strings.Cut("/"+bits, "//")
	first = strings.TrimPrefix(first, "/")
	if four, err = length(first, 32); err == nil && both {
		six, err = length(second, 128)
	} else {
		six = -1
	}
	return spec, four, six, err
}

func length(s string, most int) (int, error) {
	if s == "" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("prefix length %.10q is not 0 to %d", s, most)
	}
	return n, nil
}

func (s *spf) inNetwork(value string) (bool, error) {
	if !strings.Contains(value, "/") {
		a, err := netip.ParseAddr(value)
		if err != nil {
			return false, fmt.Errorf("%.50q is no address", value)
		}
		return a == s.ip, nil
	}
	p, err := netip.ParsePrefix(value)
	if err != nil {
		return false, fmt.Errorf("%.50q is no network", value)
	}
	return p.Contains(s.ip), nil
}

func (s *spf) hostMatches(host string, four, six int) (bool, error) {
	a, err := s.lookup(Question{host, Hosts})
	return err == nil && s.within(a.Addrs, four, six), err
}

func (s *spf) within(addrs []netip.Addr, four, six int) bool {
	bits := four
	if s.ip.Is6() {
		bits = six
	}
	if bits < 0 {
		bits = s.ip.BitLen()
	}
	for _, a := range addrs {
		if p, err := a.Unmap().Prefix(min(bits, a.Unmap().BitLen())); err == nil && p.Contains(s.ip) {
			return true
		}
	}
	return false
}

func (s *spf) exchangerMatches(domain string, four, six int) (bool, error) {
	mx, err := s.lookup(Question{domain, MX})
	if err != nil {
		return false, err
	}
	if len(mx.Names) > maxHosts {
		return false, fmt.Errorf("%s has more than %d mail hosts", domain, maxHosts)
	}
	for _, host := range mx.Names {
		a, ok := s.records.Lookup(Question{canonical(host), Hosts})
		if !ok {
			return false, errUnknown
		}
		if s.within(a.Addrs, four, six) {
			return true, nil
		}
	}
	return false, nil
}

// nameMatches is the ptr mechanism, which RFC 7208 §5.5 asks not to use.
func (s *spf) nameMatches(domain string) (bool, error) {
	names, err := s.lookup(Question{s.ip.String(), PTR})
	if err != nil {
		return false, err
	}
	for _, n := range names.Names[:min(len(names.Names), maxHosts)] {
		if n = canonical(n); n != domain && !strings.HasSuffix(n, "."+domain) {
			continue
		}
		back, ok := s.records.Lookup(Question{n, Hosts})
		if !ok {
			return false, errUnknown
		}
		if holds(back.Addrs, s.ip) {
			return true, nil
		}
	}
	return false, nil
}

// spfPasses tells whether all sources may send for a domain, and adds what keeps them from it to found.
func spfPasses(r Records, domain mail.Domain, sources []netip.Addr, found *[]Finding) (pass, known bool) {
	if domain == "" || len(sources) == 0 {
		return false, false
	}
	var denied []netip.Addr
	var worst Verdict
	reason := ""
	known = true
	for _, a := range sources {
		v, why := SPF(r, domain, a)
		if v == Unknown {
			known = false
		} else if v != Pass {
			if denied = append(denied, a); v > worst {
				worst, reason = v, why
			}
		}
	}
	if len(denied) == 0 {
		return known, known
	}
	f := Finding{Rule: RuleSPF, Code: code(23), Advice: "add the address to the record"}
	switch worst {
	case PermError:
		f.Text, f.Advice = fmt.Sprintf("the SPF record of %s cannot be evaluated: %s", domain, reason), "mend the record: receivers take it for none"
	case None:
		f.Text = fmt.Sprintf("%s has no SPF record", domain)
		f.Advice = fmt.Sprintf(`publish a TXT record such as "v=spf1 %s -all"`, mechanism(denied[0]))
	default:
		f.Text = fmt.Sprintf("the SPF record of %s does not allow %s (%s)", domain, some(denied), worst)
	}
	*found = append(*found, f)
	return false, true
}

func mechanism(a netip.Addr) string {
	if a.Is4() {
		return "ip4:" + a.String()
	}
	return "ip6:" + a.String()
}
