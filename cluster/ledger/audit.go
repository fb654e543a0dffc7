package ledger

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// auditKeep is how many lines of the audit trail are kept. It is part of the machine: all members delete the same line.
const auditKeep = 1 << 16

// auditHead is the end of the audit trail.
type auditHead struct {
	Seq uint64
	Sum [32]byte
}

func (h *auditHead) fields(c *codec) {
	c.uint(&h.Seq)
	c.sum(&h.Sum)
}

// chain returns the sum of the line under the sum before it.
func (a AuditEntry) chain(before [32]byte) [32]byte {
	a.Sum = before
	return sha256.Sum256(encode(a.fields))
}

// VerifyAudit checks that entries, oldest first, are an unbroken part of one trail. It cannot tell whether older or later
// lines are missing.
func VerifyAudit(entries []AuditEntry) error {
	for i := 1; i < len(entries); i++ {
		if entries[i].Seq != entries[i-1].Seq+1 || entries[i].Sum != entries[i].chain(entries[i-1].Sum) {
			return fmt.Errorf("audit trail broken at line %d", entries[i].Seq)
		}
	}
	return nil
}

// some names the first of n things.
func some(n int, name func(int) string) string {
	const shown = 5
	var b strings.Builder
	for i := range min(n, shown) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(name(i))
	}
	if n > shown {
		fmt.Fprintf(&b, " and %d more", n-shown)
	}
	return b.String()
}

// action is what the audit trail calls a change of objects.
func (p *PutObjects) action() string {
	action := ""
	for i := range p.Changes {
		switch o := &p.Changes[i]; {
		case o.Kind == KindToken && o.Delete:
			return "revoke token"
		case o.Kind == KindToken:
			return "create token"
		case o.Kind != KindSuspension:
			return "settings"
		case o.Delete:
			action = "unsuspend"
		default:
			action = "suspend"
		}
	}
	return action
}

func (p *PutObjects) subject() string {
	return some(len(p.Changes), func(i int) string { return p.Changes[i].id().String() })
}

func (s *Suppress) subject() string {
	return some(len(s.Add), func(i int) string { return s.Add[i].String() })
}

func (u *Unsuppress) subject() string {
	return some(len(u.Remove), func(i int) string { return u.Remove[i].String() })
}

func (r *Release) subject() string {
	return some(len(r.Remove), func(i int) string { return r.Remove[i].String() })
}

// String is list[tenant/filter] address.
func (s Suppressed) String() string {
	in := s.Tenant
	if s.Filter != "" {
		in += "/" + s.Filter
	}
	if in != "" {
		in = "[" + in + "]"
	}
	return s.List.String() + in + " " + s.Address
}

func (g *SetGate) subject() string {
	verb := "open"
	if g.Gate.Closed {
		verb = "close"
	}
	return verb + " " + g.Gate.Tenant + "/" + g.Gate.Group
}

func (l LineageEpoch) subject() string { return fmt.Sprintf("%08x/%d", uint32(l.Lineage), l.Epoch) }

func (r *Register) subject() string { return fmt.Sprintf("%08x of %s", uint32(r.Lineage), r.Node) }

func (r *Renew) subject() string {
	return some(len(r.Lineages), func(i int) string { return r.Lineages[i].subject() })
}

func (t *Takeover) subject() string {
	return LineageEpoch{t.Lineage, t.FromEpoch}.subject() + " to " + t.NewOwner
}

func (h *Handover) subject() string { return h.LineageEpoch.subject() + " to " + h.NewOwner }

func (s *SetStandbys) subject() string {
	return s.LineageEpoch.subject() + ": " + some(len(s.Standbys), func(i int) string { return s.Standbys[i].Node })
}

func (a *Admit) subject() string        { return a.Name + " at " + a.Address }
func (r *RemoveMember) subject() string { return r.Name }
func (s *Seen) subject() string         { return some(len(s.Names), func(i int) string { return s.Names[i] }) }

// An operator counts root keys from 1.
func (b *BeginKey) subject() string { return fmt.Sprint(b.Version + 1) }

func (k *KeyReady) subject() string   { return fmt.Sprintf("%d at %s", k.Version+1, k.Node) }
func (k *KeyWrapped) subject() string { return fmt.Sprintf("%d at %s", k.Version+1, k.Node) }
func (k *KeyDone) subject() string    { return fmt.Sprint(k.Version + 1) }

func (d CredentialID) subject() string {
	if d.Kind == Token {
		return "token " + d.Name
	}
	return "account " + d.Name
}

func (p *PutCredential) subject() string { return p.Credential.subject() }
func (p *PutMeta) subject() string       { return p.Name }
func (n *Note) subject() string          { return n.Subject }
