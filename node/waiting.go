package node

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/actors/destination"
	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/actors/source"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/filter"
	"github.com/ekiden-mta/ekiden/policy/shaping"
	"github.com/ekiden-mta/ekiden/storage/queue"
)

// queuedMost bounds how much of one domain's queue is looked through for whoever asks what a mail waits for.
const queuedMost = 20_000

// queued finds deliveries in the queue, by what the log last said of them. Those that lie too far behind are not found.
func (e *engine) queued(ctx context.Context, open map[mail.Seq]*mail.Event) map[mail.Seq]*mail.Delivery {
	found := map[mail.Seq]*mail.Delivery{}
	ask := map[mail.Destination]bool{}
	for _, ev := range open {
		ask[mail.Destination{Domain: ev.Domain, Tenant: ev.Tenant}] = true
		ask[mail.Destination{Domain: ev.Domain}] = true // of all tenants: as the store had it before
	}
	for dest := range ask {
		var at queue.Cursor
		for n, more := 0, true; more && n < queuedMost && ctx.Err() == nil; n += scanBatch {
			var ds []mail.Delivery
			var err error
			if ds, at, more, _, err = e.store.Scan(dest, at, time.UnixMilli(1<<47), scanBatch); err != nil {
				break // the store says so elsewhere
			}
			for i := range ds {
				if open[ds[i].Seq] != nil {
					found[ds[i].Seq] = &ds[i]
				}
			}
		}
	}
	return found
}

// waiting tells what binds a delivery whose newest event is ev, and until when (requirement N12). d is its record, nil
// where that is not known.
func (n *Node) waiting(e *engine, ev *mail.Event, d *mail.Delivery) service.Waiting {
	w := service.Waiting{Receiver: ev.Receiver, Binding: "in_delivery", Delivery: mail.Delivery{Seq: ev.Delivery,
		Message: ev.Message, Tenant: ev.Tenant, Group: ev.Group, From: ev.From, To: ev.To, Domain: ev.Domain,
		Attempts: ev.Attempt, Due: ev.Next}}
	fresh := ev.Kind == mail.EventAccepted || ev.Kind == mail.EventTakenOver
	if fresh {
		if w.Delivery.Due = ev.Due; w.Delivery.Due.IsZero() {
			w.Delivery.Due = ev.At
		}
	}
	if d != nil {
		w.Delivery = *d
	}
	due, now := w.Delivery.Due, n.clock.Now()
	var stands destination.Standing
	for _, s := range e.actors.Destinations().Snapshot(ev.Domain) {
		if s.Tenant == "" || s.Tenant == ev.Tenant {
			stands = s
		}
	}
	if l, known := n.book.now.Load().rules.ByDomain(ev.Domain); known && w.Receiver == "" {
		w.Receiver = l.Receiver
	}
	w.Receiver = cmp.Or(w.Receiver, stands.Receiver)
	if g, closed := n.gates.table.Find(ev.Tenant, ev.Group); closed {
		w.Binding, w.Detail = "gate", fmt.Sprintf("delivery group %s is stopped since %s by %s", g.Group, g.Since.Format(time.RFC3339), g.Author)
		return w
	}
	if w.Delivery.InDoubt && n.book.doubt(ev.Tenant, ev.Group) == mail.DoubtHold {
		w.Binding, w.Until, w.Detail = "in_doubt", w.Delivery.Expires, "it may have arrived: held until in_doubt says otherwise, or its lifetime ends"
		return w
	}
	suspended, until, quiet := e.actors.Destinations().Binds(&w.Delivery, w.Receiver)
	switch {
	case suspended != nil && (until.IsZero() || until.After(due)):
		w.Binding, w.Until, w.Detail = "suspension", until, suspensionWords(suspended)
	case quiet && !until.Before(due):
		w.Binding, w.Until, w.Detail = "quiet_hours", until, "the permitted sending hours of the domain"
		if w.Delivery.Quiet != "" {
			w.Detail = "no sending in " + strings.ReplaceAll(w.Delivery.Quiet, ",", ", ")
		}
	case due.After(now) && (ev.Kind == mail.EventDeferred || !fresh || ev.Attempt > 0):
		w.Binding, w.Until, w.Detail = "retry", due, ev.Detail
		if !ev.Reply.IsZero() {
			w.Detail = ev.Reply.String()
		}
	case due.After(now) && d != nil && !d.Reserved: // by hours that hold no more: it keeps its place in the queue
		w.Binding, w.Until, w.Detail = "quiet_hours", due, "put off when it was accepted, by sending hours that were in force then"
	case due.After(now):
		w.Binding, w.Until = "reservation", due
	case e.actors.Destinations().Carries(&w.Delivery):
	default:
		n.standing(e, &w, &stands)
	}
	return w
}

