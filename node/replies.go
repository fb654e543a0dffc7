package node

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// hits counts how often each rule about answers knew one since the node started. Rules that are no more are forgotten.
type hits struct{ of sync.Map } // rule -> *atomic.Uint64

// add counts one of a rule.
func (h *hits) add(rule string) {
	n, known := h.of.Load(rule)
	if !known {
		n, _ = h.of.LoadOrStore(rule, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

func (h *hits) count(rule string) uint64 {
	if n, known := h.of.Load(rule); known {
		return n.(*atomic.Uint64).Load()
	}
	return 0
}

// keep forgets all rules but those.
func (h *hits) keep(rules *bounce.Rules) {
	there := map[any]bool{}
	for _, e := range rules.Entries() {
		there[e.Rule] = true
	}
	h.of.Range(func(rule, _ any) bool {
		if !there[rule] {
			h.of.Delete(rule)
		}
		return true
	})
}

// classify is what the rules in force say of an answer; it counts which rule did.
func (n *Node) classify(receiver string, o mail.Outcome, to mail.Address) mail.Outcome {
	o = n.book.now.Load().replies.Classify(receiver, o, to)
	if o.Advice != nil {
		n.metrics.RuleHits.With(o.Advice.Rule).Inc()
		n.hits.add(o.Advice.Rule)
		if o.Advice.Alert {
			n.alerts.answered(n, receiver, &o)
		}
	}
	return o
}

type replyService struct{ *Node }

// ReplyRules implements service.Replies.
func (n replyService) ReplyRules(context.Context) ([]service.ReplyRule, error) {
	entries := n.book.now.Load().replies.Entries()
	out := make([]service.ReplyRule, len(entries))
	for i, e := range entries {
		out[i] = service.ReplyRule{Rule: e.Rule, Receivers: e.Receivers, Own: e.Own, Status: e.Status, Scope: e.Scope,
			Action: e.Advice.Action, For: e.Advice.For, Then: e.Advice.Beyond(),
			Source: e.Row.Source, Date: e.Row.Date, Hits: n.hits.count(e.Rule)}
	}
	return out, nil
}

// ReceiverRows implements service.Replies: a row is hit by each outcome of a delivery whose receiver it is.
func (n replyService) ReceiverRows(context.Context) ([]service.ReceiverRow, error) {
	rules := n.book.now.Load().rules
	hits := map[string]uint64{}
	n.numbers.each(func(receiver string, outcomes int64) {
		if row, ok := rules.RowOf(receiver); ok {
			hits[row] += uint64(outcomes)
		}
	})
	var out []service.ReceiverRow
	for _, r := range rules.Rows() {
		out = append(out, service.ReceiverRow{Name: r.Name, Matches: r.Matches, Own: r.Own, Limits: r.Limits, Source: r.Source, Date: r.Date,
			Hits: hits[r.Name]})
	}
	return out, nil
}
