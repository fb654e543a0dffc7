package ledger

import (
	"math"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Any as a base version writes whatever the present version is.
const Any uint64 = math.MaxUint64

// Command is something the members agree to do. The commands are the types of this file, as pointers.
type Command interface {
	code() commandCode
	signed() *Signed
	fields(*codec)
	// subject is what the audit trail names beside the action.
	subject() string
}

// commandCode tells commands apart in their encoding. Codes are never reused.
type commandCode byte

const (
	codePutObjects commandCode = iota + 1
	codeSuppress
	codeUnsuppress
	codeSetGate
	codeRegister
	codeRenew
	codeTakeover
	codeHandover
	codeAdopted
	codeCloseLineage
	codeSetStandbys
	codeAdmit
	codeRemoveMember
	codeSeen
	codeBeginKey
	codeKeyReady
	codeKeyDone
	codePutCredential
	codeDeleteCredential
	codePutMeta
	codeNote
	codeKeyWrapped
	codeRelease
)

// newCommand returns an empty command of the code, and its name in the audit trail; nil where there is none.
func newCommand(code commandCode) (Command, string) {
	switch code {
	case codePutObjects:
		return &PutObjects{}, "settings"
	case codeSuppress:
		return &Suppress{}, "suppress"
	case codeUnsuppress:
		return &Unsuppress{}, "unsuppress"
	case codeSetGate:
		return &SetGate{}, "gate"
	case codeRegister:
		return &Register{}, "register lineage"
	case codeRenew:
		return &Renew{}, "renew"
	case codeTakeover:
		return &Takeover{}, "takeover"
	case codeHandover:
		return &Handover{}, "handover"
	case codeAdopted:
		return &Adopted{}, "adopted"
	case codeCloseLineage:
		return &CloseLineage{}, "close lineage"
	case codeSetStandbys:
		return &SetStandbys{}, "standbys"
	case codeAdmit:
		return &Admit{}, "admit member"
	case codeRemoveMember:
		return &RemoveMember{}, "remove member"
	case codeSeen:
		return &Seen{}, "seen"
	case codeBeginKey:
		return &BeginKey{}, "begin key"
	case codeKeyReady:
		return &KeyReady{}, "key ready"
	case codeKeyDone:
		return &KeyDone{}, "key done"
	case codePutCredential:
		return &PutCredential{}, "put credential"
	case codeDeleteCredential:
		return &DeleteCredential{}, "delete credential"
	case codePutMeta:
		return &PutMeta{}, "put meta"
	case codeNote:
		return &Note{}, "note"
	case codeKeyWrapped:
		return &KeyWrapped{}, "key wrapped"
	case codeRelease:
		return &Release{}, "release"
	}
	return nil, ""
}

// KindSuspension is the kind of objects that are no settings: they hold something back for a while.
const KindSuspension = "suspension"

// KindCleaning is the kind of objects that are no settings: they slow down a tenant's bulk mail to a receiver.
const KindCleaning = "cleaning"

// KindWarmth is the kind of objects that are no settings: they say where a source stands in the warm-up with its receivers.
const KindWarmth = "warmth"

// KindSource is the kind of objects that are no settings: they name the member that sends from an address.
const KindSource = "source"

// KindToken is the kind of objects that let programs use the HTTP APIs of a tenant; they hold hashes, and are no settings.
const KindToken = "token"

// ObjectChange puts or deletes one settings object.
type ObjectChange struct {
	Kind, Name string
	Base       uint64 // the version it was read at, 0 where it must not exist, or Any
	Data       []byte
	Delete     bool
}

// PutObjects changes settings objects, all or none. A base version that is not the present one is answered with
// Conflict, which names the object and its present version (0: it does not exist).
type PutObjects struct {
	Signed
	Changes []ObjectChange // each object once
}

func (*PutObjects) code() commandCode { return codePutObjects }
func (p *PutObjects) fields(c *codec) {
	list(c, &p.Changes, maxItems, func(c *codec, o *ObjectChange) {
		c.str(&o.Kind)
		c.str(&o.Name)
		c.uint(&o.Base)
		c.bool(&o.Delete)
		c.bytes(&o.Data)
	})
}

// Suppress adds suppressions; one that exists is replaced. Result.Added counts the new ones.
type Suppress struct {
	Signed
	Add []Suppression
}

func (*Suppress) code() commandCode { return codeSuppress }
func (s *Suppress) fields(c *codec) {
	before, size := &Suppression{}, 0
	list(c, &s.Add, maxItems, func(c *codec, v *Suppression) {
		v.fieldsAfter(c, before)
		// What the rows take in the book is bounded, not only what they take here.
		if size += v.size(); size > maxCommand {
			c.fail()
		}
		before = v
	})
}

// Unsuppress removes suppressions. Result.Removed counts those that were there; those that were not are no error.
type Unsuppress struct {
	Signed
	Remove []Suppressed
}

func (*Unsuppress) code() commandCode { return codeUnsuppress }
func (u *Unsuppress) fields(c *codec) {
	list(c, &u.Remove, maxItems, func(c *codec, v *Suppressed) { v.fields(c) })
}

// Found is a suppression as somebody found it: one that was put there again since is another.
type Found struct {
	Suppressed
	Since time.Time
}

// Release removes suppressions that have not changed since they were found, and leaves the others. Result.Removed counts
// those that it removed. It is for whoever decides by what he has read, and not by an operator's word.
type Release struct {
	Signed
	Remove []Found
}

func (*Release) code() commandCode { return codeRelease }
func (r *Release) fields(c *codec) {
	list(c, &r.Remove, maxItems, func(c *codec, v *Found) {
		v.Suppressed.fields(c)
		c.time(&v.Since)
	})
}

// SetGate merges a copy of a gate into the book. Version 0 stands for the next one. Author and At of the gate are those
// of the command where they are empty. Answers: OK with the version that holds now, or Stale where the book knows better.
type SetGate struct {
	Signed
	Gate Gate
}

func (*SetGate) code() commandCode { return codeSetGate }
func (g *SetGate) fields(c *codec) { g.Gate.fields(c) }

// Register makes a lineage, owned by the node that made it, in epoch 1. Registering again as the same owner in epoch 1
// is OK; anything else is Refused.
type Register struct {
	Signed
	Lineage mail.Lineage
	Node    string
	Address string
}

func (*Register) code() commandCode { return codeRegister }
func (r *Register) fields(c *codec) {
	c.uint32((*uint32)(&r.Lineage))
	c.str(&r.Node)
	c.str(&r.Address)
}

// Renew renews the leases of many lineages at once; each counts if the epoch is the present one. The answer is OK, and
// Result.Stale lists those whose lease was not renewed.
type Renew struct {
	Signed
	Lineages []LineageEpoch
}

func (*Renew) code() commandCode { return codeRenew }
func (r *Renew) fields(c *codec) {
	list(c, &r.Lineages, maxItems, func(c *codec, v *LineageEpoch) { v.fields(c) })
}

// Takeover gives a lineage to a new owner because the old one's lease ran out. It is Stale where the epoch is not
// FromEpoch, or where a renewal later than IfRenewed was applied. Result.Epoch is the new epoch.
type Takeover struct {
	Signed
	Lineage   mail.Lineage
	FromEpoch uint64
	IfRenewed uint64 // Lineage.Renewed that the timer ran on
	Force     bool   // an operator states that the owner is off: IfRenewed does not count
	NewOwner  string
	Address   string
}

func (*Takeover) code() commandCode { return codeTakeover }
func (t *Takeover) fields(c *codec) {
	c.uint32((*uint32)(&t.Lineage))
	c.uint(&t.FromEpoch)
	c.uint(&t.IfRenewed)
	c.bool(&t.Force)
	c.str(&t.NewOwner)
	c.str(&t.Address)
}

// Handover gives a lineage to a new owner with the consent of the present one, who has stopped delivering it.
type Handover struct {
	Signed
	LineageEpoch
	NewOwner string
	Address  string
}

func (*Handover) code() commandCode { return codeHandover }
func (h *Handover) fields(c *codec) {
	h.LineageEpoch.fields(c)
	c.str(&h.NewOwner)
	c.str(&h.Address)
}

// Adopted says that the new owner has everything of a taken lineage in its own: the lineage is closed.
type Adopted struct {
	Signed
	LineageEpoch
}

func (*Adopted) code() commandCode { return codeAdopted }
func (a *Adopted) fields(c *codec) { a.LineageEpoch.fields(c) }

// CloseLineage says that the owner has emptied a lineage and deleted its store.
type CloseLineage struct {
	Signed
	LineageEpoch
}

func (*CloseLineage) code() commandCode { return codeCloseLineage }
func (l *CloseLineage) fields(c *codec) { l.LineageEpoch.fields(c) }

// SetStandbys says where the copies of a lineage are.
type SetStandbys struct {
	Signed
	LineageEpoch
	Standbys []Standby
}

func (*SetStandbys) code() commandCode { return codeSetStandbys }
func (s *SetStandbys) fields(c *codec) {
	s.LineageEpoch.fields(c)
	list(c, &s.Standbys, maxItems, func(c *codec, v *Standby) { v.fields(c) })
}

// Admit makes a node a member, or changes its address, role or vote. A removed one is Refused unless the command has
// an author.
type Admit struct {
	Signed
	Name, Address, Role string
	Voter               bool
}

func (*Admit) code() commandCode { return codeAdmit }
func (a *Admit) fields(c *codec) {
	c.str(&a.Name)
	c.str(&a.Address)
	c.str(&a.Role)
	c.bool(&a.Voter)
}

// RemoveMember locks a member out.
type RemoveMember struct {
	Signed
	Name string
}

func (*RemoveMember) code() commandCode { return codeRemoveMember }
func (r *RemoveMember) fields(c *codec) { c.str(&r.Name) }

// Seen records a sign of life of members, at the command's time.
type Seen struct {
	Signed
	Names []string
}

func (*Seen) code() commandCode { return codeSeen }
func (s *Seen) fields(c *codec) { list(c, &s.Names, maxItems, (*codec).str) }

// BeginKey begins to hand out version Keys.Current+1 of the root key; any other version is Stale. The key under way gives
// way to another only while no member holds it.
type BeginKey struct {
	Signed
	Version uint64
	Print   []byte // fingerprint of the key
}

func (*BeginKey) code() commandCode { return codeBeginKey }
func (b *BeginKey) fields(c *codec) {
	c.uint(&b.Version)
	c.bytes(&b.Print)
}

// KeyReady says that a member holds the key being handed out. It is Stale where another one is.
type KeyReady struct {
	Signed
	Version uint64
	Print   []byte
	Node    string
}

func (*KeyReady) code() commandCode { return codeKeyReady }
func (k *KeyReady) fields(c *codec) {
	c.uint(&k.Version)
	c.bytes(&k.Print)
	c.str(&k.Node)
}

// KeyDone puts the key being handed out in force: all members seal under it. It is Refused while a member that is not
// removed does not hold it.
type KeyDone struct {
	Signed
	Version uint64
}

func (*KeyDone) code() commandCode { return codeKeyDone }
func (k *KeyDone) fields(c *codec) { c.uint(&k.Version) }

// KeyWrapped says that a member's data keys, here and at its standbys, are wrapped under the key in force.
type KeyWrapped struct {
	Signed
	Version uint64
	Node    string
}

func (*KeyWrapped) code() commandCode { return codeKeyWrapped }
func (k *KeyWrapped) fields(c *codec) {
	c.uint(&k.Version)
	c.str(&k.Node)
}

// PutCredential writes a token or an account; Base as in ObjectChange. The version in Credential does not count.
type PutCredential struct {
	Signed
	Credential Credential
	Base       uint64
}

func (*PutCredential) code() commandCode { return codePutCredential }
func (p *PutCredential) fields(c *codec) {
	p.Credential.fields(c)
	c.uint(&p.Base)
}

// DeleteCredential deletes a token or an account; one that is not there is NotFound.
type DeleteCredential struct {
	Signed
	CredentialID
}

func (*DeleteCredential) code() commandCode { return codeDeleteCredential }
func (d *DeleteCredential) fields(c *codec) {
	c.byte((*byte)(&d.Kind))
	c.str(&d.Name)
}

// PutMeta writes, or without Data deletes, a small named value; Base as in ObjectChange.
type PutMeta struct {
	Signed
	Name string
	Base uint64
	Data []byte
}

func (*PutMeta) code() commandCode { return codePutMeta }
func (p *PutMeta) fields(c *codec) {
	c.str(&p.Name)
	c.uint(&p.Base)
	c.bytes(&p.Data)
}

// Note writes a line into the audit trail and does nothing else. Without an author the trail names the cluster.
type Note struct {
	Signed
	Action, Subject, Detail string
}

func (*Note) code() commandCode { return codeNote }
func (n *Note) fields(c *codec) {
	c.str(&n.Action)
	c.str(&n.Subject)
	c.str(&n.Detail)
}

// AuditEntry is one line of the audit trail. Sum is the hash of the line and of the sum before it, so that a line cannot
// be changed or left out in between without the later ones showing it.
type AuditEntry struct {
	Seq     uint64 // counts from 1 without gaps
	Index   uint64 // of the entry that caused it
	At      time.Time
	Author  string
	Origin  string
	Action  string
	Subject string
	Detail  string // what came of it
	Sum     [32]byte
}

func (a *AuditEntry) fields(c *codec) {
	c.uint(&a.Seq)
	c.uint(&a.Index)
	c.time(&a.At)
	c.str(&a.Author)
	c.str(&a.Origin)
	c.str(&a.Action)
	c.str(&a.Subject)
	c.str(&a.Detail)
	c.sum(&a.Sum)
}
