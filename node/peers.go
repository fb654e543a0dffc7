package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/gather"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// peers reaches the other members over the cluster's port.
type peers struct {
	node   *Node
	member *member
	http   *http.Client
	server *http.Server
}

// peerIdle is how long a connection to a member is kept for the next question.
const peerIdle = 30 * time.Second

func newPeers(n *Node, m *member) *peers {
	p := &peers{node: n, member: m}
	p.http = &http.Client{Transport: &http.Transport{
		// The host of a request is a member's name: who answers must prove to be that one.
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			name, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return p.dial(ctx, name, wire.RPC)
		},
		MaxIdleConnsPerHost: 4, IdleConnTimeout: peerIdle, ResponseHeaderTimeout: peerIdle,
	}}
	return p
}

func (p *peers) close() {
	p.http.CloseIdleConnections()
	if p.server != nil {
		_ = p.server.Close()
	}
}

// dial connects to a member by its name, wherever it is at the moment.
func (p *peers) dial(ctx context.Context, name, proto string) (net.Conn, error) {
	address, ok := p.member.addressOf(name)
	if !ok {
		return nil, fmt.Errorf("node: no address of member %s is known", name)
	}
	c, _, peer, err := p.node.wire.Dial(ctx, address, proto)
	if err != nil {
		return nil, err
	}
	if peer.Name != name {
		_ = c.Close()
		return nil, fmt.Errorf("node: %s answers where %s was expected", peer.Name, name)
	}
	return c, nil
}

// addressOf is where a member is reached: gossip knows best, then the book.
func (m *member) addressOf(name string) (string, bool) {
	for _, a := range m.alive() {
		if a.Name == name {
			return a.Address, true
		}
	}
	if v, ok := m.book.State().Member(name); ok && v.Address != "" {
		return v.Address, true
	}
	return "", false
}

// List implements gather.Peers.
func (p *peers) List() []gather.Peer {
	seen := map[string]gather.Peer{}
	for _, v := range p.member.book.State().Members() {
		if !v.Removed {
			seen[v.Name] = gather.Peer{Name: v.Name, Seen: p.member.heardOf(v.Name)}
		}
	}
	for _, a := range p.member.alive() {
		if a.Role == witnessRole {
			delete(seen, a.Name)
			continue
		}
		seen[a.Name] = gather.Peer{Name: a.Name, Seen: clock.Wall()}
	}
	delete(seen, p.node.cfg.Node.Name)
	out := make([]gather.Peer, 0, len(seen))
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, seen[name])
	}
	return out
}

// Client implements gather.Peers.
func (p *peers) Client(name string) adminpb.AdminServiceClient {
	return gather.NewClient(p.http, "http://"+name+":80")
}

// gathered reaches the other members where there are any by now.
type gathered struct{ *Node }

// List implements gather.Peers.
func (n gathered) List() []gather.Peer {
	if m := n.member.Load(); m != nil && m.peers != nil {
		return m.peers.List()
	}
	return nil
}

// Client implements gather.Peers.
func (n gathered) Client(name string) adminpb.AdminServiceClient {
	if m := n.member.Load(); m != nil && m.peers != nil {
		return m.peers.Client(name)
	}
	return nil
}

// serve answers what other members ask of this one.
func (p *peers) serve() {
	mux := http.NewServeMux()
	mux.Handle("/", p.node.http.PeerHandler())
	p.node.gateCalls(mux)
	p.node.serveLates(mux)
	p.member.shares.serve(mux)
	p.member.keysOf.serve(mux)
	p.member.serveLists(mux)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: peerIdle, IdleTimeout: 2 * peerIdle,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			peer, _ := wire.PeerOf(c)
			return context.WithValue(ctx, peerKey{}, peer.Name)
		}}
	go func() {
		if err := p.server.Serve(p.node.wire.Listener(wire.RPC)); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, wire.ErrClosed) {
			p.node.log.Warn("members are not answered any more", "error", err)
		}
	}()
}

// call puts a question to another member, as JSON where question is not nil, and reads at most limit octets of JSON.
func (p *peers) call(ctx context.Context, method, name, path string, question any, limit int64, out any) error {
	var body []byte
	if question != nil {
		var err error
		if body, err = json.Marshal(question); err != nil {
			return fmt.Errorf("node: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+name+":80"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("node: ask %s: %w", name, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, text)
	}
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		return fmt.Errorf("node: ask %s: %w", name, err)
	}
	return nil
}

// answer serves a call of other members: at most limit octets of JSON in, 0 = none, what do returns as JSON out.
func answer[In, Out any](mux *http.ServeMux, method, path string, limit int64, do func(context.Context, In) (Out, error)) {
	mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if limit > 0 {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit)).Decode(&in); err != nil {
				http.Error(w, "not what is asked here: "+err.Error(), http.StatusBadRequest)
				return
			}
		}
		out, err := do(r.Context(), in)
		switch {
		case errors.Is(err, service.ErrInvalid):
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // the peer has gone: no trouble
	})
}

// peerKey is where the context of a call holds the name of the member that makes it.
type peerKey struct{}

// peerName is the member that makes a call, by its certificate.
func peerName(ctx context.Context) string {
	name, _ := ctx.Value(peerKey{}).(string)
	return name
}

// address is where the others reach this member, "" alone.
func (m *member) address() string {
	if m.node.wire == nil {
		return ""
	}
	return m.node.advertised()
}
