package cluster

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	// questionsAtOnce is how many questions of one connection are worked on; the next is not read before one is answered.
	questionsAtOnce = 256
	// maxPatience bounds what a member may ask us to wait.
	maxPatience = time.Minute
	// idleWait is how long a connection may be silent. Owners renew every two seconds, but not every member owns.
	idleWait = 10 * time.Minute
)

// serve takes members' connections: raft's and those of ekiden-ledger/1.
func (c *Cluster) serve() {
	ln := c.cfg.Wire.Listener(wire.Raft)
	c.tasks.Go(func() { c.port.serve(ln, c.ctx.Done()) })
	context.AfterFunc(c.ctx, func() { ln.Close() })
	c.cfg.Wire.Handle(wire.Ledger, func(p wire.Peer, conn net.Conn) { c.serveMember(p, conn) })
	context.AfterFunc(c.ctx, func() { c.cfg.Wire.Unhandle(wire.Ledger) })
}

// serveMember answers a member's questions until the connection ends.
func (c *Cluster) serveMember(p wire.Peer, conn net.Conn) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	var (
		write sync.Mutex
		room  = make(chan struct{}, questionsAtOnce)
		r     = bufio.NewReader(conn)
	)
	for {
		_ = conn.SetReadDeadline(clock.Wall().Add(idleWait))
		f, err := readFrame(r)
		if err != nil {
			return
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		go func() {
			defer func() { <-room }()
			a := c.answer(ctx, f)
			a.number = f.number
			b := a.append(make([]byte, 0, 4+frameHead+len(a.payload)))
			write.Lock()
			defer write.Unlock()
			_ = conn.SetWriteDeadline(clock.Wall().Add(writeWait))
			if _, err := conn.Write(b); err != nil {
				c.log.Debug("answer to a member", "member", p.Name, "err", err)
				cancel()
			}
		}()
	}
}

// answer answers one question. It never asks another member in turn: a question goes to who leads, or back.
func (c *Cluster) answer(ctx context.Context, f frame) frame {
	ctx, cancel := context.WithTimeout(ctx, min(f.patience, maxPatience))
	defer cancel()
	no := func(err error) frame { return frame{what: sayNotDone, payload: []byte(err.Error())} }
	e := c.engine.Load()
	if e == nil {
		return no(raft.ErrRaftShutdown)
	}
	leads := e.raft.State() == raft.Leader
	switch f.what {
	case askStatus:
		s := status{applied: c.fsm.Applied(), last: e.raft.LastIndex(), leads: leads}
		return frame{what: sayStatus, payload: s.append(nil)}
	case askRenew:
		of, err := unpackLineages(f.payload)
		if err != nil {
			return no(err)
		}
		if !leads {
			return no(raft.ErrNotLeader)
		}
		stale, err := c.renewHere(ctx, of)
		if err != nil {
			return no(err)
		}
		return frame{what: sayRenewed, payload: packLineages(stale)}
	case askSubmit:
		if err := c.check(f.payload); err != nil {
			return no(err)
		}
		// Who asked may have gone, found that nothing was done, and proposed it elsewhere.
		if !leads || ctx.Err() != nil {
			return no(raft.ErrNotLeader)
		}
		index, what, err := c.append(ctx, e, f.payload, nil)
		switch what {
		case committed:
			return frame{what: sayCommitted, payload: binary.BigEndian.AppendUint64(nil, index)}
		case notDone:
			return no(err)
		}
		return frame{what: sayUncertain, payload: []byte(err.Error())}
	}
	return no(errFrame)
}

// check refuses what members could not apply: an entry that does not open would end the book of every one of them.
func (c *Cluster) check(entry []byte) error {
	_, sealed, err := unpackEntry(entry)
	if err == nil && sealed != nil {
		_, err = ledger.DecodeSealed(c.cfg.Box, sealed)
	}
	return err
}
