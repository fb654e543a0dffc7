package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/unseal"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// formation is how a member of a cluster comes by its root key where no provider of its own gave it: it looks for the
// others until it may found the cluster, or one of them gives it the key, or an operator comes.
type formation struct {
	node *Node
	wire *wire.Wire

	session string // a secret of this process: by it a lost answer can be given again (see unseal.AskKey)

	fresh bool      // the node had no keys when it started: it asks members whatever its providers are
	begun time.Time // when it began to look

	mu    sync.Mutex
	known map[string]bool // addresses of cluster ports, our own not among them
	told  map[string]bool // refusals that are in the log already
}

const (
	formationPause = 500 * time.Millisecond
	formationDial  = 2 * time.Second
	enrolAfter     = 20 * time.Second // without a key from anybody: then an operator with the code is needed
	mostKnown      = 256              // addresses kept; a cluster has a hundred members at most
	foundingFile   = "founding.json"
)

func newFormation(n *Node, w *wire.Wire) *formation {
	f := &formation{node: n, wire: w, session: rand.Text(), known: map[string]bool{}, told: map[string]bool{}}
	f.learn(n.cfg.Cluster.Join)
	return f
}

// learn adds addresses at which members may be.
func (f *formation) learn(addresses []string) {
	own := f.wire.Addr().String()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range addresses {
		if a != own && a != f.node.cfg.Cluster.Address && len(f.known) < mostKnown {
			f.known[a] = true
		}
	}
}

func (f *formation) addresses() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]string, 0, len(f.known))
	for a := range f.known {
		out = append(out, a)
	}
	slices.Sort(out)
	return out
}

// status is what this node says of its keys.
func (f *formation) status() unseal.Status {
	states := map[seal.State]string{seal.New: unseal.StateNew, seal.Sealed: unseal.StateSealed, seal.Unsealed: unseal.StateUnsealed}
	s := unseal.Status{Name: f.node.cfg.Node.Name, Address: f.wire.Addr().String(), State: states[f.node.vault.State()],
		Store: f.node.vault.Identity(), Known: append(f.addresses(), f.wire.Addr().String())}
	if root := f.node.vault.Root(); root != nil {
		s.Version, s.InUse = root.Version(), root.InUse()
	}
	return s
}

// catchUp takes the root key that the other members seal under, where this node opened itself with an earlier one: it could
// not read what they agree on. Where nobody is reached it goes on with what it has.
func (f *formation) catchUp(ctx context.Context) error {
	own := f.status()
	var last error
	for _, p := range f.ask(ctx, own) {
		if p.State != unseal.StateUnsealed || p.InUse <= own.Version {
			continue
		}
		c, name, err := f.dial(ctx, p.Address)
		var share *unseal.Share
		if err == nil {
			share, err = unseal.AskNext(c, own, clock.Wall())
		}
		if err == nil {
			err = f.node.succeed(ctx, share)
		}
		if err == nil {
			f.node.log.Warn("took the root key in force", "member", name)
			return nil
		}
		last = err
	}
	if last != nil {
		return fmt.Errorf("node: the other members have a later root key and do not give it: admit this node, or start it with an empty data directory: %w", last)
	}
	return nil
}

