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
	listsMost    = 10_000 // pairs that are looked at; beyond them those that are clean make place
	cleaningMost = 4096   // pairs that are slowed down
	alarmUnclean = "unclean_list"
	uncleanLasts = 30 * 24 * time.Hour // the end of cleaning ends the alarm; a member that never hears of it forgets it
)

// listed is a tenant and a receiver.
type listed struct{ Tenant, Receiver string }

// String names the pair for people.
func (p listed) String() string { return p.Tenant + " " + p.Receiver }

// key names the pair in the book: no name has a tab.
func (p listed) key() string { return p.Tenant + "\t" + p.Receiver }

// lists watches what share of each tenant's recipients a receiver does not know, and slows the tenant's bulk mail to that
// receiver down while there are too many (requirement D2). Each member sees what it sends itself; they judge by what all
// of them saw, and that a pair is slowed down is an object of their book.
//
//	an unknown user ─▶ suspected here? ─▶ ask the others what they saw ─▶ too many of all: into the book ─▶ all slow down
//
// What was found out here counts here at once, and elsewhere when the book has it.
type lists struct {
	slow  atomic.Pointer[map[listed]bool] // those that are slowed down; nil = none. Never changed
	poked chan struct{}                   // one token: doubts wait

	mu     sync.Mutex
	pairs  map[listed]*shaping.Hygiene // as seen here
	doubts map[listed]bool             // to be judged with what the others saw
	agreed map[listed]agreedCleaning
	found  map[listed]cleaning // here, and not in the book yet
}

// cleaning is a pair that is slowed down, as it lies in the book.
type cleaning struct {
	listed
	Since      time.Time
	Unknown    int // of the last …
	Recipients int // … so many, then
	Node       string
	Forgiven   time.Time `json:",omitzero"` // when somebody ended it: what was seen before counts no more
}

type agreedCleaning struct {
	cleaning
	version uint64
}

// cleans tells whether the bulk mail of a pair is slowed down. It costs one atomic load while none is.
func (x *lists) cleans(tenant, receiver string) bool {
	slow := x.slow.Load()
	return slow != nil && (*slow)[listed{tenant, receiver}]
}

// settled takes the end of a delivery into account.
func (x *lists) settled(n *Node, s *mail.Settlement) {
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
	unknown := ev.Kind == mail.EventFailed && ev.Status == mail.StatusUserUnknown
	x.mu.Lock()
	h := x.of(p)
	full := h.Observe(n.clock.Now(), unknown)
	doubt := unknown && h.Suspect(limit, int(n.senders.Load()))
	if x.slowed(p) {
		doubt = full
	}
	if doubt {
		x.doubt(p)
	}
	x.mu.Unlock()
	if doubt {
		x.poke()
	}
}

// doubt has a pair judged; x is locked.
func (x *lists) doubt(p listed) {
	if x.doubts == nil {
		x.doubts = map[listed]bool{}
	}
	if !x.doubts[p] {
		x.doubts[listed{strings.Clone(p.Tenant), strings.Clone(p.Receiver)}] = true // not the memory of a whole record
	}
}

func (x *lists) poke() {
	select {
	case x.poked <- struct{}{}:
	default:
	}
}

// of finds or makes what was seen of a pair; x is locked.
func (x *lists) of(p listed) *shaping.Hygiene {
	if h := x.pairs[p]; h != nil {
		return h
	}
	if x.pairs == nil {
		x.pairs = map[listed]*shaping.Hygiene{}
	}
	if len(x.pairs) >= listsMost {
		maps.DeleteFunc(x.pairs, func(p listed, _ *shaping.Hygiene) bool { return !x.slowed(p) })
	}
	p = listed{strings.Clone(p.Tenant), strings.Clone(p.Receiver)}
	h := &shaping.Hygiene{}
	x.pairs[p] = h
	return h
}

// slowed tells whether a pair is slowed down; x is locked.
func (x *lists) slowed(p listed) bool {
	if _, ok := x.found[p]; ok {
		return true
	}
	c, ok := x.agreed[p]
	return ok && c.Forgiven.IsZero()
}

// all are the pairs that are slowed down; x is locked.
func (x *lists) all() (out []cleaning) {
	for _, c := range x.agreed {
		if c.Forgiven.IsZero() {
			out = append(out, c.cleaning)
		}
	}
	for p, c := range x.found {
		if a, ok := x.agreed[p]; !ok || !a.Forgiven.IsZero() {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b cleaning) int { return cmp.Compare(a.String(), b.String()) })
	return out
}

// publish makes what destinations look at; x is locked. They have to be told to look.
func (x *lists) publish() {
	slow := map[listed]bool{}
	for _, c := range x.all() {
		slow[c.listed] = true
	}
	if len(slow) == 0 {
		x.slow.Store(nil)
		return
	}
	x.slow.Store(&slow)
}

