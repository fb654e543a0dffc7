package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/node"
	"github.com/ekiden-mta/ekiden/policy/alignment"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// sender is a domain that mail claims to come from.
type sender struct {
	domain     mail.Domain
	envelopes  []mail.Domain // domains of MAIL FROM
	signatures []alignment.Signature
	sources    []netip.Addr
}

// sendersOf gathers what the settings and the command line say of sending domains: of those asked for, else of all that
// stand in from_domains. What the command line names wins.
func sendersOf(s *settings.Settings, cfg node.Config, only []mail.Domain, sources []netip.Addr, selectors []string) (all []sender) {
	at := map[mail.Domain]int{}
	find := func(d mail.Domain) *sender {
		i, ok := at[d]
		if !ok {
			i = len(all)
			at[d] = i
			all = append(all, sender{domain: d})
		}
		return &all[i]
	}
	for _, d := range only {
		find(d)
	}
	if s != nil {
		for i := range s.Tenants {
			for j := range s.Tenants[i].Compositions {
				c := &s.Tenants[i].Compositions[j]
				for _, name := range c.FromDomains {
					d, err := mail.ParseDomain(name)
					if err == nil && (len(only) == 0 || slices.Contains(only, d)) {
						find(d).add(s, c)
					}
				}
			}
		}
	}
	for i := range all {
		all[i].settle(cfg, sources, selectors)
	}
	return all
}

// add takes over what a composition says of one of its domains.
func (a *sender) add(s *settings.Settings, c *settings.Composition) {
	envelope := a.domain
	if c.EnvelopeFrom.Rewrite {
		envelope = mail.Domain(c.EnvelopeFrom.Domain)
	}
	a.envelopes = append(a.envelopes, envelope)
	for _, k := range c.DKIM {
		a.signatures = append(a.signatures, alignment.Signature{Domain: mail.Domain(k.Domain), Selector: k.Selector})
	}
	for _, p := range s.Pools {
		if p.Name != c.Pool {
			continue
		}
		for _, text := range p.Sources {
			if ip, err := netip.ParseAddr(text); err == nil {
				a.sources = append(a.sources, ip.Unmap())
			}
		}
	}
}

// settle fills in what the settings do not say, and takes each thing once.
func (a *sender) settle(cfg node.Config, sources []netip.Addr, selectors []string) {
	if len(selectors) > 0 {
		a.signatures = nil
		for _, s := range selectors {
			a.signatures = append(a.signatures, alignment.Signature{Domain: a.domain, Selector: s})
		}
	}
	switch {
	case len(sources) > 0:
		a.sources = slices.Clone(sources)
	case len(a.sources) == 0:
		a.sources = slices.Clone(cfg.Node.SourceIPs)
	}
	if len(a.envelopes) == 0 {
		a.envelopes = []mail.Domain{a.domain}
	}
	slices.Sort(a.envelopes)
	a.envelopes = slices.Compact(a.envelopes)
	slices.SortFunc(a.sources, netip.Addr.Compare)
	a.sources = slices.Compact(a.sources)
	slices.SortFunc(a.signatures, func(x, y alignment.Signature) int {
		return strings.Compare(string(x.Domain)+" "+x.Selector, string(y.Domain)+" "+y.Selector)
	})
	a.signatures = slices.Compact(a.signatures)
}

// sender checks the records that receivers look at when mail claims to come from s.
func (d *doctor) sender(s sender, key crypto.PublicKey) {
	d.incoming(s.domain)
	aligned := ""
	var policy alignment.Policy
	var err error
	var known bool
	d.judge(func(r alignment.Records) { policy, known, err = alignment.LookupPolicy(r, s.domain) })
	for _, envelope := range s.envelopes {
		if d.spf(envelope, s.sources) && alignment.Aligned(envelope, s.domain, policy.StrictSPF) {
			aligned = "SPF of " + string(envelope)
		}
	}
	if len(s.signatures) == 0 {
		d.say(warn, "DKIM "+string(s.domain), "give --selector, the s= of your signatures", "not checked: no selector given, and none in the settings")
	}
	for _, sig := range s.signatures {
		if d.dkim(sig, key) && alignment.Aligned(sig.Domain, s.domain, policy.StrictDKIM) {
			aligned = "DKIM of " + string(sig.Domain)
		}
	}
	check := "DMARC " + string(s.domain)
	switch {
	case !known:
		d.say(fail, check, noAnswer, "nobody knows its record at the moment")
	case err != nil:
		d.say(fail, check, `publish one TXT record at _dmarc such as "v=DMARC1; p=none; rua=mailto:…"; the large receivers ask bulk senders for it`, "%v", err)
	case aligned == "":
		d.say(fail, check, "sign for the domain itself, or use an envelope sender of it that SPF allows",
			"%s (%s), but neither SPF nor DKIM is aligned with it", policy.Text, policy.At)
	default:
		d.say(pass, check, "", "%s (%s), aligned by %s", policy.Text, policy.At, aligned)
	}
}