// suspensionWords say who suspended what, and why.
func suspensionWords(s *destination.Suspension) string {
	who := "by " + s.Author
	if s.Rule != "" {
		who = s.ID()
	}
	if s.Node != "" {
		who += " at " + s.Node
	}
	words := s.Reason
	if phase := phaseWords[s.Phase]; phase != "" {
		words = join(words, phase)
	}
	if words == "" {
		return who
	}
	return words + " (" + who + ")"
}

// bindings translates the destination's reasons into the words of the trace.
var bindings = map[string]string{"slots": "slot", "rate": "pace", "cap": "speed_cap", "daily_cap": "daily_cap",
	"hourly_cap": "hourly_cap", "top_of_hour": "top_of_hour", "connection_rate": "connection_rate", "interval": "interval", "elsewhere": "source", "blocked": "block",
	"suspended": "suspension", "connect": "retry", "dns": "retry", "storage": "disk", "lease": "lease", "quiet": "quiet_hours", "warmup": "warmup"}

// ofSources are the reasons that a source gives, for one kind of mail.
var ofSources = map[protocol.Reason]bool{protocol.ReasonSlots: true, protocol.ReasonRate: true, protocol.ReasonCap: true, protocol.ReasonDailyCap: true,
	protocol.ReasonHourlyCap: true, protocol.ReasonTopOfHour: true, protocol.ReasonConnects: true, protocol.ReasonInterval: true, protocol.ReasonBlocked: true,
	protocol.ReasonWarmup: true}

// standing tells what binds a delivery that is due: its destination where that asks nobody, else the source that may send
// first, and a speed cap of its own where that holds longer.
func (n *Node) standing(e *engine, w *service.Waiting, s *destination.Standing) {
	why, until := bindings[s.Reason.String()], s.Until
	lane := n.laneOf(&w.Delivery)
	var sources []source.Report
	for _, report := range e.actors.Sources().Snapshot() {
		report.Receivers = slices.DeleteFunc(report.Receivers, func(r source.Standing) bool { return r.Receiver != w.Receiver || !lane(r.Lane) })
		sources = append(sources, report)
	}
	// Mail of other kinds may be bound by something else: the destination tells of the kind that it looked at last, the sources of
	// each.
	switch first := firstOf(n.book.sources(w.Delivery.Pool), sources); {
	case first != nil && (why == "" || ofSources[s.Reason]):
		why, until = bindings[first.Binds.String()], first.BindsUntil
	case first == nil && ofSources[s.Reason] && (s.State == destination.StateAsking || s.State == destination.StateSending):
		why, until = "slot", time.Time{}
	}
	of, opens := e.actors.Destinations().Capped(&w.Delivery)
	if of != nil && (why == "" || why == "slot" || !until.After(opens)) {
		w.Binding, w.Until, w.Detail = "speed_cap", opens, capWords(of)
		return
	}
	if why == "" {
		return
	}
	w.Binding, w.Until, w.Detail = why, until, s.Detail
	open := w.Until.IsZero() && why == "slot"
	for _, report := range sources {
		from := "the system's address"
		if report.Source.IsValid() {
			from = report.Source.String()
		}
		for i := range report.Receivers {
			r := &report.Receivers[i]
			if open && !r.Frees.IsZero() && (w.Until.IsZero() || r.Frees.Before(w.Until)) {
				w.Until = r.Frees // at the latest
			}
			if words := sourceWords(why, r); words != "" {
				w.Detail = join(w.Detail, from+": "+words)
			}
		}
	}
	if why == "source" {
		for _, a := range n.book.sources(w.Delivery.Pool) {
			if words := e.claims.words(a); words != "" {
				w.Detail = join(w.Detail, words)
			}
		}
	}
	if why == "suspension" && w.Detail == "" { // of all its sources
		for _, one := range e.actors.Destinations().Suspended() {
			if one.Source.IsValid() || one.Network.IsValid() {
				w.Detail = join(w.Detail, suspensionWords(&one))
			}
		}
	}
}

