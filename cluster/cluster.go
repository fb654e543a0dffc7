package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// Role is what a member is for.
type Role string

const (
	// RoleNode has a queue, and a vote while there are fewer than five.
	RoleNode Role = "node"
	// RoleWitness has a vote and no queue: it makes the third of two.
	RoleWitness Role = "witness"
)

const (
	maxVoters = 5
	// diskPatience is how long raft waits for its log's disk.
	diskPatience = 2 * time.Second
	// elections is raft's heartbeat and election time-out in a cluster: heartbeats wait for the disk (transport.go), so
	// it is well above what a busy disk takes. A lost leader is replaced in two to four of these and a bit.
	elections = 2 * time.Second
	// DefaultDeadAfter is how long a member may be missing before its seat is given up.
	DefaultDeadAfter = 24 * time.Hour
	// DefaultMinQuorum is the number of voters below which no seat is given up by itself.
	DefaultMinQuorum = 2
)

// Errors of this package, to be compared with errors.Is.
var (
	// ErrNoQuorum: until the context ended, no leader that a majority follows could be reached. Nothing was done.
	ErrNoQuorum = errors.New("no quorum: no leader could be reached")
	// ErrUncertain: the proposal was handed on and its outcome was not learned. It may have been done, or be done yet.
	ErrUncertain = errors.New("outcome unknown: it may or may not have been done")
	// ErrStopped: the cluster was stopped, or has failed for good.
	ErrStopped = errors.New("the cluster's agreement is stopped")
)

// Live is a member as gossip sees it: advisory, never decisive.
type Live struct {
	Name    string
	Address string // host:port of its members' port
	Role    Role
}

// Standbys asks members, all at once, how far their copies of a lineage go, and finds the one that goes furthest: high is
// the highest sequence number that it has on disk. Who does not answer until ctx ends, or has no copy that a queue can go on
// from, whatever the ledger says, is passed over.
type Standbys interface {
	Best(ctx context.Context, members []string, l mail.Lineage) (member string, high uint64, found bool)
}

// Config is what a Cluster is made of. Name, Dir, Ledger and Box are needed.
type Config struct {
	Name    string        // this member's, unique for ever
	Address string        // host:port where other members reach Wire; unused alone
	Dir     string        // raft's log and snapshots
	Wire    *wire.Wire    // nil: alone
	Ledger  *ledger.Store // what is agreed on
	Box     ledger.Sealer // seals proposals
	Role    Role          // default RoleNode

	Alive    func() []Live // gossip's view, without waiting; may be nil
	Standbys Standbys      // nil: nothing is taken over by itself

	Terms     Terms         // zero: DefaultTerms
	SelfLease bool          // leases always hold and nothing is taken over by itself: two nodes without a witness
	DeadAfter time.Duration // 0: DefaultDeadAfter; below 0: never
	MinQuorum int           // 0: DefaultMinQuorum
	Log       *slog.Logger  // nil: nowhere

	// Regain is called before a lease that does not hold is valid, or valid again: what the others decided while this member
	// was silent, it must know by then. The lease counts from before it, so it has to be short. May be nil.
	Regain func(context.Context)

	Boot *clock.Boot // the clock of leases; nil: the machine's
	// OnFail is called once when this member can take part no more: the process is to be restarted. May be nil.
	OnFail func(error)

	// seams of this package's tests
	wrapDisk func(disk) disk // between patience and disk
	stable   time.Duration   // 0: stableFor
}

