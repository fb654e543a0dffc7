package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/gossip"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/replica"
	"github.com/ekiden-mta/ekiden/cluster/unseal"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// member is this node's part in a cluster: what exists from the moment it has its keys, below the engine. Alone it is
// the same with one vote, and nothing of it is on the wire.
type member struct {
	node   *Node
	box    *seal.Box
	book   *ledger.Store
	agreed *cluster.Cluster
	gossip *gossip.Gossip // nil alone
	copies *replica.Store // of other members' queues; nil alone and on a witness
	peers  *peers         // nil alone
	shares *shares        // nil alone
	keysOf *clientKeys    // nil alone

	changed chan struct{} // one token: look at the book
	renewed sync.Map      // mail.Lineage -> renewal: when this node saw the last one
	boot    clock.Boot
	heard   sync.Map                           // name -> time.Time of the machine's clock: when gossip saw a member last
	noted   time.Time                          // of the machine's clock: when the book was last told who is here; of follow only
	keys    sync.Mutex                         // held while the root key is drawn or changes
	turning atomic.Bool                        // this member takes its turn in a rotation of the root key
	wrapped atomic.Uint64                      // version under which a node alone has wrapped its data keys anew
	hears   atomic.Pointer[[seal.KeySize]byte] // secret of gossip that is understood besides the one in use
	stuck   setback                            // of a rotation; while turning is set
	enrols  atomic.Bool                        // providers are being asked for keys to enrol
	lacking setback                            // why one has no slot yet; while enrols is set
	held    suspensions
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
}

// openMember opens the book and takes part in the agreement. Alone it returns with everything applied; in a cluster at
// once, for the others may not be there.
func (n *Node) openMember(ctx context.Context) (err error) {
	m := &member{node: n, box: seal.NewBox(n.vault.Root(), seal.BoxAgreed), changed: make(chan struct{}, 1)}
	run, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.book, err = ledger.Open(ledger.Config{Dir: n.cfg.Node.Data + "/ledger", Box: m.box, Log: n.log, OnFail: n.bookFailed}); err != nil {
		return fmt.Errorf("node: open ledger: %w", err)
	}
	if k := m.book.State().Keys(); k.Current == uint64(n.vault.Root().Version())-1 {
		n.vault.Root().Enforce() // as far as this member knows: mindKeys looks again
		m.box.Renew(n.vault.Root())
	}
	c := cluster.Config{Name: n.cfg.Node.Name, Dir: n.raftDir(), Ledger: m.book, Box: m.box, Log: n.log,
		OnFail: n.bookFailed, Role: n.role()}
	if n.wire != nil {
		if err := m.openWire(&c); err != nil {
			return err
		}
	}
	if m.agreed, err = cluster.Open(c); err != nil {
		return fmt.Errorf("node: open agreement: %w", err)
	}
	if err := m.agreed.Start(ctx); err != nil {
		return fmt.Errorf("node: take part in the agreement: %w", err)
	}
	if err := m.begin(); err != nil {
		return err
	}
	m.useSettings() // whoever finds the member finds the users that it knows, too
	m.book.Watch(func(ledger.Change) { m.poke() })
	n.member.Store(m)
	m.tasks.Go(func() { m.follow(run) })
	return nil
}

func (n *Node) role() cluster.Role {
	if n.cfg.Cluster.Role == roleWitness {
		return cluster.RoleWitness
	}
	return cluster.RoleNode
}

// selfLeased tells whether this member's leases have no end: without a third vote nothing is taken over by itself.
func (n *Node) selfLeased() bool { return n.cfg.Cluster.Expect == 2 }

func (n *Node) bookFailed(err error) {
	n.log.Error("agreement has failed for good: nothing is taken or sent any more; restart the node", "error", err)
	if e := n.engine.Load(); e != nil {
		e.actors.Halt()
	}
	n.broken.Store(&err)
	n.mindDoor()
}

