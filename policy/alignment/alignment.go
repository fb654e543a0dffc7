// Package alignment tells what receivers will hold against a sender because of what stands in the DNS: source addresses
// without names, an SPF record that does not allow them, signatures whose key is not published, a DMARC record that is
// missing or that neither of the two satisfies (requirement N19).
//
// It decides by answers it is given and asks for none itself: what Records does not know is not judged, so that trouble
// with the DNS never looks like a fault of the sender. It must never read more of an answer than its caps allow. Read
// Check first.
package alignment

import (
	"fmt"
	"net/netip"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// The rules, as metrics and logs call them.
const (
	RulePTR   = "ptr"
	RuleHelo  = "helo"
	RuleFrom  = "sender"
	RuleSPF   = "spf"
	RuleDKIM  = "dkim"
	RuleDMARC = "dmarc"
)

// MaxSources bounds the source addresses of an Identity that are looked at.
const MaxSources = 256

// Type is a kind of question to the DNS.
type Type uint8

// The kinds of questions.
const (
	TXT   Type = iota // Answer.Texts, the strings of each record joined
	Hosts             // Answer.Addrs: A and AAAA records
	MX                // Answer.Names: the hosts, preferred first; a null MX gives none
	PTR               // Answer.Names; the question's name is the address itself
)

// Question is one question to the DNS. Name is in lower case, without a trailing dot.
type Question struct {
	Name string
	Type Type
}

// Answer is what the DNS says; empty where the name or the record does not exist.
type Answer struct {
	Texts []string
	Names []string
	Addrs []netip.Addr
}

// Records are the answers that are known. ok is false where one is not: not asked yet, or nobody knows at the moment.
type Records interface {
	Lookup(Question) (a Answer, ok bool)
}

// Identity is who a message claims to come from, and what stands for it.
type Identity struct {
	From       mail.Domain  // of the From field
	Envelope   mail.Domain  // of MAIL FROM as it goes out; "" where that is null: the EHLO name stands in (RFC 7208 §2.4)
	Helo       string       // EHLO name
	Signatures []Signature  // of the message
	Sources    []netip.Addr // that it may leave by
}

// Finding is one thing that is wrong.
type Finding struct {
	Rule   string // one of those above
	Text   string // what is wrong
	Advice string // what to do about it
	Code   smtp.EnhancedCode
}

// code is an enhanced code of RFC 7372, which names them for this.
func code(detail uint16) smtp.EnhancedCode {
	return smtp.EnhancedCode{Class: 5, Subject: 7, Detail: detail}
}

// Check tells what is wrong with id, as far as it is known.
func Check(r Records, id Identity) (found []Finding) {
	public := publicOnly(id.Sources)
	found = append(found, reverse(r, public)...)
	if len(public) > 0 {
		found = append(found, Helo(r, id.Helo)...)
	}
	envelope := id.Envelope
	if envelope == "" {
		envelope, _ = mail.ParseDomain(id.Helo)
	}
	found = append(found, exists(r, envelope)...)
	spf, spfKnown := spfPasses(r, envelope, public, &found)
	signers, keysKnown := signed(r, id.Signatures, &found)
	if f, bad := dmarc(r, id.From, evidence{envelope: envelope, spf: spf, spfKnown: spfKnown, signers: signers, keysKnown: keysKnown}); bad {
		found = append(found, f)
	}
	for i := range found {
		found[i].Text, found[i].Advice = printable(found[i].Text), printable(found[i].Advice)
	}
	return found
}

// maxText bounds a text, in octets.
const maxText = 300

// printable is s as it may stand in a reply: what others publish may hold anything.
func printable(s string) string {
	b := []byte(s[:min(len(s), maxText)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// exists looks at the envelope sender's domain: carriers refuse one with neither MX nor address (requirements D2).
func exists(r Records, d mail.Domain) []Finding {
	if d == "" {
		return nil
	}
	for _, t := range [...]Type{MX, Hosts} {
		if a, known := r.Lookup(Question{string(d), t}); !known || len(a.Names)+len(a.Addrs) > 0 {
			return nil
		}
	}
	return []Finding{{RuleFrom, fmt.Sprintf("the envelope sender's domain %s has neither MX nor address", d),
		"give it an MX record: bounces have to go somewhere, and carriers refuse it as it is", smtp.EnhancedCode{Class: 5, Subject: 1, Detail: 8}}}
}

// Public tells whether receivers on the Internet see a as it is: what loopback and private networks are called is
// nobody's business there.
func Public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

func publicOnly(all []netip.Addr) (out []netip.Addr) {
	for _, a := range all[:min(len(all), MaxSources)] {
		if a = a.Unmap(); Public(a) {
			out = append(out, a)
		}
	}
	return out
}

// some names the first of several and how many more there are.
func some(all []netip.Addr) string {
	if len(all) == 1 {
		return all[0].String()
	}
	return fmt.Sprintf("%s and %d more", all[0], len(all)-1)
}
