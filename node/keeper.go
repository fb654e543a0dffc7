package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/unseal"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// keeper answers other members' questions about the root key.
type keeper struct{ *Node }

// Status implements unseal.Member.
func (k keeper) Status() unseal.Status { return k.forming.status() }

// Recovery implements unseal.Member.
func (k keeper) Recovery() []byte {
	file, _, err := k.vault.Recovery()
	if err != nil {
		k.log.Warn("recovery file not given to a member", "error", err)
		return nil
	}
	return file
}

// releaseWait is how long the note of a release may take: without it in the audit trail no key leaves.
const releaseWait = 5 * time.Second

// Release implements unseal.Member.
func (k keeper) Release(peer unseal.Status, session string) (*unseal.Share, error) {
	m := k.member.Load()
	if m == nil {
		return nil, errors.New("sealed, or not part of the agreement yet")
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseWait)
	defer cancel()
	if first := k.firstMembers.Load(); first == nil || !first.names[peer.Name] || !m.forming() { // who founds has no quorum yet
		if err := m.caughtUp(ctx); err != nil {
			return nil, fmt.Errorf("no quorum: %w", err)
		}
	}
	facts, released := m.facts(peer.Name, session)
	ok, why := unseal.Release(facts)
	k.log.Warn("a member asked for the root key", "member", peer.Name, "given", ok, "why", why)
	if !ok {
		return nil, errors.New(why)
	}
	if err := m.noteRelease(ctx, peer.Name, session, why, released); err != nil {
		return nil, err
	}
	return shared(k.vault.Share())
}

// Next implements unseal.Member.
func (k keeper) Next(peer unseal.Status) (*unseal.Share, error) {
	m := k.member.Load()
	if m == nil {
		return nil, errors.New("sealed, or not part of the agreement yet")
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseWait)
	defer cancel()
	if err := m.caughtUp(ctx); err != nil {
		return nil, fmt.Errorf("no quorum: %w", err)
	}
	facts, _ := m.facts(peer.Name, "")
	ok, why := unseal.HandOver(facts)
	if t := m.turn(); ok && (t.Next != 0 && !t.Holds() || uint64(peer.InUse) > t.Held) {
		ok, why = false, "this member does not hold the next root key"
	}
	k.log.Warn("a member asked for the next root key", "member", peer.Name, "given", ok, "why", why)
	if !ok {
		return nil, errors.New(why)
	}
	share, err := shared(k.vault.ShareFor(peer.InUse)) // first: what cannot be given is not noted as given
	if err != nil {
		return nil, err
	}
	if err := m.note(ctx, "hand over key", peer.Name, why); err != nil {
		return nil, err
	}
	return share, nil
}

// shared is what the vault gives, as it goes over the wire.
func shared(share *seal.Share, err error) (*unseal.Share, error) {
	if err != nil {
		return nil, err
	}
	return &unseal.Share{Store: hex.EncodeToString(share.Store), Key: share.Key, Recovery: share.Recovery, InForce: share.InForce}, nil
}

// metaReleased is the name under which the book keeps the release of a member that was last given the key.
func metaReleased(name string) string { return "key released to " + name }

// release is when a member was given the key, by the machine's clock, and to which of its sessions. Both are one value of the book, so that of two
// who ask at the same moment only one is written down, and nothing is half known.
type release struct {
	at      time.Time
	session string
}

// releaseTime is how long a time in UTC is in a release, in octets.
const releaseTime = 15

func (r release) encode() ([]byte, error) {
	at, err := r.at.UTC().MarshalBinary()
	return append(at, r.session...), err
}

func decodeRelease(data []byte) (r release, ok bool) {
	if len(data) < releaseTime || r.at.UnmarshalBinary(data[:releaseTime]) != nil {
		return r, false
	}
	r.session = string(data[releaseTime:])
	return r, true
}

// metaAdmitted is the name under which the book keeps when an operator last admitted a member, by the machine's clock.
func metaAdmitted(name string) string { return "admitted " + name }

