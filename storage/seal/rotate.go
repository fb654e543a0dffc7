package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrLastVersion is reported for a store whose root key was rotated 254 times.
var ErrLastVersion = errors.New("the root key has its last version")

// Names beside DIR/keys while the root key rotates. As long as "replaced" is there, the rotation has not happened.
const (
	freshSuffix    = ".new"
	replacedSuffix = ".rotate-replaced"
	spentSuffix    = ".rotate-spent"
)

// Draft is a root key that was drawn and is nobody's yet. Its owner calls Wipe.
type Draft struct {
	Fingerprint []byte // of the root key drawn: see Root.Fingerprint

	root    *Root
	key     []byte
	code    [codeSize]byte
	secrets [][]byte // of providers
}

// Wipe clears what is left of the draft.
func (d *Draft) Wipe() {
	clear(d.key)
	clear(d.code[:])
	wipe(d.secrets)
	d.root.Close() // what became the vault's is not its any more
}

// Draw draws the root key that is to follow, and a recovery code: see Take. A staged root is followed by one of its own
// version. A provider whose key is malformed is a *ProviderError; one that does not answer, or takes longer
// than 30 s, is logged and left for EnrolMissing.
func (v *Vault) Draw(ctx context.Context) (*Draft, error) {
	if v.Root() == nil {
		return nil, ErrSealed
	}
	secrets, err := v.secrets(ctx) // not under op: a provider may take its time
	if err == nil {
		var d *Draft
		if d, err = v.draw(secrets); err == nil {
			return d, nil
		}
	}
	wipe(secrets)
	return nil, err
}

// draw draws a root key, with the secrets of providers that go with it.
func (v *Vault) draw(secrets [][]byte) (*Draft, error) {
	v.op.Lock()
	defer v.op.Unlock()
	switch {
	case v.root == nil:
		return nil, ErrSealed
	case v.root.Version() == maxVersion:
		return nil, ErrLastVersion
	}
	d := &Draft{key: make([]byte, KeySize), code: newCode(), secrets: secrets}
	rand.Read(d.key)
	var err error
	if d.root, err = RootFrom(bytes.Clone(d.key)); err != nil {
		return nil, err
	}
	d.root.inherit(v.root.bequeath())
	d.Fingerprint = d.root.Fingerprint()
	return d, nil
}

// Take makes a draft the root key of this node, staged, and returns its recovery code this once: the former code opens
// nothing here any more. Whoever holds Root has the new key from then on; boxes take it with Box.Renew. Everything that was sealed before
// still opens. After an error or a crash on the way the former root key and code hold.
func (v *Vault) Take(d *Draft) (code string, err error) {
	v.op.Lock()
	defer v.op.Unlock()
	if v.root == nil {
		return "", ErrSealed
	}
	fresh, err := v.writeDir(d.secrets, v.store, d.key, d.root, d.code)
	if err == nil {
		err = v.succeed(fresh, d.key, d.root, d.secrets)
	}
	if err != nil {
		return "", fmt.Errorf("rotate root key: %w", err)
	}
	return codeText(d.code), nil
}

// succeed makes next, which key is and whose files are in fresh, the vault's root key in the place of the present one. secrets
// are those of the providers that have a slot there.
func (v *Vault) succeed(fresh string, key []byte, next *Root, secrets [][]byte) error {
	former := v.root.copyKey()
	defer clear(former)
	v.keepWarm(key) // first: after a crash behind the swap it is the one thing that opens without the new code
	if err := v.swapDir(fresh); err != nil {
		v.keepWarm(former)
		return err
	}
	v.setEnrolled(secrets, false)
	if err := v.root.become(next); err != nil {
		v.cfg.Log.Warn("the memory of the former root key was not given back", "error", err)
	}
	return nil
}

