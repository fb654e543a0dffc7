package rpc

import (
	"errors"
	"net/http"
	"slices"

	"connectrpc.com/connect"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
)

// A request with ScopeHeader: ScopeNode is answered by the asked node alone, not gathered from all.
const (
	ScopeHeader = "Ekiden-Scope"
	ScopeNode   = "node"
)

var errPeer = errors.New("members do not ask this of one another: the operator does")

// peerCalls are what one member may ask of another: what is gathered, and what each node has to do for itself.
// Everything else changes what all members agree on, or opens a sealed node, and is asked by the operator only.
func peerCalls() []string {
	return []string{
		adminpb.AdminServiceGetStatusProcedure, adminpb.AdminServiceGetCountersProcedure, adminpb.AdminServiceGetQueuesProcedure,
		adminpb.AdminServiceTraceProcedure, adminpb.AdminServiceSearchEventsProcedure, adminpb.AdminServiceListGroupsProcedure,
		adminpb.AdminServiceSuspendProcedure, adminpb.AdminServiceUnsuspendProcedure, adminpb.AdminServiceListSuspensionsProcedure,
		adminpb.AdminServiceListMembersProcedure, adminpb.AdminServiceDrainProcedure,
		adminpb.AdminServiceGetStatisticsProcedure, adminpb.AdminServiceRebuildStatisticsProcedure,
		adminpb.AdminServiceListReservationsProcedure, adminpb.AdminServiceCancelReservationProcedure,
		adminpb.AdminServiceListReplyRulesProcedure,
	}
}

// ForPeers lets only the calls through that a member may ask of another.
func ForPeers(next http.Handler) http.Handler {
	refusals := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case slices.Contains(peerCalls(), r.URL.Path):
			next.ServeHTTP(w, r)
		case refusals.IsSupported(r):
			_ = refusals.Write(w, r, connect.NewError(connect.CodePermissionDenied, errPeer)) // the peer has gone: no trouble
		default:
			http.Error(w, errPeer.Error(), http.StatusForbidden)
		}
	})
}

// ByScope gives requests with the scope of one node to node, the others to all.
func ByScope(all, node http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(ScopeHeader) == ScopeNode {
			node.ServeHTTP(w, r)
			return
		}
		all.ServeHTTP(w, r)
	})
}
