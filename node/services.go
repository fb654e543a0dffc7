package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/admin"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/events"
	"github.com/ekiden-mta/ekiden/storage/queue"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// Words of Ready.State.
const (
	StateSealed   = service.StateSealed
	StateUnsealed = service.StateUnsealed
)

func (n *Node) services() admin.Services {
	return admin.Services{Node: nodeService{n}, Numbers: numberService{n}, Statistics: statisticsService{n}, Log: logService{n}, Groups: groupService{n},
		Gates: gateService{n}, Settings: settingsService{n}, Suppressions: suppressionService{n}, DeliveryStops: suppressionService{n}, Members: memberService{n},
		Keys: keyService{n}, Audit: auditService{n}, Jobs: jobService{n}, Reservations: reservationService{n}, Probes: probeService{n},
		Replies: replyService{n}, Users: userService{n}, Tenants: tenantService{n}, Tokens: tokenService{n}, Links: linkService{n}}
}

// running returns the engine, or why there is none.
func (n *Node) running() (*engine, error) {
	if e := n.engine.Load(); e != nil {
		return e, nil
	}
	return nil, n.unready()
}

// unready is why a node cannot answer: it is sealed, or lacks its ledger or its queue.
func (n *Node) unready() error {
	switch why := n.reasons(); {
	case len(why) == 0: // it has come to be ready meanwhile
		return service.ErrUnready
	case why[0].Code == "sealed":
		return service.ErrSealed
	default:
		return fmt.Errorf("%w: %s", service.ErrUnready, why[0].Detail)
	}
}

type nodeService struct{ *Node }

// Status implements service.Node.
func (n nodeService) Status() service.Status { return n.status() }

func (n *Node) status() service.Status {
	s := service.Status{Name: n.cfg.Node.Name, Version: n.version, Started: n.started, Data: n.cfg.Node.Data, Helo: n.cfg.Helo(),
		State: StateUnsealed, Unread: n.unread(), Reasons: n.reasons(), HTTP: n.http.Addr(), SMTP: addresses(n.smtp.Addrs())}
	if told := n.restored.Load(); told != nil {
		s.Notices = append(s.Notices, service.Reason{Code: "restored", Detail: *told})
	}
	s.Notices = append(s.Notices, n.alarms.notices()...)
	for _, r := range s.Reasons {
		switch r.Code {
		case "sealed":
			s.State = StateSealed
		case "store":
			s.State = service.StateFailed
		case "draining":
			s.State = service.StateDraining
		}
	}
	return s
}

// unread tells whether the settings in force are not yet those that the members agreed on: the file's may be of long ago.
func (n *Node) unread() bool { return n.member.Load() == nil || n.book.now.Load().number == 0 }

// reasons tells why the node takes no mail, the gravest first.
func (n *Node) reasons() []service.Reason {
	var out []service.Reason
	e := n.engine.Load()
	if e != nil {
		if err := e.store.Err(); err != nil {
			out = append(out, service.Reason{Code: "store", Detail: err.Error()})
		} else if e.holds() && e.actors.Halted() {
			out = append(out, service.Reason{Code: "store", Detail: "an outcome may not be kept: nothing is sent any more; restart the node"})
		}
	}
	if n.draining.Load() {
		out = append(out, service.Reason{Code: "draining", Detail: "the node is going down or was told to drain"})
	}
	if err := n.broken.Load(); err != nil {
		out = append(out, service.Reason{Code: "store", Detail: (*err).Error()})
	}
	if told := n.removed.Load(); told != nil && (e == nil || !e.holds()) {
		out = append(out, service.Reason{Code: "removed", Detail: *told})
	}
	if e == nil && len(out) == 0 {
		return append(out, n.missing())
	}
	if e != nil && e.outdated.Load() != nil {
		out = append(out, service.Reason{Code: "restored", Detail: *e.outdated.Load()})
	}
	if e != nil && !e.holds() {
		out = append(out, service.Reason{Code: "lease", Detail: "the other nodes do not agree that this one may send"})
	}
	if e != nil && e.degraded.Load() && n.cfg.Cluster.Shortfall == shortfallStrict {
		out = append(out, service.Reason{Code: "degraded", Detail: "too few standbys hold copies of the queue"})
	}
	if e != nil && e.store.Full() {
		out = append(out, service.Reason{Code: "disk", Detail: "free space is below the threshold"})
	}
	return out
}

// missing tells why there is no engine.
func (n *Node) missing() service.Reason {
	switch {
	case n.isWitness() && n.member.Load() != nil:
		return service.Reason{Code: "lease", Detail: "a witness votes and takes no mail"}
	case n.member.Load() != nil:
		return service.Reason{Code: "lease", Detail: "the queue is being opened"}
	case n.vault.State() == seal.Unsealed:
		return service.Reason{Code: "lease", Detail: "what the members agreed on is being opened"}
	case n.vault.State() == seal.New && n.inCluster():
		return service.Reason{Code: "sealed", Detail: "waiting for the first members of the cluster"}
	case n.vault.State() == seal.New:
		return service.Reason{Code: "sealed", Detail: "the keys are being made"}
	}
	return service.Reason{Code: "sealed", Detail: "waiting for unseal"}
}