// swapDir puts the key files in fresh in the place of the present ones, or leaves those where they are.
func (v *Vault) swapDir(fresh string) (err error) {
	parent, replaced, spent := filepath.Dir(v.dir), v.dir+replacedSuffix, v.dir+spentSuffix
	if err := os.RemoveAll(spent); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			if _, statErr := os.Stat(spent); statErr == nil {
				err = errors.Join(err, os.Rename(spent, replaced))
			}
			err = errors.Join(err, undoRotation(v.dir))
		}
	}()
	if err := os.Rename(v.dir, replaced); err != nil {
		return err
	}
	if err := os.Rename(fresh, v.dir); err != nil {
		return err
	}
	if err := syncDir(parent); err != nil {
		return err
	}
	if err := os.Rename(replaced, spent); err != nil { // from here on the rotation has happened
		return err
	}
	if err := syncDir(parent); err != nil {
		return err
	}
	if rmErr := os.RemoveAll(spent); rmErr != nil {
		v.cfg.Log.Warn("files of the former root key were not deleted", "path", spent, "error", rmErr)
	}
	return nil
}

// undoRotation brings back the key files that a rotation had put aside when it ended in the middle: nobody saw the code
// of the new ones, and nothing is sealed under them. The new ones are kept as DIR/keys.new until the next rotation.
func undoRotation(dir string) error {
	replaced := dir + replacedSuffix
	if _, err := os.Stat(replaced); errors.Is(err, os.ErrNotExist) {
		return os.RemoveAll(dir + spentSuffix) // left by a crash behind a rotation
	} else if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err == nil {
		if err := os.RemoveAll(dir + freshSuffix); err != nil {
			return err
		}
		if err := os.Rename(dir, dir+freshSuffix); err != nil {
			return err
		}
	}
	if err := os.Rename(replaced, dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// DropOlder forgets the keys that wrapped data keys under earlier roots. It must only be called once every wrapped data
// key, in every store and copy that this node may yet have to open, is wrapped under the present root: what is not is
// unreadable from then on.
func (v *Vault) DropOlder() error {
	v.op.Lock()
	defer v.op.Unlock()
	if v.root == nil {
		return ErrSealed
	}
	h := v.root.withoutWrapping()
	if h == nil {
		return nil
	}
	if v.root.Staged() {
		h.wipe()
		return errors.New("the root key is not in force: what it carries over still seals")
	}
	s, err := readSlot(filepath.Join(v.dir, recoveryFile))
	if err == nil {
		s.Heritage = v.root.sealHeritage(h, v.store)
		s.Sum = s.sum()
		err = writeSlot(v.dir, recoveryFile, s)
	}
	if err != nil {
		h.wipe()
		return fmt.Errorf("drop keys of earlier roots: %w", err)
	}
	v.root.inherit(h)
	return nil
}

// KeepsOlder tells whether keys that wrapped data keys under earlier roots are still there: see DropOlder.
func (v *Vault) KeepsOlder() bool {
	root := v.Root()
	return root != nil && root.keepsOlder()
}

// takeHeritage gives root what it carries over from earlier ones. s is the slot that it was opened with.
func (v *Vault) takeHeritage(root *Root, s *slot) error {
	recovery, err := readSlot(filepath.Join(v.dir, recoveryFile))
	if errors.Is(err, os.ErrNotExist) && s.Root == 0 {
		return nil // a first root has none
	}
	if err != nil {
		return fmt.Errorf("recovery file: %w", err)
	}
	if recovery.Root != s.Root || !root.isCheck(recovery.Check) {
		return fmt.Errorf("%w: %s is of another root key", ErrDamaged, recoveryFile)
	}
	if recovery.Root == 0 {
		return nil
	}
	h, err := root.openHeritage(recovery.Heritage, v.store)
	if err == nil && h.version != recovery.Root {
		h.wipe()
		err = ErrDamaged
	}
	if err != nil {
		return fmt.Errorf("%w: heritage in %s", err, recoveryFile)
	}
	root.inherit(h)
	return nil
}
