package source

import (
	"net/netip"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// jumpsMost bounds the receivers that are watched; beyond it all begin anew.
const jumpsMost = 4096

// Jumps watches which part of their mail the sources of a node are answered in ways that mean a recipient, or the source, where rules
// about answers ask for it. The zero value is ready. It is asked about such answers only, never about mail that was taken.
type Jumps struct {
	mu sync.Mutex
	by map[string]*shaping.Shares // by receiver
}

// answered is o as the source should take it: where its share shows that the source is meant, it asks for a block, in the
// rule's name with "/jump" behind it.
func (j *Jumps) answered(now time.Time, source netip.Addr, receiver string, taken int, o *mail.Outcome) *mail.Outcome {
	a := o.Advice
	j.mu.Lock()
	s := j.by[receiver]
	if s == nil {
		if j.by == nil || len(j.by) >= jumpsMost {
			j.by = map[string]*shaping.Shares{}
		}
		s = &shaping.Shares{}
		j.by[receiver] = s
	}
	jumped := s.Answered(now, source, taken, a.Jump.Share)
	j.mu.Unlock()
	if !jumped {
		return o
	}
	x := *o
	x.Scope = mail.ScopeSource
	x.Advice = &mail.Advice{Rule: a.Rule + "/jump", Pattern: a.Pattern, Action: mail.ActSuspend, For: a.Jump.For, NoSuppress: a.NoSuppress}
	return &x
}
