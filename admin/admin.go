// Package admin is the HTTP front of a node: health, metrics, the operator's RPC and the first calls of the native
// API. It authenticates, bounds and translates; the answers come from the services that package node hands in.
//
// It must never decide about mail and never touch the store. Everything but /healthz, /readyz, the front page and the links
// to leave a list needs the bearer token (metrics are open while the listener is on loopback). Read service.Services, then New.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"golang.org/x/net/netutil"

	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail/unsubscribe"
)

// Bounds of the front. A peer that needs more than these is not an operator.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeader         = 16 << 10 // octets
	maxBody           = 64 << 10 // octets, of everything but the RPC and the settings
	maxRPCBody        = 9 << 20  // octets; the RPC itself refuses above 8 MiB with better words
	maxConnections    = 512
	maxStreams        = 64 // of one HTTP/2 connection
)

// Services is what the front asks of the node.
type Services = service.Services

// Config is what a Server needs.
type Config struct {
	Address  string       // host:port, port 0 = any
	TLS      *tls.Config  // nil = plain HTTP
	Token    string       // the admin token, at least 32 octets (see Token)
	Metrics  http.Handler // of /metrics; nil = none
	Testing  bool         // serve /testing: only where every listener of the node is on loopback
	Services Services
	Local    *Services    // what this node alone answers, where Services gathers from all; nil = Services
	Clock    *clock.Clock // product clock
	Log      *slog.Logger
}

// Validate reports what keeps c from being served.
func (c Config) Validate() error {
	switch {
	case len(c.Token) < 32:
		return errors.New("admin: the token is shorter than 32 octets")
	case c.Clock == nil || c.Log == nil:
		return errors.New("admin: a clock and a log are needed")
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("admin: address: %w", err)
	}
	return nil
}

// Server is the HTTP front. Build it with New, run it with Start and Stop.
type Server struct {
	c        Config
	loopback bool // the listener is reachable from this machine only
	guard    *guard
	links    guesses // wrong tokens of links to leave a list
	compat   *compat.API
	http     *http.Server
	listener net.Listener
	served   chan struct{} // closed when serving has ended
}

// New builds the front without listening.
func New(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{c: c, loopback: onLoopback(c.Address), served: make(chan struct{})}
	s.guard = newGuard(c.Token, c.Log)
	s.compat = compat.New(compat.Config{Services: c.Services, Operator: s.guard.check, Clock: c.Clock, Log: c.Log})
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // gRPC without TLS
	s.http = &http.Server{
		Handler:           s.Handler(),
		TLSConfig:         c.TLS,
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Handler is the front without its listener.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /{$}", s.page)
	if s.c.Services.Links != nil {
		mux.HandleFunc("GET "+unsubscribe.Path+"{token}", s.askLeave)
		mux.HandleFunc("POST "+unsubscribe.Path+"{token}", s.leave)
	}
	if s.c.Metrics != nil {
		if s.loopback {
			mux.Handle("GET /metrics", s.c.Metrics)
		} else {
			mux.Handle("GET /metrics", s.guard.operator(s.c.Metrics))
		}
	}
	path, calls := rpc.New(rpc.Config{Services: s.c.Services, Clock: s.c.Clock, Log: s.c.Log})
	_, local := s.local()
	mux.Handle(path, s.guard.operatorRPC(limitBody(maxRPCBody, rpc.ByScope(calls, local))))

	methods := map[string][]string{}
	for _, r := range s.routes() {
		mux.Handle(r.method+" "+r.path, s.readers(r))
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, allowed := range methods {
		mux.Handle(path, s.readers(route{method: http.MethodGet, path: path, serve: notAllowed(allowed)})) // for whoever may read there
	}
	if s.c.Services.Users != nil && s.c.Services.Log != nil {
		for _, path := range compat.Paths() {
			mux.Handle(path, s.compat.Handler())
		}
	}
	mux.Handle("/v1/", s.guard.operator(http.HandlerFunc(notBuilt)))
	mux.Handle("GET /debug/pprof/", s.guard.operator(http.HandlerFunc(pprof.Index)))
	mux.Handle("GET /debug/pprof/profile", s.guard.operator(http.HandlerFunc(pprof.Profile)))
	mux.Handle("GET /debug/pprof/trace", s.guard.operator(http.HandlerFunc(pprof.Trace)))
	if s.c.Testing {
		mux.Handle("GET /testing/clock", localName(http.HandlerFunc(s.showClock)))
		mux.Handle("POST /testing/clock", localName(http.HandlerFunc(s.steerClock)))
		mux.Handle("POST /testing/jobs/{job}", localName(http.HandlerFunc(s.runJob)))
	}
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusForbidden, "cross-origin requests are refused")
	}))
	cross.AddInsecureBypassPattern("POST " + unsubscribe.Path + "{token}") // the token is all that counts (RFC 8058 §3.2)
	return secureHeaders(limitBodies(path, cross.Handler(mux)))
}

// local is the RPC answered by this node alone, and its path.
func (s *Server) local() (string, http.Handler) {
	of := s.c.Services
	if s.c.Local != nil {
		of = *s.c.Local
	}
	return rpc.New(rpc.Config{Services: of, Node: true, Clock: s.c.Clock, Log: s.c.Log})
}

// PeerHandler is what the other members may ask, about this node alone. It asks for no token: it must be served only
// where the transport has proved that a member is at the other end (the wire between members).
func (s *Server) PeerHandler() http.Handler {
	path, calls := s.local()
	mux := http.NewServeMux()
	mux.Handle(path, rpc.ForPeers(limitBody(maxRPCBody, calls)))
	return mux
}

// Start listens and serves in the background until Stop.
func (s *Server) Start() error {
	ln, err := net.Listen("tcp", s.c.Address)
	if err != nil {
		return fmt.Errorf("admin: listen: %w", err)
	}
	s.listener = netutil.LimitListener(ln, maxConnections)
	go func() {
		defer close(s.served)
		var err error
		if s.c.TLS != nil {
			err = s.http.ServeTLS(s.listener, "", "")
		} else {
			err = s.http.Serve(s.listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.c.Log.Error("http front stopped", "error", err)
		}
	}()
	return nil
}

// Addr is the address really listened on, once Start has returned.
func (s *Server) Addr() string {
	if s.listener == nil {
		return s.c.Address
	}
	return s.listener.Addr().String()
}

// Stop ends serving: open requests may finish until ctx ends, then they are cut.
func (s *Server) Stop(ctx context.Context) error {
	if s.listener == nil {
		return nil
	}
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("admin: stop: %w", err), s.http.Close())
	}
	<-s.served
	return err
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
