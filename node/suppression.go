package node

import (
	"slices"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/suppression"
)

// suppressed tells why an address gets no mail of a tenant, or of one of its lists ("" = of none), in the order of requirement E-42. It is asked for every
// recipient at intake and again before its final dot, from this node's own copy of the lists, so what it says may be as
// old as the copy (metric raft_apply_lag_seconds). While nobody is suppressed it costs one load.
func (n *Node) suppressed(tenant, list string, to mail.Address) (mail.Suppression, bool) {
	m := n.member.Load()
	if m == nil || n.cfg.Testing.Bare || m.book.SuppressionCount() == 0 {
		return mail.Suppression{}, false
	}
	n.metrics.SuppressionLookups.Inc()
	now := n.book.now.Load()
	rules := now.suppression[tenant]
	scopes := rules.scopes
	if scopes == nil {
		scopes = scopesOf(tenant, false, false)
	}
	if list != "" { // E-42: only for mail of that list, and before the block list
		at := slices.IndexFunc(scopes, func(s ledger.Scope) bool { return s.List == ledger.Unsubscribe })
		scopes = slices.Insert(slices.Clone(scopes), at, ledger.Scope{List: ledger.Unsubscribe, Tenant: tenant, Filter: list})
	}
	s, hit, err := m.book.Suppressed(to.Fold(), n.clock.Now(), scopes...)
	if err != nil { // the book's disk is in trouble: it says so itself, and the node stops
		n.log.Error("suppression lists cannot be read", "error", err)
		return mail.Suppression{}, false
	}
	if !hit {
		return mail.Suppression{}, false
	}
	switch s.List {
	case ledger.Blackbox:
		return suppression.Verdict(suppression.BlackBox), true
	case ledger.Unsubscribe:
		return suppression.Verdict(suppression.Unsubscribe), true
	case ledger.Errors: // the last list asked, so no other is hidden by it
		if !suppression.ParseErrors(s.Reason).Excluded(rules.threshold) {
			return mail.Suppression{}, false
		}
		return suppression.Verdict(suppression.ErrorCount), true
	}
	return suppression.Verdict(suppression.BlockList), true
}

// suppressionRules is what the settings say about a tenant's lists.
type suppressionRules struct {
	scopes    []ledger.Scope // to ask, in order
	threshold int            // of errors counted; 0 = they exclude nobody
	counts    bool           // errors are counted at all
	frees     bool           // what a delivery stop took for a reason that is disabled is released
	stops     []stopRule     // of the tenant's compositions
}

// scopesOf lists where an address may stand that a tenant's mail goes to, in the order of suppression.Order.
func scopesOf(tenant string, blackBox, errorCount bool) (scopes []ledger.Scope) {
	for _, l := range suppression.Order(blackBox, errorCount) {
		switch l {
		case suppression.BlackBox:
			scopes = append(scopes, ledger.Scope{List: ledger.Blackbox})
		case suppression.Unsubscribe:
			scopes = append(scopes, ledger.Scope{List: ledger.Unsubscribe, Tenant: tenant}, ledger.Scope{List: ledger.Unsubscribe})
		case suppression.BlockList:
			scopes = append(scopes, ledger.Scope{List: ledger.Blocklist, Tenant: tenant}, ledger.Scope{List: ledger.Blocklist})
		case suppression.ErrorCount:
			scopes = append(scopes, ledger.Scope{List: ledger.Errors, Tenant: tenant})
		}
	}
	return scopes
}
