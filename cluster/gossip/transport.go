package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

const (
	// maxDatagram is the longest packet that UDP carries, in octets.
	maxDatagram = 65535
	// readPause is waited after a failed read of packets: Linux reports a peer's closed port there, too.
	readPause = 10 * time.Millisecond
	// dialTimeout bounds a reliable send's connection where memberlist names no bound.
	dialTimeout = 10 * time.Second
)

// transport carries memberlist: packets by UDP on the number of the members' port, streams through the port itself.
type transport struct {
	wire      *wire.Wire
	udp       *net.UDPConn
	advertise netip.AddrPort
	log       *slog.Logger
	packets   chan *memberlist.Packet
	streams   chan net.Conn

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// newTransport binds the UDP port and serves gossip's protocol.
func newTransport(w *wire.Wire, advertise netip.AddrPort, log *slog.Logger) (*transport, error) {
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(w.Addr()))
	if err != nil {
		return nil, fmt.Errorf("listen for packets: %w", err)
	}
	t := &transport{wire: w, udp: udp, advertise: advertise, log: log,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wg.Go(t.read)
	w.Handle(wire.Gossip, t.accept)
	return t, nil
}

// FinalAdvertiseAddr returns where the others reach us, which never changes while we run.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().Unmap().AsSlice(), int(t.advertise.Port()), nil
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return clock.Wall(), err
}

func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout connects to a member. Where it is named, its certificate must say the same: an address may have
// gone to another machine.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 {
		timeout = dialTimeout
	}
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	c, _, peer, err := t.wire.Dial(ctx, a.Addr, wire.Gossip)
	if err != nil {
		return nil, err
	}
	if a.Name != "" && peer.Name != a.Name {
		_ = c.Close()
		return nil, fmt.Errorf("%s is %s, not %s", a.Addr, peer.Name, a.Name)
	}
	return c, nil
}

// accept hands a stream to memberlist, which sets deadlines and closes it.
func (t *transport) accept(_ wire.Peer, c net.Conn) {
	select {
	case t.streams <- c:
	case <-t.ctx.Done():
		_ = c.Close()
	}
}

// read hands packets to memberlist until Shutdown.
func (t *transport) read() {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		switch {
		case t.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.log.Debug("gossip: read packets", "error", err)
			select {
			case <-t.ctx.Done():
				return
			case <-time.After(readPause):
			}
			continue
		case n == 0: // memberlist expects a type octet
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: clock.Wall()}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

// Shutdown stops both.
func (t *transport) Shutdown() error {
	if t.ctx.Err() != nil {
		return nil
	}
	t.cancel()
	t.wire.Unhandle(wire.Gossip)
	err := t.udp.Close()
	t.wg.Wait()
	return err
}