// openWire opens what a member has that is not alone.
func (m *member) openWire(c *cluster.Config) (err error) {
	n := m.node
	c.Wire, c.Address = n.wire, n.advertised()
	c.SelfLease = n.selfLeased()
	m.peers, m.shares, m.keysOf = newPeers(n, m), &shares{member: m}, newClientKeys(m)
	secret, _ := n.vault.Root().GossipKeys()
	m.gossip, err = gossip.Start(gossip.Config{Name: n.cfg.Node.Name, Wire: n.wire, Join: n.cfg.Cluster.Join,
		Secret: secret, Label: n.wire.ClusterID(), Meta: m.gossipMeta, Log: n.log, OnMessage: n.heard,
		Refuse: func(name string) bool { return n.refuses(wire.Peer{Name: name}) != nil }})
	if err != nil {
		return fmt.Errorf("node: start gossip: %w", err)
	}
	m.tuneGossip()
	m.peers.serve()
	c.Alive, c.Standbys = m.alive, m.peers
	if n.role() == cluster.RoleWitness {
		return nil
	}
	c.Regain = n.gates.hear
	if m.copies, err = replica.Open(replica.StoreConfig{Dir: filepath.Join(n.cfg.Node.Data, replicaDir), Cluster: n.wire.ClusterID(), Log: n.log, Allow: m.mayShip}); err != nil {
		return fmt.Errorf("node: open copies of other queues: %w", err)
	}
	n.wire.Handle(wire.Ship, func(p wire.Peer, conn net.Conn) { m.copies.Serve(p.Name, conn) })
	return nil
}

// errNotOwner is what a member hears that ships, or takes over, a queue that the book gives to another.
var errNotOwner = errors.New("the queue has another owner")

// mayShip tells whether a member owns a queue under an epoch. A book that does not know it yet is brought up to date
// first.
func (m *member) mayShip(name string, l mail.Lineage, epoch uint64) error {
	owns := func() bool {
		v, ok := m.book.State().Lineage(l)
		return ok && v.Owner == name && v.Epoch == epoch
	}
	if owns() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := m.caughtUp(ctx); err != nil {
		return err
	}
	if !owns() {
		return errNotOwner
	}
	return nil
}

// gossipMeta is what this member says of itself by gossip: its role.
func (m *member) gossipMeta() []byte { return []byte(m.node.role()) }

// alive is who gossip sees; alone nobody.
func (m *member) alive() []cluster.Live {
	if m.gossip == nil {
		return nil
	}
	var out []cluster.Live
	for _, g := range m.gossip.Alive() {
		role := cluster.Role(g.Meta)
		if role == "" {
			role = cluster.RoleNode
		}
		out = append(out, cluster.Live{Name: g.Name, Address: g.Addr.String(), Role: role})
	}
	return out
}

// begin founds the cluster where this node is to.
func (m *member) begin() error {
	first, err := m.node.founders()
	if err != nil || first == nil {
		return err
	}
	if !m.agreed.Founded() {
		var begin []cluster.Peer
		for i, f := range first {
			begin = append(begin, cluster.Peer{Name: f.Name, Address: f.Address, Voter: i < 5})
		}
		if err := m.agreed.Bootstrap(begin); err != nil {
			return fmt.Errorf("node: found the cluster: %w", err)
		}
	}
	return m.node.founded()
}

// propose gives a command to the members and waits until it is agreed on.
func (m *member) propose(ctx context.Context, cmd ledger.Command) (ledger.Result, error) {
	r, err := m.agreed.Propose(ctx, cmd)
	if err != nil {
		return r, fmt.Errorf("node: %w", err)
	}
	return r, nil
}

// stamp says that the cluster itself gives a command, now.
func (m *member) stamp() ledger.Signed { return ledger.Signed{At: m.node.clock.Now()} }

// by says that an operator gives a command, now.
func (m *member) by(author string) ledger.Signed {
	return ledger.Signed{Author: author, Origin: m.node.cfg.Node.Name, At: m.node.clock.Now()}
}

