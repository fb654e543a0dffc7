package load

import (
	"context"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// plain sends with one round trip per command, as most applications do: message n and the next ones.
func (s *session) plain(ctx context.Context, n int) error {
	var l letter
	for sent := 1; ; sent++ {
		if s.interval > 0 && !sleep(ctx, s.due(n).Sub(clock.Wall())) {
			s.back()
			return ctx.Err()
		}
		s.writer.write(&l, n)
		code, dotted, err := s.transaction(&l)
		if err != nil {
			if dotted {
				s.cut++
			}
			s.back()
			return err
		}
		if err := s.settle(&l, code); err != nil {
			return err
		}
		if s.pause > 0 && !sleep(ctx, s.pause) {
			return ctx.Err()
		}
		if s.lastOne(sent) {
			return nil
		}
		var ok bool
		if n, ok = s.take(); !ok {
			return nil
		}
	}
}

// transaction sends one letter and returns the deciding code. dotted tells that an error came behind the dot.
func (s *session) transaction(l *letter) (code int, dotted bool, err error) {
	s.mark(l)
	if s.cfg.Pipeline {
		s.envelope(l)
		if err := s.wire.flush(); err != nil {
			return 0, false, err
		}
		if code, err = s.opened(l); err != nil || code != 354 {
			return code, false, err
		}
	} else if code, err = s.stepwise(l); err != nil || code != 354 {
		return code, false, err
	}
	s.body(l)
	if err := s.wire.flush(); err != nil {
		return 0, true, err
	}
	code, _, err = s.wire.reply()
	return code, true, err
}

// stepwise says MAIL, RCPT and DATA one by one; a refusal ends the transaction with RSET.
func (s *session) stepwise(l *letter) (int, error) {
	say := func() (int, error) {
		if err := s.wire.flush(); err != nil {
			return 0, err
		}
		code, _, err := s.wire.reply()
		return code, err
	}
	s.wire.put("MAIL FROM:<", s.cfg.From, ">\r\n")
	code, err := say()
	if err != nil || code/100 != 2 {
		return s.reset(code, err)
	}
	for _, r := range l.rcpts {
		s.wire.put("RCPT TO:<")
		s.wire.out = append(s.wire.out, r...)
		s.wire.put(">\r\n")
		if code, err = say(); err != nil || code/100 != 2 {
			return s.reset(code, err)
		}
	}
	s.wire.put("DATA\r\n")
	if code, err = say(); err != nil || code == 354 {
		return code, err
	}
	return s.reset(code, err)
}

func (s *session) reset(code int, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	s.wire.put("RSET\r\n")
	if err := s.wire.flush(); err != nil {
		return 0, err
	}
	_, _, err = s.wire.reply()
	return code, err
}

// envelope gathers MAIL, RCPT and DATA of a letter.
func (s *session) envelope(l *letter) {
	s.wire.put("MAIL FROM:<", s.cfg.From, ">\r\n")
	for _, r := range l.rcpts {
		s.wire.put("RCPT TO:<")
		s.wire.out = append(s.wire.out, r...)
		s.wire.put(">\r\n")
	}
	s.wire.put("DATA\r\n")
}

// opened reads the answers to an envelope. When a recipient was refused but DATA was not, the message is given up
// with an empty body, which no relay may deliver as ours: its token is missing.
func (s *session) opened(l *letter) (int, error) {
	refused := 0
	for range 1 + len(l.rcpts) {
		code, _, err := s.wire.reply()
		if err != nil {
			return 0, err
		}
		if code/100 != 2 && refused == 0 {
			refused = code
		}
	}
	code, _, err := s.wire.reply()
	if err != nil {
		return 0, err
	}
	if code == 354 && refused != 0 {
		s.wire.put(".\r\n")
		if err := s.wire.flush(); err != nil {
			return 0, err
		}
		_, _, err = s.wire.reply()
		return refused, err
	}
	if code != 354 {
		if refused == 0 {
			refused = code
		}
		s.wire.put("RSET\r\n")
		if err := s.wire.flush(); err != nil {
			return 0, err
		}
		_, _, err = s.wire.reply()
		return refused, err
	}
	return code, nil
}

// body gathers the message and its final dot. No line of a letter starts with a dot.
func (s *session) body(l *letter) {
	s.wire.out = append(s.wire.out, l.data...)
	s.wire.put(".\r\n")
}

// pipelined sends with one round trip per message: a dot travels with the next envelope (RFC 2920 §3.1 wants DATA
// last in a group, and so it is).
func (s *session) pipelined(ctx context.Context, n int) error {
	var letters [2]letter
	cur, next := &letters[0], &letters[1]
	s.writer.write(cur, n)
	s.mark(cur)
	s.envelope(cur)
	if err := s.wire.flush(); err != nil {
		s.back()
		return err
	}
	for sent := 1; ; sent++ {
		code, err := s.opened(cur)
		if err != nil {
			s.back()
			return err
		}
		more := false
		if !s.lastOne(sent) {
			if n, more = s.take(); more {
				s.writer.write(next, n)
			}
		}
		dotted := code == 354
		if dotted {
			s.body(cur)
		}
		if more {
			s.mark(next)
			s.envelope(next)
		}
		err = s.wire.flush()
		if err == nil && dotted {
			code, _, err = s.wire.reply()
		}
		if err != nil {
			if dotted {
				s.cut++
			}
			s.back()
			if more {
				s.back()
			}
			return err
		}
		if err := s.settle(cur, code); err != nil {
			return err
		}
		if !more {
			return nil
		}
		if s.pause > 0 && !sleep(ctx, s.pause) {
			s.back()
			return ctx.Err()
		}
		cur, next = next, cur
	}
}