// Validate completes the configuration and reports what is wrong with it.
func (c *Config) Validate() error {
	switch {
	case c.Name == "" || c.Dir == "" || c.Ledger == nil || c.Box == nil:
		return errors.New("cluster: name, directory, ledger and box are needed")
	case c.Wire != nil && c.Address == "":
		return errors.New("cluster: members need an address to reach this one at")
	case c.Role != "" && c.Role != RoleNode && c.Role != RoleWitness:
		return fmt.Errorf("cluster: role %q is neither %s nor %s", c.Role, RoleNode, RoleWitness)
	}
	if c.Role == "" {
		c.Role = RoleNode
	}
	if c.Terms == (Terms{}) {
		c.Terms = DefaultTerms()
	}
	if c.Terms.Renew <= 0 || c.Terms.Margin <= 0 || c.Terms.TTL < c.Terms.Margin+2*c.Terms.Renew {
		return errors.New("cluster: a lease must outlast its margin and two renewals")
	}
	if c.DeadAfter == 0 {
		c.DeadAfter = DefaultDeadAfter
	}
	if c.MinQuorum == 0 {
		c.MinQuorum = DefaultMinQuorum
	}
	if c.stable == 0 {
		c.stable = stableFor
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Boot == nil {
		c.Boot = &clock.Boot{}
	}
	return nil
}

// Cluster is this member's part in the agreement. Safe for concurrent use.
type Cluster struct {
	cfg  Config
	log  *slog.Logger
	fsm  *fsm
	logs *patientStore
	port *raftPort // nil alone

	ctx    context.Context // ends with Stop, or when this member has failed
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup

	engine    atomic.Pointer[engine] // nil while raft is being restarted
	restarts  chan string            // asks for a restart, with the reason; room for one
	restarted atomic.Uint64          // how often that was done

	peers    *peers // connections to members for forwarding; nil alone
	leases   leases
	counting sync.Mutex    // guards timers
	timers   *timers       // idle alone
	renewals chan *renewal // to the leader's batcher
	bulk     chan struct{} // tokens of imports under way at this leader
	fresh    freshness
	reign    atomic.Int64 // Config.Boot since which this member leads, its book complete; 0: it does not
	proven   atomic.Int64 // Config.Boot when it was certain last that this member leads
}

// Open opens raft's log in cfg.Dir. Nothing runs before Start.
func Open(cfg Config) (*Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d, err := openDisk(cfg.Dir, cfg.Log)
	if err != nil {
		return nil, err
	}
	if cfg.wrapDisk != nil {
		d = cfg.wrapDisk(d)
	}
	c := &Cluster{cfg: cfg, log: cfg.Log, logs: newPatientStore(d, diskPatience, cfg.Log), restarts: make(chan string, 1),
		timers: newTimers(cfg.Terms), renewals: make(chan *renewal, 64), bulk: make(chan struct{}, bulkAtOnce)}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.fsm = newFSM(cfg.Ledger, c.fail)
	c.leases.init(c)
	return c, nil
}

// fail ends this member's part for good: it was given something it must not pass over, or its book's disk is gone.
func (c *Cluster) fail(err error) {
	if c.ctx.Err() != nil {
		return
	}
	c.log.Error("agreement failed on this member; restart the process", "err", err)
	c.cancel(fmt.Errorf("%w: %w", ErrStopped, err))
	if e := c.engine.Swap(nil); e != nil {
		go e.stop(c.log) // not from here: the caller may be raft
	}
	if c.cfg.OnFail != nil {
		go c.cfg.OnFail(err)
	}
}

// Alone tells whether this member is the only one by configuration.
func (c *Cluster) Alone() bool { return c.cfg.Wire == nil }

// Start takes part. Alone, it returns when this member leads and has everything applied; in a cluster, at once.
func (c *Cluster) Start(ctx context.Context) error {
	if c.Alone() {
		if err := c.bootstrapAlone(); err != nil {
			return err
		}
	} else {
		c.port = newRaftPort(c.cfg.Wire)
		c.peers = newPeers(c)
		c.serve()
		c.tasks.Go(c.renew)
		c.tasks.Go(c.observe)
	}
	if err := c.startEngine(); err != nil {
		return err
	}
	c.tasks.Go(c.watch)
	if c.Alone() {
		return c.waitAlone(ctx)
	}
	return nil
}

// Stop leaves off taking part; the seat stays. The ledger stays open.
func (c *Cluster) Stop() error {
	c.cancel(ErrStopped)
	c.leases.end()
	if c.peers != nil {
		c.peers.close()
	}
	c.tasks.Wait()
	if e := c.engine.Swap(nil); e != nil {
		e.stop(c.log)
	}
	return c.logs.Close()
}

// Peer is a member to begin with.
type Peer struct {
	Name, Address string
	Voter         bool
}

// Bootstrap founds the cluster with the given members, this one among them. It is called once in a cluster's life, on one
// member; where there is a log already it returns raft's ErrCantBootstrap and changes nothing.
func (c *Cluster) Bootstrap(members []Peer) error {
	e := c.engine.Load()
	if e == nil {
		return ErrStopped
	}
	if err := e.raft.BootstrapCluster(configuration(members)).Error(); err != nil {
		return fmt.Errorf("found the cluster: %w", err)
	}
	c.log.Info("cluster founded", "members", len(members))
	return nil
}

// Founded tells whether this member has a log: it is or was part of a cluster.
func (c *Cluster) Founded() bool {
	last, err := c.logs.LastIndex()
	return err != nil || last > 0
}

func configuration(members []Peer) raft.Configuration {
	var conf raft.Configuration
	for _, m := range members {
		s := raft.Server{ID: raft.ServerID(m.Name), Address: raft.ServerAddress(m.Address), Suffrage: raft.Nonvoter}
		if m.Voter {
			s.Suffrage = raft.Voter
		}
		conf.Servers = append(conf.Servers, s)
	}
	return conf
}

// Leader returns the name of the leader as far as this member knows, or "".
func (c *Cluster) Leader() string {
	e := c.engine.Load()
	if e == nil {
		return ""
	}
	_, id := e.raft.LeaderWithID()
	return string(id)
}

// Reign tells whether this member leads, since when, and when that was certain last: nobody led after it before proven.
// Both are readings of Config.Boot. While it leads, proven is at most some seconds old.
func (c *Cluster) Reign() (since, proven time.Duration, leads bool) {
	since = time.Duration(c.reign.Load())
	return since, time.Duration(c.proven.Load()), since != 0 && c.Leads()
}

// Leads tells whether this member leads, as far as it knows.
func (c *Cluster) Leads() bool {
	e := c.engine.Load()
	return e != nil && e.raft.State() == raft.Leader
}