// use puts in force what the book says, where it has changed.
func (x *lists) use(m *member, e *engine) {
	if x.adopt(m, m.book.State().Objects(ledger.KindCleaning)) {
		e.actors.Destinations().Resort()
	}
}

// adopt takes over what the book says, and tells whether anything changed. What an operator ended is judged anew by what
// comes.
func (x *lists) adopt(m *member, objects []ledger.Object) (changed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	next := make(map[listed]agreedCleaning, len(objects))
	for _, o := range objects {
		c := agreedCleaning{version: o.Version}
		if err := json.Unmarshal(o.Data, &c.cleaning); err != nil { // of another release
			m.node.log.Error("which mail is slowed down cannot be read from the ledger", "pair", o.Name, "error", err)
			continue
		}
		known, there := x.agreed[c.listed]
		if next[c.listed] = c; there && known.version == c.version {
			continue
		}
		changed = true
		delete(x.found, c.listed)
		if !c.Forgiven.IsZero() {
			delete(x.pairs, c.listed)
		} else if c.Node == m.node.cfg.Node.Name {
			x.alarm(m.node, &c.cleaning)
		}
	}
	for p, known := range x.agreed {
		if c, there := next[p]; !there || !c.Forgiven.IsZero() && known.Forgiven.IsZero() {
			changed = true
			m.node.alarms.lower(alarmUnclean, p.String())
		}
	}
	if x.agreed = next; changed {
		x.publish()
	}
	if len(x.found) > 0 { // the book does not have them yet
		x.poke()
	}
	return changed
}

// alarm tells whoever should look, at the member that found it out: once for all members.
func (x *lists) alarm(n *Node, c *cleaning) {
	n.alarms.raise(alarm{Name: alarmUnclean, About: c.String(), Lasts: uncleanLasts,
		Text: fmt.Sprintf("%d of the last %d recipients of tenant %s at %s are unknown there: its bulk mail to it is slowed down",
			c.Unknown, c.Recipients, c.Tenant, c.Receiver)})
}

// over lists what an operator ended so long ago that every member has heard of it.
func (x *lists) over(now time.Time) (out []ledger.ObjectChange) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for p, c := range x.agreed {
		if !c.Forgiven.IsZero() && now.Sub(c.Forgiven) > suspensionKept {
			out = append(out, ledger.ObjectChange{Kind: ledger.KindCleaning, Name: p.key(), Base: c.version, Delete: true})
		}
	}
	return out
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
func (x *lists) list() (out []service.Suspension) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.all() {
		out = append(out, service.Suspension{Subject: service.Subject{Kind: service.SubjectRule, Value: cleaningPrefix + c.String()},
			Reason: fmt.Sprintf("slowed down: %d of the last %d recipients unknown", c.Unknown, c.Recipients), Author: "the tenant's lists",
			Since: c.Since, Node: c.Node})
	}
	return out
}

// forgive ends what the list names so, at every member; ErrNotFound where it names none.
func (x *lists) forgive(ctx context.Context, m *member, e *engine, name, author string) error {
	x.mu.Lock()
	all := x.all()
	i := slices.IndexFunc(all, func(c cleaning) bool { return name == cleaningPrefix+c.String() })
	if i < 0 {
		x.mu.Unlock()
		return fmt.Errorf("%w: %q is not slowed down", service.ErrNotFound, name)
	}
	c := all[i]
	base := x.agreed[c.listed].version
	x.mu.Unlock()
	c.Forgiven = m.node.clock.Now()
	cmd, err := putCleaning(&c, base)
	if err != nil {
		return err
	}
	cmd.Signed = m.stamp()
	if _, err := m.command(ctx, cmd); err != nil {
		return err
	}
	x.use(m, e)
	m.noteCleaning(ctx, "cleaning ended", author, &c, shaping.HygieneStanding{Unknown: c.Unknown, Recipients: c.Recipients})
	return nil
}

// putCleaning is the command that writes c over the object of that version.
func putCleaning(c *cleaning, base uint64) (*ledger.PutObjects, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("node: encode cleaning: %w", err)
	}
	return &ledger.PutObjects{Changes: []ledger.ObjectChange{{Kind: ledger.KindCleaning, Name: c.key(), Data: data, Base: base}}}, nil
}

// noteCleaning tells log and audit trail; author is who ended it, "" = the lists did.
func (m *member) noteCleaning(ctx context.Context, what, author string, c *cleaning, s shaping.HygieneStanding) {
	m.node.log.Warn(what, "tenant", c.Tenant, "receiver", c.Receiver, "unknown", s.Unknown, "recipients", s.Recipients, "author", author)
	note := &ledger.Note{Signed: m.by(author), Action: what, Subject: c.Tenant + " at " + c.Receiver,
		Detail: fmt.Sprintf("%d of the last %d recipients unknown", s.Unknown, s.Recipients)}
	if _, err := m.propose(ctx, note); err != nil {
		m.node.log.Debug("the audit trail does not tell of cleaning", "error", err)
	}
}
