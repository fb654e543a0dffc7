package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// join looks for members that are known and not seen, until Close.
func (g *Gossip) join() {
	for {
		g.joinOnce()
		every := rejoinEvery
		if g.count() <= 1 {
			every = joinEvery
		}
		select {
		case <-g.ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// joinOnce asks every address where nobody is seen. That nobody answers is no error: they are not started yet, or dead.
func (g *Gossip) joinOnce() {
	for addr := range g.missing() {
		if g.ctx.Err() != nil {
			return
		}
		if _, err := g.list.Join([]string{addr.String()}); err != nil {
			g.cfg.Log.Debug("gossip: no answer from a member", "address", addr, "error", err)
		}
	}
}

// missing returns the addresses of Join and of members seen before where nobody is seen now.
func (g *Gossip) missing() map[netip.AddrPort]bool {
	want := map[netip.AddrPort]bool{}
	for _, where := range g.cfg.Join {
		found, err := resolve(g.ctx, where)
		if err != nil {
			g.cfg.Log.Debug("gossip: address of a member", "join", where, "error", err)
		}
		for _, addr := range found {
			want[addr] = true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, seen := range g.known {
		if !seen.gone.IsZero() && clock.Since(seen.gone) > rejoinFor {
			delete(g.known, name)
			continue
		}
		want[seen.addr] = true
	}
	for _, m := range g.alive {
		delete(want, m.Addr)
	}
	delete(want, g.cfg.Advertise)
	return want
}

// resolve finds the addresses of "host:port". Not memberlist's own look-up, which first asks the name server for
// everything it has over TCP.
func resolve(ctx context.Context, where string) ([]netip.AddrPort, error) {
	host, digits, err := net.SplitHostPort(where)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("%q: no port", where)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), uint16(port))}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	out := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		out[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return out, nil
}
