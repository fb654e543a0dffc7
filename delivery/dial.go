package delivery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/ekiden-mta/ekiden/mail"
)

// dial connects from the trip's source to a. The guard sees the address the kernel is given.
func (c *Courier) dial(ctx context.Context, source netip.Addr, a netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{
		Timeout: c.cfg.ConnectTimeout,
		Control: func(_, address string, raw syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if err := c.cfg.Guard.Check(to); err != nil {
				return err
			}
			return tune(raw, source.IsValid(), c.cfg.UserTimeout)
		},
	}
	if source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	return d.DialContext(ctx, "tcp", a.String())
}

// connectFailure is the outcome of a dial that failed with err.
func (c *Courier) connectFailure(t Trip, h mail.Host, a netip.AddrPort, err error) mail.Outcome {
	o := mail.Outcome{
		Result: mail.Deferred, Stage: mail.StageConnect, Status: mail.StatusTimeout, Scope: mail.ScopeReceiver,
		Source: t.Source, Remote: a, MX: h.Name, Detail: connectWords(err), At: c.cfg.Clock.Now(),
	}
	switch {
	case errors.Is(err, ErrOurselves):
		o.Status, o.Detail = mail.StatusServer, clip("5.4.6 mail for "+h.Name+" loops back to ourselves")
	case errors.Is(err, ErrForbidden):
		o.Status, o.Detail = mail.StatusServer, clip("5.4.4 "+h.Name+" has an address that is not for mail: "+a.Addr().String())
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		o.Scope = mail.ScopeSource
	}
	return o
}

func connectWords(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return mail.Refused.String()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return mail.Stalled.String()
	case errors.Is(err, syscall.ECONNRESET):
		return mail.Reset.String()
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return mail.Unreachable.String()
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "source address is not available on this machine"
	case errors.Is(err, context.Canceled):
		return "stopped"
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return mail.Stalled.String()
	}
	return clip(err.Error())
}