// caughtUp waits until this member has applied everything that was agreed on when it was called.
func (m *member) caughtUp(ctx context.Context) error {
	if m.agreed.Alone() {
		return nil
	}
	return m.agreed.Barrier(ctx)
}

// followEvery is how often the book is looked at without a change: what a look could not do, it does then.
const followEvery = time.Second

// follow acts on what the members agree on.
func (m *member) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		m.act(ctx)
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
		case <-tick.C:
		}
	}
}

// poke has follow look at the book now.
func (m *member) poke() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// act looks at the book once. Only follow calls it.
func (m *member) act(ctx context.Context) {
	m.useSettings()
	m.watchRenewals()
	m.noteSeen(ctx)
	m.node.useGates(ctx, m.book.State().Gates())
	m.node.gates.remind()
	m.lockOut()
	m.mindKeys(ctx)
	m.mindProviders(ctx)
	if e := m.node.engine.Load(); e != nil {
		m.mindSuspensions(ctx, e)
		e.lists.use(m, e)
		e.mindLineages(m)
	}
}

// renewal is what this node saw of a lease.
type renewal struct {
	index uint64        // ledger.Lineage.Renewed
	at    time.Duration // of the clock of leases, when it was first seen
}

// watchRenewals notes when leases were renewed last, and how many nodes have a queue.
func (m *member) watchRenewals() {
	owners := map[string]bool{}
	for _, l := range m.book.State().Lineages() {
		m.sinceRenewed(l)
		if l.Phase != ledger.Closed {
			owners[l.Owner] = true
		}
	}
	m.node.senders.Store(int32(len(owners)))
}

// sinceRenewed is how long ago this node saw the lease of l renewed: at most, for it may have looked late.
func (m *member) sinceRenewed(l ledger.Lineage) time.Duration {
	now := m.boot.Now()
	if v, ok := m.renewed.Load(l.Lineage); ok && v.(renewal).index == l.Renewed {
		return now - v.(renewal).at
	}
	m.renewed.Store(l.Lineage, renewal{l.Renewed, now})
	return 0
}

// noteEvery is how often the book is told who is here, so that a member that restarts knows it of the others.
const noteEvery = 5 * time.Minute

// noteSeen remembers who is here, and has the leader write it into the book now and then.
func (m *member) noteSeen(ctx context.Context) {
	if m.gossip == nil {
		return
	}
	now := clock.Wall()
	cmd := &ledger.Seen{Signed: ledger.Signed{At: now}}
	first := m.node.firstMembers.Load()
	for _, a := range m.alive() {
		m.heard.Store(a.Name, now)
		cmd.Names = append(cmd.Names, a.Name)
		if first != nil {
			first.joined.Store(a.Name, true)
		}
	}
	if !m.agreed.Leads() || now.Sub(m.noted) < noteEvery {
		return
	}
	m.noted = now
	m.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, err := m.propose(ctx, cmd); err != nil {
			m.node.log.Debug("who is here was not noted", "error", err)
		}
	})
}

// heardOf is when a member was last here, as far as this node or the book knows; zero = unknown. It is by the machine's clock, as
// all ages of members are: who steers the product's does not make anybody absent. The book is some minutes late.
func (m *member) heardOf(name string) time.Time {
	v, _ := m.book.State().Member(name)
	if at, ok := m.heard.Load(name); ok && at.(time.Time).After(v.Seen) {
		return at.(time.Time)
	}
	return v.Seen
}

// lockOut refuses members that were removed.
func (m *member) lockOut() {
	if m.node.wire == nil {
		return
	}
	for _, v := range m.book.State().Members() {
		switch {
		case v.Removed && v.Name == m.node.cfg.Node.Name:
			m.node.lockedOut("the members agreed on it")
		case v.Removed:
			m.node.wire.Cut(v.Name)
		}
	}
	if e := m.node.engine.Load(); e != nil && e.holds() {
		m.node.removed.Store(nil) // it was admitted again
	}
}

