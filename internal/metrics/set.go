// Package metrics is the house front over the Prometheus client: the metric set of ekiden as typed fields, so that a
// room counts without knowing label names, and without being able to invent a metric.
//
// It has a registry of its own and must never use the client's global one; it must never look up a label on the path
// of every message (rooms keep the Counter or Gauge that With returns); it must never let a label take more values
// than its bound, however many names the world sends; and it knows no mail, only names and numbers.
// Nothing else in the house imports the Prometheus client.
//
// Read Set first: its fields are the contract with dashboards and alerts.
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of labels: so many values keep their names, all others are counted under Other.
const (
	MaxReceivers = 200
	MaxSources   = 1000
	// maxWords bounds labels whose values are words of the program (outcome, reason, state …).
	maxWords = 64
	// maxRules bounds the names of rules of replies.
	maxRules = 1000

	// Other is the label value of everything beyond a bound.
	Other = "other"
)

// Set is the metrics of one process. Make it with New. All is safe for concurrent use.
type Set struct {
	registry *prometheus.Registry

	// Accepted counts deliveries (not messages) for which a 250 or its HTTP equal was given.
	Accepted Counter
	// Outcomes counts what became of deliveries, by outcome and receiver.
	Outcomes *Counters2
	// InDoubt counts deliveries whose final dot was sent and whose reply was never seen.
	InDoubt Counter
	// DuplicatesBound is how many duplicates a crash at this moment could make, at most.
	DuplicatesBound Reading
	// QueueDeliveries is how many deliveries are queued, by state.
	QueueDeliveries Readings
	// Connections is how many outbound connections are open, by receiver and source.
	Connections *Gauges2
	// Blocks is 1 while a receiver blocks a source. Under Other it counts the blocked pairs beyond the bounds, so it is
	// kept by Inc and Dec.
	Blocks *Gauges2
	// SlotsGranted counts slots that sources granted.
	SlotsGranted Counter
	// SlotsRefused counts asks that sources refused, by reason.
	SlotsRefused *Counters1
	// StoreCommitSeconds is the time of one commit of the store, the sync included.
	StoreCommitSeconds Histogram
	// ShipSeconds is the time from a record's commit to its acknowledgement by the standbys.
	ShipSeconds Histogram
	// StoreBytes is what the queue's directory takes (used), what of it waits or is about what waits (live, estimated), and
	// what the file system has left (free), in octets.
	StoreBytes Readings
	// DamagedRecords are records and event blocks that did not open since the start: 0 on a sound disk.
	DamagedRecords Reading
	// SuppressionLookups counts look-ups of recipients in the suppression lists.
	SuppressionLookups Counter
	// RaftApplyLagSeconds is how far this node's ledger is behind what is agreed.
	RaftApplyLagSeconds Reading
	// TakeoversOpen is how many queues of other members this node is taking in now; Takeovers counts those it has taken.
	TakeoversOpen, Takeovers Reading
	// ExposedMessages is how many waiting messages only this node holds although standbys should.
	ExposedMessages Reading
	// Degraded is 1 while fewer standbys hold copies of the queue than asked for.
	Degraded Reading
	// LeaseSeconds is how long this node may still send without a renewal; -1 where nobody else grants it.
	LeaseSeconds Reading
	// Sealed is 1 while the root key is not in memory, else 0.
	Sealed Reading
	// ConservationGap is accepted - (delivered + failed + discarded + suppressed + queued): 0 at rest, always.
	ConservationGap Reading
	// ConservationLogGap is what the event log says must wait, less what the queue holds: 0 at rest, also over restarts.
	ConservationLogGap Reading
	// OverdueDeliveries are deliveries that wait although their lifetime ended a while ago: 0 always.
	OverdueDeliveries Reading
	// ActorRestarts counts restarts of actors after a panic, by kind of actor.
	ActorRestarts *Counters1
	// SMTPConnections counts inbound connections, by what became of them at the door (accepted, or why refused).
	SMTPConnections *Counters1
	// SMTPSessions is how many inbound sessions are open, by the role of their listener.
	SMTPSessions *Gauges1
	// SMTPRefusals counts commands and messages refused by SMTP sessions, by reason.
	SMTPRefusals *Counters1
	// DNSLookups counts questions to DNS servers, by result; answers from the cache are not counted.
	DNSLookups *Counters1
	// InboundReports counts mail to return addresses, by what it was: bounce, complaint, delayed, auto_reply, other, or
	// refused, forged, unattributed.
	InboundReports *Counters1
	// LateReports counts failures and complaints about mail that was taken, by the receiver that had taken it.
	LateReports *Counters1
	// RuleHits counts answers by the rule that knew them: a rule without hits may have rotted.
	RuleHits *Counters1
	// Compliance counts faults found in messages at submission, by rule and by what was done: warned, refused.
	Compliance *Counters2
	// AutoCleaning is how many tenants' bulk mail goes as cleaning mail because of unknown users, by receiver.
	AutoCleaning Readings
	// Alarms is how many alarms stand, by name, and AlarmsRaised counts those that began.
	Alarms       Readings
	AlarmsRaised *Counters1
	// WebhookPosts counts posts to webhooks and WebhookEvents the events in them, by result: posted, failed (to be tried
	// again), dropped.
	WebhookPosts, WebhookEvents *Counters1
	// WebhookLagSeconds is how old the oldest event is that a webhook's receiver has not taken; 0 where none waits.
	WebhookLagSeconds Reading
}

