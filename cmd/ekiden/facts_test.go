package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

// book is a replicated book made of plain facts: settings, suppression lists, members.
type book struct {
	f           *facts
	settings    *settings.Settings // nil: the built-in ones
	revision    uint64
	suppressed  []service.Suppression
	drained     bool
	removed     []string
	noQuorum    bool
	keysVersion uint32
	rotation    *service.KeyState // what is told of it next, once
	tokens      []service.Token
}

// estate is the tenants there are.
type estate []string

func (e estate) Tenant(name string) (string, error) {
	if name == "" {
		return settings.DefaultName, nil
	}
	if !slices.Contains(e, name) {
		return "", fmt.Errorf("%w: tenant: there is no tenant %q; there are: %s", service.ErrInvalid, name, strings.Join(e, ", "))
	}
	return name, nil
}

// ring is the tokens of a book; the built-in tenant is the only one.
type ring struct{ *book }

func (r ring) Bearer(string) (service.User, bool) { return service.User{}, false }

func (r ring) Tokens(_ context.Context, tenant string) ([]service.Token, error) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.tokens), func(t service.Token) bool { return tenant != "" && t.Tenant != tenant }), nil
}

func (r ring) CreateToken(_ context.Context, t service.Token, _ string) (string, error) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	switch {
	case t.Tenant != settings.DefaultName:
		return "", fmt.Errorf("%w: there is no tenant %q", service.ErrInvalid, t.Tenant)
	case slices.ContainsFunc(r.tokens, func(have service.Token) bool { return have.Name == t.Name }):
		return "", fmt.Errorf("%w: there is a token %s", service.ErrRefused, t.Name)
	}
	t.Created = time.Unix(1_000_000_000, 0)
	r.tokens = append(r.tokens, t)
	return service.TokenPrefix + t.Name + "_secret", nil
}

func (r ring) RevokeToken(_ context.Context, name, _ string) error {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	before := len(r.tokens)
	if r.tokens = slices.DeleteFunc(r.tokens, func(t service.Token) bool { return t.Name == name }); len(r.tokens) == before {
		return service.ErrNotFound
	}
	return nil
}

func (b *book) inForce() *settings.Settings {
	if b.settings == nil {
		return settings.Default()
	}
	return b.settings
}

func (b *book) Settings(context.Context) ([]byte, uint64, error) {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	raw, err := settings.Encode(b.inForce())
	return raw, b.revision, err
}

func (b *book) Apply(_ context.Context, a service.Application) (service.Applied, error) {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	s, err := settings.Decode(a.YAML, nil)
	if err != nil {
		return service.Applied{}, err
	}
	if a.Base != nil && *a.Base != b.revision {
		return service.Applied{}, fmt.Errorf("%w: revision %d is in force, not %d", service.ErrConflict, b.revision, *a.Base)
	}
	out := service.Applied{Changes: settings.Diff(b.inForce(), s), Revision: b.revision}
	// What this version of the command lets pass and this member does not.
	if s.Tenants[0].RetentionDays == 77 {
		return out, settings.Errors{{Line: 3, Key: "tenants[0].retention_days", Text: "must not be 77 here"}}
	}
	if a.DryRun || len(out.Changes) == 0 {
		return out, nil
	}
	if s.Tenants[0].RetentionDays == 66 { // somebody else is faster
		return out, fmt.Errorf("%w: tenant default", service.ErrConflict)
	}
	b.settings = s
	b.revision++
	out.Revision = b.revision
	return out, nil
}

func (b *book) List(_ context.Context, q service.SuppressionQuery, yield func(service.Suppression, string) bool) error {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	after, _ := strconv.Atoi(q.After)
	for i, s := range b.suppressed {
		if i >= after && strings.Contains(s.Address.Fold(), strings.ToLower(q.Part)) && (q.List == "" || q.List == s.List) && q.Within(s.Since) &&
			(q.Tenant == "" || q.Tenant == s.Tenant) && !yield(s, strconv.Itoa(i+1)) {
			return nil
		}
	}
	return nil
}

func (b *book) Add(_ context.Context, list []service.Suppression) (added int, err error) {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	if b.noQuorum {
		return 0, service.ErrNoQuorum
	}
	for _, s := range list {
		if slices.ContainsFunc(b.suppressed, func(h service.Suppression) bool { return h.Place == s.Place && h.Address.Fold() == s.Address.Fold() }) {
			continue
		}
		s.Since = time.Unix(1_000_000_000, 0)
		b.suppressed = append(b.suppressed, s)
		added++
	}
	return added, nil
}

func (b *book) Import(ctx context.Context, list []service.Suppression) (int, error) {
	if len(list) > 0 && list[0].Address == "break@example.jp" {
		return 0, service.ErrNoQuorum
	}
	return b.Add(ctx, list)
}

