package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/smtpd/wire"
)

// Stats counts since start; read with Load.
type Stats struct {
	Connections  atomic.Int64 // accepted
	Open         atomic.Int64 // now
	TurnedAway   atomic.Int64 // refused before or instead of the greeting
	Messages     atomic.Int64 // answered 250
	Octets       atomic.Int64 // of them
	Refused      atomic.Int64 // messages answered 5xx after their body
	Deferred     atomic.Int64 // messages answered 4xx after their body
	AuthFailures atomic.Int64
	Logins       atomic.Int64
	TLS          atomic.Int64 // sessions that began above TLS or went there
}

// Server listens and serves. Use New.
type Server struct {
	cfg       Config
	directory Directory
	submitter Submitter
	gate      Gate
	env       *wire.Env
	inner     *gosmtp.Server
	inbox     inbox
	auth      *authenticator
	peers     peers
	stats     Stats

	ctx    context.Context // of every Submit; ends with Close
	cancel context.CancelFunc
	nets   []net.Listener
	stop   chan struct{} // closed by Shutdown or Close: accept no more
	once   sync.Once
	wg     sync.WaitGroup // accept loops, sweeper, go-smtp's loop
}

// New returns a server that does not listen yet.
func New(cfg Config, d Directory, s Submitter, g Gate) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	srv := &Server{cfg: cfg, directory: d, submitter: s, gate: g, stop: make(chan struct{})}
	srv.ctx, srv.cancel = context.WithCancel(context.Background())
	srv.inbox = inbox{conns: make(chan net.Conn), done: srv.ctx.Done()}
	srv.env = wire.NewEnv(cfg.Hostname, cfg.Limits, srv.handover)
	srv.env.Panicked = func(v any) {
		cfg.Log.Error("smtp session panicked", "detail", wire.Printable(fmt.Sprintf("%v\n%s", v, debug.Stack()), 4000))
	}
	srv.auth = newAuthenticator(d, cfg.Auth)
	srv.peers.init(cfg.Connections, cfg.PerAddress)
	srv.inner = gosmtp.NewServer(gosmtp.BackendFunc(srv.dialogue))
	srv.inner.Domain = cfg.Hostname
	srv.inner.MaxLineLength = 0 // package wire has looked at every line
	srv.inner.AllowInsecureAuth = true
	srv.inner.EnableSMTPUTF8 = true
	srv.inner.ErrorLog = errorLog{srv}
	return srv, nil
}

// errorLog takes what go-smtp has to say: panics of a session, broken connections.
type errorLog struct{ s *Server }

func (e errorLog) Printf(format string, v ...any) {
	e.s.cfg.Log.Error("smtp session", "detail", wire.Printable(fmt.Sprintf(format, v...), 4000))
}
func (e errorLog) Println(v ...any) {
	e.s.cfg.Log.Error("smtp session", "detail", wire.Printable(fmt.Sprint(v...), 4000))
}

// Start listens on every address and serves. On an error nothing is left open.
func (s *Server) Start() error {
	if err := s.env.Start(); err != nil {
		return fmt.Errorf("smtpd: %w", err)
	}
	// No probes of idle connections: the sweeper ends them long before, and to ask for probes takes a connection four system calls.
	quiet := net.ListenConfig{KeepAlive: -1}
	for _, l := range s.cfg.Listeners {
		n, err := quiet.Listen(s.ctx, "tcp", l.Address)
		if err != nil {
			for _, open := range s.nets {
				_ = open.Close()
			}
			s.env.Stop()
			return fmt.Errorf("smtpd: listen: %w", err)
		}
		s.nets = append(s.nets, n)
	}
	s.env.Tick()
	s.wg.Go(func() { _ = s.inner.Serve(&s.inbox) })
	s.wg.Go(s.sweep)
	for i, l := range s.cfg.Listeners {
		o := &wire.Options{TLS: l.TLS, Normalize: l.Normalize, Anybody: l.Role == RoleBounce, MaxLine: l.MaxLine}
		if l.TLS != wire.TLSNone {
			o.Config = listenerTLS(s.cfg.TLS)
		}
		s.wg.Go(func() { s.accept(s.nets[i], &s.cfg.Listeners[i], o) })
	}
	return nil
}