// lockedOut says, once, that this node was removed from the cluster: it hears so from who refuses it, or from its book.
func (n *Node) lockedOut(how string) {
	told := fmt.Sprintf("this node was removed from the cluster (%s): it takes and sends nothing, and its queue is other members'. "+
		"To take it in again: ekiden cluster admit %s at another member, then restart it; else stop it and delete its data", how, n.cfg.Node.Name)
	if n.removed.CompareAndSwap(nil, &told) {
		n.log.Error(told)
		if e := n.engine.Load(); e != nil && n.selfLeased() { // no lease would run out
			e.fenced()
		}
		n.mindDoor()
	}
}

// refuses is asked for each connection between members.
func (n *Node) refuses(p wire.Peer) error {
	m := n.member.Load()
	if m == nil {
		return nil
	}
	if v, ok := m.book.State().Member(p.Name); ok && v.Removed {
		return errRemoved
	}
	return nil
}

var errRemoved = errors.New("the member was removed from the cluster")

// useSettings puts the settings of the book in force, where they changed.
func (m *member) useSettings() {
	n := m.node
	objects := m.settingsObjects()
	newest := uint64(0)
	list := make([]settings.Object, len(objects))
	for i, o := range objects {
		newest = max(newest, o.Version)
		list[i] = settings.Object{Kind: o.Kind, Name: o.Name, Data: o.Data}
	}
	if len(list) == 0 || !n.book.outdated(newest, len(list)) {
		return
	}
	s, err := settings.Join(list)
	if err == nil {
		err = n.book.useAgreed(s, n.cfg.Node.SourceIPs, newest, len(list))
	}
	if err != nil {
		n.log.Error("the settings that were agreed on cannot be used", "error", err)
		return
	}
	n.settingsChanged()
}

// proposeSettings gives the settings of the file to a book that has none.
func (m *member) proposeSettings(ctx context.Context) error {
	if len(m.settingsObjects()) > 0 {
		return nil
	}
	objects, err := settings.Split(m.node.book.now.Load().index.Settings)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	cmd := &ledger.PutObjects{Signed: m.stamp()}
	for _, o := range objects {
		cmd.Changes = append(cmd.Changes, ledger.ObjectChange{Kind: o.Kind, Name: o.Name, Data: o.Data})
	}
	r, err := m.propose(ctx, cmd)
	if err != nil || r.Code == ledger.Conflict { // another member was first: its settings hold
		return err
	}
	return r.Err()
}

// close leaves the cluster's work; the seat stays. The engine is closed before.
func (m *member) close() error {
	m.cancel()
	m.tasks.Wait()
	var errs []error
	if m.agreed != nil {
		errs = append(errs, m.agreed.Stop())
	}
	if m.gossip != nil {
		errs = append(errs, m.gossip.Leave(time.Second), m.gossip.Close())
	}
	if m.peers != nil {
		m.peers.close()
	}
	if m.copies != nil {
		m.node.wire.Unhandle(wire.Ship)
		errs = append(errs, m.copies.Close())
	}
	if m.book != nil {
		errs = append(errs, m.book.Close())
	}
	return errors.Join(errs...)
}

// openWire binds the cluster's port: before there are keys, for they may come over it.
func (n *Node) openWire() error {
	c := n.cfg.Cluster
	w, err := wire.Listen(wire.Config{Name: n.cfg.Node.Name, Address: c.Address, CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key, Log: n.log})
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.wire = w
	n.forming = newFormation(n, w)
	w.Refuse(n.refuses)
	w.Barred(func(by wire.Peer) { n.lockedOut(by.Name + " refuses it") })
	w.Handle(wire.Unseal, func(p wire.Peer, conn net.Conn) {
		if err := unseal.Serve(p.Name, conn, keeper{n}, clock.Wall); err != nil {
			n.log.Debug("a member's question about keys was not answered", "member", p.Name, "error", err)
		}
	})
	w.Start()
	return nil
}

// advertised is where other members reach this one.
func (n *Node) advertised() string { return n.wire.Addr().String() }
