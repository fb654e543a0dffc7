package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// Recovery is what Recover needs of its caller.
type Recovery struct {
	// Code gives the recovery code where no provider opens the keys.
	Code func() (string, error)
	// Confirm is shown what this member has, and refuses by an error.
	Confirm func(cluster.Remains) error
}

// errRunning: the data directory is in use.
var errRunning = errors.New("the node is running: stop it first")

// Recover makes the stopped member of cfg go on alone after the majority of its cluster was lost for good: what its log
// holds counts as agreed on, and what only the lost ones had is gone. Queues of the lost members of which it has copies
// are taken over when it starts; new members join it as usual. cfg has a cluster section.
func Recover(ctx context.Context, cfg Config, r Recovery) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if c, err := net.DialTimeout("tcp", cfg.Cluster.Address, time.Second); err == nil {
		_ = c.Close()
		return fmt.Errorf("node: %s answers: %w", cfg.Cluster.Address, errRunning)
	}
	vault, err := openKeys(ctx, cfg, r.Code)
	if err != nil {
		return err
	}
	defer vault.Close()
	box := seal.NewBox(vault.Root(), seal.BoxAgreed)
	book, err := ledger.Open(ledger.Config{Dir: cfg.Node.Data + "/ledger", Box: box})
	if err != nil {
		return fmt.Errorf("node: open ledger: %w", err)
	}
	defer book.Close()
	c := cluster.Config{Name: cfg.Node.Name, Dir: cfg.Node.Data + "/raft", Ledger: book, Box: box}
	has, err := cluster.Inspect(c)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if err := r.Confirm(has); err != nil {
		return err
	}
	if err := cluster.Recover(c, []cluster.Peer{{Name: cfg.Node.Name, Address: cfg.Cluster.Address, Voter: true}}); err != nil {
		return fmt.Errorf("node: recover: %w", err)
	}
	return nil
}

// openKeys opens the keys of a node that does not run.
func openKeys(ctx context.Context, cfg Config, code func() (string, error)) (*seal.Vault, error) {
	n := &Node{cfg: cfg}
	v, err := seal.OpenVault(cfg.Node.Data, seal.Config{Providers: n.providers(), Loopback: cfg.OnLoopback()})
	if err != nil {
		return nil, fmt.Errorf("node: open keys: %w", err)
	}
	if _, err := v.AutoUnseal(ctx); err == nil {
		return v, nil
	}
	text, err := code()
	if err == nil {
		err = v.Unseal(ctx, clock.Wall(), text)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("node: unseal: %w", err), v.Close())
	}
	return v, nil
}
