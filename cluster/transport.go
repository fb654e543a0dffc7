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
)

// quarantine is how long after its disk failed to answer a member asks for no votes.
const quarantine = time.Minute

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

// stream is one incarnation's raft.StreamLayer.
type stream struct {
	port *raftPort
	once sync.Once
	done chan struct{}
}

func (p *raftPort) stream() *stream { return &stream{port: p, done: make(chan struct{})} }

func (s *stream) Accept() (net.Conn, error) {
	select {
	case conn := <-s.port.conns:
		return conn, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *stream) Close() error {
	s.once.Do(func() { close(s.done) })
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
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, dialWait))
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
	return conn, nil
}
