package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
)

// line is the connection to one standby: a goroutine that writes frames and chunks of a fill, one that reads
// acknowledgements, and while a fill runs one that reads the store.
type line struct {
	s      *Shipper
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // capacity 1
	chunks chan []byte   // whole blocks of a fill

	// Below s.mu.
	cursor uint64 // next frame to be written
	filled uint64 // chunks acknowledged
}

// fillAhead is how many chunks of a fill may be unacknowledged.
const fillAhead = 4

func newLine(s *Shipper, name string) *line {
	l := &line{s: s, name: name, wake: make(chan struct{}, 1), chunks: make(chan []byte, 1)}
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	return l
}

func (l *line) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run lives as long as the connection.
func (l *line) run() {
	defer l.s.ended.Done()
	err := l.serve()
	l.cancel()
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines[l.name] != l {
		return // given up before; another may be under way
	}
	s.cfg.Log.Info("replica: connection to standby ended", "member", l.name, "error", err)
	if no := (*RefusedError)(nil); errors.As(err, &no) && no.Epoch > s.cfg.Epoch {
		s.advance(refused{no.Epoch})
		return
	}
	s.advance(lost{l.name})
}

func (l *line) serve() error {
	s := l.s
	conn, err := s.dial(l)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(l.ctx, func() { _ = conn.Close() })()
	s.mu.Lock()
	h := hello{purpose: forShipping, cluster: s.cfg.Cluster, lineage: s.cfg.Lineage, epoch: s.cfg.Epoch, run: s.cfg.First,
		next: s.win.next}
	s.mu.Unlock()
	in, st, err := greet(conn, &h)
	if err != nil {
		return err
	}
	from, fits, ok := l.join(st)
	if !ok {
		return errGone
	}
	failed := make(chan error, 2)
	s.ended.Add(1)
	go func() {
		defer s.ended.Done()
		failed <- l.read(in)
		l.cancel()
	}()
	if !fits {
		begin := binary.BigEndian.AppendUint64(beginBlock(nil), s.cfg.First)
		if _, err := conn.Write(endBlock(begin, kindBegin, s.cfg.Epoch, from)); err != nil {
			return err
		}
		s.ended.Add(1)
		go func() {
			defer s.ended.Done()
			if err := l.fill(); err != nil {
				failed <- fmt.Errorf("fill: %w", err)
				l.cancel()
			}
		}()
	}
	err = l.write(conn)
	l.cancel()
	select {
	case why := <-failed: // what the standby said tells more than that writing failed
		return why
	default:
		return err
	}
}

func (s *Shipper) dial(l *line) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, s.cfg.Patience)
	defer cancel()
	return s.cfg.Dialer.Dial(ctx, l.name)
}

// join decides where the standby goes on: behind what it has, where it is full and the frames are still here; else with
// a fill, beside the frames that wait for copies.
func (l *line) join(st State) (from uint64, fits, ok bool) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.ctx.Err() != nil || s.lines[l.name] != l {
		return 0, false, false
	}
	from = st.High + 1
	fits = st.Full && st.Run == s.cfg.First && from >= max(s.win.low(), s.cfg.First) && from <= s.win.next
	if !fits {
		from = s.core.held + 1
	}
	l.cursor = from
	s.advance(answered{name: l.name, from: from, full: fits})
	return from, fits, true
}

// read takes acknowledgements until the connection ends.
func (l *line) read(in *blockReader) error {
	for {
		b, err := in.next()
		if err != nil {
			return err
		}
		if b.kind == kindRefused {
			return &RefusedError{Epoch: b.epoch, Why: string(b.payload)}
		}
		a, err := parseAck(&b)
		if err != nil {
			return err
		}
		l.s.mu.Lock()
		if l.s.lines[l.name] == l {
			if a.fill > l.filled {
				l.filled = a.fill
				l.poke()
			}
			l.s.advance(acked{l.name, a})
		}
		l.s.mu.Unlock()
	}
}

// write sends frames as they come, one write each, and between them chunks of a fill as far as there is credit. Frames
// go first: mail waits for them.
func (l *line) write(conn net.Conn) error {
	var frames []*frame
	sent := uint64(0) // chunks
	defer func() { l.take(frames, nil) }()
	for {
		var credit bool
		frames, credit = l.take(frames, &sent)
		for _, f := range frames {
			if _, err := conn.Write(f.raw); err != nil {
				return err
			}
		}
		var chunks <-chan []byte
		if credit {
			chunks = l.chunks
		}
		if len(frames) > 0 {
			select {
			case b := <-chunks:
				sent++
				if _, err := conn.Write(b); err != nil {
					return err
				}
			default:
			}
			continue
		}
		select {
		case <-l.ctx.Done():
			return errGone
		case <-l.wake:
		case b := <-chunks:
			sent++
			if _, err := conn.Write(b); err != nil {
				return err
			}
		}
	}
}

// maxFrames bounds the frames a line takes at a time.
const maxFrames = 16

// take gives written frames back and takes the next ones; sent nil only gives back. credit tells whether a chunk may
// follow.
func (l *line) take(written []*frame, sent *uint64) (frames []*frame, credit bool) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range written {
		f.readers--
	}
	frames = written[:0]
	if sent == nil {
		return nil, false
	}
	for len(frames) < maxFrames {
		f := s.win.get(l.cursor)
		if f == nil {
			break
		}
		f.readers++
		l.cursor++
		frames = append(frames, f)
	}
	return frames, *sent < l.filled+fillAhead
}

// fill reads the owner's live records and cuts them into chunks.
func (l *line) fill() error {
	s := l.s
	chunk, n := beginBlock(nil), uint64(0)
	flush := func(k kind) error {
		if k == kindFill {
			n++
		}
		select {
		case l.chunks <- endBlock(chunk, k, s.cfg.Epoch, n):
			chunk = beginBlock(make([]byte, 0, cap(chunk)))
			return nil
		case <-l.ctx.Done():
			return errGone
		}
	}
	select {
	case s.filling <- struct{}{}:
		defer func() { <-s.filling }()
	case <-l.ctx.Done():
		return errGone
	}
	err := s.cfg.Live(l.ctx, func(op Op) error {
		if op.Delete || len(op.Key) == 0 || len(op.Key) > MaxKey {
			return fmt.Errorf("%w: a live record with a key of %d octets", ErrMalformed, len(op.Key))
		}
		chunk = appendOp(chunk, &op)
		if len(chunk) < fillChunk {
			return l.ctx.Err()
		}
		return flush(kindFill)
	})
	if err == nil && len(chunk) > headerSize {
		err = flush(kindFill)
	}
	if err == nil {
		err = flush(kindFull)
	}
	if l.ctx.Err() != nil {
		return errGone
	}
	return err
}