// forming tells whether the cluster is being founded and has no quorum yet: the first members need the key before they
// can vote.
func (m *member) forming() bool {
	first := m.node.firstMembers.Load()
	return first != nil && clock.Since(first.at) <= unseal.Window
}

// firstMembers is whom this node founded the cluster with, and when by the machine's clock; it is kept in memory only.
type firstMembers struct {
	names  map[string]bool
	at     time.Time
	joined sync.Map // name -> true: seen since, so they have the key
}

// has tells whether a member was seen since.
func (f *firstMembers) has(name string) bool {
	_, seen := f.joined.Load(name)
	return seen
}

// facts collects what Release must know of the member that asks in a session. released is the version at which the book
// was read for it: see noteRelease.
func (m *member) facts(name, session string) (f unseal.Facts, released uint64) {
	now := clock.Wall()
	f.Admitted = -1
	s := m.book.State()
	if v, ok := s.Member(name); ok {
		f.Member, f.Removed = !v.Removed, v.Removed
		f.Renewed = now.Sub(m.heardOf(name))
	}
	if at, ok := m.metaTime(metaAdmitted(name)); ok {
		f.Admitted = now.Sub(at)
	}
	last, _ := s.Meta(metaReleased(name))
	if r, ok := decodeRelease(last.Data); ok {
		again := session != "" && r.session == session // the answer was lost
		f.Given = !m.heardOf(name).After(r.at) && !again
	}
	for _, a := range m.alive() {
		f.Alive = f.Alive || a.Name == name
	}
	first := m.node.firstMembers.Load()
	if first == nil || !first.names[name] {
		return f, last.Version
	}
	// Until it has joined it may ask again: an answer can be lost.
	if f.Forming = now.Sub(first.at); !first.has(name) {
		f.Member, f.Missing = false, 1
	}
	return f, last.Version
}

func (m *member) metaTime(name string) (time.Time, bool) {
	v, ok := m.book.State().Meta(name)
	if !ok {
		return time.Time{}, false
	}
	var at time.Time
	return at, at.UnmarshalBinary(v.Data) == nil
}

// noteRelease writes into the book that the key is given, before it is. While the cluster is being founded there is no
// quorum to write with: then the founder itself remembers, and the others write when they can. base is what facts returned:
// where the key was given meanwhile, by another member or to another session, it is not given again.
func (m *member) noteRelease(ctx context.Context, name, session, why string, base uint64) error {
	if first := m.node.firstMembers.Load(); first != nil && m.forming() && first.names[name] {
		go func() { // ends with its context
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, _ = m.propose(ctx, &ledger.Note{Signed: m.stamp(), Action: "unseal", Subject: name, Detail: why})
		}()
		return nil
	}
	data, err := release{clock.Wall(), session}.encode()
	if err == nil {
		err = m.putMeta(ctx, metaReleased(name), base, data)
	}
	if errors.Is(err, ledger.ErrConflict) {
		return errors.New("the key was given at this moment already, by another member or to another session")
	}
	if err != nil {
		return fmt.Errorf("the release could not be noted: %w", err)
	}
	return m.note(ctx, "unseal", name, why)
}

// note writes a line about a member into the audit trail.
func (m *member) note(ctx context.Context, action, name, why string) error {
	r, err := m.propose(ctx, &ledger.Note{Signed: m.stamp(), Action: action, Subject: name, Detail: why})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("the release could not be noted: %w", err)
	}
	return nil
}

// putTime keeps a time in the book under a name.
func (m *member) putTime(ctx context.Context, name string, at time.Time) error {
	data, err := at.MarshalBinary()
	if err != nil {
		return err
	}
	return m.putMeta(ctx, name, ledger.Any, data)
}

func (m *member) putMeta(ctx context.Context, name string, base uint64, data []byte) error {
	r, err := m.propose(ctx, &ledger.PutMeta{Signed: m.stamp(), Name: name, Base: base, Data: data})
	if err != nil {
		return err
	}
	return r.Err()
}

// decodeStore reads the identity of keys as members write it.
func decodeStore(text string) ([]byte, error) {
	id, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("identity of the keys: %w", seal.ErrForeign)
	}
	return id, nil
}
