package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Figures of lists.
const (
	listsMost    = 10_000     // pairs that are looked at; beyond them those that are clean make place
	metaCleaning = "cleaning" // pairs that are slowed down, in the store
)

// listed is a tenant and a receiver.
type listed struct{ Tenant, Receiver string }

// lists watches what share of each tenant's recipients a receiver does not know, and slows the tenant's bulk mail to that
// receiver down while there are too many (requirement D2). Each member judges by what it sends itself.
type lists struct {
	slow atomic.Pointer[map[listed]bool] // those that are slowed down; nil = none. Never changed

	mu    sync.Mutex
	pairs map[listed]*shaping.Hygiene
}

// cleans tells whether the bulk mail of a pair is slowed down. It costs one atomic load while none is.
func (x *lists) cleans(tenant, receiver string) bool {
	slow := x.slow.Load()
	return slow != nil && (*slow)[listed{tenant, receiver}]
}

// settled takes the end of a delivery into account.
func (x *lists) settled(n *Node, e *engine, s *mail.Settlement) {
	ev := &s.Event
	if ev.Kind != mail.EventDelivered && ev.Kind != mail.EventFailed || ev.Receiver == "" || ev.Own || ev.Stage == mail.StageNone ||
		strings.HasPrefix(ev.Receiver, "route:") { // a relay of one's own minds nothing
		return
	}
	limit := n.book.now.Load().unclean[ev.Tenant]
	if limit == 0 {
		return
	}
	p := listed{ev.Tenant, ev.Receiver}
	x.mu.Lock()
	h := x.of(p)
	changed := h.Observe(n.clock.Now(), ev.Kind == mail.EventFailed && ev.Status == mail.StatusUserUnknown, limit)
	stands := h.Standing()
	x.mu.Unlock()
	if changed {
		x.changed(n, e, p, stands, "")
	}
}

// of finds or makes the state of a pair; x is locked.
func (x *lists) of(p listed) *shaping.Hygiene {
	if h := x.pairs[p]; h != nil {
		return h
	}
	if x.pairs == nil {
		x.pairs = map[listed]*shaping.Hygiene{}
	}
	if len(x.pairs) >= listsMost {
		maps.DeleteFunc(x.pairs, func(_ listed, h *shaping.Hygiene) bool { return !h.Standing().Cleaning })
	}
	p = listed{strings.Clone(p.Tenant), strings.Clone(p.Receiver)} // not the memory of a whole record
	h := &shaping.Hygiene{}
	x.pairs[p] = h
	return h
}

// changed puts in force that a pair is slowed down or is no longer, and tells whoever should look. author is who ended it;
// "" = the lists did.
func (x *lists) changed(n *Node, e *engine, p listed, s shaping.HygieneStanding, author string) {
	x.publish()
	what, detail := "cleaning ended", fmt.Sprintf("%d of the last %d recipients unknown", s.Unknown, s.Recipients)
	if s.Cleaning {
		what = "cleaning began"
	}
	n.log.Warn(what, "tenant", p.Tenant, "receiver", p.Receiver, "unknown", s.Unknown, "recipients", s.Recipients, "author", author)
	e.done.Go(func() {
		e.actors.Destinations().Resort()
		ctx, cancel := context.WithTimeout(e.life, publishWait)
		defer cancel()
		if err := x.keep(ctx, e); err != nil && e.life.Err() == nil {
			n.log.Warn("which mail is slowed down is not on disk", "error", err)
		}
		if m := n.member.Load(); m != nil {
			signed := m.by(author)
			if _, err := m.propose(ctx, &ledger.Note{Signed: signed, Action: what, Subject: p.Tenant + " at " + p.Receiver, Detail: detail}); err != nil {
				n.log.Debug("the audit trail does not tell of cleaning", "error", err)
			}
		}
	})
}

// publish makes what destinations look at.
func (x *lists) publish() {
	x.mu.Lock()
	defer x.mu.Unlock()
	slow := map[listed]bool{}
	for p, h := range x.pairs {
		if h.Standing().Cleaning {
			slow[p] = true
		}
	}
	if len(slow) == 0 {
		x.slow.Store(nil)
		return
	}
	x.slow.Store(&slow)
}

// cleaned is a pair as it lies in the store.
type cleaned struct {
	listed
	Since time.Time
}

func (x *lists) keep(ctx context.Context, e *engine) error {
	x.mu.Lock()
	list := []cleaned{}
	for p, h := range x.pairs {
		if s := h.Standing(); s.Cleaning {
			list = append(list, cleaned{p, s.Since})
		}
	}
	x.mu.Unlock()
	raw, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("node: encode cleaning: %w", err)
	}
	return e.keep(ctx, metaCleaning, raw)
}

// restore reads what was slowed down when the node was stopped.
func (x *lists) restore(e *engine) error {
	raw, err := e.store.Meta(metaCleaning)
	if err != nil {
		return fmt.Errorf("node: read cleaning: %w", err)
	}
	var list []cleaned
	if raw == nil || json.Unmarshal(raw, &list) != nil { // of another release: it is found out again
		return nil
	}
	x.mu.Lock()
	for _, c := range list {
		*x.of(c.listed) = shaping.ResumeHygiene(c.Since)
	}
	x.mu.Unlock()
	x.publish()
	return nil
}

// report tells the metrics how many tenants each receiver's mail of is slowed down.
func (x *lists) report(tell func(receiver string, n float64)) {
	slow := x.slow.Load()
	if slow == nil {
		return
	}
	for p := range *slow {
		tell(p.Receiver, 1)
	}
}

// cleaningPrefix begins the name under which cleaning stands in the list of suspensions.
const cleaningPrefix = "cleaning "

// list tells which pairs are slowed down.
func (x *lists) list(node string) (out []service.Suspension) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for p, h := range x.pairs {
		if s := h.Standing(); s.Cleaning {
			out = append(out, service.Suspension{Subject: service.Subject{Kind: service.SubjectRule, Value: cleaningPrefix + p.Tenant + " " + p.Receiver},
				Reason: fmt.Sprintf("slowed down: %d of the last %d recipients unknown", s.Unknown, s.Recipients), Author: "the tenant's lists",
				Since: s.Since, Node: node})
		}
	}
	slices.SortFunc(out, func(a, b service.Suspension) int { return cmp.Compare(a.Value, b.Value) })
	return out
}

// forgive ends what the list names so; false where it names none.
func (x *lists) forgive(n *Node, e *engine, name, author string) bool {
	x.mu.Lock()
	for p, h := range x.pairs {
		if h.Standing().Cleaning && name == cleaningPrefix+p.Tenant+" "+p.Receiver {
			h.Forgive()
			s := h.Standing()
			x.mu.Unlock()
			x.changed(n, e, p, s, author)
			return true
		}
	}
	x.mu.Unlock()
	return false
}
