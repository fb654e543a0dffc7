package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	// quarantine is how long after its disk failed to answer a member asks for no votes.
	quarantine = time.Minute
	// precedence is how long members whose disks answer have for themselves, some rounds of an election. Where they elect
	// nobody, the disk they all share hung, or the one with all entries is in quarantine.
	precedence = 8 * time.Second
)

var errQuarantine = errors.New("no vote is asked for while the disk is in doubt")

// raftTransport is raft's network transport with two changes.
//
// Heartbeats go through raft's main loop: the library's fast path changes term and state on the transport's goroutine while
// the main loop appends, and committed logs may diverge after a partition heals (hashicorp/raft#695). So heartbeats wait for
// the disk, which is why the time-outs are 2 s.
//
// A member whose disk is in doubt asks for no votes.
type raftTransport struct {
	*raft.NetworkTransport
	doubt func() bool
}

// SetHeartbeatHandler keeps the fast path shut.
func (t *raftTransport) SetHeartbeatHandler(func(raft.RPC)) {}

func (t *raftTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest,
	resp *raft.RequestVoteResponse) error {
	if t.doubt() {
		return errQuarantine
	}
	return t.NetworkTransport.RequestVote(id, to, req, resp)
}

func (t *raftTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest,
	resp *raft.RequestPreVoteResponse) error {
	if t.doubt() {
		return errQuarantine
	}
	return t.NetworkTransport.RequestPreVote(id, to, req, resp)
}

// inDoubt tells whether this member should ask for no votes, because of its disk.
func (c *Cluster) inDoubt() bool {
	switch e := c.engine.Load(); {
	case c.logs.Sick():
		return true
	case !c.logs.SickWithin(quarantine):
		return false
	case e == nil:
		return true
	default:
		heard := e.raft.LastContact()
		if heard.Before(e.begun) {
			heard = e.begun
		}
		return clock.Since(heard) < precedence
	}
}

// raftPort takes raft's connections from wire for as long as the process lives, and hands them to whichever incarnation of
// raft is running: raft closes its transport with itself, and wire's listener is to outlive that.
type raftPort struct {
	wire  *wire.Wire
	conns chan net.Conn
}

func newRaftPort(w *wire.Wire) *raftPort {
	return &raftPort{wire: w, conns: make(chan net.Conn)}
}

// serve accepts until the listener is closed.
func (p *raftPort) serve(ln net.Listener, stop <-chan struct{}) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		select {
		case p.conns <- conn:
		case <-stop:
			conn.Close()
			return
		case <-time.After(time.Second): // nobody runs here at the moment
			conn.Close()
		}
	}
}

// stream is one incarnation's raft.StreamLayer. Its end is the end of the connections it made: raft's transport closes only
// those that are at rest, and goes on to dial.
type stream struct {
	port *raftPort
	life context.Context
	end  context.CancelFunc

	mu   sync.Mutex
	open map[*dialed]bool // nil: closed
}

func (p *raftPort) stream() *stream {
	s := &stream{port: p, open: map[*dialed]bool{}}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// dialed is a connection that its stream knows of until it is closed.
type dialed struct {
	net.Conn
	of *stream
}

func (d *dialed) Close() error {
	d.of.mu.Lock()
	delete(d.of.open, d)
	d.of.mu.Unlock()
	return d.Conn.Close()
}

// own notes a connection. It is closed at once where the stream is.
func (s *stream) own(conn net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		conn.Close()
		return nil, net.ErrClosed
	}
	d := &dialed{Conn: conn, of: s}
	s.open[d] = true
	return d, nil
}

func (s *stream) Accept() (net.Conn, error) {
	select {
	case conn := <-s.port.conns:
		return conn, nil
	case <-s.life.Done():
		return nil, net.ErrClosed
	}
}

func (s *stream) Close() error {
	s.end()
	s.mu.Lock()
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for d := range open {
		d.Conn.Close()
	}
	return nil
}

// Addr is raft's idea of this member's address.
func (s *stream) Addr() net.Addr { return net.TCPAddrFromAddrPort(s.port.wire.Addr()) }

// addresses tells raft's transport where a member is now: gossip knows sooner than raft's configuration when one has moved.
type addresses struct{ c *Cluster }

// ServerAddr returns "name@host:port", so that Dial knows whom to expect there.
func (a addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	address, known := a.c.address(string(id))
	if !known {
		return "", fmt.Errorf("no address of %s is known", id)
	}
	return raft.ServerAddress(string(id) + "@" + address), nil
}

// Dial connects and makes sure that the certificate at the other end is that of the member raft means: an address may
// have been given to another machine since.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.life, min(timeout, dialWait))
	defer cancel()
	name, hostPort, named := strings.Cut(string(address), "@")
	if !named {
		name, hostPort = "", name
	}
	conn, _, peer, err := s.port.wire.Dial(ctx, hostPort, wire.Raft)
	if err != nil {
		return nil, err
	}
	if named && name != peer.Name {
		conn.Close()
		return nil, fmt.Errorf("at %s answers %s, not %s", hostPort, peer.Name, name)
	}
	return s.own(conn)
}
