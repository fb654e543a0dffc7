package service

import (
	"context"
	"time"
)

// Roles of tokens.
const (
	TokenViewer        = "viewer"
	TokenAdministrator = "administrator"
)

// TokenPrefix begins every token of a tenant, so that it is known for one wherever it turns up.
const TokenPrefix = "ekiden_"

// Token lets a program use the HTTP APIs of a tenant (requirements B8, R132).
type Token struct {
	Name    string // 1-64 of a-z, 0-9 and -; one of that name in the whole cluster
	Tenant  string
	Role    string // one of the roles above
	User    string // an API user of the tenant: only its own data, and no more rights than it has; "" = the tenant's
	Created time.Time
	Expires time.Time // zero = never
}

// Tokens are the tokens in force, the same on every node.
type Tokens interface {
	// Bearer returns whose a token is; false where it is none in force. It costs nothing for what is none of the form.
	Bearer(token string) (User, bool)
	// Tokens lists those of a tenant, "" = of all, by name.
	Tokens(ctx context.Context, tenant string) ([]Token, error)
	// CreateToken returns the token's text, which nobody can read again. ErrInvalid for what it may not be, ErrRefused
	// where there is one of that name.
	CreateToken(ctx context.Context, t Token, author string) (string, error)
	// RevokeToken ends a token on every node; ErrNotFound where there is none.
	RevokeToken(ctx context.Context, name, author string) error
}
