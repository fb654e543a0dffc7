package smtpc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Open begins a session on conn, which the session owns from now on: greeting, EHLO (HELO where that is refused),
// STARTTLS as p.TLS demands, EHLO again. cfg must be complete. On failure conn is closed, the session is nil and the
// outcome says why: always deferred (requirement E-44), with StageTLS where a connection in clear might do better.
func Open(ctx context.Context, conn net.Conn, p Peer, cfg *Config) (*Session, mail.Outcome) {
	s := &Session{cfg: cfg, peer: p, c: newWire(conn), local: p.Source}
	s.gate.cond.L = &s.gate.mu
	s.durable = s.onDurable
	s.tryWrite, s.peek = s.writeOnce, s.peekOnce
	if !s.local.IsValid() {
		if a, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil {
			s.local = a.Addr().Unmap()
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	o := s.handshake()
	if !stop() && o.Result == 0 { // stopped in the very moment it was ready
		o = s.refused(mail.StageEHLO, smtp.Reply{}, "connection closed by us")
	}
	if o.Result != 0 {
		_ = conn.Close()
		return nil, o
	}
	return s, mail.Outcome{}
}

// refused is an outcome in front of any transaction.
func (s *Session) refused(stage mail.Stage, reply smtp.Reply, detail string) mail.Outcome {
	return s.judge(s.outcome(stage, reply, detail), "")
}

func (s *Session) handshake() mail.Outcome {
	code, raw, err := s.c.reply(s.cfg.Timeouts.Greeting)
	if err == nil && s.peer.Greeted != nil {
		s.peer.Greeted(s.c.parse(raw))
	}
	if err == nil && s.c.buffered() {
		err = errOutOfTurn
	}
	if err != nil {
		return s.refused(mail.StageGreeting, smtp.Reply{}, describe(err))
	}
	if code/100 != 2 {
		return s.refused(mail.StageGreeting, s.c.parse(raw), "")
	}
	if o := s.hello(); o.Result != 0 {
		return o
	}
	mode := s.peer.TLS
	switch {
	case mode == TLSNone:
		return mail.Outcome{}
	case s.caps.StartTLS:
		return s.startTLS(mode == TLSRequired)
	case mode == TLSRequired:
		return s.refused(mail.StageTLS, smtp.Reply{}, "TLS is required and the receiver does not offer STARTTLS")
	}
	return mail.Outcome{}
}

// hello says EHLO, or HELO to a receiver that does not know EHLO (RFC 5321 §3.2).
func (s *Session) hello() mail.Outcome {
	name := s.cfg.Helo
	if name == "" {
		name = literal(s.local)
	}
	reply, err := s.command("EHLO " + name + "\r\n")
	if err == nil && reply.Permanent() && !s.secure {
		if reply, err = s.command("HELO " + name + "\r\n"); err == nil && reply.Code/100 == 2 {
			s.caps = Caps{}
			return mail.Outcome{}
		}
	}
	if err != nil {
		return s.refused(mail.StageEHLO, smtp.Reply{}, describe(err))
	}
	if reply.Code/100 != 2 {
		return s.refused(mail.StageEHLO, reply, "")
	}
	s.caps = ParseCaps(reply.Text)
	return mail.Outcome{}
}

// command sends one line and returns its reply; a further reply behind it is errOutOfTurn.
func (s *Session) command(line string) (smtp.Reply, error) {
	if _, err := s.c.write([]byte(line), s.cfg.Timeouts.Command); err != nil {
		return smtp.Reply{}, err
	}
	_, raw, err := s.c.reply(s.cfg.Timeouts.Command)
	if err != nil {
		return smtp.Reply{}, err
	}
	if s.c.buffered() {
		return smtp.Reply{}, errOutOfTurn
	}
	r, _, err := smtp.ParseReply(raw) // not s.c.parse, which cuts: every extension counts
	return r, err
}

// startTLS secures the connection and says EHLO again, for nothing said in clear counts (RFC 3207 §4.2). A receiver
// that declines is taken in clear unless TLS is required. Whatever came in clear behind the 220 ends the connection
// (threat T2): it would be read as if it had come under TLS.
func (s *Session) startTLS(required bool) mail.Outcome {
	reply, err := s.command("STARTTLS\r\n")
	switch {
	case err != nil:
		return s.refused(mail.StageTLS, smtp.Reply{}, describe(err)+" at STARTTLS")
	case reply.Code != 220 && (required || reply.Code == 421 || reply.Code/100 < 4):
		return s.refused(mail.StageTLS, reply, "")
	case reply.Code != 220:
		return mail.Outcome{}
	}
	cfg := s.cfg.TLS.Clone()
	if _, err := netip.ParseAddr(s.peer.Host); err != nil {
		cfg.ServerName = s.peer.Host
	}
	plain := s.c.conn
	secure := tls.Client(plain, cfg)
	_ = plain.SetDeadline(clock.Wall().Add(s.cfg.Timeouts.TLS))
	if err := secure.Handshake(); err != nil {
		return s.refused(mail.StageTLS, smtp.Reply{}, tlsWords(err))
	}
	_ = plain.SetDeadline(time.Time{})
	s.c = s.c.above(secure)
	s.secure = true
	return s.hello()
}

// tlsWords puts a failed handshake into words. They begin with a mail.Silence where the receiver said nothing: that may be
// the network's doing, and tells nothing of its TLS.
func tlsWords(err error) string {
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return "TLS handshake: the receiver did not answer in TLS" // the error itself quotes foreign bytes
	}
	o := mail.Outcome{Detail: describe(err)}
	if o.Silence() != mail.NotSilent {
		return o.Detail + " in the TLS handshake"
	}
	return "TLS handshake: " + o.Detail
}

// literal is the EHLO argument of a host without a name (RFC 5321 §4.1.3).
func literal(a netip.Addr) string {
	if a.Is6() {
		return "[IPv6:" + a.WithZone("").String() + "]"
	}
	return "[" + a.String() + "]"
}
