package load

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// session is one of the run's connections, opened again as often as the configuration asks for. Everything in it
// belongs to its goroutine.
type session struct {
	*runner
	wire     *wire
	deadline time.Time
	line     []byte // scratch: a ledger line

	accepted, refused, deferred, cut, reconnects int
	first, lastOK                                time.Time
	pause                                        time.Duration // after a 4xx
}

func newSession(r *runner) *session { return &session{runner: r} }

// broken is the end of a connection that may be tried again.
type broken struct {
	op  string
	err error
}

func (b *broken) Error() string { return b.op + ": " + b.err.Error() }
func (b *broken) Unwrap() error { return b.err }

// run sends until nothing is wanted any more.
func (s *session) run(ctx context.Context) error {
	var since time.Time // begin of the present trouble
	for {
		n, ok := s.take()
		if !ok {
			return nil
		}
		before := s.accepted
		err := s.connection(ctx, n)
		if err == nil {
			continue
		}
		if _, again := err.(*broken); !again || ctx.Err() != nil || s.cfg.Reconnect <= 0 {
			return fmt.Errorf("load: %w", err)
		}
		if now := clock.Wall(); since.IsZero() || s.accepted > before {
			since = now
		} else if now.Sub(since) > s.cfg.Reconnect {
			return fmt.Errorf("load: %w", err)
		}
		s.reconnects++
		if !sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("load: %w", ctx.Err())
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connection opens a connection and sends message n and those after it. Claims that came to nothing are given back.
func (s *session) connection(ctx context.Context, n int) error {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", s.cfg.Target)
	if err != nil {
		s.back()
		return &broken{"connect", err}
	}
	defer func() { _ = s.wire.conn.Close() }()
	s.wire = newWire(conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := s.hello(); err != nil {
		s.back()
		return &broken{"greet", err}
	}
	if s.cfg.Pipeline && s.interval == 0 {
		err = s.pipelined(ctx, n)
	} else {
		err = s.plain(ctx, n)
	}
	if err != nil {
		return &broken{"transact", err}
	}
	s.wire.put("QUIT\r\n")
	if s.wire.flush() == nil {
		_, _, _ = s.wire.reply()
	}
	return nil
}

// extend moves the connection's deadline when a quarter of it is gone.
func (s *session) extend(now time.Time) {
	if s.deadline.Sub(now) < s.cfg.Timeout*3/4 {
		s.deadline = now.Add(s.cfg.Timeout)
		_ = s.wire.conn.SetDeadline(s.deadline)
	}
}

func (s *session) expect(class int) error {
	code, text, err := s.wire.reply()
	if err == nil && code/100 != class {
		err = fmt.Errorf("answered %.200q", text)
	}
	return err
}

// hello does everything before the first MAIL.
func (s *session) hello() error {
	s.deadline = clock.Wall().Add(s.cfg.Timeout)
	_ = s.wire.conn.SetDeadline(s.deadline)
	if err := s.expect(2); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if err := s.ask("EHLO load.example\r\n", 2); err != nil {
		return err
	}
	if s.cfg.TLS {
		if err := s.ask("STARTTLS\r\n", 2); err != nil {
			return err
		}
		t := tls.Client(s.wire.conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a bench looks at no certificate
		if err := t.Handshake(); err != nil {
			return fmt.Errorf("starttls: %w", err)
		}
		s.wire = newWire(t)
		if err := s.ask("EHLO load.example\r\n", 2); err != nil {
			return err
		}
	}
	if s.cfg.User != "" {
		blob := base64.StdEncoding.EncodeToString([]byte("\x00" + s.cfg.User + "\x00" + s.cfg.Password))
		if err := s.ask("AUTH PLAIN "+blob+"\r\n", 2); err != nil {
			return fmt.Errorf("auth: %w", err)
		}
	}
	return nil
}

func (s *session) ask(command string, class int) error {
	s.wire.put(command)
	if err := s.wire.flush(); err != nil {
		return err
	}
	if err := s.expect(class); err != nil {
		return fmt.Errorf("%.4s: %w", command, err)
	}
	return nil
}

// mark notes the time of a letter's MAIL.
func (s *session) mark(l *letter) {
	l.mailAt = clock.Wall()
	if s.first.IsZero() {
		s.first = l.mailAt
	}
	s.extend(l.mailAt)
}

// settle notes the answer to a letter's dot (or the refusal before it). The ledger's line is written here, before
// anything else is said.
func (s *session) settle(l *letter, code int) error {
	switch code / 100 {
	case 2:
		s.accepted++
		s.pause = 0
		s.lastOK = clock.Wall()
		if s.ledger != nil {
			s.line = appendLine(s.line[:0], l, s.lastOK)
			if _, err := s.ledger.f.Write(s.line); err != nil {
				return fmt.Errorf("ledger: %w", err)
			}
		}
	case 5:
		s.refused++
	default:
		s.deferred++
		s.back()
		s.pause = min(max(2*s.pause, 10*time.Millisecond), time.Second)
	}
	return nil
}

// lastOne tells whether sent messages are all this connection takes.
func (s *session) lastOne(sent int) bool {
	return s.cfg.PerConnection > 0 && sent >= s.cfg.PerConnection
}