// run looks for the key until the vault is open or ctx ends.
func (f *formation) run(ctx context.Context) error {
	pause := time.NewTicker(formationPause)
	defer pause.Stop()
	f.fresh, f.begun = f.node.vault.State() == seal.New, clock.Wall()
	for f.node.vault.State() != seal.Unsealed {
		if err := f.step(ctx); err != nil {
			return err
		}
		if f.node.vault.State() == seal.Unsealed {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
	}
	return nil
}

// step asks everybody once and does what Decide says.
func (f *formation) step(ctx context.Context) error {
	own := f.status()
	peers := f.ask(ctx, own)
	expect := f.node.cfg.Cluster.Expect
	if expect == 0 && len(f.node.cfg.Cluster.Join) > 0 {
		expect = mostKnown // who is only told whom to join founds nothing
	}
	choice := unseal.Decide(own, peers, expect)
	if own.State == unseal.StateSealed && !f.fresh && !f.node.asksPeers() {
		choice = unseal.Choice{}
	}
	switch choice.Action {
	case unseal.Found:
		return f.found(ctx, own, peers)
	case unseal.Ask:
		for _, m := range choice.Members {
			if f.receive(ctx, own, m) {
				return nil
			}
		}
	case unseal.Wait:
	}
	if own.State == unseal.StateNew && clock.Since(f.begun) > enrolAfter {
		f.enrol(ctx, own, peers)
	}
	return nil
}

// asksPeers tells whether members are among the providers of the root key. For a node without keys that is no question:
// it has no other way into a cluster.
func (n *Node) asksPeers() bool {
	return slices.ContainsFunc(n.cfg.Keys.Unseal, func(u UnsealConfig) bool { return u.Kind == UnsealPeer })
}

// ask collects what the known members say of their keys.
func (f *formation) ask(ctx context.Context, own unseal.Status) []unseal.Status {
	addresses := f.addresses()
	answers := make([]unseal.Status, len(addresses))
	var wait sync.WaitGroup
	for i, a := range addresses {
		wait.Go(func() {
			if c, name, err := f.dial(ctx, a); err == nil {
				if answers[i], err = unseal.AskStatus(c, own, clock.Wall()); err != nil {
					answers[i] = unseal.Status{}
				} else {
					answers[i].Name, answers[i].Address = name, cmp.Or(answers[i].Address, a)
				}
			}
		})
	}
	wait.Wait()
	peers := map[string]unseal.Status{}
	for _, s := range answers {
		if s.Name != "" && s.Name != own.Name {
			peers[s.Name] = s
			f.learn(s.Known)
		}
	}
	out := make([]unseal.Status, 0, len(peers))
	for _, s := range peers {
		out = append(out, s)
	}
	return out
}

func (f *formation) dial(ctx context.Context, address string) (net.Conn, string, error) {
	ctx, cancel := context.WithTimeout(ctx, formationDial)
	defer cancel()
	c, _, peer, err := f.wire.Dial(ctx, address, wire.Unseal)
	if err != nil {
		return nil, "", err
	}
	return c, peer.Name, nil
}

// founder is a member that the founder of a cluster names in its first configuration.
type founder struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// found draws the root key. Whom the cluster begins with is on disk before, so that a crash in between founds it at the
// next start and not another one.
func (f *formation) found(ctx context.Context, own unseal.Status, peers []unseal.Status) error {
	first := []founder{{own.Name, own.Address}}
	for _, p := range peers {
		if p.State == unseal.StateNew {
			first = append(first, founder{p.Name, p.Address})
		}
	}
	if err := f.node.keepFounders(first); err != nil {
		return err
	}
	names := map[string]bool{}
	for _, m := range first {
		names[m.Name] = true
	}
	f.node.firstMembers.Store(&firstMembers{names: names, at: clock.Wall()})
	code, err := f.node.vault.Init(ctx)
	if err != nil {
		return fmt.Errorf("node: make keys: %w", err)
	}
	f.node.log.Info("this node founds the cluster", "members", len(first))
	f.node.tell(code)
	return nil
}

func (n *Node) keepFounders(first []founder) error {
	raw, err := json.Marshal(first)
	if err == nil {
		err = os.WriteFile(filepath.Join(n.cfg.Node.Data, foundingFile), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("node: note the first members: %w", err)
	}
	return nil
}

// founders are the members of a cluster that this node is to begin, nil where it is not.
func (n *Node) founders() ([]founder, error) {
	raw, err := os.ReadFile(filepath.Join(n.cfg.Node.Data, foundingFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var first []founder
	if err == nil {
		err = json.Unmarshal(raw, &first)
	}
	if err != nil {
		return nil, fmt.Errorf("node: read the first members: %w", err)
	}
	return first, nil
}

// founded forgets the founders once the cluster has begun.
func (n *Node) founded() error {
	err := os.Remove(filepath.Join(n.cfg.Node.Data, foundingFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// receive asks one member for the key.
func (f *formation) receive(ctx context.Context, own unseal.Status, m unseal.Status) bool {
	c, name, err := f.dial(ctx, m.Address)
	if err != nil {
		return false
	}
	share, err := unseal.AskKey(c, own, f.session, clock.Wall())
	if err == nil {
		id, decodeErr := decodeStore(share.Store)
		err = errors.Join(decodeErr, f.node.vault.Receive(ctx, &seal.Share{Key: share.Key, Store: id, Recovery: share.Recovery, InForce: share.InForce}))
		clear(share.Key)
	}
	if err != nil {
		if !f.told[err.Error()] && len(f.told) < mostKnown { // only run asks
			f.told[err.Error()] = true
			f.node.log.Warn("a member did not give the key", "member", name, "error", err)
		}
		return false
	}
	f.node.log.Info("unsealed", "by", "peer", "member", name)
	return true
}

// enrol takes the recovery file of a cluster that gives this new node no key, so that an operator can unseal it.
func (f *formation) enrol(ctx context.Context, own unseal.Status, peers []unseal.Status) {
	for _, p := range peers {
		if p.Store == "" {
			continue
		}
		c, _, err := f.dial(ctx, p.Address)
		if err != nil {
			continue
		}
		file, err := unseal.AskRecovery(c, own, clock.Wall())
		if err == nil && len(file) > 0 {
			err = f.node.vault.Enrol(file)
		}
		if err != nil {
			f.node.log.Warn("recovery file not taken", "member", p.Name, "error", err)
			continue
		}
		f.node.log.Warn("sealed: unseal this node with the cluster's recovery code, or admit it at another member")
		return
	}
}
