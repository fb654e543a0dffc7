package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/actors/destination"
	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Suspensions are objects of the members' book, so that they hold at every member and over restarts. An operator's is
// agreed on before it is in force; one that a rule about answers puts in force counts here at once, and a moment later
// everywhere: what a crash loses of it the receiver says again.

// Figures of suspensions.
const (
	suspensionsMost = 4096            // automatic ones in the book; beyond them each member keeps its own
	suspensionKept  = time.Minute     // how long one that is over stays in the book …
	probationKept   = 24 * time.Hour  // … and one that ends with a probe, unless that is through
	publishWait     = 5 * time.Second // one change of the book that no operator waits for
)

// suspensions is what this node knows of those in the book.
type suspensions struct {
	mu     sync.Mutex
	agreed map[string]agreedSuspension // by name of the object
	busy   bool                        // the book is being changed
}

type agreedSuspension struct {
	destination.Suspension
	version uint64
}

// use puts in force what the book says, where it has changed.
func (x *suspensions) use(m *member, e *engine) {
	x.mu.Lock()
	defer x.mu.Unlock()
	objects := m.book.State().Objects(ledger.KindSuspension)
	next := make(map[string]agreedSuspension, len(objects))
	var put, drop []destination.Suspension
	for _, o := range objects {
		if known, ok := x.agreed[o.Name]; ok && known.version == o.Version {
			next[o.Name] = known
			continue
		}
		s := agreedSuspension{version: o.Version}
		if err := json.Unmarshal(o.Data, &s.Suspension); err != nil { // of another release
			m.node.log.Error("a suspension of the ledger cannot be read", "suspension", o.Name, "error", err)
			continue
		}
		next[o.Name] = s
		put = append(put, s.Suspension)
	}
	for name, known := range x.agreed {
		if _, there := next[name]; !there {
			drop = append(drop, known.Suspension)
		}
	}
	x.agreed = next
	if len(put)+len(drop) > 0 {
		e.actors.Destinations().Resuspend(put, drop)
	}
}

// forget is for an engine that ends: the next one is told of everything.
func (x *suspensions) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.agreed = nil
}

// pokeMember has the agreement look at what rules have suspended here.
func (n *Node) pokeMember() {
	if m := n.member.Load(); m != nil {
		m.poke()
	}
}

// mindSuspensions brings engine and book together. Only act calls it.
func (m *member) mindSuspensions(ctx context.Context, e *engine) {
	m.held.use(m, e)
	cmds := m.held.due(m, e)
	if len(cmds) == 0 {
		return
	}
	m.tasks.Go(func() {
		defer m.held.done()
		for _, cmd := range cmds {
			try, cancel := context.WithTimeout(ctx, publishWait)
			r, err := m.propose(try, cmd)
			cancel()
			if err == nil && r.Code != ledger.Conflict { // somebody else was faster: looked at again
				err = r.Err()
			}
			if err != nil {
				m.node.log.Debug("a suspension does not hold at the other members yet", "error", err)
				return
			}
		}
	})
}

// due is what the book has to be told: what rules suspended here, and, by the leader, what is over. Nothing while it is
// being told.
func (x *suspensions) due(m *member, e *engine) (cmds []ledger.Command) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.busy {
		return nil
	}
	now := m.node.clock.Now()
	local := map[string]bool{}
	for _, s := range e.actors.Destinations().Suspended() {
		known, there := x.agreed[s.ID()]
		local[s.ID()] = true
		if s.Rule == "" || there && !s.Longer(&known.Suspension) || !there && (len(x.agreed) >= suspensionsMost || !s.Until.After(now)) {
			continue
		}
		s.Node = m.node.cfg.Node.Name
		if !there {
			m.node.log.Warn("mail suspended by a rule", "suspension", s.ID(), "until", s.Until)
		}
		if cmd, err := m.putSuspension(&s, known.version); err == nil {
			cmd.Signed = m.stamp()
			cmds = append(cmds, cmd)
		}
	}
	leads := m.agreed.Leads()
	for name, s := range x.agreed {
		kept := suspensionKept
		if s.Probe {
			kept = probationKept
		}
		over := !s.Until.IsZero() && now.Sub(s.Until) > kept
		probed := s.Probe && s.Node == m.node.cfg.Node.Name && !local[name] && s.Until.Before(now) // and this node has seen it through
		if leads && over || probed {
			cmds = append(cmds, &ledger.PutObjects{Signed: m.stamp(), Changes: []ledger.ObjectChange{
				{Kind: ledger.KindSuspension, Name: name, Base: s.version, Delete: true}}})
		}
	}
	x.busy = len(cmds) > 0
	return cmds
}

func (x *suspensions) done() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.busy = false
}

