package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Share is what one member of a cluster gives to another so that it can open what they have in common. It holds the
// root key: it must only ever travel over a connection both ends of which have proved who they are, and be wiped.
type Share struct {
	Key      []byte // root key, KeySize bytes
	Store    []byte // identity that all members' key files carry
	Recovery []byte // recovery.json: the root key under the recovery code, so that the same code opens every member
	InForce  bool   // the giver seals under it
}

// Wipe clears the key.
func (s *Share) Wipe() { clear(s.Key) }

// ErrOutdated: a share holds an earlier root key than this node's.
var ErrOutdated = errors.New("the keys offered are older than those of this node")

// ErrForeign: a share belongs to another cluster than the keys in this directory.
var ErrForeign = errors.New("the keys offered belong to another cluster")

// Share copies out what another member needs. ErrSealed where the root key is not in memory.
func (v *Vault) Share() (*Share, error) {
	v.op.Lock()
	defer v.op.Unlock()
	if v.root == nil {
		return nil, ErrSealed
	}
	recovery, err := v.recoveryFile()
	if err != nil {
		return nil, err
	}
	return &Share{Key: v.root.copyKey(), Store: bytes.Clone(v.store), Recovery: recovery, InForce: !v.root.Staged()}, nil
}

func successionIdentity(store []byte) []byte { return append([]byte("ekiden succession "), store...) }

// ShareFor is Share for a member that seals under the root key of a version: the key in it is sealed under that one, so that who
// has only the member's certificate gets nothing. ErrOutdated where this node does not know that root.
func (v *Vault) ShareFor(version byte) (*Share, error) {
	share, err := v.Share()
	if err != nil {
		return nil, err
	}
	defer share.Wipe()
	kek := v.Root().boxKey(boxSuccession, version)
	if kek == nil {
		return nil, ErrOutdated
	}
	defer clear(kek)
	sealed := *share
	sealed.Key = wrapKey(kek, share.Key, successionIdentity(share.Store))
	return &sealed, nil
}

// Succeed takes the root key that another member gave by ShareFor in the place of this node's. It is staged unless it is in
// force with the giver. A share of this node's own key changes nothing; ErrOutdated where it is an earlier one, and where it
// would replace one in force by another of the same version.
func (v *Vault) Succeed(ctx context.Context, share *Share) error {
	if v.Root() == nil {
		return ErrSealed
	}
	secrets := v.given(ctx) // not under op: a provider may take its time, and others ask for a share meanwhile
	defer wipe(secrets)
	v.op.Lock()
	defer v.op.Unlock()
	switch {
	case v.root == nil:
		return ErrSealed
	case !bytes.Equal(v.store, share.Store):
		return ErrForeign
	}
	version := v.root.Version()
	kek := v.root.boxKey(boxSuccession, v.root.InUse())
	defer clear(kek)
	key, err := unwrapKey(kek, share.Key, successionIdentity(v.store))
	if err != nil {
		return fmt.Errorf("root key of another member: %w", err)
	}
	defer clear(key)
	next, slot, err := v.offered(key, share)
	if err != nil {
		return err
	}
	defer next.Close()
	if v.root.isCheck(slot.Check) {
		return nil
	}
	if next.Version() < version || next.Version() == version && !v.root.Staged() {
		return ErrOutdated
	}
	next.carry(v.root.bequeath())
	if share.InForce {
		next.Enforce()
	}
	fresh, err := v.writeGiven(secrets, key, next, slot)
	if err == nil {
		err = v.succeed(fresh, key, next, secrets)
	}
	if err != nil {
		return fmt.Errorf("take root key: %w", err)
	}
	return nil
}

// offered returns the root key that key is, with what it carries over, and its recovery file. They may be of a root that
// this vault has no files of.
func (v *Vault) offered(key []byte, share *Share) (*Root, *slot, error) {
	s, err := decodeSlot(share.Recovery)
	if err != nil || s.Opener != openerCode || !bytes.Equal(s.Store, share.Store) {
		return nil, nil, fmt.Errorf("recovery file of the cluster: %w", ErrDamaged)
	}
	root, err := RootFrom(bytes.Clone(key))
	if err != nil {
		return nil, nil, err
	}
	if !root.isCheck(s.Check) {
		return nil, nil, errors.Join(errors.New("it holds another key"), root.Close())
	}
	if s.Root != 0 {
		h, err := root.openHeritage(s.Heritage, s.Store)
		if err == nil && h.version != s.Root {
			h.wipe()
			err = ErrDamaged
		}
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%w: heritage in the recovery file of the cluster", err), root.Close())
		}
		root.inherit(h)
	}
	return root, s, nil
}

