package alignment

import (
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/ekiden-mta/ekiden/mail"
)

// Policy is a DMARC record (RFC 7489 §6.3).
type Policy struct {
	At         string // the name it stands at
	Policy     string // none, quarantine, reject: of the domain asked about
	StrictSPF  bool
	StrictDKIM bool
	Text       string // as published
}

// Organization is the domain a name belongs to: one label below a public suffix (RFC 7489 §3.2).
func Organization(d mail.Domain) mail.Domain {
	if o, err := publicsuffix.EffectiveTLDPlusOne(string(d)); err == nil {
		return mail.Domain(o)
	}
	return d
}

// LookupPolicy finds the record that counts for mail from d: its own, else that of its organization. known is false where
// the DNS has not told; the error says what is wrong with the record, or that there is none.
func LookupPolicy(r Records, d mail.Domain) (p Policy, known bool, err error) {
	org := Organization(d)
	for _, at := range []mail.Domain{d, org} {
		a, ok := r.Lookup(Question{"_dmarc." + string(at), TXT})
		if !ok {
			return p, false, nil
		}
		var texts []string
		for _, t := range a.Texts {
			if v, _, _ := strings.Cut(t, ";"); strings.Join(strings.Fields(v), "") == "v=DMARC1" {
				texts = append(texts, t)
			}
		}
		switch len(texts) {
		case 0:
		case 1:
			p, err = parsePolicy(texts[0], at != d)
			p.At = "_dmarc." + string(at)
			return p, true, err
		default: // RFC 7489 §6.6.3: as if there were none
			return p, true, fmt.Errorf("_dmarc.%s has %d DMARC records, which counts as none", at, len(texts))
		}
		if org == d {
			break
		}
	}
	return p, true, fmt.Errorf("%s has no DMARC record", d)
}

func parsePolicy(text string, inherited bool) (Policy, error) {
	p := Policy{Text: text}
	p.Policy, _ = tagOf(text, "p")
	if sp, ok := tagOf(text, "sp"); ok && inherited {
		p.Policy = sp
	}
	p.Policy = strings.ToLower(p.Policy)
	strict := func(tag string) bool { v, _ := tagOf(text, tag); return strings.EqualFold(v, "s") }
	p.StrictSPF, p.StrictDKIM = strict("aspf"), strict("adkim")
	switch p.Policy {
	case "none", "quarantine", "reject":
		return p, nil
	}
	return p, fmt.Errorf("p= must be none, quarantine or reject, and is %.20q", p.Policy)
}

// Aligned tells whether two domains count as the same (RFC 7489 §3.1).
func Aligned(a, b mail.Domain, strict bool) bool {
	return a != "" && (a == b || !strict && Organization(a) == Organization(b))
}

// evidence is what the other rules found out.
type evidence struct {
	envelope  mail.Domain
	spf       bool // passes from every source
	spfKnown  bool
	signers   []mail.Domain
	keysKnown bool
}

// dmarc tells what is wrong with the alignment of from.
func dmarc(r Records, from mail.Domain, e evidence) (f Finding, bad bool) {
	if from == "" {
		return f, false
	}
	p, known, err := LookupPolicy(r, from)
	if !known {
		return f, false
	}
	if err != nil {
		return Finding{RuleDMARC, err.Error(), fmt.Sprintf(`publish one TXT record at _dmarc.%s such as "v=DMARC1; p=none"; large receivers ask bulk senders for one`,
			Organization(from)), code(26)}, true
	}
	if e.spf && Aligned(e.envelope, from, p.StrictSPF) {
		return f, false
	}
	for _, d := range e.signers {
		if Aligned(d, from, p.StrictDKIM) {
			return f, false
		}
	}
	if !e.spfKnown && Aligned(e.envelope, from, p.StrictSPF) || !e.keysKnown {
		return f, false
	}
	return Finding{RuleDMARC, fmt.Sprintf("neither SPF nor a signature speaks for %s, so its policy %s counts against the message", from, p.Policy),
		"sign for the domain of the From field, or use an envelope sender of that domain", code(26)}, true
}