// commitBuckets span a sync on fast flash (0.1 ms) to a disk that hangs (10 s), in seconds.
func commitBuckets() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

// New returns a set whose series are all at zero; version is what ekiden_build_info shows.
func New(version string) *Set {
	reg := prometheus.NewRegistry()
	b := builder{reg: reg, receivers: newNames(MaxReceivers), sources: newNames(MaxSources)}
	s := &Set{
		registry: reg,

		Accepted:            b.counter("accepted_total", "Deliveries accepted: a 250 was given."),
		Outcomes:            b.counters2("outcomes_total", "Deliveries by what became of them.", "outcome", "receiver"),
		InDoubt:             b.counter("in_doubt_total", "Deliveries whose final dot was sent and never answered."),
		DuplicatesBound:     b.reading("duplicates_bound", "Duplicates that a crash now could make, at most."),
		QueueDeliveries:     b.readings("queue_deliveries", "Queued deliveries.", "state"),
		Connections:         b.gauges2("connections", "Open outbound connections.", "receiver", "source"),
		Blocks:              b.gauges2("blocks", "1 while the receiver blocks the source.", "receiver", "source"),
		SlotsGranted:        b.counter("slots_granted_total", "Sending slots granted."),
		SlotsRefused:        b.counters1("slots_refused_total", "Asks for slots refused.", "reason"),
		StoreCommitSeconds:  b.histogram("store_commit_seconds", "Time of a commit of the store, sync included."),
		ShipSeconds:         b.histogram("ship_seconds", "Time until standbys acknowledged a record."),
		StoreBytes:          b.readings("store_bytes", "Octets of the queue's directory and file system.", "kind"),
		DamagedRecords:      b.reading("damaged_records", "Records that did not open since the start; 0 on a sound disk."),
		SuppressionLookups:  b.counter("suppression_lookups_total", "Look-ups in the suppression lists."),
		RaftApplyLagSeconds: b.reading("raft_apply_lag_seconds", "How far the ledger is behind what is agreed."),
		TakeoversOpen:       b.reading("takeovers_open", "Queues of other members being taken over."),
		Takeovers:           b.reading("takeovers_total", "Queues of other members taken over since the start."),
		ExposedMessages:     b.reading("exposed_messages", "Waiting messages that no standby holds although one should."),
		Degraded:            b.reading("degraded", "1 while fewer standbys hold the queue than asked for."),
		LeaseSeconds:        b.reading("lease_seconds", "How long this node may send without a renewal; -1: for ever."),
		Sealed:              b.reading("sealed", "1 while the root key is not in memory."),
		ConservationGap: b.reading("conservation_gap",
			"Accepted minus delivered, failed, discarded, suppressed and queued; 0 at rest."),
		ConservationLogGap: b.reading("conservation_log_gap",
			"Deliveries that wait by the event log minus those in the queue; 0 at rest."),
		OverdueDeliveries: b.reading("overdue_deliveries",
			"Deliveries that wait although their lifetime ended a while ago; 0 always."),
		ActorRestarts:   b.counters1("actor_restarts_total", "Actors restarted after a panic.", "actor"),
		SMTPConnections: b.counters1("smtp_connections_total", "Inbound connections at the door.", "result"),
		SMTPSessions:    b.gauges1("smtp_sessions", "Open inbound sessions.", "role"),
		SMTPRefusals:    b.counters1("smtp_refusals_total", "Commands and messages refused.", "reason"),
		DNSLookups:      b.counters1("dns_lookups_total", "Questions to DNS servers.", "result"),
		InboundReports:  b.counters1("inbound_reports_total", "Mail to return addresses, by what it was.", "kind"),
		LateReports:     b.counters1("late_reports_total", "Reports about mail that had been taken, by receiver.", "receiver"),
		RuleHits:        b.counters1("rule_hits_total", "Answers of receivers, by the rule that knew them.", "rule"),
		Compliance:      b.counters2("compliance_total", "Faults found in messages at submission.", "fault", "action"),
		AutoCleaning:    b.readings("auto_cleaning", "Tenants whose bulk mail is slowed down because of unknown users.", "receiver"),
		Alarms:          b.readings("alarms", "Alarms that stand: something that somebody should look at.", "alarm"),
		AlarmsRaised:    b.counters1("alarms_total", "Alarms that began.", "alarm"),
		WebhookPosts:    b.counters1("webhook_posts_total", "Posts to webhooks by result.", "result"),
		WebhookEvents:   b.counters1("webhook_events_total", "Events in posts to webhooks by result.", "result"),
		WebhookLagSeconds: b.reading("webhook_lag_seconds",
			"Age of the oldest event that a webhook's receiver has not taken."),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: prefix + "build_info", Help: "1, labelled with the version.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return s
}

// Handler serves the set in the Prometheus text format. A reading that fails to be taken is left out, and the rest
// served.
func (s *Set) Handler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
		// A scrape takes milliseconds; more at once than this is an attack or a mistake.
		MaxRequestsInFlight: 4,
	})
}