// putSuspension is the command that writes s over the object of that version.
func (m *member) putSuspension(s *destination.Suspension, base uint64) (*ledger.PutObjects, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("node: encode suspension: %w", err)
	}
	return &ledger.PutObjects{Changes: []ledger.ObjectChange{{Kind: ledger.KindSuspension, Name: s.ID(), Data: data, Base: base}}}, nil
}

type gateService struct{ *Node }

// Suspend implements service.Gates. It returns once the members agreed, and it is in force here; the others hear of it
// as of anything that is agreed on, and one that does not may send no more than a lease lasts.
func (n gateService) Suspend(ctx context.Context, s service.Suspension) error {
	e, err := n.running()
	if err != nil {
		return err
	}
	m, err := n.agree()
	if err != nil {
		return err
	}
	if s.Kind == service.SubjectRule {
		return fmt.Errorf("%w: rules suspend by themselves; name a domain, receiver, source, tenant or group", service.ErrInvalid)
	}
	d, err := suspensionOf(s.Subject)
	if err != nil {
		return err
	}
	if d.Source.IsValid() {
		if err := n.mustBeSource(d.Source); err != nil {
			return err
		}
	}
	if d.Receiver != "" {
		if err := n.mustBeReceiver(d.Receiver); err != nil {
			return err
		}
	}
	d.Since, d.Until, d.Reason, d.Author, d.Node = n.clock.Now(), s.Until, s.Reason, s.Author, n.cfg.Node.Name
	cmd, err := m.putSuspension(&d, ledger.Any)
	if err != nil {
		return err
	}
	cmd.Signed = m.by(s.Author)
	if _, err := m.sole(ctx, cmd); err != nil {
		return err
	}
	m.held.use(m, e)
	return nil
}

// mustBeSource refuses an address that no mail leaves by, here or at another member: to suspend it would do nothing.
func (n *Node) mustBeSource(ip netip.Addr) error {
	var known []string
	for _, a := range n.namedSources() {
		if a == ip {
			return nil
		}
		if a.IsValid() {
			known = append(known, a.String())
		}
	}
	if len(known) == 0 {
		return fmt.Errorf("%w: no sources are configured, the system chooses where mail leaves by", service.ErrInvalid)
	}
	slices.Sort(known)
	return fmt.Errorf("%w: %s is none of the sources %s", service.ErrInvalid, ip, strings.Join(known, ", "))
}

// mustBeReceiver refuses a name that no receiver has, as the log and the metrics call them: to suspend it would do nothing.
func (n *Node) mustBeReceiver(name string) error {
	for _, prefix := range [...]string{"mx:", "domain:", "route:"} {
		if strings.HasPrefix(name, prefix) {
			return nil
		}
	}
	var known []string
	for _, r := range n.book.now.Load().rules.All() {
		if r.Name == name {
			return nil
		}
		known = append(known, r.Name)
	}
	slices.Sort(known)
	return fmt.Errorf("%w: there is no receiver %q; there are: %s; and mx:HOST, domain:DOMAIN and route:HOST:PORT as the log calls them",
		service.ErrInvalid, name, strings.Join(slices.Compact(known), ", "))
}

// Unsuspend implements service.Gates.
func (n gateService) Unsuspend(ctx context.Context, s service.Subject, author string) error {
	e, err := n.running()
	if err != nil {
		return err
	}
	m, err := n.agree()
	if err != nil {
		return err
	}
	if from, receiver, ok := blockOf(s); ok {
		if !e.actors.Sources().Lift(from, receiver) {
			return fmt.Errorf("%w: no source waits out the block %q", service.ErrNotFound, s.Value)
		}
		e.actors.Destinations().Changed()
		return nil
	}
	if s.Kind == service.SubjectRule && strings.HasPrefix(s.Value, cleaningPrefix) {
		return e.lists.forgive(ctx, m, e, s.Value, author)
	}
	list := e.actors.Destinations().Suspended()
	i := slices.IndexFunc(list, func(o destination.Suspension) bool { return subjectOf(o) == s })
	if i < 0 {
		return fmt.Errorf("%w: %s is not suspended", service.ErrNotFound, subjectWords(s))
	}
	if name := list[i].ID(); m.held.has(name) {
		cmd := &ledger.PutObjects{Signed: m.by(author), Changes: []ledger.ObjectChange{
			{Kind: ledger.KindSuspension, Name: name, Base: ledger.Any, Delete: true}}}
		if _, err := m.sole(ctx, cmd); err != nil {
			return err
		}
		m.held.use(m, e)
	}
	e.actors.Destinations().Unsuspend(list[i])
	return nil
}

func (x *suspensions) has(name string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.agreed[name]
	return ok
}

