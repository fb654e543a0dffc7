package sink

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	inBuffer   = 16 << 10
	maxCommand = 2048
	maxJunk    = 50 // commands that were errors before the session is closed
)

// errEnd ends a session without a word.
var errEnd = errors.New("session ends")

// session is one connection. Everything in it belongs to its goroutine.
type session struct {
	srv      *Server
	listener *listener
	conn     net.Conn
	source   netip.Addr
	id       uint64
	tls      bool
	dice     *rand.Rand

	buf   []byte
	r, w  int
	out   []byte // replies not yet written
	lines []byte // record lines not yet written
	sums  [sha256.Size]byte

	helo     bool
	last     *receiver   // receiver of the last recipient; nil before
	attached []*receiver // receivers this connection counts at, with their standings beside
	standing []*standing
	messages int // accepted on this connection
	junk     int
	deadline time.Time
	began    time.Time // this transaction's MAIL
	code     int       // of the last refusal; 0 = it was wordless
	folded   []byte    // scratch: a domain in lower case

	mail  bool
	from  []byte
	paths []byte // backing of rcpts
	rcpts [][]byte
	dots  []*Rule // what recipients bring for the dot
	chunk bool    // a BDAT transaction is open
	body  *content
}

func newSession(s *Server, l *listener, conn net.Conn) *session {
	id := s.sessions.Add(1)
	ap, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return &session{
		srv: s, listener: l, conn: conn, source: ap.Addr().Unmap(), id: id,
		dice: rand.New(rand.NewPCG(s.cfg.Seed, id)), buf: make([]byte, inBuffer), body: newContent(),
	}
}

// receiver is who answers now: the listener's, else that of the last recipient, else that of unnamed domains.
func (s *session) receiver() *receiver {
	switch {
	case s.listener.bound != nil:
		return s.listener.bound
	case s.last != nil:
		return s.last
	}
	return s.srv.world.any
}

func (s *session) run() {
	defer func() {
		for _, st := range s.standing {
			st.leave()
		}
		if len(s.lines) > 0 {
			_ = s.srv.record.write(s.lines)
		}
		_ = s.conn.Close()
	}()
	now := clock.Wall()
	if s.listener.bound != nil {
		if met, _ := s.attach(s.listener.bound, now); met {
			_ = s.flush()
			return
		}
	}
	for _, stage := range []string{"connect", "greeting"} {
		if done, err := s.rules(stage, nil); done || err != nil {
			_ = s.flush()
			return
		}
	}
	s.say("220 " + s.srv.cfg.Hostname + " ESMTP sink")
	for {
		line, err := s.command()
		if err != nil {
			return
		}
		if err := s.execute(line); err != nil {
			_ = s.flush()
			return
		}
	}
}