// given is secrets where one whose key is malformed keeps nothing from going on.
func (v *Vault) given(ctx context.Context) [][]byte {
	secrets, err := v.secrets(ctx)
	if err != nil {
		v.cfg.Log.Warn("unseal provider not enrolled", "error", err.Error())
	}
	return secrets
}

// writeGiven writes the files of a root key that another member gave into a new directory and returns its name.
func (v *Vault) writeGiven(secrets [][]byte, key []byte, root *Root, s *slot) (fresh string, err error) {
	if root.heritage != nil {
		s.Heritage = root.sealHeritage(root.heritage, s.Store)
		s.Sum = s.sum()
	}
	if fresh, err = v.freshDir(); err != nil {
		return "", err
	}
	if err := writeSlot(fresh, recoveryFile, s); err != nil {
		return "", err
	}
	return fresh, enrol(fresh, secrets, key, s)
}

// Recovery returns the file that the recovery code opens, and the identity in it. Both are as good as public; nil while
// there is none.
func (v *Vault) Recovery() (recovery, store []byte, err error) {
	v.op.Lock()
	defer v.op.Unlock()
	if v.store == nil {
		return nil, nil, nil
	}
	recovery, err = v.recoveryFile()
	return recovery, bytes.Clone(v.store), err
}

func (v *Vault) recoveryFile() ([]byte, error) {
	s, err := readSlot(filepath.Join(v.dir, recoveryFile))
	if err != nil {
		return nil, fmt.Errorf("recovery file: %w", err)
	}
	return s.encode(), nil
}

// Enrol takes the recovery file of a cluster into a directory without keys: from then on the node is sealed, and the
// cluster's recovery code opens it. ErrNotNew where there are keys.
func (v *Vault) Enrol(recovery []byte) error {
	v.op.Lock()
	defer v.op.Unlock()
	return v.enrol(recovery)
}

func (v *Vault) enrol(recovery []byte) error {
	if v.store != nil {
		return ErrNotNew
	}
	s, err := decodeSlot(recovery)
	if err != nil || s.Opener != openerCode {
		return fmt.Errorf("recovery file of the cluster: %w", ErrDamaged)
	}
	fresh, err := v.freshDir()
	if err != nil {
		return err
	}
	if err := writeSlot(fresh, recoveryFile, s); err != nil {
		return err
	}
	if err := os.Rename(fresh, v.dir); err != nil {
		return err
	}
	v.mu.Lock()
	v.store = s.Store
	v.mu.Unlock()
	return syncDir(filepath.Dir(v.dir))
}

// Receive unseals with what another member gave, which is wiped. A node without keys takes the cluster's recovery file
// with them; one that has keys of an earlier root takes the later ones, and from then on only the later code opens it. Keys
// of another cluster are ErrForeign, earlier ones ErrOutdated.
func (v *Vault) Receive(ctx context.Context, share *Share) error {
	defer share.Wipe()
	v.op.Lock()
	defer v.op.Unlock()
	if v.root != nil {
		return nil
	}
	if v.store == nil {
		if err := v.enrol(share.Recovery); err != nil {
			return fmt.Errorf("enrol: %w", err)
		}
	}
	if !bytes.Equal(v.store, share.Store) {
		return ErrForeign
	}
	own, err := v.anySlot()
	if err != nil {
		return err
	}
	root, s, err := v.offered(share.Key, share)
	if err != nil {
		return err
	}
	if share.InForce {
		root.Enforce()
	}
	switch {
	case s.Root < own.Root:
		err = ErrOutdated
	case bytes.Equal(own.Check, s.Check):
		v.enrolMore(ctx, share.Key, own)
	default:
		var fresh string
		secrets := v.given(ctx)
		defer wipe(secrets)
		if fresh, err = v.writeGiven(secrets, share.Key, root, s); err == nil {
			err = v.swapDir(fresh)
		}
		if err == nil {
			v.setEnrolled(secrets, false)
		}
	}
	if err != nil {
		return errors.Join(err, root.Close())
	}
	v.open(root, share.Key, v.store)
	return nil
}

// enrolMore adds providers that have no slot yet. That one is missing only shows at a later start.
func (v *Vault) enrolMore(ctx context.Context, key []byte, like *slot) {
	secrets := v.given(ctx)
	defer wipe(secrets)
	if err := enrol(v.dir, secrets, key, like); err != nil {
		v.cfg.Log.Warn("unseal provider not enrolled", "error", err.Error())
		return
	}
	v.setEnrolled(secrets, true)
}
