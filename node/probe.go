package node

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/actors"
	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/delivery"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Bounds of probing.
const (
	probesMost    = 1000             // addresses of one call
	probeParallel = 8                // receivers asked at once
	probePatience = 50 * time.Second // of one call; who is not asked by then is undetermined
)

type probeService struct{ *Node }

// Probe implements service.Probes. Addresses with the same hosts share a connection; it takes a slot like any other.
func (n probeService) Probe(ctx context.Context, from mail.Address, by netip.Addr, to []mail.Address) ([]service.Probed, error) {
	e, err := n.running()
	if err != nil {
		return nil, err
	}
	if len(to) > probesMost {
		return nil, service.ErrInvalid
	}
	if by.IsValid() {
		if err := n.mustBeSource(by); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	p := &probing{node: n.Node, engine: e, from: from, source: by, found: map[mail.Address]mail.Outcome{}}
	p.run(ctx, to)
	out := make([]service.Probed, len(to))
	for i, a := range to {
		o, asked := p.found[a]
		out[i] = service.Probed{Address: a, Result: probeResult(&o, asked), Reply: o.Reply, Detail: o.Detail}
		if !asked {
			out[i].Detail = "not asked in time"
		}
	}
	return out, nil
}

// probeResult is what an answer to RCPT says of an address (requirement R50).
func probeResult(o *mail.Outcome, asked bool) string {
	switch {
	case !asked, o.Result == mail.Deferred, o.Reply.Code == 252:
		return service.ProbeUndetermined
	case o.Result == mail.Delivered:
		return service.ProbeExists
	case o.Status == mail.StatusUserUnknown, o.Status == mail.StatusHostUnknown, o.Status == mail.StatusFormat:
		return service.ProbeUnknown
	}
	return service.ProbeReject
}

// probing is one call.
type probing struct {
	node   *Node
	engine *engine
	from   mail.Address
	source netip.Addr // to ask by; invalid = whichever may

	mu    sync.Mutex
	found map[mail.Address]mail.Outcome
}

// errand is the addresses behind one set of hosts.
type errand struct {
	route  mail.Route
	limits shaping.Limits
	to     []mail.Address
}

func (p *probing) report(a mail.Address, o mail.Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found[a] = o
}

func (p *probing) run(ctx context.Context, to []mail.Address) {
	byDomain := map[mail.Domain][]mail.Address{}
	for _, a := range to {
		byDomain[a.Domain()] = append(byDomain[a.Domain()], a)
	}
	errands := map[string]*errand{}
	rules := p.node.book.now.Load().rules
	for d, addresses := range byDomain {
		route, o := p.engine.resolver.Route(ctx, d)
		if o.Result == 0 {
			limits := rules.ByRoute(d, route)
			if s, held := p.engine.actors.Destinations().Forbids(d, limits.Receiver, netip.Addr{}, p.from); held {
				o = mail.Outcome{Result: mail.Deferred, Detail: "suspended: " + suspensionWords(&s)}
			}
		}
		if o.Result != 0 {
			for _, a := range addresses {
				p.report(a, o)
			}
			continue
		}
		x := errands[route.Key()]
		if x == nil {
			x = &errand{route: route, limits: rules.ByRoute(d, route)}
			errands[route.Key()] = x
		}
		x.to = append(x.to, addresses...)
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, probeParallel)
	for _, x := range errands {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for len(x.to) > 0 && ctx.Err() == nil {
				if !p.ask(ctx, x) {
					return
				}
			}
		})
	}
	all.Wait()
}

// choose picks a source that may ask the receiver of x: that of the call, or the one of the default pool with the most
// connections to spare that is neither suspended nor blocked there. Where none may it says why.
func (p *probing) choose(x *errand) (best netip.Addr, why string) {
	candidates := []netip.Addr{p.source}
	if !p.source.IsValid() {
		if pool := p.node.book.sources(actors.DefaultPool); len(pool) > 0 {
			candidates = pool
		}
	}
	stands := map[netip.Addr]source.Standing{}
	for _, report := range p.engine.actors.Sources().Snapshot() {
		for _, r := range report.Receivers {
			if r.Receiver == x.limits.Receiver && r.Lane == x.limits.Lane() {
				stands[report.Source] = r
			}
		}
	}
	spare := -1
	for _, a := range candidates {
		if words := p.engine.claims.words(a); words != "" {
			why = words
			continue
		}
		if s, held := p.engine.actors.Destinations().Forbids(x.to[0].Domain(), x.limits.Receiver, a, p.from); held {
			why = "suspended: " + suspensionWords(&s)
			continue
		}
		s, known := stands[a]
		if s.State == shaping.Blocked || s.State == shaping.Probing { // the probe is mail's, that waits for it
			why = "blocked at this receiver until " + s.Until.Format(time.RFC3339)
			continue
		}
		free := max(s.Most-s.Connections, 0)
		if !known {
			free = x.limits.Connections
		}
		if free > spare {
			best, spare = a, free
		}
	}
	if spare >= 0 {
		why = ""
	}
	return best, why
}

// ask asks for as many addresses as one connection takes; false where it is no use to go on.
func (p *probing) ask(ctx context.Context, x *errand) bool {
	from, why := p.choose(x)
	if why != "" {
		for _, a := range x.to {
			p.report(a, mail.Outcome{Result: mail.Deferred, Detail: why})
		}
		return false
	}
	loan, err := p.engine.actors.Sources().Borrow(ctx, from, &x.limits)
	if err != nil {
		return false
	}
	defer loan.Return()
	first := true
	next := func() (mail.Address, bool) {
		if len(x.to) == 0 || !loan.Next(ctx) {
			return "", false
		}
		first = false
		a := x.to[0]
		x.to = x.to[1:]
		return a, true
	}
	r := p.engine.courier.Probe(ctx, delivery.Trip{Source: from, Route: x.route, Receiver: x.limits.Receiver,
		PerConnection: x.limits.PerConnection, Interval: x.limits.Interval, TLS: x.limits.TLS}, p.from, next,
		func(a mail.Address, o mail.Outcome) {
			loan.Observe(o, true)
			p.report(a, o)
		})
	if r.Outcome.Result != 0 && !r.Connected {
		loan.Observe(r.Outcome, false)
		for _, a := range x.to {
			p.report(a, r.Outcome)
		}
		return false
	}
	return !first
}
