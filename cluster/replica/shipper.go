package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// Config says what an owner ships, to how many, and what it does where they are missing.
type Config struct {
	// Cluster is the cluster's name, at most 128 octets.
	Cluster string
	Lineage mail.Lineage
	// Epoch of the owner's generation; fixed as long as it owns the lineage.
	Epoch uint64
	// Copies is how many standbys must hold a frame (k), at least 1.
	Copies int
	// ByBook: a standby counts once SetNamed said that others know it for one; else each that holds what is shipped does.
	ByBook bool
	// Strict refuses what fewer standbys hold (ErrShort). Else it is let pass and said to be exposed.
	Strict bool
	// Credit is how many outcomes may be settled that no standby acknowledged (W); 0: none. See DefaultCredit.
	Credit int
	// Patience is how long a standby may take to acknowledge while something waits; default 2 s.
	Patience time.Duration
	// Window bounds the frames in memory, octets; default 32 MiB. One frame may exceed it alone.
	Window int
	// First numbers the first frame. Numbers must grow over all starts of the owner, for the standby with the largest
	// takes over; default: microseconds since 1970, which frames never outrun.
	First uint64
	// Dialer opens connections to members. Required.
	Dialer Dialer
	// Live calls each for every live record of the store, those first without which others cannot be read (data keys).
	// It must show what was committed for every frame that Ship returned a number for before Live was called, and it
	// may show later changes. It may block in each for long, and returns the error of each. ctx ends when the standby is
	// given up. It is called for one standby at a time, in a goroutine of its own. Required.
	Live func(ctx context.Context, each func(Op) error) error
	// OnStandbys hears whom to take over from whenever that changes, in the order of the candidates: the members that
	// are full, and while these are fewer than Copies, those that were so last. OnDegraded
	// hears when standbys become too few and the policy acts, and when that ends. OnFenced hears once that the lineage
	// has another owner. They are called one at a time, in order, by one goroutine that holds nothing up. Each may be
	// nil.
	OnStandbys func(members []string)
	OnDegraded func(short bool)
	OnFenced   func(epoch uint64)
	// Renewed tells how long ago the renewal of the lease that was granted last was asked for. While standbys are too few
	// and it was not renewed since, the owner may be the one that is cut off. Required.
	Renewed func() time.Duration
	// Log; default: none.
	Log *slog.Logger
}

// DefaultCredit is the credit the protocol was measured with.
const DefaultCredit = 500

const (
	defaultPatience = 2 * time.Second
	defaultWindow   = 32 << 20
)

// Errors an owner hears.
var (
	// ErrShort: fewer standbys than the policy demands hold the frame. They may come to hold it later: who refuses
	// what was in it ships its deletion.
	ErrShort = errors.New("too few standbys hold it")
	// ErrFenced: the lineage has another owner.
	ErrFenced = errors.New("the lineage has another owner")
)

// Shipper brings an owner's commits to its standbys. Ship and the two waits are called by one goroutine, in the order
// of commits; everything else is safe for concurrent use.
type Shipper struct {
	cfg     Config
	wake    chan struct{} // capacity 1: the loop has something to do
	told    chan struct{} // capacity 1: there is something in calls
	filling chan struct{} // capacity 1: who is in it reads the store

	ctx    context.Context
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu       sync.Mutex
	room     *sync.Cond // the window may have room
	core     core
	win      window
	outcomes uint64 // of all frames
	settled  uint64 // of the frames up to core.settled
	holds    waiters
	settles  waiters
	busy     bool // the loop is calling waiters
	todo     []effect
	calls    []func() // of OnStandbys and the like
	lines    map[string]*line
	exposed  uint64
	closed   bool
}

// waiter is who waits for a frame.
type waiter struct {
	n        uint64
	outcomes uint64 // of all frames up to n
	held     func(exposed bool, err error)
	settled  func(error)
}

// waiters is a queue of them, by frame.
type waiters struct {
	list  []waiter
	begin int
}

func (w *waiters) empty() bool    { return w.begin == len(w.list) }
func (w *waiters) first() *waiter { return &w.list[w.begin] }

func (w *waiters) put(x waiter) {
	if w.begin > 64 && w.begin > len(w.list)/2 {
		n := copy(w.list, w.list[w.begin:])
		clear(w.list[n:])
		w.list, w.begin = w.list[:n], 0
	}
	w.list = append(w.list, x)
}

func (w *waiters) pop() waiter {
	x := w.list[w.begin]
	w.list[w.begin] = waiter{}
	w.begin++
	return x
}

