package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
)

// StopGroup is the emergency stop. It answers once every node has confirmed or can send no more, else it says who is
// missing and for how long.
func (h *handler) StopGroup(ctx context.Context, req *adminpb.StopGroupRequest) (*adminpb.StopGroupResponse, error) {
	if h.s.Groups == nil {
		return nil, notYet("StopGroup", "a later release")
	}
	group, err := service.ParseGroup(req.Group)
	if err != nil {
		return nil, err
	}
	if err := service.Known(h.s.Tenants, req.Tenant); err != nil { // it would stop nothing, and say that it had
		return nil, err
	}
	st, err := h.s.Groups.Stop(ctx, service.GroupStop{Tenant: req.Tenant, Group: group,
		RefuseIntake: req.RefuseIntake, HoldExpiry: req.HoldExpiry, Author: operator})
	if err != nil {
		return nil, err
	}
	h.log.Warn("delivery group stopped by the operator", "group", group, "tenant", req.Tenant, "state", st.State)
	r := &adminpb.StopGroupResponse{State: st.State, Held: uint32(st.Held), InFlight: uint32(st.InFlight), LastSent: stamp(st.LastSent)}
	for _, n := range st.Nodes {
		g := &adminpb.NodeGate{Name: n.Name, Confirmed: n.Confirmed}
		if n.MissingFor > 0 {
			g.MissingFor = durationpb.New(n.MissingFor)
		}
		r.Nodes = append(r.Nodes, g)
	}
	return r, nil
}

// ResumeGroup lets a stopped group go on.
func (h *handler) ResumeGroup(ctx context.Context, req *adminpb.ResumeGroupRequest) (*adminpb.ResumeGroupResponse, error) {
	if h.s.Groups == nil {
		return nil, notYet("ResumeGroup", "a later release")
	}
	group, err := service.ParseGroup(req.Group)
	if err != nil {
		return nil, err
	}
	if err := h.s.Groups.Resume(ctx, req.Tenant, group, operator); err != nil {
		return nil, err
	}
	h.log.Info("delivery group resumed by the operator", "group", group, "tenant", req.Tenant)
	return &adminpb.ResumeGroupResponse{State: service.GroupOpen}, nil
}

// DiscardGroup ends the queued mail of a stopped group.
func (h *handler) DiscardGroup(ctx context.Context, req *adminpb.DiscardGroupRequest) (*adminpb.DiscardGroupResponse, error) {
	if h.s.Groups == nil {
		return nil, notYet("DiscardGroup", "a later release")
	}
	group, err := service.ParseGroup(req.Group)
	if err != nil {
		return nil, err
	}
	n, err := h.s.Groups.Discard(ctx, req.Tenant, group, operator)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	h.log.Warn("delivery group discarded by the operator", "group", group, "tenant", req.Tenant, "deliveries", n)
	return &adminpb.DiscardGroupResponse{Discarded: uint32(n), Missing: missing}, nil
}