// command returns the next command line without its end. It writes what waits before it blocks.
func (s *session) command() ([]byte, error) {
	for {
		if i := bytes.IndexByte(s.buf[s.r:s.w], '\n'); i >= 0 {
			line := s.buf[s.r : s.r+i]
			s.r += i + 1
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			} else {
				s.violate(commandLF)
			}
			if len(line) > maxCommand {
				s.violate(commandLong)
			}
			return line, nil
		}
		if s.w-s.r > maxCommand {
			s.violate(commandLong)
			return nil, errEnd
		}
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads once, after everything owed to the peer is written.
func (s *session) fill() error {
	if err := s.flush(); err != nil {
		return err
	}
	if s.r == s.w {
		s.r, s.w = 0, 0
	} else if s.w == len(s.buf) {
		if s.r == 0 {
			return errEnd
		}
		copy(s.buf, s.buf[s.r:s.w])
		s.r, s.w = 0, s.w-s.r
	}
	n, err := s.conn.Read(s.buf[s.w:])
	s.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// flush writes the record, then the replies.
func (s *session) flush() error {
	if len(s.lines) > 0 {
		err := s.srv.record.write(s.lines)
		s.lines = s.lines[:0]
		if err != nil {
			return err // no 250 without its line
		}
	}
	// The deadline is a cheap one: moved when a tenth of it is gone.
	if now := s.began; now.IsZero() || s.deadline.Sub(now) < idleTimeout*9/10 {
		s.deadline = clock.Wall().Add(idleTimeout)
		_ = s.conn.SetDeadline(s.deadline)
	}
	if len(s.out) == 0 {
		return nil
	}
	if d := s.receiver().latency; d > 0 {
		if err := s.wait(d); err != nil {
			return err
		}
	}
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	return err
}

// wait passes d, or ends with the server.
func (s *session) wait(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		if d > idleTimeout/10 { // or the answer after a long silence would find its own deadline passed
			s.extend(idleTimeout)
		}
		return nil
	case <-s.srv.ctx.Done():
		return errEnd
	}
}

// extend moves the connection's deadline to d from now.
func (s *session) extend(d time.Duration) {
	s.deadline = clock.Wall().Add(d)
	_ = s.conn.SetDeadline(s.deadline)
}

func (s *session) say(line string) { s.out = append(append(s.out, line...), '\r', '\n') }

func (s *session) violate(kind int) { s.srv.totals.violations[kind].Add(1) }

// attach counts this connection at r, once. met tells that a quota was broken and acted on; a non-nil error ends the
// session.
func (s *session) attach(r *receiver, now time.Time) (met bool, err error) {
	for _, a := range s.attached {
		if a == r {
			return false, nil
		}
	}
	st := s.srv.standing(r, s.source)
	s.attached, s.standing = append(s.attached, r), append(s.standing, st)
	if q := st.enter(now, r); q != nil {
		return true, s.suffer(q, st)
	}
	return false, nil
}

func (s *session) standingAt(r *receiver) *standing {
	for i, a := range s.attached {
		if a == r {
			return s.standing[i]
		}
	}
	return s.srv.standing(r, s.source)
}

// suffer does what a broken quota asks for. A non-nil error ends the session.
func (s *session) suffer(q *Quota, st *standing) error {
	return s.act(&Rule{Do: q.Then, Reply: q.Reply}, nil, st)
}

// act does what a rule says. A 421, a reset, a close and a hang end the session.
func (s *session) act(rule *Rule, rcpt []byte, st *standing) error {
	if rule.Delay > 0 {
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.wait(time.Duration(rule.Delay)); err != nil {
			return err
		}
	}
	s.code = 0
	switch rule.Do {
	case "reply":
		s.code = s.reply(rule.Reply, rcpt)
	case "reset":
		if t, ok := netConn(s.conn).(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
	case "hang":
		if err := s.flush(); err != nil {
			return err
		}
		s.extend(hangTimeout)
		_, _ = io.Copy(io.Discard, s.conn) // until the peer or the deadline ends it
	case "delay":
		return nil
	}
	s.srv.totals.refused.Add(1)
	if st != nil {
		st.refuse(s.code)
	}
	switch s.code {
	case 0:
		s.out = s.out[:0]
		return errEnd
	case 421:
		return errEnd
	}
	return nil
}

func netConn(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// reply writes a reply text with its place-holders filled in and returns its code.
func (s *session) reply(text string, rcpt []byte) int {
	code, _ := strconv.Atoi(text[:3]) // Validate saw three digits
	for {
		i := bytes.IndexByte([]byte(text), '{')
		if i < 0 {
			break
		}
		s.out = append(s.out, text[:i]...)
		text = text[i:]
		switch {
		case hasPrefix(&text, "{rcpt}"):
			s.out = append(s.out, rcpt...)
		case hasPrefix(&text, "{domain}"):
			s.out = append(s.out, domainOf(rcpt)...)
		case hasPrefix(&text, "{ip}"):
			s.out = s.source.AppendTo(s.out)
		default:
			s.out, text = append(s.out, '{'), text[1:]
		}
	}
	s.say(text)
	return code
}

func hasPrefix(text *string, word string) bool {
	if len(*text) < len(word) || (*text)[:len(word)] != word {
		return false
	}
	*text = (*text)[len(word):]
	return true
}

func domainOf(path []byte) []byte {
	if i := bytes.LastIndexByte(path, '@'); i >= 0 {
		return path[i+1:]
	}
	return nil
}

// rules acts on the receiver's rules of a stage. done tells that the stage was answered.
func (s *session) rules(stage string, rcpt []byte) (done bool, err error) {
	r := s.receiver()
	for _, rule := range r.rules[stage] {
		if !s.applies(rule, rcpt) {
			continue
		}
		if err := s.act(rule, rcpt, s.standingAt(r)); err != nil {
			return true, err
		}
		if rule.Do != "delay" {
			return true, nil
		}
	}
	return false, nil
}

func (s *session) applies(rule *Rule, rcpt []byte) bool {
	if from, _ := rule.from(); from.IsValid() && !from.Contains(s.source) {
		return false
	}
	if rule.Local != "" && !bytes.HasPrefix(rcpt, []byte(rule.Local)) {
		return false
	}
	if p := rule.Probability; p > 0 && p < 1 && s.dice.Float64() >= p {
		return false
	}
	return rule.Times == 0 || s.srv.deferAgain(rcpt, rule.Times)
}
