package smtpd

import (
	"errors"
	"io"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

// dialogue is what go-smtp sees of a session: a client that greets, proves who it is, and leaves. Transactions are the wire's
// and the session's; go-smtp never hears of one.
type dialogue struct{ s *session }

var _ gosmtp.AuthSession = dialogue{}

// dialogue is go-smtp's way to a session: the one made at accept.
func (s *Server) dialogue(c *gosmtp.Conn) (gosmtp.Session, error) {
	w, ok := c.Conn().(*wire.Conn)
	if !ok {
		return nil, errors.New("not our connection")
	}
	ss := w.Policy().(*session)
	ss.conn = w
	return dialogue{ss}, nil
}

// AuthMechanisms is empty, because the EHLO keyword is written by package wire.
func (d dialogue) AuthMechanisms() []string { return nil }

// Auth begins an exchange.
func (d dialogue) Auth(mech string) (sasl.Server, error) { return d.s.exchange(mech) }

// Reset and Logout have nothing to do: the wire tells the session.
func (d dialogue) Reset()        {}
func (d dialogue) Logout() error { return nil }

// Mail, Rcpt and Data refuse what the wire should not have let pass.
func (d dialogue) Mail(string, *gosmtp.MailOptions) error { return told(replyTrouble) }
func (d dialogue) Rcpt(string, *gosmtp.RcptOptions) error { return told(replyTrouble) }
func (d dialogue) Data(io.Reader) error                   { return told(replyTrouble) }

// told makes go-smtp answer r.
func told(r smtp.Reply) error {
	e := gosmtp.EnhancedCode{int(r.Enhanced.Class), int(r.Enhanced.Subject), int(r.Enhanced.Detail)}
	return &gosmtp.SMTPError{Code: r.Code, EnhancedCode: e, Message: wire.Printable(r.Text, 400)}
}