// spf checks the record of a domain for all sources, and tells whether it allows them; without public sources, whether
// there is one.
func (d *doctor) spf(name mail.Domain, sources []netip.Addr) bool {
	check := "SPF " + string(name)
	texts, err := d.texts(string(name))
	if err != nil {
		d.say(fail, check, noAnswer, "%v", err)
		return false
	}
	i := slices.IndexFunc(texts, func(t string) bool { v, _, _ := strings.Cut(t, " "); return strings.EqualFold(v, "v=spf1") })
	if i < 0 {
		d.say(fail, check, `publish a TXT record such as "v=spf1 ip4:192.0.2.7 -all"`, "has no SPF record")
		return false
	}
	d.say(pass, check, "", "%s", texts[i])
	ok := true
	for _, ip := range sources {
		if !alignment.Public(ip) {
			continue
		}
		var v alignment.Verdict
		var why string
		d.judge(func(r alignment.Records) { v, why = alignment.SPF(r, name, ip) })
		ok = ok && v == alignment.Pass
		switch v {
		case alignment.Pass:
			d.say(pass, check, "", "allows %s", ip)
		case alignment.Unknown:
			d.say(warn, check, "", "cannot be evaluated for %s here: no answer, or a macro of the message", ip)
		case alignment.PermError:
			d.say(fail, check, "mend the record: receivers take it for none", "cannot be evaluated: %s", why)
			return false
		default:
			d.say(fail, check, "add the address to the record", "does not allow %s (%s)", ip, v)
		}
	}
	return ok
}

// dkim checks a published key, and tells whether it counts; key is the one that signs, nil where it was not given.
func (d *doctor) dkim(s alignment.Signature, key crypto.PublicKey) bool {
	check := "DKIM " + string(s.Domain)
	var k alignment.Key
	var known bool
	var err error
	d.judge(func(r alignment.Records) { k, known, err = alignment.LookupKey(r, s) })
	where := s.Selector + "._domainkey." + string(s.Domain)
	switch {
	case !known:
		d.say(fail, check, noAnswer, "nobody knows %s at the moment", where)
	case err != nil:
		d.say(fail, check, "publish the key", "%s: %v", where, err)
	case key != nil && !sameKey(k.Public, key):
		d.say(fail, check, "publish the public part of the key that signs", "%s holds another key than the file", where)
	case k.Bits > 0 && k.Bits < 2048:
		d.say(warn, check, "use 2048 bits (RFC 8301)", "%s: RSA key of %d bits", where, k.Bits)
		return true
	default:
		kind := "Ed25519 key"
		if k.Bits > 0 {
			kind = fmt.Sprintf("RSA key of %d bits", k.Bits)
		}
		if key != nil {
			kind += ", that of the file"
		}
		d.say(pass, check, "", "%s: %s", where, kind)
		return true
	}
	return false
}

func (d *doctor) texts(name string) (texts []string, err error) {
	d.judge(func(r alignment.Records) {
		a, ok := r.Lookup(alignment.Question{Name: name, Type: alignment.TXT})
		if texts, err = a.Texts, nil; !ok {
			err = errors.New("nobody knows its TXT records at the moment")
		}
	})
	return texts, err
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// key reads the file of --key; nil without one.
func (c doctorCmd) key() (crypto.PublicKey, error) {
	if c.Key == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(c.Key)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("--key: %s is no PEM file", c.Key)
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("--key: %s holds a %q, not a private or public key", c.Key, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("--key: %s: %w", c.Key, err)
	}
	if private, ok := key.(interface{ Public() crypto.PublicKey }); ok {
		return private.Public(), nil
	}
	return key, nil
}
