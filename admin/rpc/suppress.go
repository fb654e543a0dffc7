package rpc

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// Bounds of one call about suppression lists, in addresses.
const (
	maxAddresses = 1000
	maxImport    = 20_000
	maxExamples  = 20
)

// ListSuppressions returns one page of the lists.
func (h *handler) ListSuppressions(ctx context.Context, req *adminpb.ListSuppressionsRequest) (*adminpb.ListSuppressionsResponse, error) {
	if h.s.Suppressions == nil {
		return nil, notYet("ListSuppressions", "the replicated ledger")
	}
	if len(req.Cursor) > maxCursor || len(req.Address) > mail.MaxPathLine {
		return nil, fmt.Errorf("%w: address or cursor is too long", service.ErrInvalid)
	}
	switch req.List {
	case "", service.BlackBox, service.BlockList, service.Unsubscribe, service.Errors, service.Leaving:
	default:
		return nil, fmt.Errorf("%w: %q is no list; allowed: blackbox, blocklist, unsubscribe, errors, leaving", service.ErrInvalid, req.List)
	}
	limit := clamp(int(req.Limit), defaultPage)
	r := &adminpb.ListSuppressionsResponse{NextCursor: req.Cursor}
	q := service.SuppressionQuery{Tenant: req.Tenant, List: req.List, Part: req.Address, After: req.Cursor,
		Since: instant(req.Since), Until: instant(req.Until)}
	err := h.s.Suppressions.List(ctx, q, func(s service.Suppression, position string) bool {
		if len(r.Suppressions) == limit {
			r.More = true
			return false
		}
		r.Suppressions = append(r.Suppressions, &adminpb.Suppression{Address: clean(string(s.Address)), List: s.List, Tenant: s.Tenant,
			Filter: s.Filter, Reason: clean(s.Reason), Author: s.Author, Evidence: clean(s.Evidence), Since: stamp(s.Since), Expires: stamp(s.Expires)})
		r.NextCursor = position
		return true
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Suppress puts addresses on lists: all of them, or none.
func (h *handler) Suppress(ctx context.Context, req *adminpb.SuppressRequest) (*adminpb.SuppressResponse, error) {
	if h.s.Suppressions == nil {
		return nil, notYet("Suppress", "the replicated ledger")
	}
	if n := len(req.Suppressions); n == 0 || n > maxAddresses {
		return nil, fmt.Errorf("%w: 1 to %d addresses at once; import takes more", service.ErrInvalid, maxAddresses)
	}
	list := make([]service.Suppression, 0, len(req.Suppressions))
	rows := suppressionReader{h: h, now: h.clock.Now()}
	for _, p := range req.Suppressions {
		s, err := rows.read(p)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	added, err := h.s.Suppressions.Add(ctx, list)
	if err != nil {
		return nil, err
	}
	h.log.Info("suppressed", "addresses", len(list), "new", added)
	return &adminpb.SuppressResponse{Added: uint32(added)}, nil
}

// ImportSuppressions takes one piece of a long list. Rows that are wrong are passed over and told.
func (h *handler) ImportSuppressions(ctx context.Context, req *adminpb.ImportSuppressionsRequest) (*adminpb.ImportSuppressionsResponse, error) {
	if h.s.Suppressions == nil {
		return nil, notYet("ImportSuppressions", "the replicated ledger")
	}
	if n := len(req.Rows); n == 0 || n > maxImport {
		return nil, fmt.Errorf("%w: 1 to %d rows at once", service.ErrInvalid, maxImport)
	}
	r := &adminpb.ImportSuppressionsResponse{}
	list := make([]service.Suppression, 0, len(req.Rows))
	rows := suppressionReader{h: h, now: h.clock.Now(), common: req.Common}
	for i, p := range req.Rows {
		s, err := rows.read(p)
		if err == nil {
			list = append(list, s)
			continue
		}
		if r.Refused++; r.Refused <= maxExamples {
			r.Examples = append(r.Examples, &adminpb.RefusedRow{Row: uint32(i), Text: clean(err.Error())})
		}
	}
	if len(list) == 0 {
		return r, nil
	}
	added, err := h.s.Suppressions.Import(ctx, list)
	if err != nil {
		return nil, err
	}
	r.Added, r.Known = uint32(added), uint32(len(list)-added)
	return r, nil
}

// Unsuppress takes addresses off a list.
func (h *handler) Unsuppress(ctx context.Context, req *adminpb.UnsuppressRequest) (*adminpb.UnsuppressResponse, error) {
	if h.s.Suppressions == nil {
		return nil, notYet("Unsuppress", "the replicated ledger")
	}
	tenant, unknown := h.whose(req.List, req.Tenant)
	if unknown != nil { // what is left of a tenant that is gone can be removed all the same
		tenant = req.Tenant
	}
	at, err := service.ParsePlace(req.List, tenant, req.Filter)
	if err != nil {
		return nil, cmp.Or(unknown, err)
	}
	list, err := addresses(req.Addresses)
	if err != nil {
		return nil, err
	}
	removed, err := h.s.Suppressions.Remove(ctx, at, list, operator)
	if err == nil && removed == 0 {
		err = unknown
	}
	if err != nil {
		return nil, err
	}
	h.log.Info("suppression lifted", "list", at.List, "tenant", at.Tenant, "addresses", removed)
	return &adminpb.UnsuppressResponse{Removed: uint32(removed)}, nil
}

// ResetErrors forgets the errors counted for addresses.
func (h *handler) ResetErrors(ctx context.Context, req *adminpb.ResetErrorsRequest) (*adminpb.ResetErrorsResponse, error) {
	if h.s.Suppressions == nil {
		return nil, notYet("ResetErrors", "the replicated ledger")
	}
	tenant, err := service.Whose(h.s.Tenants, req.Tenant)
	if err != nil {
		return nil, err
	}
	if tenant == "" {
		return nil, fmt.Errorf("%w: errors are counted for a tenant: its name is needed", service.ErrInvalid)
	}
	list, err := addresses(req.Addresses)
	if err != nil {
		return nil, err
	}
	n, err := h.s.Suppressions.Reset(ctx, tenant, list, operator)
	if err != nil {
		return nil, err
	}
	return &adminpb.ResetErrorsResponse{Reset_: uint32(n)}, nil
}

// ListDeliveryStops tells what stops deliveries by itself, and when it ran last.
func (h *handler) ListDeliveryStops(ctx context.Context, req *adminpb.ListDeliveryStopsRequest) (*adminpb.ListDeliveryStopsResponse, error) {
	if h.s.DeliveryStops == nil {
		return nil, notYet("ListDeliveryStops", "the replicated ledger")
	}
	list, err := h.s.DeliveryStops.DeliveryStops(ctx, req.Tenant)
	if err != nil {
		return nil, err
	}
	r := &adminpb.ListDeliveryStopsResponse{}
	for _, d := range list {
		p := &adminpb.DeliveryStop{Tenant: d.Tenant, Composition: d.Composition, RunAt: d.RunAt, ReleaseAfterDays: uint32(d.ReleaseAfterDays),
			ReleaseDisabled: d.ReleaseDisabled, Reasons: map[uint32]uint32{}, LastRun: stamp(d.LastRun), Stopped: uint32(d.Stopped)}
		for status, n := range d.Reasons {
			p.Reasons[uint32(status)] = uint32(n)
		}
		r.Stops = append(r.Stops, p)
	}
	return r, nil
}

// suppressionReader reads the rows of one call; what a row leaves empty is taken from common.
type suppressionReader struct {
	h      *handler
	now    time.Time
	common *adminpb.Suppression // may be nil
	said   service.Place        // as the last row said it,
	meant  service.Place        // and what that means, since most rows of a call say the same; no list: none was read yet
}

func (r *suppressionReader) read(p *adminpb.Suppression) (service.Suppression, error) {
	s := service.Suppression{Address: mail.Address(p.GetAddress()), Reason: cmp.Or(p.GetReason(), r.common.GetReason()),
		Author: operator, Since: r.now, Expires: instant(p.GetExpires())}
	if p.GetExpires() == nil {
		s.Expires = instant(r.common.GetExpires())
	}
	said := service.Place{List: cmp.Or(p.GetList(), r.common.GetList()), Tenant: cmp.Or(p.GetTenant(), r.common.GetTenant()),
		Filter: cmp.Or(p.GetFilter(), r.common.GetFilter())}
	if p.GetList() == service.BlackBox { // a row that says so means no tenant's
		said.Tenant = p.GetTenant()
	}
	if r.meant.List == "" || said != r.said {
		r.meant = service.Place{}
		tenant, err := r.h.whose(said.List, said.Tenant)
		if err != nil {
			return s, err
		}
		meant, err := service.ParsePlace(said.List, tenant, said.Filter)
		if err != nil {
			return s, err
		}
		r.said, r.meant = said, meant
	}
	s.Place = r.meant
	return s, service.CheckSuppression(s, r.now)
}

// whose is the tenant whose list is meant: nobody's in particular of the black box.
func (h *handler) whose(list, tenant string) (string, error) {
	if list == service.BlackBox {
		return tenant, nil
	}
	return service.Whose(h.s.Tenants, tenant)
}

// addresses takes what stands on a list as it is: it may have been listed under older rules.
func addresses(in []string) ([]mail.Address, error) {
	if len(in) == 0 || len(in) > maxAddresses {
		return nil, fmt.Errorf("%w: 1 to %d addresses at once", service.ErrInvalid, maxAddresses)
	}
	out := make([]mail.Address, len(in))
	for i, a := range in {
		if a == "" || len(a) > mail.MaxPathLine {
			return nil, fmt.Errorf("%w: %q is no mail address", service.ErrInvalid, a)
		}
		out[i] = mail.Address(a)
	}
	return out, nil
}
