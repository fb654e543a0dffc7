package rpc

import (
	"context"
	"fmt"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
)

const withCluster = "the cluster"

// Drain lets a node take no more mail, and in a cluster hand its queues over.
func (h *handler) Drain(ctx context.Context, req *adminpb.DrainRequest) (*adminpb.DrainResponse, error) {
	if h.s.Node == nil {
		return nil, notYet("Drain", withCluster)
	}
	own := req.Node == "" || req.Node == h.s.Node.Status().Name
	switch {
	case h.s.Members != nil:
		if err := h.s.Members.Drain(ctx, req.Node); err != nil {
			return nil, err
		}
	case !own:
		return nil, fmt.Errorf("%w: no member is named %q", service.ErrNotFound, req.Node)
	default:
		if err := h.s.Node.Drain(ctx); err != nil {
			return nil, err
		}
	}
	h.log.Info("told to drain", "node", req.Node)
	if !own {
		return &adminpb.DrainResponse{State: service.StateDraining}, nil
	}
	return &adminpb.DrainResponse{State: h.s.Node.Status().State}, nil
}

// ListMembers returns the members of the cluster; a node without one is its only member.
func (h *handler) ListMembers(ctx context.Context, _ *adminpb.ListMembersRequest) (*adminpb.ListMembersResponse, error) {
	if h.s.Members == nil {
		if h.s.Node == nil {
			return nil, notYet("ListMembers", withCluster)
		}
		s := h.s.Node.Status()
		return &adminpb.ListMembersResponse{Quorum: true, Members: []*adminpb.Member{{Name: s.Name, Address: s.HTTP, State: s.State,
			Leader: true, Role: service.RoleMember, Voter: true, Alive: true, Version: s.Version, Seen: stamp(h.clock.Now())}}}, nil
	}
	roster, err := h.s.Members.List(ctx)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	r := &adminpb.ListMembersResponse{Cluster: roster.Cluster, Quorum: roster.Quorum, Missing: missing}
	for _, m := range roster.Members {
		r.Members = append(r.Members, &adminpb.Member{Name: m.Name, Address: m.Address, State: m.State, Leader: m.Leader, Role: m.Role,
			Voter: m.Voter, Alive: m.Alive, Applied: m.Applied, Lineages: lineages(m.Lineages), Waiting: m.Waiting,
			Version: m.Version, Seen: stamp(m.Seen)})
	}
	return r, nil
}

// Takeover gives the queues of a node that is gone to their standbys.
func (h *handler) Takeover(ctx context.Context, req *adminpb.TakeoverRequest) (*adminpb.TakeoverResponse, error) {
	if h.s.Members == nil {
		return nil, notYet("Takeover", withCluster)
	}
	if err := named(req.Node); err != nil {
		return nil, err
	}
	if req.Force {
		if err := service.CheckStatement(req.Node, req.Statement); err != nil {
			return nil, err
		}
	}
	taken, err := h.s.Members.Takeover(ctx, req.Node, req.Force, operator)
	if err != nil {
		return nil, err
	}
	h.log.Warn("queues taken over", "of", req.Node, "force", req.Force, "lineages", len(taken))
	r := &adminpb.TakeoverResponse{Lineages: lineages(taken)}
	for _, l := range taken {
		r.Epoch = max(r.Epoch, l.Epoch)
	}
	return r, nil
}

// RemoveMember locks a node out.
func (h *handler) RemoveMember(ctx context.Context, req *adminpb.RemoveMemberRequest) (*adminpb.RemoveMemberResponse, error) {
	if h.s.Members == nil {
		return nil, notYet("RemoveMember", withCluster)
	}
	if req.Force {
		if err := service.CheckStatement(req.Node, req.Statement); err != nil {
			return nil, err
		}
	}
	if err := h.s.Members.Remove(ctx, req.Node, req.Force, operator); err != nil {
		return nil, err
	}
	h.log.Warn("member removed", "node", req.Node, "force", req.Force)
	return &adminpb.RemoveMemberResponse{}, nil
}

