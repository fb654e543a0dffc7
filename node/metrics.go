package node

import (
	"math"
	"net/http"
	"sync"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/cluster/replica"
	"github.com/ekiden-mta/ekiden/internal/metrics"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// exportNumbers lets /metrics read what the rooms know.
func (n *Node) exportNumbers() {
	n.metrics.Sealed.From(func() float64 {
		if n.member.Load() == nil && !n.draining.Load() {
			return 1
		}
		return 0
	})
	n.metrics.ConservationGap.From(func() float64 {
		e := n.engine.Load()
		if e == nil {
			return 0
		}
		return n.numbers.gap(e.store.Waiting())
	})
	n.metrics.ConservationLogGap.From(func() float64 {
		if e := n.engine.Load(); e != nil {
			return float64(e.logGap())
		}
		return 0
	})
	n.metrics.OverdueDeliveries.From(func() float64 {
		if e := n.engine.Load(); e != nil {
			return float64(e.overdue.count())
		}
		return 0
	})
	n.metrics.Alarms.From(n.alarms.report)
	n.metrics.QueueDeliveries.From(n.queueDeliveries)
	n.metrics.AutoCleaning.From(func(tell func(string, float64)) {
		if e := n.engine.Load(); e != nil {
			e.lists.report(tell)
		}
	})
	n.metrics.DuplicatesBound.From(func() float64 {
		bound := 0
		if e := n.engine.Load(); e != nil {
			for _, s := range e.actors.Destinations().Snapshot("") {
				bound += s.Flight
			}
			if e.shipping != nil { // a takeover may repeat what the standbys have not heard of
				bound += replica.DefaultCredit
			}
		}
		return float64(bound)
	})
	n.metrics.WebhookLagSeconds.From(func() float64 {
		if e := n.engine.Load(); e != nil {
			return e.hooks.Lag().Seconds()
		}
		return 0
	})
	n.exportStore()
	n.exportCluster()
}

// exportStore lets /metrics read how the disk stands.
func (n *Node) exportStore() {
	n.metrics.StoreBytes.From(func(tell func(string, float64)) {
		if e := n.engine.Load(); e != nil {
			u := e.store.Usage()
			tell("used", float64(u.Disk))
			tell("live", float64(u.Live))
			tell("free", float64(u.Free))
		}
	})
	n.metrics.DamagedRecords.From(func() float64 {
		if e := n.engine.Load(); e != nil {
			return float64(e.store.Damaged())
		}
		return 0
	})
}

// exportCluster lets /metrics read what only a member of a cluster has to tell.
func (n *Node) exportCluster() {
	n.metrics.TakeoversOpen.From(func() float64 { return float64(n.takeovers.count()) })
	n.metrics.Takeovers.From(func() float64 { return float64(n.takeovers.done.Load()) })
	n.metrics.ExposedMessages.From(func() float64 {
		if e := n.engine.Load(); e != nil {
			return float64(e.store.ExposedCount())
		}
		return 0
	})
	n.metrics.Degraded.From(func() float64 {
		if e := n.engine.Load(); e != nil && e.degraded.Load() {
			return 1
		}
		return 0
	})
	n.metrics.LeaseSeconds.From(func() float64 {
		e := n.engine.Load()
		if n.wire == nil || e == nil {
			return -1
		}
		if l := e.lease.Load(); l != nil {
			if left := l.Left(); left < math.MaxInt64 {
				return left.Seconds()
			}
			return -1 // two nodes without a witness
		}
		return 0
	})
	n.metrics.RaftApplyLagSeconds.From(func() float64 {
		if m := n.member.Load(); m != nil {
			contact, lag := m.agreed.Staleness()
			return (contact + lag).Seconds()
		}
		return 0
	})
}

// scrape serves /metrics.
func (n *Node) scrape() http.Handler {
	m := &mirror{node: n, connections: map[pair]int{}, blocked: map[pair]bool{}}
	page := n.metrics.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.refresh()
		page.ServeHTTP(w, r)
	})
}

