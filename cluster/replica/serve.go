package replica

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Waits of a standby and of who asks it.
const (
	greetingWait = 10 * time.Second // for a greeting and its answer
	answerWait   = 10 * time.Second // for the other side to take what is written
)

// session is one connection to a standby.
type session struct {
	conn  net.Conn
	epoch uint64
	sent  bool // blocks of it were taken; of the lineage's mutex

	mu      sync.Mutex // of writing
	scratch []byte
}

// Serve speaks to an owner, or to a member that takes over, until the connection ends. member is the peer's name as its
// certificate tells it.
func (s *Store) Serve(member string, conn net.Conn) {
	c := &session{conn: conn}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = conn.Close()
		return
	}
	s.sessions[c] = struct{}{}
	s.ended.Add(1)
	s.mu.Unlock()
	err := s.serve(member, c)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.cfg.Log.Info("replica: connection ended", "member", member, "error", err)
	}
	c.end()
	s.mu.Lock()
	delete(s.sessions, c)
	s.mu.Unlock()
	s.ended.Done()
}

func (s *Store) serve(member string, c *session) error {
	_ = c.conn.SetReadDeadline(clock.Wall().Add(greetingWait))
	r := newBlockReader(c.conn, maxAnswer)
	b, err := r.next()
	if err != nil {
		return err
	}
	h, err := parseHello(&b)
	if err != nil {
		return err
	}
	_ = c.conn.SetReadDeadline(time.Time{})
	c.epoch = h.epoch
	if h.cluster != s.cfg.Cluster {
		c.refuse(0, "this is cluster "+s.cfg.Cluster)
		return fmt.Errorf("greeting from cluster %q", h.cluster)
	}
	if h.purpose == forState {
		st := s.State(h.lineage)
		return c.send(st.encode(nil))
	}
	if s.cfg.Allow != nil {
		if err := s.cfg.Allow(member, h.lineage, h.epoch); err != nil {
			c.refuse(s.Epoch(h.lineage), "not allowed")
			return fmt.Errorf("lineage %08x at epoch %d: %w", uint32(h.lineage), h.epoch, err)
		}
	}
	l, err := s.admit(h.lineage)
	if err != nil {
		c.refuse(0, "no place")
		return err
	}
	switch h.purpose {
	case forShipping:
		return c.receive(l, r)
	case forFencing:
		_, err := c.fence(l)
		return err
	}
	if h.next > maxOlder {
		c.refuse(0, "no such generation")
		return fmt.Errorf("%w: generation %d", ErrMalformed, h.next)
	}
	return c.give(l, int(h.next))
}

// receive takes frames until the connection ends.
func (c *session) receive(l *lineage, r *blockReader) error {
	if err := c.attach(l); err != nil {
		return err
	}
	defer func() {
		l.mu.Lock()
		if l.session == c {
			l.session = nil
		}
		l.mu.Unlock()
	}()
	r.limit = MaxPayload
	var blocks []block
	for {
		blocks = blocks[:0]
		for len(blocks) == 0 || r.buffered() && len(blocks) < maxGroup {
			b, err := r.next()
			if err != nil {
				return err
			}
			if b.kind == kindFrame || b.kind == kindFill {
				if err := checkOps(b.payload); err != nil {
					return err
				}
			}
			blocks = append(blocks, b)
		}
		if err := l.take(c, blocks); err != nil {
			if refused := (*RefusedError)(nil); errors.As(err, &refused) {
				c.refuse(refused.Epoch, refused.Why)
			}
			return err
		}
	}
}

// maxGroup bounds the blocks that go to disk in one write.
const maxGroup = 1024

// attach makes c the owner's connection, the last one instead of any before, and tells the owner what is here.
func (c *session) attach(l *lineage) error {
	c.mu.Lock() // acknowledgements come after the state
	defer c.mu.Unlock()
	l.mu.Lock()
	err := l.err
	switch {
	case err != nil:
	case l.closed:
		err = ErrClosed
	case c.epoch < l.epoch:
		err = &RefusedError{Epoch: l.epoch, Why: "the lineage has another owner"}
	case c.epoch > l.epoch:
		err = l.writeFence(c.epoch)
	}
	epoch := l.epoch
	if err != nil {
		l.mu.Unlock()
		_ = c.write(encodeRefused(nil, epoch, err.Error()))
		return err
	}
	old := l.session
	l.session = c
	st := l.state()
	l.mu.Unlock()
	if old != nil {
		old.end()
	}
	return c.write(st.encode(nil))
}

// fence raises the fence to the asker's epoch, so that what it is told is final, and tells it what is here.
func (c *session) fence(l *lineage) (State, error) {
	if err := l.fence(c.epoch); err != nil {
		epoch := uint64(0)
		if refused := (*RefusedError)(nil); errors.As(err, &refused) {
			epoch = refused.Epoch
		}
		c.refuse(epoch, err.Error())
		return State{}, err
	}
	l.mu.Lock()
	st := l.state()
	l.mu.Unlock()
	return st, c.send(st.encode(nil))
}

// give answers a fetch: the live records of a generation, then the keys that it knows to be deleted.
func (c *session) give(l *lineage, of int) error {
	st, err := c.fence(l)
	if err != nil {
		return err
	}
	out, sent := beginBlock(nil), uint64(0)
	flush := func() error {
		sent++
		err := c.send(endBlock(out, kindRecords, st.Epoch, sent))
		out = beginBlock(out[:0])
		return err
	}
	add := func(op *Op) error {
		out = appendOp(out, op)
		if len(out) < fillChunk {
			return nil
		}
		return flush()
	}
	err = l.records(of, func(key, value []byte) error { return add(&Op{Key: key, Value: value}) }, nil)
	if err == nil {
		err = l.records(of, nil, func(key []byte) error { return add(&Op{Delete: true, Key: key}) })
	}
	if err == nil && len(out) > headerSize {
		err = flush()
	}
	if err != nil {
		return err
	}
	return c.send(endBlock(beginBlock(nil), kindEnd, st.Epoch, sent))
}

// acknowledge tells the owner what is on disk.
func (c *session) acknowledge(a ack) {
	c.mu.Lock()
	c.scratch = a.encode(c.scratch[:0], c.epoch)
	err := c.write(c.scratch)
	c.mu.Unlock()
	if err != nil {
		c.end()
	}
}

// refuse says that the connection ends, and ends it.
func (c *session) refuse(epoch uint64, why string) {
	_ = c.send(encodeRefused(nil, epoch, why))
	c.end()
}

func (c *session) send(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write(b)
}

// write is called with c.mu held.
func (c *session) write(b []byte) error {
	_ = c.conn.SetWriteDeadline(clock.Wall().Add(answerWait))
	_, err := c.conn.Write(b)
	return err
}

func (c *session) end() { _ = c.conn.Close() }
