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
}

// Wipe clears the key.
func (s *Share) Wipe() { clear(s.Key) }

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
	return &Share{Key: v.root.copyKey(), Store: bytes.Clone(v.store), Recovery: recovery}, nil
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
	fresh := v.dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.MkdirAll(fresh, 0o700); err != nil {
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
// with them; one that has keys takes no others (ErrForeign).
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
	s, err := v.anySlot()
	if err != nil {
		return err
	}
	secrets, err := v.secrets(ctx)
	defer wipe(secrets)
	if err = errors.Join(err, enrol(v.dir, secrets, share.Key, s)); err != nil {
		v.cfg.Log.Warn("unseal provider not enrolled", "error", err.Error())
	}
	return v.accept(bytes.Clone(share.Key), s)
}
