package rpc

import (
	"context"
	"fmt"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/service"
)

// CreateToken makes a token of a tenant.
func (h *handler) CreateToken(ctx context.Context, req *adminpb.CreateTokenRequest) (*adminpb.CreateTokenResponse, error) {
	if h.s.Tokens == nil {
		return nil, notYet("CreateToken", "the replicated ledger")
	}
	p := req.Token
	if p == nil {
		return nil, fmt.Errorf("%w: token is missing", service.ErrInvalid)
	}
	tenant, err := service.Whose(h.s.Tenants, p.Tenant)
	if err != nil {
		return nil, err
	}
	text, err := h.s.Tokens.CreateToken(ctx, service.Token{Name: p.Name, Tenant: tenant, Role: p.Role, User: p.User, Expires: instant(p.Expires)}, operator)
	if err != nil {
		return nil, err
	}
	h.log.Warn("token made", "name", p.Name, "tenant", tenant, "role", p.Role)
	return &adminpb.CreateTokenResponse{Token: text}, nil
}

// ListTokens lists tokens, never their text.
func (h *handler) ListTokens(ctx context.Context, req *adminpb.ListTokensRequest) (*adminpb.ListTokensResponse, error) {
	if h.s.Tokens == nil {
		return nil, notYet("ListTokens", "the replicated ledger")
	}
	list, err := h.s.Tokens.Tokens(ctx, req.Tenant)
	if err != nil {
		return nil, err
	}
	r := &adminpb.ListTokensResponse{}
	for _, t := range list {
		r.Tokens = append(r.Tokens, &adminpb.Token{Name: t.Name, Tenant: t.Tenant, Role: t.Role, User: t.User,
			Created: stamp(t.Created), Expires: stamp(t.Expires)})
	}
	return r, nil
}

// RevokeToken ends a token.
func (h *handler) RevokeToken(ctx context.Context, req *adminpb.RevokeTokenRequest) (*adminpb.RevokeTokenResponse, error) {
	if h.s.Tokens == nil {
		return nil, notYet("RevokeToken", "the replicated ledger")
	}
	if err := h.s.Tokens.RevokeToken(ctx, req.Name, operator); err != nil {
		return nil, err
	}
	h.log.Warn("token revoked", "name", req.Name)
	return &adminpb.RevokeTokenResponse{}, nil
}