// listenerTLS gives a listener a TLS configuration of its own, so that its session tickets open nothing elsewhere
// (threat T24).
func listenerTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	return c
}

// Addrs returns the addresses listened on, in the order of Config.Listeners.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.nets))
	for i, n := range s.nets {
		addrs[i] = n.Addr()
	}
	return addrs
}

// Stats returns the counters.
func (s *Server) Stats() *Stats { return &s.stats }

// accept takes connections of one listener.
func (s *Server) accept(l net.Listener, at *Listener, o *wire.Options) {
	pause := 5 * time.Millisecond
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.cfg.Log.Warn("smtp accept", "error", err) // out of descriptors, mostly: wait for some to come back
			select {
			case <-time.After(pause):
			case <-s.stop:
				return
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		s.stats.Connections.Add(1)
		s.take(c, at, o)
	}
}

// take makes a session of an accepted connection.
func (s *Server) take(c net.Conn, at *Listener, o *wire.Options) {
	ss := &session{srv: s, role: at.Role, at: at}
	if !s.peers.enter(ss) {
		s.stats.TurnedAway.Add(1)
		_ = c.SetWriteDeadline(clock.Wall().Add(time.Second)) // a fresh socket has room: this does not wait
		_, _ = c.Write(wire.AppendReply(nil, replyFull))
		_ = c.Close()
		return
	}
	s.stats.Open.Add(1)
	w := wire.New(s.env, c, o, ss, s.proxied(c))
	ss.wire.Store(w)
	s.deliver(w)
}

func (s *Server) deliver(w *wire.Conn) {
	select {
	case s.inbox.conns <- w:
	case <-s.ctx.Done():
		w.Kill()
	}
}

// handover serves a connection that went above TLS.
func (s *Server) handover(w *wire.Conn) {
	ss := w.Policy().(*session)
	ss.forget()
	ss.wire.Store(w)
	s.deliver(w)
}

// proxied tells whether c comes from somebody who puts a PROXY header first.
func (s *Server) proxied(c net.Conn) bool {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := a.AddrPort().Addr().Unmap()
	for _, p := range s.cfg.ProxyFrom {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// sweep moves the coarse clock and ends overdue connections.
func (s *Server) sweep() {
	t := time.NewTicker(s.env.Interval())
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.env.Tick()
			s.peers.each((*wire.Conn).Sweep)
		case <-s.ctx.Done():
			return
		}
	}
}

// Shutdown accepts no more, lets open transactions finish, tells idle clients 421, and returns when all connections
// are gone or ctx ends; then it closes what is left and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopAccepting()
	s.env.Drain()
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		s.peers.each((*wire.Conn).CutIdle)
		if s.peers.count() == 0 {
			s.Close()
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			s.Close()
			return ctx.Err()
		}
	}
}

func (s *Server) stopAccepting() {
	s.once.Do(func() {
		close(s.stop)
		for _, n := range s.nets {
			_ = n.Close()
		}
	})
}

// Close ends everything at once: no further 250 leaves.
func (s *Server) Close() {
	s.stopAccepting()
	s.cancel()
	s.env.Stop()
	s.peers.each((*wire.Conn).Kill)
	_ = s.inner.Shutdown(s.ctx) // its context has ended: this only stops its loop
	s.wg.Wait()
}

// inbox is the listener go-smtp sees: all real listeners together, and connections that come back above TLS.
type inbox struct {
	conns chan net.Conn
	done  <-chan struct{}
}

func (i *inbox) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.done:
		return nil, net.ErrClosed
	}
}
func (i *inbox) Close() error   { return nil }
func (i *inbox) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }

var (
	replyFull    = temporary(421, 4, 7, 0, "Too many connections")
	replyCrowded = temporary(421, 4, 7, 0, "Too many sessions")
)

func temporary(code int, class, subject, detail uint16, text string) smtp.Reply {
	return smtp.Reply{Code: code, Enhanced: smtp.EnhancedCode{Class: class, Subject: subject, Detail: detail}, Text: text}
}
