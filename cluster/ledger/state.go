package ledger

import (
	"maps"
	"slices"

	"github.com/ekiden-mta/ekiden/mail"
)

// State is the book without its two long parts, suppression and the audit trail: it is small and held in memory, too.
// A State that was published never changes; readers keep it as long as they like.
type State struct {
	objects     table[ObjectID, Object]
	gates       table[GateID, Gate]
	lineages    table[mail.Lineage, Lineage]
	members     table[string, Member]
	credentials table[CredentialID, Credential]
	meta        table[string, Meta]
	keys        Keys
	audit       auditHead
}

// table is a map that is copied before the first change after it was published.
type table[K comparable, V any] struct {
	m   map[K]V
	own bool // not published yet: may be changed
}

func (t *table[K, V]) set(k K, v V) {
	t.change()
	t.m[k] = v
}

func (t *table[K, V]) remove(k K) {
	t.change()
	delete(t.m, k)
}

func (t *table[K, V]) change() {
	if t.own {
		return
	}
	if t.m, t.own = maps.Clone(t.m), true; t.m == nil {
		t.m = map[K]V{}
	}
}

func (t *table[K, V]) list(order func(a, b V) int) []V {
	return slices.SortedFunc(maps.Values(t.m), order)
}

// draft returns a state that starts as s and may be changed without changing s.
func (s *State) draft() *State {
	d := *s
	d.objects.own, d.gates.own, d.lineages.own = false, false, false
	d.members.own, d.credentials.own, d.meta.own = false, false, false
	return &d
}

// record is a part of the book that lies on disk by itself under its kind and name.
type record interface {
	kind() Kind
	key() string // unique within its kind
	fields(*codec)
}

func (o *Object) kind() Kind      { return KindObject }
func (o *Object) key() string     { return joined(o.Kind, o.Name) }
func (g *Gate) kind() Kind        { return KindGate }
func (g *Gate) key() string       { return joined(g.Tenant, g.Group) }
func (l *Lineage) kind() Kind     { return KindLineage }
func (l *Lineage) key() string    { return number(l.Lineage) }
func (m *Member) kind() Kind      { return KindMember }
func (m *Member) key() string     { return m.Name }
func (d *Credential) kind() Kind  { return KindCredential }
func (d *Credential) key() string { return joined(string(rune(d.Kind)), d.Name) }
func (m *Meta) kind() Kind        { return KindMeta }
func (m *Meta) key() string       { return m.Name }
func (k *Keys) kind() Kind        { return KindKeys }
func (k *Keys) key() string       { return "" }
func (h *auditHead) kind() Kind   { return kindHead }
func (h *auditHead) key() string  { return "" }

// joined makes one string of two so that no other two make the same.
func joined(a, b string) string {
	return string(encode(func(c *codec) { c.str(&a); c.str(&b) }))
}

func (o ObjectChange) id() ObjectID { return ObjectID{o.Kind, o.Name} }
func (o *Object) id() ObjectID      { return ObjectID{o.Kind, o.Name} }

// newRecord returns an empty record of the kind, or nil where the kind is not held in memory.
func newRecord(k Kind) record {
	switch k {
	case KindObject:
		return &Object{}
	case KindGate:
		return &Gate{}
	case KindLineage:
		return &Lineage{}
	case KindMember:
		return &Member{}
	case KindCredential:
		return &Credential{}
	case KindMeta:
		return &Meta{}
	case KindKeys:
		return &Keys{}
	case kindHead:
		return &auditHead{}
	}
	return nil
}

// put takes a record in.
func (s *State) put(r record) {
	switch r := r.(type) {
	case *Object:
		s.objects.set(r.id(), *r)
	case *Gate:
		s.gates.set(r.GateID, *r)
	case *Lineage:
		s.lineages.set(r.Lineage, *r)
	case *Member:
		s.members.set(r.Name, *r)
	case *Credential:
		s.credentials.set(r.CredentialID, *r)
	case *Meta:
		s.meta.set(r.Name, *r)
	case *Keys:
		s.keys = *r
	case *auditHead:
		s.audit = *r
	}
}

// drop takes a record out.
func (s *State) drop(r record) {
	switch r := r.(type) {
	case *Object:
		s.objects.remove(r.id())
	case *Credential:
		s.credentials.remove(r.CredentialID)
	case *Meta:
		s.meta.remove(r.Name)
	}
}

// Object returns one settings object.
func (s *State) Object(kind, name string) (Object, bool) {
	o, ok := s.objects.m[ObjectID{kind, name}]
	return o, ok
}

// Objects returns the settings objects of a kind, or all where kind is empty, by kind and name.
func (s *State) Objects(kind string) []Object {
	var found []Object
	for id, o := range s.objects.m {
		if kind == "" || id.Kind == kind {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(a, b Object) int { return compare(a.Kind, b.Kind, a.Name, b.Name) })
	return found
}

// Gate returns a group's gate; a group that was never stopped has an open one of version 0.
func (s *State) Gate(id GateID) Gate {
	if g, ok := s.gates.m[id]; ok {
		return g
	}
	return Gate{GateID: id}
}

// Gates returns all gates that were ever set, by tenant and group.
func (s *State) Gates() []Gate {
	return s.gates.list(func(a, b Gate) int { return compare(a.Tenant, b.Tenant, a.Group, b.Group) })
}

// Lineage returns one lineage.
func (s *State) Lineage(l mail.Lineage) (Lineage, bool) {
	v, ok := s.lineages.m[l]
	return v, ok
}

// Lineages returns all lineages, closed ones included, by number.
func (s *State) Lineages() []Lineage {
	return s.lineages.list(func(a, b Lineage) int { return int(int64(a.Lineage) - int64(b.Lineage)) })
}

// Member returns one member, removed or not.
func (s *State) Member(name string) (Member, bool) {
	m, ok := s.members.m[name]
	return m, ok
}

// Members returns all members, removed ones included, by name.
func (s *State) Members() []Member {
	return s.members.list(func(a, b Member) int { return compare(a.Name, b.Name) })
}

// Credential returns one token or account. Whether it has expired is for the caller to see.
func (s *State) Credential(kind CredentialKind, name string) (Credential, bool) {
	d, ok := s.credentials.m[CredentialID{kind, name}]
	return d, ok
}

// Tokens returns all tokens by name.
func (s *State) Tokens() []Credential { return s.listCredentials(Token) }

// Accounts returns all accounts by name.
func (s *State) Accounts() []Credential { return s.listCredentials(Account) }

func (s *State) listCredentials(kind CredentialKind) []Credential {
	var found []Credential
	for id, d := range s.credentials.m {
		if id.Kind == kind {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b Credential) int { return compare(a.Name, b.Name) })
	return found
}

// Meta returns a small named value.
func (s *State) Meta(name string) (Meta, bool) {
	m, ok := s.meta.m[name]
	return m, ok
}

// Keys returns how far the root key's versions are agreed on.
func (s *State) Keys() Keys { return s.keys }

// compare orders pairs of strings, the first that differs decides.
func compare(pairs ...string) int {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != pairs[i+1] {
			if pairs[i] < pairs[i+1] {
				return -1
			}
			return 1
		}
	}
	return 0
}
