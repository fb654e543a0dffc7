package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// keyService rotates the root key of a node that is alone. The book says how far a rotation is, by versions that count
// from 0, so that a crash anywhere on the way leaves either the former key and its code, or the new key in force and the
// rest to be done at the next start:
//
//	book: next=v ─▶ new key and code in force on disk ─▶ data keys wrapped anew ─▶ former wrapping key gone ─▶ book: current=v
//	             ▲ a crash before: begun again by the same command
//	                                                  ▲ a crash from here on: finishRotation at the next start
type keyService struct{ *Node }

// errClusterKeys is why members of a cluster do not rotate: all of them would have to change together.
var errClusterKeys = fmt.Errorf("%w: the root key of a cluster cannot be rotated in this release; only that of a node alone", service.ErrRefused)

// Status implements service.Keys.
func (n keyService) Status(context.Context) (service.KeyState, error) {
	m, err := n.agree()
	if err != nil {
		return service.KeyState{}, err
	}
	root := n.vault.Root()
	if root == nil {
		return service.KeyState{}, service.ErrSealed
	}
	k := service.KeyState{Version: uint32(root.Version())}
	k.Since, _ = m.metaTime(metaRotated)
	return k, nil
}

// metaRotated is the name under which the book keeps when the root key was last rotated.
const metaRotated = "root key rotated"

// Rotate implements service.Keys.
func (n keyService) Rotate(ctx context.Context, author string) (k service.KeyState, code string, err error) {
	if n.inCluster() {
		return k, "", errClusterKeys
	}
	m, err := n.agree()
	if err != nil {
		return k, "", err
	}
	e, err := n.running()
	if err != nil {
		return k, "", err
	}
	if !n.rotating.TryLock() {
		return k, "", fmt.Errorf("%w: a rotation is under way", service.ErrRefused)
	}
	defer n.rotating.Unlock()
	if err := n.finish(ctx, m, e); err != nil { // of a former one, that failed or was cut off
		return k, "", err
	}
	next := uint64(n.vault.Root().Version()) // of the book: one less than the new root's
	if _, err := m.command(ctx, &ledger.BeginKey{Signed: m.by(author), Version: next}); err != nil {
		return k, "", err
	}
	// From here on the caller's patience does not count: a code that was made must be shown.
	ctx = context.WithoutCancel(ctx)
	code, err = n.vault.Rotate(ctx)
	var form *seal.ProviderError
	switch {
	case errors.Is(err, seal.ErrLastVersion), errors.As(err, &form):
		return k, "", fmt.Errorf("%w: %w", service.ErrRefused, err)
	case err != nil:
		return k, "", fmt.Errorf("node: %w", err)
	}
	m.box.Renew(n.vault.Root())
	n.log.Warn("the root key was rotated: the former recovery code opens nothing any more", "version", next+1)
	if err := n.finish(ctx, m, e); err != nil {
		// The key is in force and its code must be told; the rest is tried again at the next start.
		n.log.Error("the rotation of the root key is not finished", "error", err)
	}
	k, err = n.Status(ctx)
	return k, code, err
}

// finishRotation does what a crash or a failure left of a rotation. It is tried once at each start.
func (n *Node) finishRotation(ctx context.Context, m *member, e *engine) {
	n.rotating.Lock()
	defer n.rotating.Unlock()
	if err := (keyService{n}).finish(ctx, m, e); err != nil && ctx.Err() == nil {
		n.log.Error("the rotation of the root key is not finished; it is tried again at the next start", "error", err)
	}
}

// finish wraps all data keys under the root key in force, drops the former wrapping key and tells the book, where a
// rotation has come so far; else it does nothing. It may be cut off anywhere and run again.
func (n keyService) finish(ctx context.Context, m *member, e *engine) error {
	under := m.book.State().Keys().Next
	if under == 0 || under != uint64(n.vault.Root().Version())-1 {
		return nil // none, or it was cut off before the new key was in force
	}
	if err := e.store.Rewrap(ctx); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	_, err := os.Stat(filepath.Join(n.cfg.Node.Data, replicaDir))
	// A copy of another's queue, from a time in a cluster, may need the former wrapping key: then it is carried on.
	if errors.Is(err, os.ErrNotExist) {
		if err := n.vault.DropOlder(); err != nil {
			return fmt.Errorf("node: %w", err)
		}
	}
	if err := m.putTime(ctx, metaRotated); err != nil {
		return err
	}
	if _, err := m.command(ctx, &ledger.Note{Signed: m.stamp(), Action: "rotate keys", Subject: fmt.Sprint(under + 1),
		Detail: "in force; all data keys are wrapped under it"}); err != nil {
		return err
	}
	name := n.cfg.Node.Name
	if v, found := m.book.State().Member(name); found && !v.Removed {
		if _, err := m.command(ctx, &ledger.KeyReady{Signed: m.stamp(), Version: under, Node: name}); err != nil {
			return err
		}
	}
	_, err = m.command(ctx, &ledger.KeyDone{Signed: m.stamp(), Version: under})
	return err
}
