package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// tokensMost bounds the tokens of a cluster.
const tokensMost = 1000

// tokenService keeps tokens of tenants as objects of the members' book. A token is 256 random bits: its hash is as hard to
// turn back as the bits are to guess, and needs no salt and no slow function.
type tokenService struct{ *Node }

// tokenRecord is a token as it lies in the book.
type tokenRecord struct {
	Tenant  string    `json:"tenant"`
	Role    string    `json:"role"`
	User    string    `json:"user,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Hash    []byte    `json:"hash"` // SHA-256 of the secret part
}

// Bearer implements service.Tokens.
func (n tokenService) Bearer(token string) (service.User, bool) {
	rest, ok := strings.CutPrefix(token, service.TokenPrefix)
	m := n.member.Load()
	if !ok || m == nil {
		return service.User{}, false
	}
	name, secret, _ := strings.Cut(rest, "_")
	o, ok := m.book.State().Object(ledger.KindToken, name)
	var r tokenRecord
	if !ok || json.Unmarshal(o.Data, &r) != nil {
		return service.User{}, false
	}
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], r.Hash) != 1 || !r.Expires.IsZero() && !n.clock.Now().Before(r.Expires) {
		return service.User{}, false
	}
	if !n.hasTenant(r.Tenant) {
		return service.User{}, false // it is gone; a later one of its name would find the token again
	}
	u := service.User{Name: "token " + name, Tenant: r.Tenant, HTTP: true, Administrator: true, ViewAddresses: true, Zone: time.Local}
	if r.User != "" {
		if u, _, ok = userService(n).User(r.User); !ok || u.Tenant != r.Tenant {
			return service.User{}, false // the user is gone, and its tokens with it
		}
		u.OwnData = true
	}
	u.Administrator = u.Administrator && r.Role == service.TokenAdministrator
	return u, true
}

// hasTenant tells whether the settings in force have a tenant of that name.
func (n tokenService) hasTenant(name string) bool {
	return slices.ContainsFunc(n.book.now.Load().index.Settings.Tenants, func(t settings.Tenant) bool { return t.Name == name })
}

// Tokens implements service.Tokens.
func (n tokenService) Tokens(_ context.Context, tenant string) ([]service.Token, error) {
	m, err := n.agree()
	if err != nil {
		return nil, err
	}
	var out []service.Token
	for _, o := range m.book.State().Objects(ledger.KindToken) {
		var r tokenRecord
		if err := json.Unmarshal(o.Data, &r); err != nil {
			return nil, fmt.Errorf("node: read token %s: %w", o.Name, err)
		}
		if tenant == "" || tenant == r.Tenant {
			out = append(out, service.Token{Name: o.Name, Tenant: r.Tenant, Role: r.Role, User: r.User, Created: r.Created, Expires: r.Expires})
		}
	}
	slices.SortFunc(out, func(a, b service.Token) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// CreateToken implements service.Tokens.
func (n tokenService) CreateToken(ctx context.Context, t service.Token, author string) (string, error) {
	m, err := n.agree()
	if err != nil {
		return "", err
	}
	if t.Tenant, err = tenantService(n).Tenant(t.Tenant); err != nil {
		return "", err
	}
	now := n.clock.Now()
	switch ok, err := regexp.MatchString(`^[a-z0-9-]{1,64}$`, t.Name); {
	case err != nil || !ok:
		return "", fmt.Errorf("%w: name %q must be 1 to 64 of a-z, 0-9 and -", service.ErrInvalid, t.Name)
	case t.Role != service.TokenViewer && t.Role != service.TokenAdministrator:
		return "", fmt.Errorf("%w: role %q is none; allowed: viewer, administrator", service.ErrInvalid, t.Role)
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return "", fmt.Errorf("%w: it would have expired already", service.ErrInvalid)
	case len(m.book.State().Objects(ledger.KindToken)) >= tokensMost:
		return "", fmt.Errorf("%w: there are %d tokens; revoke some", service.ErrInvalid, tokensMost)
	}
	if _, there := m.book.State().Object(ledger.KindToken, t.Name); there {
		return "", fmt.Errorf("%w: there is a token %s; revoke it first", service.ErrRefused, t.Name)
	}
	if t.User != "" {
		if u, _, ok := userService(n).User(t.User); !ok || u.Tenant != t.Tenant {
			return "", fmt.Errorf("%w: tenant %s has no API user %q", service.ErrInvalid, t.Tenant, t.User)
		}
	}
	var raw [32]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	secret := base64.RawURLEncoding.EncodeToString(raw[:])
	sum := sha256.Sum256([]byte(secret))
	data, err := json.Marshal(tokenRecord{Tenant: t.Tenant, Role: t.Role, User: t.User, Created: now.Truncate(time.Second), Expires: t.Expires, Hash: sum[:]})
	if err != nil {
		return "", fmt.Errorf("node: encode token: %w", err)
	}
	cmd := &ledger.PutObjects{Signed: m.by(author), Changes: []ledger.ObjectChange{{Kind: ledger.KindToken, Name: t.Name, Data: data}}}
	if _, err := m.sole(ctx, cmd); err != nil {
		return "", err
	}
	return service.TokenPrefix + t.Name + "_" + secret, nil
}

// RevokeToken implements service.Tokens.
func (n tokenService) RevokeToken(ctx context.Context, name, author string) error {
	m, err := n.agree()
	if err != nil {
		return err
	}
	if _, ok := m.book.State().Object(ledger.KindToken, name); !ok {
		return fmt.Errorf("%w: no token is called %q", service.ErrNotFound, name)
	}
	_, err = m.sole(ctx, &ledger.PutObjects{Signed: m.by(author), Changes: []ledger.ObjectChange{
		{Kind: ledger.KindToken, Name: name, Base: ledger.Any, Delete: true}}})
	return err
}