func (b *book) Remove(_ context.Context, at service.Place, list []mail.Address, _ string) (int, error) {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	before := len(b.suppressed)
	b.suppressed = slices.DeleteFunc(b.suppressed, func(h service.Suppression) bool {
		return h.Place == at && slices.ContainsFunc(list, func(a mail.Address) bool { return a.Fold() == h.Address.Fold() })
	})
	return before - len(b.suppressed), nil
}

func (b *book) Reset(_ context.Context, _ string, list []mail.Address, _ string) (int, error) {
	if list[0] == "never@example.jp" {
		return 0, nil
	}
	return len(list), nil
}

func (b *book) DeliveryStops(_ context.Context, tenant string) ([]service.DeliveryStop, error) {
	if tenant == "third" {
		return nil, nil
	}
	return []service.DeliveryStop{{Tenant: "shop", Composition: "main", RunAt: "00:00", ReleaseAfterDays: 30, Reasons: map[int]int{5: 3, 2: 1},
		LastRun: time.Unix(1_000_000_000, 0), Stopped: 12}, {Tenant: "shop", Composition: "news", RunAt: "immediate"}}, nil
}

// club is a cluster of three: n1 answers, n2 is lost, n3 is a witness.
type club struct{ *book }

func (c club) List(context.Context) (service.Roster, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	own := service.Lineage{ID: 0xa1b2c3d4, Epoch: 7, Owner: "n1", Phase: "owned", Degraded: true, Exposed: 12,
		Standbys: []service.Standby{{Name: "n2"}, {Name: "n3", Acknowledging: true, Behind: 3}}}
	members := []service.Member{
		{Name: "n1", Address: "10.0.0.1:7950", State: "unsealed", Role: service.RoleMember, Voter: true, Leader: true, Alive: true,
			Applied: 99, Waiting: 1234, Version: "v1", Lineages: []service.Lineage{own}},
		{Name: "n2", Address: "10.0.0.2:7950", Role: service.RoleMember, Voter: true, Seen: time.Unix(1_000_000_000, 0)},
	}
	if c.drained {
		members[0].State, members[0].Lineages = service.StateDraining, nil
	}
	return service.Roster{Cluster: "c1", Quorum: !c.noQuorum, Members: members},
		&service.Partial{Missing: []service.Absent{{Name: "n2", For: 12 * time.Second, Reason: "connection \x1b[2Jrefused"}}}
}

func (c club) Drain(_ context.Context, node string) error {
	if node != "" && node != "n1" {
		return fmt.Errorf("%w: no member is named %q", service.ErrNotFound, node)
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.drained = true
	return nil
}

func (c club) Takeover(_ context.Context, node string, force bool, _ string) ([]service.Lineage, error) {
	if !force {
		return nil, fmt.Errorf("%w: %s renews its lease", service.ErrRefused, node)
	}
	return []service.Lineage{{ID: 0xb2, Epoch: 4, Owner: "n1", Phase: "adopting"}}, nil
}

func (c club) Remove(_ context.Context, node string, force bool, _ string) error {
	if node == "n1" && !force {
		return fmt.Errorf("%w: n1 still owns the queue a1b2c3d4", service.ErrRefused)
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.removed = append(c.removed, node)
	return nil
}

func (c club) Admit(_ context.Context, node, _ string) error {
	if node == "" {
		return service.ErrInvalid
	}
	return nil
}

func (b *book) Status(context.Context) (service.KeyState, error) {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	if k := b.rotation; k != nil {
		b.rotation = nil
		return *k, nil
	}
	return service.KeyState{Version: b.keysVersion + 1, Members: []service.KeyHolder{{Name: "n1", Alive: true, Holds: true, Wrapped: true},
		{Name: "n2", Alive: true, Holds: true}}}, nil
}

func (b *book) Rotate(context.Context, string) (service.KeyState, string, error) {
	k := service.KeyState{Version: 1, Next: 2, Waiting: []service.Absent{{Name: "n2", For: time.Minute, Reason: "start it"}},
		Members: []service.KeyHolder{{Name: "n1", Alive: true, Holds: true, Wrapped: true}, {Name: "n2"}, {Name: "n3", Alive: true}}}
	later := k
	later.Members = slices.Clone(k.Members)
	later.Members[2].Holds = true
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	b.rotation = &later
	return k, "ABCD-EFGH", nil
}

func (b *book) Entries(context.Context, uint64, int) ([]service.AuditEntry, error) {
	return []service.AuditEntry{{Sequence: 2, At: time.Unix(1_000_000_000, 0), Author: "operator", Node: "n1", Action: "takeover", Subject: "n2",
		Detail: "forced\n"}}, nil
}
