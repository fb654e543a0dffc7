package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxSessions  = 20000   // connections at once over all listeners
	maxStandings = 200000  // (receiver, source) pairs kept apart; further ones share one
	maxRetries   = 1 << 20 // recipients whose deferrals are counted; further ones are not deferred
	idleTimeout  = 5 * time.Minute
	hangTimeout  = 15 * time.Minute // longer than any sender may wait for an answer (RFC 5321 §4.5.3.2: 10 minutes)
)

// Config says what the sink listens to and how it answers.
type Config struct {
	Listen   []string      // addresses; port 0 takes a free one
	Model    Model         // empty: everything is accepted
	Record   string        // file that takes a JSON line per message, "" = none
	Latency  time.Duration // before every burst of replies, at all receivers
	Chunking bool          // the receiver of unnamed domains offers CHUNKING
	StartTLS bool          // the receiver of unnamed domains offers STARTTLS
	Hostname string        // default sink.example
	Seed     uint64        // of the dice for probabilities
	Log      *slog.Logger  // nil: silent
}

// Server is a running pretend internet.
type Server struct {
	cfg       Config
	world     *world
	record    *recorder
	tls       *tls.Config
	listeners []*listener
	ctx       context.Context
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	sessions  atomic.Uint64 // numbers given
	open      atomic.Int64

	mu        sync.Mutex
	conns     map[net.Conn]struct{}
	standings map[standingKey]*standing
	retries   map[string]int
	totals    totals
}

// totals are the counters over all receivers; see Counters.
type totals struct {
	messages, deliveries, bytes, refused atomic.Int64
	first, last                          atomic.Int64 // unix nanoseconds of the first MAIL and the last accepted dot
	maxOpen                              atomic.Int64
	violations                           [violationKinds]atomic.Int64
}

type listener struct {
	net.Listener
	addr  string    // as it is bound, for the record
	bound *receiver // nil: the recipient's domain decides
	ehlo  []byte    // reply to EHLO in the clear
	ehlos []byte    // reply to EHLO under TLS
}

// Start listens and serves until Stop.
func Start(cfg Config) (*Server, error) {
	if len(cfg.Listen) == 0 {
		return nil, errors.New("sink: no address to listen on")
	}
	if err := cfg.Model.Validate(); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	if cfg.Hostname == "" {
		cfg.Hostname = "sink.example"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, world: newWorld(cfg), conns: map[net.Conn]struct{}{},
		standings: map[standingKey]*standing{}, retries: map[string]int{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	var err error
	if s.tls, err = selfSigned(cfg.Hostname); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	if cfg.Record != "" {
		if s.record, err = openRecord(cfg.Record); err != nil {
			return nil, err
		}
	}
	for _, addr := range cfg.Listen {
		if err := s.listen(addr); err != nil {
			_ = s.Stop()
			return nil, err
		}
	}
	for _, l := range s.listeners {
		s.wg.Add(1)
		go s.accept(l)
	}
	return s, nil
}

func (s *Server) listen(addr string) error {
	nl, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	l := &listener{Listener: nl, addr: nl.Addr().String(), bound: s.world.byListen[addr]}
	l.ehlo, l.ehlos = s.greetings(l.bound)
	s.listeners = append(s.listeners, l)
	return nil
}

// Addrs returns the bound addresses in the order of Config.Listen.
func (s *Server) Addrs() []string {
	out := make([]string, len(s.listeners))
	for i, l := range s.listeners {
		out[i] = l.addr
	}
	return out
}

// Stop closes every connection and the record. It returns the first trouble the record had.
func (s *Server) Stop() error {
	s.cancel()
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	if s.record == nil {
		return nil
	}
	if err := s.record.close(); err != nil {
		return fmt.Errorf("sink: record: %w", err)
	}
	return nil
}

func (s *Server) accept(l *listener) {
	defer s.wg.Done()
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.cfg.Log.Warn("accept failed", "error", err)
			select { // out of descriptors most likely: give sessions a moment to end
			case <-s.ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		n := s.open.Add(1)
		if n > maxSessions || !s.keep(conn) {
			s.open.Add(-1)
			_ = conn.Close()
			continue
		}
		for m := s.totals.maxOpen.Load(); n > m && !s.totals.maxOpen.CompareAndSwap(m, n); m = s.totals.maxOpen.Load() {
		}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			newSession(s, l, conn).run()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			s.open.Add(-1)
		}()
	}
}

func (s *Server) keep(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

// standing returns what receiver r holds of source.
func (s *Server) standing(r *receiver, source netip.Addr) *standing {
	k := standingKey{r.Name, source}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.standings[k]
	if st == nil {
		if len(s.standings) >= maxStandings {
			k.source = netip.Addr{}
			if st = s.standings[k]; st != nil {
				return st
			}
		}
		st = &standing{}
		s.standings[k] = st
	}
	return st
}

// deferAgain tells whether rcpt was deferred fewer than times so far, and counts this one.
func (s *Server) deferAgain(rcpt []byte, times int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, known := s.retries[string(rcpt)]
	if n >= times || (!known && len(s.retries) >= maxRetries) {
		return false
	}
	s.retries[string(rcpt)] = n + 1
	return true
}

// greetings builds the replies to EHLO of a listener.
func (s *Server) greetings(bound *receiver) (clear, secure []byte) {
	w := s.world
	size := int64(50 << 20)
	if bound != nil {
		size = bound.maxSize
	}
	lines := []string{s.cfg.Hostname, fmt.Sprintf("SIZE %d", size), "8BITMIME"}
	if !w.offers(bound, func(r *receiver) bool { return r.Plain }) {
		lines = append(lines, "PIPELINING", "SMTPUTF8", "ENHANCEDSTATUSCODES")
		if w.offers(bound, func(r *receiver) bool { return r.Chunking }) {
			lines = append(lines, "CHUNKING")
		}
	}
	secure = multiline(250, lines)
	if w.offers(bound, func(r *receiver) bool { return r.StartTLS == "offer" || r.StartTLS == "require" }) {
		lines = append(lines, "STARTTLS")
	}
	return multiline(250, lines), secure
}

func multiline(code int, lines []string) []byte {
	var b []byte
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		b = fmt.Appendf(b, "%d%s%s\r\n", code, sep, l)
	}
	return b
}
