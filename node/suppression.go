package node

import (
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
)

// suppressed tells why an address gets no mail of a tenant, in the order of requirement E-42. It is asked for every
// recipient at intake and again before its final dot, from this node's own copy of the lists, so what it says may be as
// old as the copy (metric raft_apply_lag_seconds). While nobody is suppressed it costs one load.
func (n *Node) suppressed(tenant string, to mail.Address) (mail.Suppression, bool) {
	m := n.member.Load()
	if m == nil || m.book.SuppressionCount() == 0 {
		return mail.Suppression{}, false
	}
	n.metrics.SuppressionLookups.Inc()
	scopes := [...]ledger.Scope{{List: ledger.Blackbox}, {List: ledger.Unsubscribe, Tenant: tenant}, {List: ledger.Unsubscribe},
		{List: ledger.Blocklist, Tenant: tenant}, {List: ledger.Blocklist}}
	asked := scopes[:]
	if !n.book.now.Load().blackbox[tenant] {
		asked = scopes[1:]
	}
	s, hit, err := m.book.Suppressed(to.Fold(), n.clock.Now(), asked...)
	if err != nil { // the book's disk is in trouble: it says so itself, and the node stops
		n.log.Error("suppression lists cannot be read", "error", err)
		return mail.Suppression{}, false
	}
	if !hit {
		return mail.Suppression{}, false
	}
	switch s.List {
	case ledger.Blackbox:
		return mail.Suppression{Status: mail.StatusUserUnknown, Detail: "591 suppressed: black box"}, true
	case ledger.Unsubscribe:
		return mail.Suppression{Status: mail.StatusUnsubscribed, Detail: "591 suppressed: unsubscribed"}, true
	}
	return mail.Suppression{Status: mail.StatusBlockListed, Detail: "591 suppressed: block list"}, true
}
