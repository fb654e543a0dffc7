package destination

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// holdsMost bounds the automatic suspensions of a node, and the answers that are counted towards one: beyond it the
// oldest makes place. Who is answered in so many ways is not helped by one more.
const holdsMost = 4096

// holds are the suspensions that rules about answers put in force by themselves (N4): for the mail of the tenant, sender
// domain or delivery group that an answer concerns, at that receiver, from every source, and for nobody else. What
// concerns a source is the source's own affair, but for a netblock, which is all sources of one.
type holds struct {
	mu     sync.Mutex
	counts map[string]*answers
}

// answers are those that count towards a rule that acts only on several.
type answers struct {
	n       int
	sources []netip.Addr // that were answered, where that counts; each once
	since   time.Time
}

// hold puts in force what the rule that knew an answer to d says, where it concerns more than d and other than the
// source alone. It tells whether anything was.
func (e *Env) hold(now time.Time, d *mail.Delivery, o *mail.Outcome, receiver string) bool {
	a := o.Advice
	if a == nil || receiver == "" {
		return false
	}
	then := a.Then != nil && e.holdThen(now, d, o, receiver)
	if a.Action != mail.ActSuspend && a.Action != mail.ActProbe || a.For <= 0 {
		return then
	}
	scopes := a.Scopes
	if len(scopes) == 0 {
		scopes = []mail.Scope{o.Scope}
	}
	any := then
	for _, scope := range scopes {
		for _, s := range heldBy(d, o, scope) {
			s.Receiver, s.Rule, s.Since, s.Until, s.Author = receiver, a.Rule, now, now.Add(a.For), "rule "+a.Rule
			s.Reason, s.Probe = words(o), a.Action == mail.ActProbe
			if a.After > 1 && !e.holds.often(now, s.ID(), a.After, 0, a.Within, o.Source) {
				continue
			}
			e.Suspensions.addAutomatic(s)
			any = true
		}
	}
	return any
}

// holdThen is hold for what several such answers ask for. It counts them by whom it would concern.
func (e *Env) holdThen(now time.Time, d *mail.Delivery, o *mail.Outcome, receiver string) (any bool) {
	t, rule := o.Advice.Then, o.Advice.Rule+"/then"
	all := heldBy(d, o, t.Scope)
	if t.Scope == mail.ScopeSource && o.Source.IsValid() {
		all = []Suspension{{Source: o.Source}}
	}
	for _, s := range all {
		if s.Receiver = receiver; t.Everywhere {
			s.Receiver = ""
		}
		s.Rule, s.Since, s.Until, s.Author, s.Reason = rule, now, now.Add(t.For), "rule "+o.Advice.Rule, words(o)
		if t.Within == 0 || e.holds.often(now, s.ID(), t.After, t.Sources, t.Within, o.Source) {
			e.Suspensions.addAutomatic(s)
			any = true
		}
	}
	return any
}

// heldBy is whose mail a scope concerns; none where it is no mail of others than this delivery, or all of the source's.
func heldBy(d *mail.Delivery, o *mail.Outcome, scope mail.Scope) []Suspension {
	switch scope {
	case mail.ScopeTenant:
		return []Suspension{{Tenant: d.Tenant}}
	case mail.ScopeGroup:
		if d.Group != "" { // not all of a tenant's mail for the sake of what one of them says
			return []Suspension{{Tenant: d.Tenant, Group: d.Group}}
		}
	case mail.ScopeDKIM:
		if d.Signers == "" { // it goes by the sender's name then
			return bySender(d)
		}
		var all []Suspension
		for domain := range strings.SplitSeq(d.Signers, ",") { // the receiver does not say which of them
			all = append(all, Suspension{Signer: domain})
		}
		return all
	case mail.ScopeSPF:
		return bySender(d)
	case mail.ScopeNetblock:
		if o.Source.IsValid() {
			bits := 24
			if o.Source.Is6() {
				bits = 64
			}
			block, _ := o.Source.Prefix(bits)
			return []Suspension{{Network: block}}
		}
	}
	return nil
}

// bySender is the mail with the same domain in its envelope sender. A null sender has none; the tenant has.
func bySender(d *mail.Delivery) []Suspension {
	if _, domain, found := strings.Cut(string(d.From), "@"); found {
		return []Suspension{{From: strings.ToLower(domain)}}
	}
	return []Suspension{{Tenant: d.Tenant}}
}

// words are the receiver's, for whoever asks why.
func words(o *mail.Outcome) string {
	if o.Reply.IsZero() {
		return o.Detail
	}
	text := o.Reply.String()
	return strings.ToValidUTF8(text[:min(len(text), 200)], "")
}

// often counts an answer to source and tells whether there were as many as a rule asks for, to as many sources.
func (h *holds) often(now time.Time, id string, after, sources int, within time.Duration, source netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.counts[id]
	if c == nil || now.Sub(c.since) > within {
		if h.counts == nil || len(h.counts) >= holdsMost {
			h.counts = map[string]*answers{}
		}
		c = &answers{since: now}
		h.counts[id] = c
	}
	if len(c.sources) < sources && !slices.Contains(c.sources, source) {
		c.sources = append(c.sources, source)
	}
	if c.n++; c.n < after || len(c.sources) < sources {
		return false
	}
	delete(h.counts, id)
	return true
}

// network tells whether a is of the netblock p; an invalid p is everybody.
func network(p netip.Prefix, a netip.Addr) bool {
	return !p.IsValid() || a.IsValid() && p.Contains(a.Unmap())
}
