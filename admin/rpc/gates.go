package rpc

import (
	"context"
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
)

const (
	maxSuspend = 366 * 24 * time.Hour // longer means: until it is lifted
	operator   = "operator"           // author of what is done with the admin token
)

// ListGroups returns the delivery groups in use.
func (h *handler) ListGroups(ctx context.Context, _ *adminpb.ListGroupsRequest) (*adminpb.ListGroupsResponse, error) {
	if h.s.Groups == nil {
		return nil, notYet("ListGroups", "a later release")
	}
	groups, err := h.s.Groups.Groups(ctx)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	r := &adminpb.ListGroupsResponse{Missing: missing}
	for _, g := range groups {
		r.Groups = append(r.Groups, &adminpb.Group{Name: g.Name, Tenant: g.Tenant, State: g.State,
			Counters: counters(g.Counters), LastSent: stamp(g.LastSent)})
	}
	return r, nil
}

// Suspend holds the subject's mail.
func (h *handler) Suspend(ctx context.Context, req *adminpb.SuspendRequest) (*adminpb.SuspendResponse, error) {
	if h.s.Gates == nil {
		return nil, notYet("Suspend", "a later release")
	}
	subject, err := subjectOf(req.Subject)
	if err != nil {
		return nil, err
	}
	tenant := subject.Tenant
	if subject.Kind == service.SubjectTenant {
		tenant = subject.Value
	}
	if err := service.Known(h.s.Tenants, tenant); err != nil {
		return nil, err
	}
	if len(req.Reason) > service.MaxReason {
		return nil, fmt.Errorf("%w: the reason is longer than %d octets", service.ErrInvalid, service.MaxReason)
	}
	s := service.Suspension{Subject: subject, Reason: req.Reason, Author: operator, Since: h.clock.Now()}
	if req.For != nil {
		d := req.For.AsDuration()
		if d <= 0 || d > maxSuspend {
			return nil, fmt.Errorf("%w: a suspension lasts more than 0s and at most 366 days, or has no end", service.ErrInvalid)
		}
		s.Until = s.Since.Add(d)
	}
	missing, err := absent(h.s.Gates.Suspend(ctx, s))
	if err != nil {
		return nil, err
	}
	h.log.Info("suspended", "kind", subject.Kind, "subject", subject.Value, "until", s.Until)
	return &adminpb.SuspendResponse{Suspension: suspension(s), Missing: missing}, nil
}

// Unsuspend lets the subject's mail go again.
func (h *handler) Unsuspend(ctx context.Context, req *adminpb.UnsuspendRequest) (*adminpb.UnsuspendResponse, error) {
	if h.s.Gates == nil {
		return nil, notYet("Unsuspend", "a later release")
	}
	subject, err := subjectOf(req.Subject)
	if err != nil {
		return nil, err
	}
	missing, err := absent(h.s.Gates.Unsuspend(ctx, subject, operator))
	if err != nil {
		return nil, err
	}
	h.log.Info("suspension lifted", "kind", subject.Kind, "subject", subject.Value)
	return &adminpb.UnsuspendResponse{Missing: missing}, nil
}

// ListSuspensions returns what is suspended.
func (h *handler) ListSuspensions(ctx context.Context, _ *adminpb.ListSuspensionsRequest) (*adminpb.ListSuspensionsResponse, error) {
	if h.s.Gates == nil {
		return nil, notYet("ListSuspensions", "a later release")
	}
	list, err := h.s.Gates.Suspensions(ctx)
	missing, err := absent(err)
	if err != nil {
		return nil, err
	}
	r := &adminpb.ListSuspensionsResponse{Missing: missing}
	for _, s := range list {
		r.Suspensions = append(r.Suspensions, suspension(s))
	}
	return r, nil
}

func subjectOf(s *adminpb.Subject) (service.Subject, error) {
	kind, value := "", ""
	switch k := s.GetKind().(type) {
	case *adminpb.Subject_Domain:
		kind, value = service.SubjectDomain, k.Domain
	case *adminpb.Subject_Receiver:
		kind, value = service.SubjectReceiver, k.Receiver
	case *adminpb.Subject_Source:
		kind, value = service.SubjectSource, k.Source
	case *adminpb.Subject_Tenant:
		kind, value = service.SubjectTenant, k.Tenant
	case *adminpb.Subject_Group:
		kind, value = service.SubjectGroup, k.Group
	case *adminpb.Subject_Rule:
		kind, value = service.SubjectRule, k.Rule
	}
	subject, err := service.ParseSubject(kind, value)
	if err != nil {
		return subject, err
	}
	return subject.Narrow(s.OfTenant, s.OfGroup)
}

func suspension(s service.Suspension) *adminpb.Suspension {
	subject := &adminpb.Subject{OfTenant: s.Tenant, OfGroup: s.Group}
	switch s.Kind {
	case service.SubjectDomain:
		subject.Kind = &adminpb.Subject_Domain{Domain: s.Value}
	case service.SubjectReceiver:
		subject.Kind = &adminpb.Subject_Receiver{Receiver: s.Value}
	case service.SubjectSource:
		subject.Kind = &adminpb.Subject_Source{Source: s.Value}
	case service.SubjectTenant:
		subject.Kind = &adminpb.Subject_Tenant{Tenant: s.Value}
	case service.SubjectGroup:
		subject.Kind = &adminpb.Subject_Group{Group: s.Value}
	case service.SubjectRule:
		subject.Kind = &adminpb.Subject_Rule{Rule: s.Value}
	}
	return &adminpb.Suspension{Subject: subject, Reason: clean(s.Reason), Author: s.Author, Since: stamp(s.Since), Until: stamp(s.Until),
		Rule: s.Rule, Node: s.Node}
}