// Unseal implements service.Node.
func (n nodeService) Unseal(ctx context.Context, code string) error {
	if n.member.Load() != nil {
		return service.ErrNotSealed
	}
	err := n.vault.Unseal(ctx, n.clock.Now(), code)
	switch {
	case errors.Is(err, seal.ErrWrongCode), errors.Is(err, seal.ErrTypo):
		return fmt.Errorf("%w: %w", service.ErrWrongCode, err)
	case errors.Is(err, seal.ErrTooSoon):
		return fmt.Errorf("%w: %w", service.ErrTooSoon, err)
	case err != nil:
		return fmt.Errorf("node: unseal: %w", err)
	}
	if err := n.open(ctx); err != nil {
		return err
	}
	n.mindDoor()
	n.log.Info("unsealed", "by", "recovery code")
	return nil
}

// Drain implements service.Node.
func (n nodeService) Drain(context.Context) error {
	n.draining.Store(true)
	n.mindDoor()
	return nil
}

// classicQueues are the rows of requirement R63 in its order; those of cleaning mail follow in the same.
var classicQueues = [...]string{"docomo", "ezweb", "softbank", "disney", "vodafone", "pc"}

// queueRows is the view of R63: the twelve rows, and two for each extra group that a receiver's rule counts by itself (D1).
type queueRows struct {
	rows []service.Queue
	at   map[string][2]*service.Queue // by the queue's name: its normal row and the one of cleaning mail
}

func newQueueRows(extra []string) queueRows {
	q := queueRows{rows: make([]service.Queue, 0, 2*(len(classicQueues)+len(extra))), at: map[string][2]*service.Queue{}}
	add := func(names ...string) {
		n := len(q.rows)
		for _, suffix := range [...]string{"", "_cleaning"} {
			for _, name := range names {
				q.rows = append(q.rows, service.Queue{Name: name + suffix})
			}
		}
		for i, name := range names {
			q.at[name] = [2]*service.Queue{&q.rows[n+i], &q.rows[n+len(names)+i]}
		}
	}
	add(classicQueues[:]...)
	for _, name := range extra {
		add(name)
	}
	return q
}

// Queues implements service.Numbers.
func (n numberService) Queues(_ context.Context, tenant string) ([]service.Queue, error) {
	e, err := n.running()
	if err != nil {
		return nil, err
	}
	q := newQueueRows(n.book.extraQueues())
	for _, s := range e.actors.Destinations().Snapshot("") {
		if row, ok := q.at[n.book.queueOf(s.Domain)]; ok && (tenant == "" || s.Tenant == tenant) {
			all := s.Waiting + s.Flight
			slow := min(s.Cleaning+s.Slowed, all)
			row[0].Waiting += int64(all - slow)
			row[0].Urgent += int64(s.Urgent)
			row[1].Waiting += int64(slow)
			row[1].Slowed += int64(min(s.Slowed, slow))
		}
	}
	if tenant != "" { // what was given up and waits for its owner is told by tenant among the groups only
		return q.rows, nil
	}
	for d, parked := range e.store.Parked().Domains {
		if row, ok := q.at[n.book.queueOf(d)]; ok {
			row[0].Waiting += int64(parked)
		}
	}
	q.warming(e.actors.Sources().Snapshot())
	return q.rows, nil
}

// warming counts in the rows the sources that a plan limits at a row's receiver, each once.
func (q queueRows) warming(sources []source.Report) {
	for _, s := range sources {
		at := map[*service.Queue]bool{}
		for _, r := range s.Receivers {
			if row, ok := q.at[r.Queue]; ok && r.WarmMost > 0 {
				at[row[0]] = true
			}
		}
		for row := range at {
			row.Warming++
		}
	}
}

// Receivers implements service.Numbers.
func (n numberService) Receivers(context.Context) ([]service.Receiver, error) {
	e, err := n.running()
	if err != nil {
		return nil, err
	}
	var out []service.Receiver
	for _, report := range e.actors.Sources().Snapshot() {
		for _, s := range report.Receivers {
			r := service.Receiver{Receiver: s.Receiver, Source: report.Source, State: s.State.String(), Waiting: int64(s.Waiting),
				Connections: s.Connections, Until: s.Until, Limit: s.Most, Detail: s.Cause.Reply, Lane: s.Lane, WarmStep: s.WarmStep, WarmMost: s.WarmMost}
			r.Delivered, r.Deferred, r.Failed = n.numbers.of(s.Receiver)
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b service.Receiver) int {
		return cmp.Or(cmp.Compare(a.Receiver, b.Receiver), a.Source.Compare(b.Source))
	})
	return out, nil
}

