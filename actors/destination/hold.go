package destination

import (
	"net/netip"
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
	n     int
	since time.Time
}

// hold puts in force what the rule that knew an answer to d says, where it concerns more than d and other than the
// source alone. It tells whether anything was.
func (e *Env) hold(now time.Time, d *mail.Delivery, o *mail.Outcome, receiver string) bool {
	a := o.Advice
	if a == nil || receiver == "" || a.Action != mail.ActSuspend && a.Action != mail.ActProbe || a.For <= 0 {
		return false
	}
	scopes := a.Scopes
	if len(scopes) == 0 {
		scopes = []mail.Scope{o.Scope}
	}
	any := false
	for _, scope := range scopes {
		for _, s := range heldBy(d, o, scope) {
			s.Receiver, s.Rule, s.Since, s.Until, s.Author = receiver, a.Rule, now, now.Add(a.For), "rule "+a.Rule
			s.Reason, s.Probe = words(o), a.Action == mail.ActProbe
			if a.After > 1 && !e.holds.often(now, s.ID(), a) {
				continue
			}
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

// often counts an answer and tells whether it came as often as its rule asks for.
func (h *holds) often(now time.Time, id string, a *mail.Advice) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.counts[id]
	if c == nil || now.Sub(c.since) > a.Within {
		if h.counts == nil || len(h.counts) >= holdsMost {
			h.counts = map[string]*answers{}
		}
		c = &answers{since: now}
		h.counts[id] = c
	}
	if c.n++; c.n < a.After {
		return false
	}
	delete(h.counts, id)
	return true
}

// network tells whether a is of the netblock p; an invalid p is everybody.
func network(p netip.Prefix, a netip.Addr) bool {
	return !p.IsValid() || a.IsValid() && p.Contains(a.Unmap())
}
