package rpc

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// Probe asks receivers whether addresses exist, without DATA.
func (h *handler) Probe(ctx context.Context, req *adminpb.ProbeRequest) (*adminpb.ProbeResponse, error) {
	if h.s.Probes == nil {
		return nil, notYet("Probe", "a later release")
	}
	from := mail.Address(req.From)
	if from != "" {
		if err := from.Check(); err != nil {
			return nil, fmt.Errorf("%w: from: %w", service.ErrInvalid, err)
		}
	}
	var source netip.Addr
	if req.Source != "" {
		var err error
		if source, err = netip.ParseAddr(req.Source); err != nil {
			return nil, fmt.Errorf("%w: source: %q is no IP address", service.ErrInvalid, req.Source)
		}
	}
	to := make([]mail.Address, len(req.Addresses))
	for i, a := range req.Addresses {
		if to[i] = mail.Address(a); to[i].Check() != nil {
			return nil, fmt.Errorf("%w: addresses: %q is no address", service.ErrInvalid, a)
		}
	}
	list, err := h.s.Probes.Probe(ctx, from, source, to)
	if err != nil {
		return nil, err
	}
	r := &adminpb.ProbeResponse{}
	for _, p := range list {
		words := p.Reply.String()
		if p.Reply.IsZero() {
			words = p.Detail
		}
		r.Results = append(r.Results, &adminpb.Probed{Address: string(p.Address), Result: p.Result, Reply: clean(words)})
	}
	return r, nil
}
