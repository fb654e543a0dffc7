package cluster

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	// writeWait bounds the writing of a frame: a member that takes nothing for so long is cut off.
	writeWait = 5 * time.Second
	dialWait  = 2 * time.Second
)

// errGone: the connection ended before the answer came.
var errGone = errors.New("connection to the member ended")

// lane keeps imports and everything else on connections of their own: a renewal is not to wait behind 256 KiB.
type lane bool

// peers asks other members by ekiden-ledger/1, over one connection per member and lane.
type peers struct {
	c     *Cluster
	mu    sync.Mutex
	lines map[peerLane]*line
}

type peerLane struct {
	member string
	bulk   lane
}

func newPeers(c *Cluster) *peers { return &peers{c: c, lines: map[peerLane]*line{}} }

// line is one connection that this member dialled.
type line struct {
	conn net.Conn

	write sync.Mutex

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan frame // by number; room for one each
	gone    bool
}

// submit hands an entry to the member that leads.
func (p *peers) submit(ctx context.Context, leader string, entry []byte) (uint64, outcome, error) {
	l, err := p.line(ctx, peerLane{leader, len(entry) >= bulkFrom})
	if err != nil {
		return 0, notDone, err
	}
	a, sent, err := l.ask(ctx, frame{what: askSubmit, patience: remaining(ctx), payload: entry})
	switch {
	case err != nil && !sent:
		return 0, notDone, err
	case err != nil:
		return 0, uncertain, err
	case a.what == sayCommitted && len(a.payload) == 8:
		return binary.BigEndian.Uint64(a.payload), committed, nil
	case a.what == sayNotDone:
		return 0, notDone, fmt.Errorf("%s: %s", leader, a.payload)
	}
	return 0, uncertain, fmt.Errorf("%s: %s", leader, a.payload)
}

// renew asks the member that leads to renew leases.
func (p *peers) renew(ctx context.Context, leader string, of []ledger.LineageEpoch) ([]ledger.LineageEpoch, error) {
	a, err := p.ask(ctx, leader, frame{what: askRenew, payload: packLineages(of)})
	if err != nil {
		return nil, err
	}
	if a.what != sayRenewed {
		return nil, fmt.Errorf("%s: %s", leader, a.payload)
	}
	return unpackLineages(a.payload)
}

// status asks a member about itself.
func (p *peers) status(ctx context.Context, member string) (status, error) {
	a, err := p.ask(ctx, member, frame{what: askStatus})
	if err != nil {
		return status{}, err
	}
	if a.what != sayStatus {
		return status{}, errFrame
	}
	return unpackStatus(a.payload)
}

func (p *peers) ask(ctx context.Context, member string, f frame) (frame, error) {
	l, err := p.line(ctx, peerLane{member, false})
	if err != nil {
		return frame{}, err
	}
	f.patience = remaining(ctx)
	a, _, err := l.ask(ctx, f)
	return a, err
}

// line returns the connection to a member, dialling where there is none.
func (p *peers) line(ctx context.Context, to peerLane) (*line, error) {
	p.mu.Lock()
	l := p.lines[to]
	p.mu.Unlock()
	if l != nil && !l.isGone() {
		return l, nil
	}
	address, known := p.c.address(to.member)
	if !known {
		return nil, fmt.Errorf("no address of %s is known", to.member)
	}
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	conn, _, peer, err := p.c.cfg.Wire.Dial(ctx, address, wire.Ledger)
	if err != nil {
		return nil, err
	}
	if peer.Name != to.member {
		conn.Close()
		return nil, fmt.Errorf("at %s answers %s, not %s", address, peer.Name, to.member)
	}
	l = &line{conn: conn, waiting: map[uint64]chan frame{}}
	p.mu.Lock()
	other := p.lines[to]
	if p.c.ctx.Err() != nil || other != nil && !other.isGone() {
		p.mu.Unlock()
		conn.Close()
		if other == nil {
			return nil, ErrStopped
		}
		return other, nil
	}
	p.lines[to] = l
	p.mu.Unlock()
	p.c.tasks.Go(l.read)
	return l, nil
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		l.end()
	}
}

func (l *line) isGone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

// ask sends a question and waits for its answer. sent tells whether the member may have got it.
func (l *line) ask(ctx context.Context, f frame) (answer frame, sent bool, err error) {
	ch := make(chan frame, 1)
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return frame{}, false, errGone
	}
	l.next++
	f.number = l.next
	l.waiting[f.number] = ch
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.waiting, f.number)
		l.mu.Unlock()
	}()
	b := f.append(make([]byte, 0, 4+frameHead+len(f.payload)))
	l.write.Lock()
	_ = l.conn.SetWriteDeadline(clock.Wall().Add(writeWait))
	_, err = l.conn.Write(b)
	l.write.Unlock()
	if err != nil {
		l.end()
		return frame{}, true, err
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return frame{}, true, errGone
		}
		return a, true, nil
	case <-ctx.Done():
		return frame{}, true, ctx.Err()
	}
}

// read hands answers to who waits for them, until the connection ends.
func (l *line) read() {
	defer l.end()
	r := bufio.NewReader(l.conn)
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		l.mu.Lock()
		if ch := l.waiting[f.number]; ch != nil {
			delete(l.waiting, f.number)
			ch <- f
		}
		l.mu.Unlock()
	}
}

// end closes the connection and tells everybody who waits.
func (l *line) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return
	}
	l.gone = true
	go l.conn.Close() // TLS may wait to say good-bye
	for n, ch := range l.waiting {
		close(ch)
		delete(l.waiting, n)
	}
}