// Suspensions implements service.Gates: those in force, and the blocks that sources of this node wait out.
func (n gateService) Suspensions(context.Context) ([]service.Suspension, error) {
	e, err := n.running()
	if err != nil {
		return nil, err
	}
	var out []service.Suspension
	for _, s := range e.actors.Destinations().Suspended() {
		one := service.Suspension{Subject: subjectOf(s), Reason: s.Reason, Author: s.Author, Since: s.Since, Until: s.Until, Rule: s.Rule, Node: s.Node}
		if one.Node == "" {
			one.Node = n.cfg.Node.Name
		}
		if s.Phase == destination.PhaseProbing || s.Phase == destination.PhaseOpening {
			one.Reason += "; " + phaseWords[s.Phase]
		}
		out = append(out, one)
	}
	for _, report := range e.actors.Sources().Snapshot() {
		for i := range report.Receivers {
			r := &report.Receivers[i]
			if known := i > 0 && r.Receiver == report.Receivers[i-1].Receiver; r.State == shaping.Blocked && !known { // a block is all its lanes'
				out = append(out, n.block(report.Source, r))
			}
		}
	}
	return append(out, e.lists.list()...), nil
}

// blockPrefix begins the name of a block: what a source waits out at a receiver that turned it away.
const blockPrefix = "block "

// systemSource stands for the source that the system chooses.
const systemSource = "system"

func (n *Node) block(from netip.Addr, r *source.Standing) service.Suspension {
	name := systemSource
	if from.IsValid() {
		name = from.String()
	}
	s := service.Suspension{Subject: service.Subject{Kind: service.SubjectRule, Value: blockPrefix + name + " " + r.Receiver},
		Reason: r.Cause.Reply, Rule: r.Cause.Rule, Author: "the receiver's answers", Until: r.Until, Node: n.cfg.Node.Name}
	if r.Cause.Rule != "" {
		s.Author = "rule " + r.Cause.Rule
	}
	return s
}

// blockOf reads the name of a block.
func blockOf(s service.Subject) (from netip.Addr, receiver string, ok bool) {
	rest, ok := strings.CutPrefix(s.Value, blockPrefix)
	if !ok || s.Kind != service.SubjectRule {
		return from, "", false
	}
	name, receiver, ok := strings.Cut(rest, " ")
	if name == systemSource {
		return from, receiver, ok
	}
	from, err := netip.ParseAddr(name)
	return from, receiver, ok && err == nil
}

// phaseWords say how a suspension ends that ends with a probe.
var phaseWords = map[string]string{
	destination.PhaseProbing: "probing: one delivery at a time until one is taken",
	destination.PhaseOpening: "opening: one delivery more at a time with each that is taken",
}

// suspensionOf is whose mail a subject is, as destinations know it.
func suspensionOf(s service.Subject) (destination.Suspension, error) {
	d := destination.Suspension{Tenant: s.Tenant, Group: s.Group}
	switch s.Kind {
	case service.SubjectDomain:
		d.Domain = mail.Domain(s.Value)
	case service.SubjectReceiver:
		d.Receiver = s.Value
	case service.SubjectTenant:
		d.Tenant = s.Value
	case service.SubjectGroup:
		d.Group = s.Value
	case service.SubjectSource:
		var err error
		if d.Source, err = netip.ParseAddr(s.Value); err != nil {
			return d, fmt.Errorf("%w: %q is no IP address", service.ErrInvalid, s.Value)
		}
	default:
		return d, errors.New("node: a subject of no kind")
	}
	return d, nil
}

// subjectWords names a subject for people.
func subjectWords(s service.Subject) string {
	out := s.Kind + " " + s.Value
	if s.Tenant != "" {
		out += " of tenant " + s.Tenant
	}
	if s.Group != "" {
		out += " of group " + s.Group
	}
	return out
}

// subjectOf is suspensionOf the other way round.
func subjectOf(s destination.Suspension) service.Subject {
	narrow := service.Subject{Tenant: s.Tenant, Group: s.Group}
	of := func(kind, value string) service.Subject {
		narrow.Kind, narrow.Value = kind, value
		return narrow
	}
	switch {
	case s.Rule != "":
		return service.Subject{Kind: service.SubjectRule, Value: s.ID()}
	case s.Domain != "":
		return of(service.SubjectDomain, string(s.Domain))
	case s.Receiver != "":
		return of(service.SubjectReceiver, s.Receiver)
	case s.Source.IsValid():
		return of(service.SubjectSource, s.Source.String())
	case s.Group != "":
		return service.Subject{Kind: service.SubjectGroup, Value: s.Group, Tenant: s.Tenant}
	}
	return service.Subject{Kind: service.SubjectTenant, Value: s.Tenant}
}