type logService struct{ *Node }

// Search implements service.Log.
func (n logService) Search(ctx context.Context, q service.EventQuery, yield func(mail.Event, string) bool) error {
	e, err := n.running()
	if err != nil {
		return err
	}
	after, err := events.ParseCursor(strings.TrimPrefix(q.After, n.cfg.Node.Name+"@")) // with the name, as webhooks tell it
	if err != nil {
		return fmt.Errorf("%w: cursor: %w", service.ErrInvalid, err)
	}
	query := events.Query{Message: q.Message, To: string(q.To), From: string(q.From), Group: q.Group, Tenant: q.Tenant,
		Domain: q.Domain, Since: q.Since, Until: q.Until, After: after, Kinds: q.Kinds, Status: q.Status,
		APIData: q.APIData, Source: q.Source, User: q.User}
	if q.Reached != nil {
		query.Reached = func(c events.Cursor) bool { return q.Reached(c.String()) }
	}
	return e.store.Events().Search(ctx, query, func(ev mail.Event, c events.Cursor) bool {
		if !q.Mail {
			ev.Mail = ""
		}
		return yield(ev, c.String())
	})
}

// Trace implements service.Log.
func (n logService) Trace(ctx context.Context, q service.TraceQuery) (service.Trace, error) {
	e, err := n.running()
	if err != nil {
		return service.Trace{}, err
	}
	var t service.Trace
	open := map[mail.Seq]*mail.Event{}
	err = e.store.Events().Search(ctx, events.Query{Message: q.Message, To: string(q.Address)}, func(ev mail.Event, _ events.Cursor) bool {
		ev.Mail = ""
		t.Events = append(t.Events, ev)
		switch {
		case ev.Kind.IsLate():
		case ev.Kind.IsFinal(), ev.Kind == mail.EventHandedOver:
			delete(open, ev.Delivery)
		default:
			open[ev.Delivery] = &t.Events[len(t.Events)-1]
		}
		return true
	})
	if err != nil {
		return service.Trace{}, fmt.Errorf("node: trace: %w", err)
	}
	if len(t.Events) == 0 {
		return service.Trace{}, nothingOf(q)
	}
	queued := e.queued(ctx, open)
	for _, ev := range t.Events { // in the order of acceptance
		if last, ok := open[ev.Delivery]; ok && (ev.Kind == mail.EventAccepted || ev.Kind == mail.EventTakenOver) {
			t.Waiting = append(t.Waiting, n.waiting(e, last, queued[ev.Delivery]))
		}
	}
	if q.Limit > 0 && len(t.Events) > q.Limit {
		t.Events = t.Events[len(t.Events)-q.Limit:]
	}
	return t, nil
}

// nothingOf says that nothing is known of what was asked for.
func nothingOf(q service.TraceQuery) error {
	if q.Message.IsZero() {
		return fmt.Errorf("%w: nothing is known about %s", service.ErrNotFound, q.Address)
	}
	return fmt.Errorf("%w: nothing is known about message %s", service.ErrNotFound, q.Message)
}

type jobService struct{ *Node }

// RunJob implements service.Jobs.
func (n jobService) RunJob(ctx context.Context, name string) error {
	e, err := n.running()
	if err != nil {
		return err
	}
	switch name {
	case "retention":
		return n.purge(e)
	case "blocklist":
		if err := n.stopDeliveries(ctx, func(stopID, *stopRule) bool { return true }); err != nil {
			return err
		}
		return n.releaseOver(ctx)
	case "nightly":
		err := e.workUp(ctx, n.clock.Now())
		if err == nil {
			n.report(e, n.clock.Now())
		}
		return err
	case "unsubscribe":
		return n.reflectLeaving(ctx)
	}
	return fmt.Errorf("%w: job %q; allowed: nightly, blocklist, unsubscribe, retention", service.ErrNotFound, name)
}

// purge deletes from the event log what its tenant's retention keeps no longer, by whole days.
func (n *Node) purge(e *engine) error {
	days, now := 1, n.clock.Now()
	keep := queue.Retention{Tenants: map[string]time.Time{}}
	// Day N is kept and day N+1 deleted (E-11): Purge keeps the day of the moment it is given.
	for _, t := range n.book.now.Load().index.Settings.Tenants {
		days = max(days, t.RetentionDays)
		keep.Tenants[t.Name] = now.AddDate(0, 0, -t.RetentionDays)
	}
	keep.Before = now.AddDate(0, 0, -days)
	ctx, cancel := context.WithTimeout(n.life, time.Minute)
	defer cancel()
	start := clock.Wall()
	if err := e.store.Purge(ctx, keep); err != nil {
		n.log.Warn("retention did not finish", "error", err)
		return fmt.Errorf("node: retention: %w", err)
	}
	n.log.Debug("retention done", "days", days, "took", clock.Since(start))
	return nil
}
