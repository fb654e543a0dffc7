package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// gate bounds the connections that have not proved who they are, in all and per address. Its own lock: strangers must
// not hold up members.
type gate struct {
	max, perAddr int

	mu   sync.Mutex
	n    int
	from map[netip.Addr]int
}

func newGate(maximum int) *gate {
	return &gate{max: maximum, perAddr: max(1, maximum/4), from: map[netip.Addr]int{}}
}

// enter tells whether one more may try.
func (g *gate) enter(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n >= g.max || g.from[a] >= g.perAddr {
		return false
	}
	g.n++
	g.from[a]++
	return true
}

func (g *gate) leave(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.from[a]--; g.from[a] == 0 {
		delete(g.from, a)
	}
}

// accept takes connections until Close.
func (w *Wire) accept() {
	for {
		c, err := w.ln.Accept()
		switch {
		case w.ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return
		case err != nil:
			w.complain("accept a member", netip.AddrPort{}, err)
			select {
			case <-w.ctx.Done():
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		from := addrPort(c.RemoteAddr())
		if !w.gate.enter(from.Addr()) {
			w.complain("member not let in", from, errCrowd)
			_ = c.Close()
			continue
		}
		w.wg.Go(func() { w.greet(c, from) })
	}
}

// errCrowd is why a connection is closed unread.
var errCrowd = errors.New("too many connections that have not proved who they are")

// greet finds out who has come and what for, answers, and hands over.
func (w *Wire) greet(raw net.Conn, from netip.AddrPort) {
	defer w.gate.leave(from.Addr())
	ctx, cancel := context.WithTimeout(w.ctx, w.cfg.HandshakeTimeout)
	defer cancel()
	// The deadline covers the answer, which HandshakeContext does not; the context covers Close.
	_ = raw.SetDeadline(clock.Wall().Add(w.cfg.HandshakeTimeout))

	below := &gather{Conn: raw}
	t := tls.Server(below, w.serverTLS())
	if err := t.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		w.complain("member not let in", from, err)
		return
	}
	peer, err := peerOf(t.ConnectionState(), from)
	if err == nil {
		err = w.refusal(peer)
	}
	if err != nil {
		_ = writeAnswer(t, answer{verdict: refused})
		_ = raw.Close()
		w.complain("member refused", from, fmt.Errorf("%s: %w", peer.Name, err))
		return
	}
	proto := t.ConnectionState().NegotiatedProtocol
	w.mu.Lock()
	handler := w.handlers[proto]
	w.mu.Unlock()
	if handler == nil {
		_ = writeAnswer(t, answer{verdict: unserved, served: w.Served()})
		_ = t.Close()
		w.complain("member wants what is not served", from, fmt.Errorf("%s: %w", peer.Name, ErrUnserved))
		return
	}
	c := &Conn{Conn: t, below: below, wire: w, peer: peer, proto: proto}
	if writeAnswer(t, answer{verdict: welcome}) != nil || !w.keep(c) {
		_ = raw.Close()
		return
	}
	_ = raw.SetDeadline(time.Time{})
	go handler(peer, c)
}

// serverTLS is what incoming connections are met with: the certificates of now, and the first offer that is served.
func (w *Wire) serverTLS() *tls.Config {
	creds := w.creds.Load()
	return &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return creds.server(w.choose(hello.SupportedProtos)), nil
	}}
}

// choose returns the first offer that is served. The dialler's order counts, since it knows both versions and offers
// the newest first; crypto/tls by itself would go by the listener's. Where nothing fits, protoNone is chosen, so that the
// dialler gets an answer with words; who does not know protoNone either is ended by TLS (RFC 7301 §3.2).
func (w *Wire) choose(offers []string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(offers, func(proto string) bool { return w.handlers[proto] != nil })
	if i < 0 {
		return protoNone
	}
	return offers[i]
}

// quiet lets one line a second through, and counts the rest.
type quiet struct {
	mu      sync.Mutex
	last    time.Time
	skipped int
}

// speak tells whether to log now, and how many lines were not logged since the last one.
func (q *quiet) speak() (skipped int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.last.IsZero() && clock.Since(q.last) < time.Second {
		q.skipped++
		return 0, false
	}
	skipped, q.skipped, q.last = q.skipped, 0, clock.Wall()
	return skipped, true
}

// complain logs what came from outside: a stranger could fill the disk with it otherwise.
func (w *Wire) complain(what string, from netip.AddrPort, err error) {
	if w.ctx.Err() != nil {
		return
	}
	skipped, ok := w.quiet.speak()
	if !ok {
		return
	}
	w.cfg.Log.Warn(what, "from", from, "error", err, "not_logged", skipped)
}