// firstOf finds among the sources of a pool the one whose mail of a kind may go first, by what binds it there; nil where one may
// send now, or none has any or was asked for any. Each report has that kind of mail only.
func firstOf(pool []netip.Addr, sources []source.Report) (first *source.Standing) {
	for _, report := range sources {
		if !slices.Contains(pool, report.Source) {
			continue
		}
		for i := range report.Receivers {
			r := &report.Receivers[i]
			switch {
			case r.Connections == 0 && r.Waiting == 0 && r.Binds == protocol.ReasonNone:
				continue // what it would say nobody knows
			case r.Binds == protocol.ReasonNone:
				return nil
			case first == nil || !r.BindsUntil.IsZero() && (first.BindsUntil.IsZero() || r.BindsUntil.Before(first.BindsUntil)):
				first = r
			}
		}
	}
	return first
}

// capWords say what a speed cap allows, and whose it is.
func capWords(of *filter.Cap) string {
	whose := "all mail"
	if of.Name != "" {
		whose = of.Name
	}
	return fmt.Sprintf("of %s: %d messages in %s", whose, of.Messages, of.Per)
}

// laneOf tells which of a receiver's kinds of mail a delivery may be of. Where filters look at hosts it may be any filter's.
func (n *Node) laneOf(d *mail.Delivery) func(lane string) bool {
	traffic := n.book.now.Load().index.Traffic()
	var l shaping.Limits
	if s := traffic.Speed(d.Tenant, d.To, nil); s != nil {
		l = l.Filtered(s.Key(), 0, 0, false)
	}
	if d.Cleaning {
		l = l.Cleaning()
	}
	return func(lane string) bool {
		return lane == l.Kind.Name || traffic.ByHosts() && strings.HasPrefix(lane, "cleaning") == d.Cleaning
	}
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// sourceWords say what a source may do at a receiver, as far as that binds.
func sourceWords(why string, r *source.Standing) string {
	switch {
	case why == "warmup" && r.WarmMost > 0:
		return fmt.Sprintf("step %d of its warm-up allows %d messages for now", r.WarmStep, r.WarmMost)
	case why == "slot" && r.All >= r.AllMost && r.All > r.Connections:
		return fmt.Sprintf("%d of %d connections in use, %d of them for this kind of mail", r.All, r.AllMost, r.Connections)
	case why == "slot":
		return fmt.Sprintf("%d of %d connections in use", r.Connections, r.Most)
	case why == "interval" && r.Every > 0:
		return fmt.Sprintf("one message every %s on each of %d connections", r.Every, r.Connections)
	case why == "connection_rate":
		return "connections are begun no faster"
	case why == "top_of_hour":
		return "nothing is sent right after the full hour"
	case (why == "daily_cap" || why == "hourly_cap") && r.Lane != "":
		return "the part of this kind of mail is used up"
	case why == "pace" && r.Pace > 0:
		return fmt.Sprintf("%.3g messages a second", r.Pace)
	case why == "block" && r.Cause.Reply != "":
		words := "the receiver said " + r.Cause.Reply
		if r.Cause.Rule != "" {
			words += " (" + r.Cause.Rule + ")"
		}
		return words
	}
	return ""
}
