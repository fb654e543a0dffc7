package node

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/actors"
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
func (n probeService) Probe(ctx context.Context, from mail.Address, to []mail.Address) ([]service.Probed, error) {
	e, err := n.running()
	if err != nil {
		return nil, err
	}
	if len(to) > probesMost {
		return nil, service.ErrInvalid
	}
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	p := &probing{node: n.Node, engine: e, from: from, found: map[mail.Address]mail.Outcome{}}
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

// ask asks for as many addresses as one connection takes; false where it is no use to go on.
func (p *probing) ask(ctx context.Context, x *errand) bool {
	sources := p.engine.actors.Sources()
	source := netip.Addr{}
	if pool := p.node.book.sources(actors.DefaultPool); len(pool) > 0 {
		source = pool[0]
	}
	loan, err := sources.Borrow(ctx, source, &x.limits)
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
	r := p.engine.courier.Probe(ctx, delivery.Trip{Source: source, Route: x.route, Receiver: x.limits.Receiver,
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
