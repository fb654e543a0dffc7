package alignment

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/directive"
)

// Bounds of what is read of a message.
const (
	MaxSignatures = 4    // of one message
	maxSignature  = 8192 // octets of one that are looked at
)

// minBits is the shortest RSA key that receivers accept (RFC 8301 §3.2).
const minBits = 1024

// Signature names the key of a DKIM-Signature: its d= and s=.
type Signature struct {
	Domain   mail.Domain
	Selector string
}

// name is where its key is published (RFC 6376 §3.6.2.1).
func (s Signature) name() string { return canonical(s.Selector + "._domainkey." + string(s.Domain)) }

// Signatures reads those of a message, at most MaxSignatures; what is not one of the form is passed over.
func Signatures(msg []byte) (all []Signature) {
	for name, value := range directive.Fields(msg) {
		if len(name) != len("DKIM-Signature") || !strings.EqualFold(string(name), "DKIM-Signature") {
			continue
		}
		if s, ok := signature(value[:min(len(value), maxSignature)]); ok {
			if all = append(all, s); len(all) == MaxSignatures {
				break
			}
		}
	}
	return all
}

// Signers are the domains of the signatures of a message, comma separated, each once.
func Signers(msg []byte) string {
	all := Signatures(msg)
	if len(all) == 0 {
		return ""
	}
	domains := string(all[0].Domain)
	for i := range all[1:] {
		if d := all[i+1].Domain; !slices.ContainsFunc(all[:i+1], func(s Signature) bool { return s.Domain == d }) {
			domains += "," + string(d)
		}
	}
	return domains
}

func signature(value []byte) (s Signature, ok bool) {
	for tag := range bytes.SplitSeq(value, []byte{';'}) {
		k, v, _ := bytes.Cut(tag, []byte{'='})
		switch v := string(bytes.TrimSpace(v)); string(bytes.TrimSpace(k)) {
		case "d":
			d, err := mail.ParseDomain(v)
			if err != nil {
				return s, false
			}
			s.Domain = d
		case "s":
			if _, err := mail.ParseDomain(v); err != nil { // RFC 6376 §3.1: sub-domains
				return s, false
			}
			s.Selector = v
		}
	}
	return s, s.Domain != "" && s.Selector != ""
}

// Key is a published key.
type Key struct {
	Public any // *rsa.PublicKey or ed25519.PublicKey
	Bits   int // of RSA
}

// What a key record can be.
var (
	ErrNoKey   = errors.New("no key is published")
	ErrRevoked = errors.New("the key is revoked (empty p=)")
)

// ParseKey reads the TXT records at the name of a key (RFC 6376 §3.6.1, RFC 8463).
func ParseKey(texts []string) (Key, error) {
	switch len(texts) {
	case 0:
		return Key{}, ErrNoKey
	case 1:
	default:
		return Key{}, fmt.Errorf("%d records instead of one", len(texts))
	}
	record := texts[0]
	if v, ok := tagOf(record, "v"); ok && v != "DKIM1" {
		return Key{}, fmt.Errorf("v=%.20q is not DKIM1", v)
	}
	if s, ok := tagOf(record, "s"); ok && !listed(s, "*") && !listed(s, "email") {
		return Key{}, fmt.Errorf("s=%.20q: not for mail", s)
	}
	p, ok := tagOf(record, "p")
	if !ok {
		return Key{}, errors.New("it holds no p=")
	}
	if p == "" {
		return Key{}, ErrRevoked
	}
	der, err := base64.StdEncoding.DecodeString(p)
	if err != nil {
		return Key{}, errors.New("p= is no base64")
	}
	k, ok := tagOf(record, "k")
	switch {
	case !ok || k == "rsa":
		return rsaKey(der)
	case k != "ed25519":
		return Key{}, fmt.Errorf("k=%.20q is neither rsa nor ed25519", k)
	case len(der) != ed25519.PublicKeySize:
		return Key{}, fmt.Errorf("an Ed25519 key of %d octets", len(der))
	}
	return Key{Public: ed25519.PublicKey(der)}, nil
}

// rsaKey reads SubjectPublicKeyInfo, and RSAPublicKey as RFC 6376 names it.
func rsaKey(der []byte) (Key, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		if public, err = x509.ParsePKCS1PublicKey(der); err != nil {
			return Key{}, errors.New("p= holds no RSA key")
		}
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return Key{}, errors.New("p= holds no RSA key")
	}
	if n := key.N.BitLen(); n < minBits {
		return Key{}, fmt.Errorf("an RSA key of %d bits, at least %d count", n, minBits)
	}
	return Key{Public: key, Bits: key.N.BitLen()}, nil
}

// LookupKey reads the key of s. known is false where the DNS has not told.
func LookupKey(r Records, s Signature) (k Key, known bool, err error) {
	a, ok := r.Lookup(Question{s.name(), TXT})
	if !ok {
		return k, false, nil
	}
	k, err = ParseKey(a.Texts)
	return k, true, err
}

// signed returns the domains whose signatures can be verified, and adds what is wrong with the others to found.
func signed(r Records, all []Signature, found *[]Finding) (signers []mail.Domain, known bool) {
	if len(all) == 0 {
		*found = append(*found, Finding{RuleDKIM, "the message has no DKIM signature",
			"sign it for the domain of its From field; large receivers ask bulk senders for it", code(20)})
		return nil, true
	}
	known = true
	for _, s := range all {
		switch _, ok, err := LookupKey(r, s); {
		case !ok:
			known = false
		case err != nil:
			*found = append(*found, Finding{RuleDKIM, fmt.Sprintf("the key %s does not count: %s", s.name(), err),
				"publish the public key of the signature there", code(20)})
		default:
			signers = append(signers, s.Domain)
		}
	}
	return signers, known
}

// tagOf returns the value of a tag of a tag=value; list (RFC 6376 §3.2), without white space.
func tagOf(record, tag string) (string, bool) {
	for part := range strings.SplitSeq(record, ";") {
		k, v, ok := strings.Cut(part, "=")
		if ok && strings.TrimSpace(k) == tag {
			return strings.Join(strings.Fields(v), ""), true
		}
	}
	return "", false
}

func listed(list, one string) bool {
	for v := range strings.SplitSeq(list, ":") {
		if v == one {
			return true
		}
	}
	return false
}
