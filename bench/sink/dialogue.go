package sink

import (
	"bytes"
	"crypto/tls"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// execute answers one command. A non-nil error ends the session.
func (s *session) execute(line []byte) error {
	if d := s.receiver().commandDelay; d > 0 {
		if err := s.wait(d); err != nil {
			return err
		}
	}
	switch {
	case hasFold(line, "mail from:"):
		return s.onMail(line[len("mail from:"):])
	case hasFold(line, "rcpt to:"):
		return s.onRcpt(line[len("rcpt to:"):])
	case len(line) == 4 && hasFold(line, "data"):
		return s.onData()
	case hasFold(line, "bdat "):
		return s.onBdat(line[len("bdat "):])
	case hasFold(line, "ehlo ") || hasFold(line, "helo "):
		return s.onHelo(line)
	case hasFold(line, "starttls"):
		return s.onStartTLS()
	case hasFold(line, "rset"):
		s.clear()
		s.say("250 2.0.0 Ok")
	case hasFold(line, "noop"):
		s.say("250 2.0.0 Ok")
	case hasFold(line, "vrfy"):
		s.say("252 2.0.0 Cannot say")
	case hasFold(line, "quit"):
		s.say("221 2.0.0 Bye")
		return errEnd
	default:
		return s.wrong("500 5.5.2 Command not recognised")
	}
	return nil
}

// wrong answers a command that is an error of the sender's.
func (s *session) wrong(line string) error {
	s.say(line)
	if s.junk++; s.junk > maxJunk {
		return errEnd
	}
	return nil
}

func (s *session) clear() {
	s.mail, s.chunk = false, false
	s.from, s.paths, s.rcpts, s.dots = s.from[:0], s.paths[:0], s.rcpts[:0], s.dots[:0]
}

func (s *session) onHelo(line []byte) error {
	if s.r < s.w {
		s.violate(earlyCommand)
	}
	s.clear()
	if done, err := s.rules("ehlo", nil); done || err != nil {
		return err
	}
	s.helo = true
	switch {
	case line[0]|0x20 == 'h':
		s.say("250 " + s.srv.cfg.Hostname)
	case s.tls:
		s.out = append(s.out, s.listener.ehlos...)
	default:
		s.out = append(s.out, s.listener.ehlo...)
	}
	return nil
}

func (s *session) onStartTLS() error {
	if s.tls {
		return s.wrong("503 5.5.1 Already under TLS")
	}
	if s.r < s.w {
		s.violate(earlyCommand) // RFC 3207 §4: must be the last command of a group
		s.r = s.w
	}
	s.say("220 2.0.0 Go ahead")
	if err := s.flush(); err != nil {
		return err
	}
	t := tls.Server(s.conn, s.srv.tls)
	if err := t.HandshakeContext(s.srv.ctx); err != nil {
		return err
	}
	s.conn, s.tls, s.helo, s.deadline = t, true, false, s.deadline.Add(-idleTimeout)
	s.clear()
	return nil
}

func (s *session) onMail(rest []byte) error {
	if s.mail {
		return s.wrong("503 5.5.1 Nested MAIL command")
	}
	if !s.helo {
		return s.wrong("503 5.5.1 EHLO first")
	}
	path, params, ok := cutPath(rest)
	if !ok {
		return s.wrong("501 5.1.7 Bad sender address syntax")
	}
	r := s.receiver()
	if r.StartTLS == "require" && !s.tls {
		s.say("530 5.7.0 Must issue a STARTTLS command first")
		return nil
	}
	if q := r.perConnection; q != nil && float64(s.messages) >= q.Limit {
		return s.suffer(q, s.standingAt(r))
	}
	if tooBig(params, r.maxSize) {
		s.say("552 5.3.4 Message size exceeds fixed limit")
		return nil
	}
	if done, err := s.rules("mail", nil); done || err != nil {
		return err
	}
	s.began = clock.Wall()
	s.srv.totals.first.CompareAndSwap(0, s.began.UnixNano())
	s.mail = true
	s.from = append(s.from[:0], path...)
	s.out = append(s.out, "250 2.1.0 Ok\r\n"...)
	return nil
}

// tooBig reads SIZE= of MAIL parameters (RFC 1870).
func tooBig(params []byte, limit int64) bool {
	for _, p := range bytes.Fields(params) {
		if hasFold(p, "size=") {
			n, err := strconv.ParseInt(string(p[5:]), 10, 64)
			return err == nil && n > limit
		}
	}
	return false
}

// cutPath takes "<path> params" apart. Quoted local parts may hold any octet, '>' included.
func cutPath(p []byte) (path, params []byte, ok bool) {
	p = bytes.TrimLeft(p, " ")
	if len(p) == 0 || p[0] != '<' {
		return nil, nil, false
	}
	quoted := false
	for i := 1; i < len(p); i++ {
		switch {
		case p[i] == '\\' && quoted:
			i++
		case p[i] == '"':
			quoted = !quoted
		case p[i] == '>' && !quoted:
			return p[1:i], p[i+1:], true
		}
	}
	return nil, nil, false
}

func (s *session) onRcpt(rest []byte) error {
	if !s.mail {
		return s.wrong("503 5.5.1 MAIL first")
	}
	path, _, ok := cutPath(rest)
	at := bytes.LastIndexByte(path, '@')
	if !ok || at <= 0 {
		return s.wrong("501 5.1.3 Bad recipient address syntax")
	}
	r := s.listener.bound
	if r == nil {
		s.folded = appendLower(s.folded[:0], path[at+1:])
		r = s.srv.world.of(s.folded)
	}
	now := s.began // one look at the clock per transaction
	if met, err := s.attach(r, now); met {
		return err
	}
	s.last = r
	st := s.standingAt(r)
	if len(s.rcpts) == 0 {
		if q := st.begin(now, r); q != nil {
			return s.suffer(q, st)
		}
	}
	if len(s.rcpts) >= r.maxRecipients {
		s.say("552 5.5.3 too many recipients")
		return nil
	}
	special := r.special(path[:at])
	unknown := special != nil && special.Reply == r.Unknown
	if q := st.recipient(now, r, unknown); q != nil {
		return s.suffer(q, st)
	}
	if special != nil && special.Stage == "rcpt" {
		if special.Times == 0 || s.srv.deferAgain(path, special.Times) {
			return s.refuse(special, path, st)
		}
		special = nil
	}
	if done, err := s.rules("rcpt", path); done || err != nil {
		return err
	}
	if special != nil {
		s.dots = append(s.dots, special)
	}
	start := len(s.paths)
	s.paths = append(s.paths, path...)
	s.rcpts = append(s.rcpts, s.paths[start:len(s.paths):len(s.paths)])
	s.out = append(s.out, "250 2.1.5 Ok\r\n"...)
	return nil
}

func appendLower(dst, p []byte) []byte {
	for _, b := range p {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		dst = append(dst, b)
	}
	return dst
}

// refuse refuses a recipient at RCPT and records it.
func (s *session) refuse(rule *Rule, path []byte, st *standing) error {
	err := s.act(rule, path, st)
	if s.srv.record != nil && s.code != 0 {
		s.entry("refused", clock.Wall(), s.code, "rcpt", [][]byte{path})
	}
	return err
}

func (s *session) onData() error {
	if len(s.rcpts) == 0 || s.chunk {
		if s.r < s.w { // RFC 2920 §3.1: a client that pipelined waits for this reply
			s.violate(earlyData)
		}
		return s.wrong("503 5.5.1 RCPT first")
	}
	if s.r < s.w {
		s.violate(earlyData)
	}
	if done, err := s.rules("data", s.rcpts[0]); done || err != nil {
		s.clear()
		return err
	}
	s.out = append(s.out, "354 Go ahead\r\n"...)
	s.body.reset()
	r := s.receiver()
	for {
		if s.r < s.w {
			used, done := s.body.dotted(s.buf[s.r:s.w], len(s.buf))
			s.r += used
			if done {
				return s.dot()
			}
			if r.byteDelay > 0 {
				if err := s.wait(r.byteDelay * time.Duration(max(1, used))); err != nil {
					return err
				}
			}
		}
		if err := s.fill(); err != nil {
			return err
		}
	}
}

// dot decides about a message that is complete, records it and answers.
func (s *session) dot() error {
	defer s.clear()
	r, now := s.receiver(), clock.Wall()
	st := s.standingAt(r)
	for k, n := range s.body.violations {
		if n > 0 {
			s.srv.totals.violations[k].Add(int64(n))
		}
	}
	done, err := s.ruleOfDot(r, st)
	if done || err != nil {
		if s.srv.record != nil {
			event := "unanswered"
			if s.code != 0 {
				event = "refused"
			}
			s.entry(event, now, s.code, "dot", s.rcpts)
		}
		return err
	}
	if s.body.size > r.maxSize {
		st.refuse(552)
		s.say("552 5.3.4 Message too big")
		return nil
	}
	t := &s.srv.totals
	t.messages.Add(1)
	t.deliveries.Add(int64(len(s.rcpts)))
	t.bytes.Add(s.body.size)
	t.last.Store(now.UnixNano())
	st.accept(now)
	s.messages++
	if s.srv.record != nil {
		s.entry("message", now, 0, "dot", s.rcpts)
	}
	s.out = append(s.out, "250 2.0.0 Ok: taken\r\n"...)
	return nil
}

func (s *session) ruleOfDot(r *receiver, st *standing) (bool, error) {
	for _, rule := range s.dots {
		return true, s.act(rule, s.rcpts[0], st)
	}
	if len(r.rules["dot"]) == 0 {
		return false, nil
	}
	return s.rules("dot", s.rcpts[0])
}

// onBdat takes a chunk (RFC 3030). A refused chunk is swallowed all the same.
func (s *session) onBdat(rest []byte) error {
	words := bytes.Fields(rest)
	if len(words) == 0 || len(words) > 2 {
		s.say("501 5.5.4 BDAT needs a size")
		return errEnd
	}
	n, err := strconv.ParseInt(string(words[0]), 10, 64)
	final := len(words) == 2 && hasFold(words[1], "last")
	if err != nil || n < 0 || (len(words) == 2 && !final) {
		s.say("501 5.5.4 Bad BDAT size")
		return errEnd // where the chunk ends is unknown
	}
	ok := len(s.rcpts) > 0
	if ok && !s.chunk {
		s.chunk = true
		s.body.reset()
	}
	for n > 0 {
		if s.r == s.w {
			if err := s.fill(); err != nil {
				return err
			}
		}
		take := min(int(min(n, inBuffer)), s.w-s.r)
		if ok {
			s.body.raw(s.buf[s.r : s.r+take])
		}
		s.r += take
		n -= int64(take)
	}
	switch {
	case !ok:
		return s.wrong("503 5.5.1 RCPT first")
	case final:
		return s.dot()
	}
	s.out = append(s.out, "250 2.0.0 Chunk taken\r\n"...)
	return nil
}
