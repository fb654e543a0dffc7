package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// ErrVersion is returned where the peer serves the protocol, but none of the versions offered: one of the two members
// must be upgraded. The error is a *VersionError.
var ErrVersion = errors.New("no common version")

// ErrUnserved is returned where the peer serves the protocol in no version, such as one that is sealed or not yet
// started. The error is a *VersionError.
var ErrUnserved = errors.New("protocol is not served")

// ErrRefused is returned where the peer does not speak with us: it does not accept our certificate, or we were removed.
var ErrRefused = errors.New("refused by the peer")

// ErrPeer is returned where we do not speak with the peer: its certificate is not this cluster's, has ended, or is not
// for this; or Refuse's function refused it.
var ErrPeer = errors.New("peer is not acceptable")

// VersionError says what either side speaks, where that does not fit. It is ErrVersion or ErrUnserved.
type VersionError struct {
	Peer    string   // name of the peer
	Offered []string // by us
	Served  []string // by the peer: of the protocol, where it serves it at all; else all
	reason  error
}

func (e *VersionError) Error() string {
	served := strings.Join(e.Served, ", ")
	if served == "" {
		served = "nothing"
	}
	return fmt.Sprintf("%v: we offer %s; %s serves %s", e.reason, strings.Join(e.Offered, ", "), e.Peer, served)
}

func (e *VersionError) Unwrap() error { return e.reason }

// newVersionError compares what was offered with what is served, by the names before the version.
func newVersionError(peer string, offered, served []string) *VersionError {
	e := &VersionError{Peer: peer, Offered: offered, Served: served, reason: ErrUnserved}
	family := func(proto string) string { name, _, _ := strings.Cut(proto, "/"); return name }
	var same []string
	for _, s := range served {
		if slices.ContainsFunc(offered, func(o string) bool { return family(o) == family(s) }) {
			same = append(same, s)
		}
	}
	if len(same) > 0 {
		e.Served, e.reason = same, ErrVersion
	}
	return e
}

// Dial connects to the member at addr and agrees on one of protos, which are versions of one protocol, newest first.
// It returns when the peer has accepted us: who it is, and what was agreed. ctx and Config.HandshakeTimeout, whichever
// ends first, bound all of it but not the connection. Errors are ErrVersion, ErrUnserved, ErrRefused, ErrPeer, ErrClosed,
// and those of the network.
func (w *Wire) Dial(ctx context.Context, addr string, protos ...string) (net.Conn, string, Peer, error) {
	c, err := w.dial(ctx, addr, protos)
	if err != nil && w.ctx.Err() != nil {
		err = ErrClosed // which is why, whatever broke first
	}
	if err != nil {
		return nil, "", Peer{}, fmt.Errorf("dial member %s: %w", addr, err)
	}
	return c, c.proto, c.peer, nil
}

func (w *Wire) dial(ctx context.Context, addr string, protos []string) (*Conn, error) {
	if w.ctx.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(w.ctx, cancel) // Close ends dialling
	defer stop()
	d := net.Dialer{KeepAliveConfig: keepAlive()}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c, err := w.introduce(ctx, raw, protos)
	if err == nil && !w.keep(c) {
		err = ErrClosed
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

// introduce does the handshake and reads the answer.
func (w *Wire) introduce(ctx context.Context, raw net.Conn, protos []string) (*Conn, error) {
	_ = raw.SetDeadline(clock.Wall().Add(w.cfg.HandshakeTimeout))
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	below := &gather{Conn: raw}
	t := tls.Client(below, w.creds.Load().client(append(slices.Clone(protos), protoNone)))
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, sayWho(err)
	}
	peer, err := peerOf(t.ConnectionState(), addrPort(raw.RemoteAddr()))
	if err == nil {
		err = w.refusal(peer)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrPeer, peer.Name, err)
	}
	a, err := readAnswer(t)
	if err != nil {
		return nil, sayWho(err)
	}
	proto := t.ConnectionState().NegotiatedProtocol
	switch {
	case a.verdict == unserved:
		return nil, newVersionError(peer.Name, protos, a.served)
	case a.verdict == refused:
		w.tellBarred(peer)
		return nil, fmt.Errorf("%w %s", ErrRefused, peer.Name)
	case !slices.Contains(protos, proto):
		return nil, fmt.Errorf("%w: %s agreed to %q, which was not offered", ErrPeer, peer.Name, proto)
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	_ = raw.SetDeadline(time.Time{})
	return &Conn{Conn: t, below: below, wire: w, peer: peer, proto: proto}, nil
}

// sayWho tells a certificate that we do not take from one of ours that the peer does not take.
func sayWho(err error) error {
	var alert *net.OpError
	var bad *tls.CertificateVerificationError
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error": // crypto/tls: an alert of the peer
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case errors.As(err, &bad):
		return fmt.Errorf("%w: %w", ErrPeer, err)
	}
	return err
}