// queueDeliveries tells how many deliveries are queued, by state.
func (n *Node) queueDeliveries(report func(string, float64)) {
	var waiting, retrying, flight int
	if e := n.engine.Load(); e != nil {
		var again int
		flight, again = e.actors.Destinations().Flight(nil)
		retrying = max(0, int(e.store.Counters().Retrying())-again)
		// The store knows the sum; what is brought home waits as well.
		waiting = max(0, e.store.Waiting()-flight-retrying) + e.store.Parked().Deliveries
	} else {
		waiting = int(n.parting.Load())
	}
	report("waiting", float64(waiting))
	report("retry", float64(retrying))
	report("in_delivery", float64(flight))
}

type pair struct{ receiver, source string }

// mirror brings the metrics that are kept by increments up to what the rooms count, whenever somebody looks.
type mirror struct {
	node *Node

	mu          sync.Mutex
	connections map[pair]int
	blocked     map[pair]bool
	granted     int64
	restarts    [2]int64
	refused     [protocol.Reasons]int64
	smtp        [3]int64
}

func (m *mirror) refresh() {
	m.mu.Lock()
	defer m.mu.Unlock()
	set := m.node.metrics
	s := m.node.smtp.Stats()
	catchUp(&m.smtp[0], s.Connections.Load(), set.SMTPConnections.With("accepted"))
	catchUp(&m.smtp[1], s.TurnedAway.Load(), set.SMTPConnections.With("refused"))
	catchUp(&m.smtp[2], s.AuthFailures.Load(), set.SMTPRefusals.With("auth"))
	e := m.node.engine.Load()
	if e == nil {
		return
	}
	c := e.actors.Counters()
	catchUp(&m.granted, c.Source.Granted.Load(), set.SlotsGranted)
	catchUp(&m.restarts[0], c.Destination.Restarts.Load(), set.ActorRestarts.With("destination"))
	catchUp(&m.restarts[1], c.Source.Restarts.Load(), set.ActorRestarts.With("source"))
	for r := range m.refused {
		if name := protocol.Reason(r).String(); name != "" {
			catchUp(&m.refused[r], c.Source.Refused[r].Load(), set.SlotsRefused.With(name))
		}
	}
	m.standings(e.actors.Sources().Snapshot())
}

// catchUp adds to a counter what was counted elsewhere since the last time.
func catchUp(last *int64, now int64, c metrics.Counter) {
	if now > *last {
		c.Add(int(now - *last))
		*last = now
	}
}

func (m *mirror) standings(reports []source.Report) {
	seen := map[pair]bool{}
	for _, r := range reports {
		ip := "system"
		if r.Source.IsValid() {
			ip = r.Source.String()
		}
		for _, s := range r.Receivers {
			whole := pair{s.Receiver, ip}
			m.block(whole, s.State == shaping.Blocked) // of all kinds of mail
			seen[whole] = true
			if s.Lane != "" {
				s.Receiver += " " + s.Lane
			}
			p := pair{s.Receiver, ip}
			seen[p] = true
			m.set(p, s.Connections)
		}
	}
	for p := range m.connections {
		if !seen[p] {
			m.set(p, 0)
			delete(m.connections, p)
		}
	}
	for p := range m.blocked {
		if !seen[p] {
			m.block(p, false)
			delete(m.blocked, p)
		}
	}
}

func (m *mirror) set(p pair, connections int) {
	m.node.metrics.Connections.With(p.receiver, p.source).Add(connections - m.connections[p])
	m.connections[p] = connections
}

func (m *mirror) block(p pair, blocked bool) {
	g := m.node.metrics.Blocks.With(p.receiver, p.source)
	switch {
	case blocked && !m.blocked[p]:
		g.Inc()
	case !blocked && m.blocked[p]:
		g.Dec()
	}
	m.blocked[p] = blocked
}
