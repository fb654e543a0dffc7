package ledger

import (
	"fmt"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Kind tells the parts of the book apart.
type Kind byte

// The parts of the book. The letter begins the keys of the part on disk.
const (
	KindObject      Kind = 'o' // settings
	KindSuppression Kind = 's'
	KindGate        Kind = 'g'
	KindLineage     Kind = 'l'
	KindMember      Kind = 'm'
	KindCredential  Kind = 'c' // tokens and accounts
	KindKeys        Kind = 'k'
	KindMeta        Kind = 'x'
	KindAudit       Kind = 'u'

	kindHead Kind = 'h' // end of the audit trail
	kindMark Kind = 'i' // the last entry applied
)

// Signed is part of every command: who gives it, and when. The time is the proposer's product time, because the machine
// has no clock. A command with an author is an operator's and leaves a line in the audit trail; the cluster's own
// commands have none.
type Signed struct {
	Author string // account or token name; empty for the cluster itself
	Origin string // where the operator called from, for the audit trail only
	At     time.Time
}

func (s *Signed) signed() *Signed { return s }

func (s *Signed) fields(c *codec) {
	c.str(&s.Author)
	c.str(&s.Origin)
	c.time(&s.At)
}

// Object is one settings object, opaque to the ledger.
type Object struct {
	Kind, Name string
	// Version is the index of the entry that wrote it: larger with each change, never used twice, even where an object
	// is deleted and made again.
	Version uint64
	Data    []byte // not to be changed by readers
}

// ObjectID names a settings object.
type ObjectID struct{ Kind, Name string }

// String is kind/name.
func (o ObjectID) String() string { return o.Kind + "/" + o.Name }

func (o *Object) fields(c *codec) {
	c.str(&o.Kind)
	c.str(&o.Name)
	c.uint(&o.Version)
	c.bytes(&o.Data)
}

// List is one of the lists an address may be suppressed by.
type List byte

// The lists, in the order in which they are looked at (requirement E-42).
const (
	Blackbox    List = 1 // operator-wide: reported as an address that does not exist
	Unsubscribe List = 2
	Blocklist   List = 3
	Errors      List = 4 // no suppression yet: what was counted against an address, in Reason
	Leaving     List = 5 // no suppression yet: who asked to be on Unsubscribe from the next batch on (requirement R104)
)

// String is the list's name in commands, logs and the API.
func (l List) String() string {
	switch l {
	case Blackbox:
		return "blackbox"
	case Unsubscribe:
		return "unsubscribe"
	case Blocklist:
		return "blocklist"
	case Errors:
		return "errors"
	case Leaving:
		return "leaving"
	}
	return fmt.Sprintf("list %d", byte(l))
}

// ParseList reads the name of a list that somebody may put an address on.
func ParseList(name string) (List, bool) {
	for _, l := range []List{Blackbox, Unsubscribe, Blocklist} {
		if l.String() == name {
			return l, true
		}
	}
	return 0, false
}

// Scope is where a suppression holds: one list of one tenant (empty: of all), for the mail of one unsubscribe filter
// (empty: for all mail).
type Scope struct {
	List   List
	Tenant string
	Filter string
}

func (s *Scope) fields(c *codec) {
	c.byte((*byte)(&s.List))
	c.str(&s.Tenant)
	c.str(&s.Filter)
}

// Suppressed names one suppression.
type Suppressed struct {
	Scope
	Address string // normalised by who proposes: the ledger compares bytes
}

func (s *Suppressed) fields(c *codec) {
	s.Scope.fields(c)
	c.str(&s.Address)
}

// Suppression says that an address gets no mail in a scope.
type Suppression struct {
	Suppressed
	Reason   string
	Evidence string    // the reply or report that led to it
	Since    time.Time // zero: the command's time
	Expires  time.Time // zero: never
}

func (s *Suppression) fields(c *codec) {
	s.Suppressed.fields(c)
	c.str(&s.Reason)
	c.str(&s.Evidence)
	c.time(&s.Since)
	c.time(&s.Expires)
}

// size is about what the suppression's fields take, in octets, and no less.
func (s *Suppression) size() int {
	// Nine octets of lengths and the list, and two times of at most ten.
	return len(s.Tenant) + len(s.Filter) + len(s.Address) + len(s.Reason) + len(s.Evidence) + 30
}

// What a suppression has in common with the one before it in a list.
const (
	sameScope byte = 1 << iota
	sameReason
	sameEvidence
	sameSince
	sameExpires
	sameAll = 1<<iota - 1
)

func (s *Suppression) sameAs(o *Suppression) (same byte) {
	for bit, is := range [...]bool{s.Scope == o.Scope, s.Reason == o.Reason, s.Evidence == o.Evidence,
		timeCode(s.Since) == timeCode(o.Since), timeCode(s.Expires) == timeCode(o.Expires)} {
		if is {
			same |= 1 << bit
		}
	}
	return same
}

// fieldsAfter is fields of one in a list, of which most differ from the one before by their address alone.
func (s *Suppression) fieldsAfter(c *codec, before *Suppression) {
	same := byte(0)
	if !c.reading {
		same = s.sameAs(before)
	}
	c.byte(&same)
	if same > sameAll {
		c.fail()
		return
	}
	c.str(&s.Address)
	if same&sameScope == 0 {
		s.Scope.fields(c)
	} else {
		s.Scope = before.Scope
	}
	if same&sameReason == 0 {
		c.str(&s.Reason)
	} else {
		s.Reason = before.Reason
	}
	if same&sameEvidence == 0 {
		c.str(&s.Evidence)
	} else {
		s.Evidence = before.Evidence
	}
	if same&sameSince == 0 {
		c.time(&s.Since)
	} else {
		s.Since = before.Since
	}
	if same&sameExpires == 0 {
		c.time(&s.Expires)
	} else {
		s.Expires = before.Expires
	}
	if c.reading && same != s.sameAs(before) { // one spelling for each list
		c.fail()
	}
}

// Live tells whether the suppression counts at now.
func (s *Suppression) Live(now time.Time) bool { return s.Expires.IsZero() || now.Before(s.Expires) }

// GateID names a delivery group of a tenant.
type GateID struct{ Tenant, Group string }

// Gate is whether a delivery group may be sent. Gates are monotone: a higher version wins, and between two of the same
// version the closed one, so that copies that travel outside the book can be merged in any order (Gate.Merge).
type Gate struct {
	GateID
	Closed       bool
	Version      uint64
	RefuseIntake bool      // with Closed: no new mail for the group either
	HoldExpiry   bool      // with Closed: the lifetime of what waits does not run
	Discard      time.Time // what was accepted before this ends as interrupted; never goes back
	Author       string
	At           time.Time
}

func (g *Gate) fields(c *codec) {
	c.str(&g.Tenant)
	c.str(&g.Group)
	c.bool(&g.Closed)
	c.uint(&g.Version)
	c.bool(&g.RefuseIntake)
	c.bool(&g.HoldExpiry)
	c.time(&g.Discard)
	c.str(&g.Author)
	c.time(&g.At)
}

// Merge returns what holds where both g and o were seen. Merging is commutative, associative and idempotent in all that
// steers mail; which of two authors of the same version is named is the one of the closing copy, else g's.
func (g Gate) Merge(o Gate) Gate {
	won := g
	switch {
	case o.Version > g.Version, o.Version == g.Version && o.Closed && !g.Closed:
		won = o
	case o.Version == g.Version && o.Closed == g.Closed:
		won.RefuseIntake = g.RefuseIntake || o.RefuseIntake
		won.HoldExpiry = g.HoldExpiry || o.HoldExpiry
	}
	if won.Discard = g.Discard; o.Discard.After(g.Discard) {
		won.Discard = o.Discard
	}
	return won
}

// Phase is where a lineage stands in its life.
type Phase byte

// The phases of a lineage.
const (
	Serving Phase = 1 // its owner accepts and delivers
	Taken   Phase = 2 // a new owner is adopting its live records
	Closed  Phase = 3 // nothing of it is left to deliver; kept so that an old directory learns of it
)

// String names the phase.
func (p Phase) String() string {
	switch p {
	case Serving:
		return "serving"
	case Taken:
		return "taken"
	case Closed:
		return "closed"
	}
	return fmt.Sprintf("phase %d", byte(p))
}

// LineageEpoch is an owner generation of a lineage.
type LineageEpoch struct {
	Lineage mail.Lineage
	Epoch   uint64
}

func (l *LineageEpoch) fields(c *codec) {
	c.uint32((*uint32)(&l.Lineage))
	c.uint(&l.Epoch)
}

// Standby is a member that holds copies of a lineage.
type Standby struct {
	Node string
	Full bool // has everything that waits: it may take over without loss
}

func (s *Standby) fields(c *codec) {
	c.str(&s.Node)
	c.bool(&s.Full)
}

// Lineage is who may deliver the queue of one node incarnation.
type Lineage struct {
	LineageEpoch
	Born    string // the node that made it
	Owner   string
	Address string // cluster address of the owner, where it is known
	Phase   Phase
	// Renewed is the index of the entry that last renewed the owner's lease, or made it owner. A takeover names the
	// value its timer ran on, so a renewal that came in between defeats it.
	Renewed uint64
	// Standbys hold copies, in the order of preference. While the lineage is Taken they are those of its last owner that
	// served, whose copies the new owner merges. Not to be changed by readers.
	Standbys []Standby
	Former   string // owner of the epoch before
}

func (l *Lineage) fields(c *codec) {
	l.LineageEpoch.fields(c)
	c.str(&l.Born)
	c.str(&l.Owner)
	c.str(&l.Address)
	c.byte((*byte)(&l.Phase))
	c.uint(&l.Renewed)
	list(c, &l.Standbys, maxItems, func(c *codec, s *Standby) { s.fields(c) })
	c.str(&l.Former)
}

// Member is a node that was admitted.
type Member struct {
	Name    string
	Address string
	Role    string
	Voter   bool
	Removed bool // locked out until an operator admits it again
	Since   time.Time
	Seen    time.Time // last sign of life that was recorded; rough
}

func (m *Member) fields(c *codec) {
	c.str(&m.Name)
	c.str(&m.Address)
	c.str(&m.Role)
	c.bool(&m.Voter)
	c.bool(&m.Removed)
	c.time(&m.Since)
	c.time(&m.Seen)
}

// CredentialKind tells tokens from accounts.
type CredentialKind byte

// The kinds of credentials.
const (
	Token   CredentialKind = 1
	Account CredentialKind = 2
)

// CredentialID names a token or an account.
type CredentialID struct {
	Kind CredentialKind
	Name string
}

// Credential is a token or an account. The ledger does not check it.
type Credential struct {
	CredentialID
	Role       string
	Tenant     string
	SecretHash string
	Data       []byte    // what else belongs to it, opaque; not to be changed by readers
	Expires    time.Time // zero: never
	Version    uint64    // as Object.Version
}

func (d *Credential) fields(c *codec) {
	c.byte((*byte)(&d.Kind))
	c.str(&d.Name)
	c.str(&d.Role)
	c.str(&d.Tenant)
	c.str(&d.SecretHash)
	c.bytes(&d.Data)
	c.time(&d.Expires)
	c.uint(&d.Version)
}

// Keys is how far the root key's versions are agreed on.
type Keys struct {
	Current uint64   // all members hold it and seal under it; 0 before the first rotation
	Next    uint64   // being handed out, or 0
	Ready   []string // members that hold Next, sorted; not to be changed by readers
	Print   []byte   // fingerprint of Next, else of Current; never the key
	Wrapped []string // members whose data keys are wrapped under Current, sorted; not to be changed by readers
}

func (k *Keys) fields(c *codec) {
	c.uint(&k.Current)
	c.uint(&k.Next)
	list(c, &k.Ready, maxItems, (*codec).str)
	if c.more() {
		c.bytes(&k.Print)
		list(c, &k.Wrapped, maxItems, (*codec).str)
	}
}

// Meta is a small named value of another room, opaque to the ledger.
type Meta struct {
	Name    string
	Version uint64 // as Object.Version
	Data    []byte // not to be changed by readers
}

func (m *Meta) fields(c *codec) {
	c.str(&m.Name)
	c.uint(&m.Version)
	c.bytes(&m.Data)
}