// AdmitMember lets a node join.
func (h *handler) AdmitMember(ctx context.Context, req *adminpb.AdmitMemberRequest) (*adminpb.AdmitMemberResponse, error) {
	if h.s.Members == nil {
		return nil, notYet("AdmitMember", withCluster)
	}
	if err := named(req.Node); err != nil {
		return nil, err
	}
	if err := h.s.Members.Admit(ctx, req.Node, operator); err != nil {
		return nil, err
	}
	h.log.Info("member admitted", "node", req.Node)
	return &adminpb.AdmitMemberResponse{}, nil
}

// GetKeys tells how far the members are with their root key.
func (h *handler) GetKeys(ctx context.Context, _ *adminpb.GetKeysRequest) (*adminpb.GetKeysResponse, error) {
	if h.s.Keys == nil {
		return nil, notYet("GetKeys", withCluster)
	}
	k, err := h.s.Keys.Status(ctx)
	if err != nil {
		return nil, err
	}
	return &adminpb.GetKeysResponse{Keys: keys(k)}, nil
}

// RotateKeys makes the next root key. Its recovery code is in this answer and nowhere else.
func (h *handler) RotateKeys(ctx context.Context, _ *adminpb.RotateKeysRequest) (*adminpb.RotateKeysResponse, error) {
	if h.s.Keys == nil {
		return nil, notYet("RotateKeys", withCluster)
	}
	k, code, err := h.s.Keys.Rotate(ctx, operator)
	if err != nil {
		return nil, err
	}
	h.log.Info("root key rotated", "version", k.Version, "next", k.Next)
	return &adminpb.RotateKeysResponse{Keys: keys(k), RecoveryCode: code}, nil
}

// ListAudit returns who did what, newest first.
func (h *handler) ListAudit(ctx context.Context, req *adminpb.ListAuditRequest) (*adminpb.ListAuditResponse, error) {
	if h.s.Audit == nil {
		return nil, notYet("ListAudit", "the replicated ledger")
	}
	entries, err := h.s.Audit.Entries(ctx, req.Before, clamp(int(req.Limit), defaultPage))
	if err != nil {
		return nil, err
	}
	r := &adminpb.ListAuditResponse{}
	for _, e := range entries {
		r.Entries = append(r.Entries, &adminpb.AuditEntry{Sequence: e.Sequence, At: stamp(e.At), Author: clean(e.Author), Node: e.Node,
			Action: e.Action, Subject: clean(e.Subject), Detail: clean(e.Detail)})
	}
	return r, nil
}

func named(node string) error {
	if node == "" || len(node) > 255 {
		return fmt.Errorf("%w: the name of a node is needed", service.ErrInvalid)
	}
	return nil
}

func keys(k service.KeyState) *adminpb.Keys {
	p := &adminpb.Keys{Version: k.Version, Next: k.Next, Waiting: absents(k.Waiting), Since: stamp(k.Since)}
	for _, h := range k.Members {
		p.Members = append(p.Members, &adminpb.KeyHolder{Name: h.Name, Alive: h.Alive, Holds: h.Holds, Wrapped: h.Wrapped})
	}
	return p
}

func lineages(list []service.Lineage) []*adminpb.Lineage {
	var out []*adminpb.Lineage
	for _, l := range list {
		p := &adminpb.Lineage{Id: fmt.Sprintf("%08x", uint32(l.ID)), Epoch: l.Epoch, Owner: l.Owner, Phase: l.Phase, Degraded: l.Degraded, Exposed: l.Exposed}
		for _, s := range l.Standbys {
			p.Standbys = append(p.Standbys, &adminpb.Standby{Name: s.Name, Acknowledging: s.Acknowledging, Behind: s.Behind})
		}
		out = append(out, p)
	}
	return out
}