// New builds a shipper and starts it. Until SetCandidates names somebody it is short of standbys.
func New(cfg Config) (*Shipper, error) {
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	if cfg.First == 0 {
		cfg.First = uint64(clock.Wall().UnixMicro())
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Copies < 1 || cfg.Credit < 0 || cfg.Patience < 0 || cfg.Window < 0 || len(cfg.Cluster) > maxCluster ||
		cfg.Dialer == nil || cfg.Live == nil || cfg.Renewed == nil {
		return nil, fmt.Errorf("new shipper: %d copies, credit %d, window %d, cluster %q, or no dialer, records or lease",
			cfg.Copies, cfg.Credit, cfg.Window, cfg.Cluster)
	}
	s := &Shipper{cfg: cfg, wake: make(chan struct{}, 1), told: make(chan struct{}, 1),
		filling: make(chan struct{}, 1), lines: map[string]*line{}}
	s.room = sync.NewCond(&s.mu)
	s.core = core{copies: cfg.Copies, strict: cfg.Strict, patience: cfg.Patience, byBook: cfg.ByBook, members: map[string]*member{},
		next: cfg.First, held: cfg.First - 1, settled: cfg.First - 1}
	s.win = window{limit: cfg.Window, next: cfg.First}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.ended.Add(2)
	go s.loop()
	go s.caller()
	return s, nil
}

// SetCandidates names the members that may stand by, best first, without the owner itself. Who stands by already and is
// named goes on; who is not named any more is left.
func (s *Shipper) SetCandidates(names []string) { s.event(candidates{slices.Clone(names)}) }

// SetNamed tells which members whoever looks for a new owner knows to be full, for certain: what OnStandbys told is in the book.
// Before the book drops one, it must be dropped here.
func (s *Shipper) SetNamed(members []string) { s.event(named{slices.Clone(members)}) }

// Ship takes the changes of one commit and returns the frame's number. outcomes tells how many attempts it settles.
// It copies what it needs and waits only while the window is full of frames that a standby has yet to acknowledge, so
// at most for Patience and a little. A frame of more than MaxPayload is never held by anybody.
func (s *Shipper) Ship(ops []Op, outcomes int) (n uint64) {
	size := headerSize
	for i := range ops {
		size += ops[i].size()
	}
	s.mu.Lock()
	n = s.win.next
	raw := s.win.buffer(size)
	s.mu.Unlock()
	raw = beginBlock(raw)
	for i := range ops {
		raw = appendOp(raw, &ops[i])
	}
	endBlock(raw, kindFrame, s.cfg.Epoch, n)

	s.mu.Lock()
	for !s.closed && !s.core.fenced && !s.win.room(cap(raw), s.core.pinned()) {
		s.room.Wait()
	}
	s.outcomes += uint64(outcomes)
	s.win.push(&frame{raw: raw, number: n, outcomes: s.outcomes})
	s.advance(shipped{})
	for _, l := range s.lines {
		l.poke()
	}
	s.mu.Unlock()
	return n
}

// WhenHeld calls done exactly once when the frames up to n are on the disks of as many standbys as Config.Copies says,
// or with exposed true when the policy lets them pass with fewer, or with an error: ErrShort, ErrFenced, ErrClosed.
// Calls come in the order of WhenHeld; done may be called before WhenHeld returns, and must not block.
func (s *Shipper) WhenHeld(n uint64, done func(exposed bool, err error)) {
	w := waiter{n: n, held: done}
	s.mu.Lock()
	exposed, err, ready := s.ready(&w)
	if ready && !s.busy && s.holds.empty() {
		s.mu.Unlock()
		done(exposed, err)
		return
	}
	s.holds.put(w)
	if ready { // else whoever ends the wait wakes the loop
		s.poke()
	}
	s.mu.Unlock()
}

// WhenSettled calls done exactly once: at once while no more than Config.Credit outcomes of frames up to n are
// unacknowledged, else when standbys acknowledged. Where standbys are too few, done(nil) comes once the lease was renewed
// since; under Strict it waits for standbys, however long. Order and errors are as with WhenHeld, without ErrShort.
func (s *Shipper) WhenSettled(n uint64, done func(error)) {
	s.mu.Lock()
	w := waiter{n: n, settled: done, outcomes: s.outcomes}
	if f := s.win.get(n); f != nil {
		w.outcomes = f.outcomes
	}
	_, err, ready := s.ready(&w)
	if ready && !s.busy && s.settles.empty() {
		s.mu.Unlock()
		done(err)
		return
	}
	s.settles.put(w)
	if ready {
		s.poke()
	}
	s.mu.Unlock()
}

// ready tells whether w's wait is over, and how. s.mu is held.
func (s *Shipper) ready(w *waiter) (exposed bool, err error, ready bool) {
	switch {
	case s.core.fenced:
		return false, ErrFenced, true
	case s.closed:
		return false, ErrClosed, true
	case w.settled != nil && w.outcomes <= s.settled+uint64(s.cfg.Credit):
		return false, nil, true
	case w.settled != nil:
		return false, nil, w.n <= s.core.settled
	case w.n > s.core.held:
		return false, nil, false
	case !s.core.lacking(w.n):
		return false, nil, true
	case s.cfg.Strict:
		return false, ErrShort, true
	}
	s.exposed++
	return true, nil, true
}
