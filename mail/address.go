package mail

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/idna"
)

// Domain is a mail domain in its normal form: ASCII (A-labels), lower case, no trailing dot. The zero value means
// "no domain". Build one with ParseDomain; a Domain made by conversion is trusted to be normal already.
type Domain string

// Address is a mailbox as it stood between the angle brackets of the SMTP path, without a source route and exactly
// as the customer wrote it (requirement E-36): quoted local parts stay quoted, letter case is kept. The empty Address
// is the null reverse-path "<>". Compare addresses by Fold, write them on a wire by Wire.
type Address string

// MaxPathLine is the longest RCPT TO line in octets, CRLF included, that an address may need (requirement R110, E-4).
const MaxPathLine = 1000

// Errors that Address.Check and ParseDomain report. All of them mean status 9, address format error.
var (
	ErrNoDomain   = errors.New("address has no domain")
	ErrLocalPart  = errors.New("local part is empty or holds characters that cannot be mailed")
	ErrDomainName = errors.New("domain name is malformed")
	ErrTooLong    = errors.New("address does not fit into an SMTP line of 1000 octets")
)

// IsNull tells whether a is the null reverse-path.
func (a Address) IsNull() bool { return a == "" }

// Split cuts a at the "@" that ends its local part: the last one outside quotes. Without one, domain is empty.
func (a Address) Split() (local, domain string) {
	i := strings.LastIndexByte(string(a), '@')
	if i < 0 {
		return string(a), ""
	}
	// A domain never holds a quote, so the last "@" ends the local part unless it is still inside an open quoted string.
	if strings.HasPrefix(string(a), `"`) && closingQuote(string(a)) >= i {
		return string(a), ""
	}
	return string(a[:i]), string(a[i+1:])
}

// closingQuote returns the index of the quote that ends the quoted string s starts with, or len(s).
func closingQuote(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(s)
}

// Domain returns the normal form of a's domain, or "" where it has none or a malformed one.
func (a Address) Domain() Domain {
	_, d := a.Split()
	dom, err := ParseDomain(d)
	if err != nil {
		return ""
	}
	return dom
}

// Fold is the form under which addresses compare equal (requirement R111): the whole address in lower case.
func (a Address) Fold() string { return strings.ToLower(string(a)) }

// Check reports why a cannot be mailed (requirements R107-R110), or nil. The null address is fine as a sender only;
// Check refuses it.
func (a Address) Check() error {
	local, domain := a.Split()
	if domain == "" {
		return ErrNoDomain
	}
	if _, err := ParseDomain(domain); err != nil {
		return err
	}
	wire, err := wireLocal(local)
	if err != nil {
		return err
	}
	if len("RCPT TO:<")+len(wire)+1+len(domain)+len(">\r\n") > MaxPathLine {
		return ErrTooLong
	}
	return nil
}

// Wire is the form to write between angle brackets to a peer: the local part quoted where RFC 5321 needs it
// (requirement R108, D4), the domain in A-labels. It fails exactly where Check fails; the null address gives "".
func (a Address) Wire() (string, error) {
	if a == "" {
		return "", nil
	}
	if err := a.Check(); err != nil {
		return "", err
	}
	local, domain := a.Split()
	wire, err := wireLocal(local)
	if err != nil {
		return "", err
	}
	dom, err := ParseDomain(domain)
	if err != nil {
		return "", err
	}
	if len(wire) == len(local) && isASCII(domain) {
		return string(a), nil
	}
	if isASCII(domain) { // keep the case the customer used: receivers do not care, readers of logs do
		return wire + "@" + domain, nil
	}
	return wire + "@" + string(dom), nil
}

// IsASCII tells whether a can be sent without SMTPUTF8 (RFC 6531): its local part is ASCII. A U-label domain can.
func (a Address) IsASCII() bool {
	local, _ := a.Split()
	return isASCII(local)
}

// wireLocal returns local as RFC 5321 wants it: a dot-atom as it is, a well-formed quoted string as it is, anything
// else of printable ASCII (or UTF-8) quoted.
func wireLocal(local string) (string, error) {
	if local == "" {
		return "", ErrLocalPart
	}
	if local[0] == '"' && len(local) > 1 && closingQuote(local) == len(local)-1 {
		if !mailable(local[1 : len(local)-1]) {
			return "", ErrLocalPart
		}
		return local, nil
	}
	if !mailable(local) {
		return "", ErrLocalPart
	}
	if isDotAtom(local) {
		return local, nil
	}
	var b strings.Builder
	b.Grow(len(local) + 4)
	b.WriteByte('"')
	for i := 0; i < len(local); i++ {
		if local[i] == '"' || local[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String(), nil
}

// mailable refuses what may never stand in a local part, quoted or not: control characters and invalid UTF-8.
func mailable(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == 0xfffd || (r >= 0x80 && r < 0xa0) {
			return false
		}
	}
	return true
}

func isDotAtom(s string) bool {
	dot := true // a leading dot is as wrong as a doubled one
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '.' {
			if dot {
				return false
			}
			dot = true
			continue
		}
		if c < 0x80 && !isAtomByte(c) {
			return false
		}
		dot = false
	}
	return !dot
}

func isAtomByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_{|}~`", c) >= 0
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// ParseDomain returns the normal form of s: labels of letters, digits, "-" and "_" that start with a letter or digit
// (requirement R109, E-7), joined by single dots, U-labels turned into A-labels. Address literals are refused: a
// bulk sender has no use for them and they would dodge the address guard.
func ParseDomain(s string) (Domain, error) {
	if !isASCII(s) {
		a, err := idna.Lookup.ToASCII(s)
		if err != nil {
			return "", fmt.Errorf("%w: %q", ErrDomainName, s)
		}
		s = a
	}
	if s == "" || len(s) > 253 {
		return "", ErrDomainName
	}
	upper := false
	label := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.':
			if label == 0 {
				return "", ErrDomainName
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c >= 'A' && c <= 'Z':
			upper = true
		case (c == '-' || c == '_') && label > 0:
		default:
			return "", ErrDomainName
		}
		if label++; label > 63 {
			return "", ErrDomainName
		}
	}
	if label == 0 {
		return "", ErrDomainName
	}
	if upper {
		s = strings.ToLower(s)
	}
	return Domain(s), nil
}
