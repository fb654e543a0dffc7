package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Counters is everything the sink counted since it started or was reset.
type Counters struct {
	Messages   int64                       `json:"messages"`   // answered with 250
	Deliveries int64                       `json:"deliveries"` // recipients of them
	Bytes      int64                       `json:"bytes"`
	Refused    int64                       `json:"refused"` // recipients, messages and connections
	Open       int64                       `json:"open"`
	MaxOpen    int64                       `json:"max_open"`
	First      time.Time                   `json:"first"` // first MAIL
	Last       time.Time                   `json:"last"`  // last message
	Violations map[string]int64            `json:"violations"`
	Receivers  map[string]ReceiverCounters `json:"receivers"`
}

// ReceiverCounters sums one receiver over its sources.
type ReceiverCounters struct {
	SourceCounters
	Sources map[string]SourceCounters `json:"sources"`
}

// SourceCounters is what a receiver saw of one source IP (or of all).
type SourceCounters struct {
	Connections    int64            `json:"connections"`
	Open           int              `json:"open"`
	MaxConnections int              `json:"max_connections"` // at once, from one source
	Accepted       int64            `json:"accepted"`
	Refused        map[string]int64 `json:"refused"` // by code; "none" = reset, closed or not answered
	Blocks         int64            `json:"blocks"`
	Blocked        bool             `json:"blocked"`
	MaxPerMinute   uint32           `json:"max_per_minute"` // any 60 seconds, from one source
	MaxPerSecond   uint32           `json:"max_per_second"`
}

// Violated tells how many breaches of the outbound oracle were seen.
func (c Counters) Violated() int64 {
	var n int64
	for _, v := range c.Violations {
		n += v
	}
	return n
}

// Counters returns a snapshot.
func (s *Server) Counters() Counters {
	t := &s.totals
	c := Counters{
		Messages: t.messages.Load(), Deliveries: t.deliveries.Load(), Bytes: t.bytes.Load(), Refused: t.refused.Load(), Open: s.open.Load(),
		MaxOpen: t.maxOpen.Load(), Violations: map[string]int64{}, Receivers: map[string]ReceiverCounters{},
	}
	if n := t.first.Load(); n != 0 {
		c.First = time.Unix(0, n).UTC()
	}
	if n := t.last.Load(); n != 0 {
		c.Last = time.Unix(0, n).UTC()
	}
	for i := range t.violations {
		if n := t.violations[i].Load(); n > 0 {
			c.Violations[violationNames[i]] = n
		}
	}
	now := clock.Wall()
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, st := range s.standings {
		source := "others"
		if k.source.IsValid() {
			source = k.source.String()
		}
		r, ok := c.Receivers[k.receiver]
		if !ok {
			r = ReceiverCounters{SourceCounters: SourceCounters{Refused: map[string]int64{}}, Sources: map[string]SourceCounters{}}
		}
		one := st.counters(now)
		r.Sources[source] = one
		r.add(one)
		c.Receivers[k.receiver] = r
	}
	return c
}

func (s *standing) counters(now time.Time) SourceCounters {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := SourceCounters{
		Connections: s.connections, Open: s.open, MaxConnections: s.maxOpen, Accepted: s.accepted,
		Refused: map[string]int64{}, Blocks: s.blocks, Blocked: s.blockedBy != nil && now.Before(s.blockedUntil),
		MaxPerMinute: max(s.maxMinute, s.minute(now.Unix())), MaxPerSecond: s.maxSecond,
	}
	for code, n := range s.refused {
		name := "none"
		if code != 0 {
			name = strconv.Itoa(code)
		}
		c.Refused[name] = n
	}
	return c
}

func (c *ReceiverCounters) add(o SourceCounters) {
	c.Connections += o.Connections
	c.Open += o.Open
	c.MaxConnections = max(c.MaxConnections, o.MaxConnections)
	c.Accepted += o.Accepted
	c.Blocks += o.Blocks
	c.Blocked = c.Blocked || o.Blocked
	c.MaxPerMinute = max(c.MaxPerMinute, o.MaxPerMinute)
	c.MaxPerSecond = max(c.MaxPerSecond, o.MaxPerSecond)
	for code, n := range o.Refused {
		c.Refused[code] += n
	}
}

// Reset starts the counters anew; open connections stay counted, blocks and deferrals are forgotten.
func (s *Server) Reset() {
	t := &s.totals
	for _, v := range []interface{ Store(int64) }{&t.messages, &t.deliveries, &t.bytes, &t.refused, &t.first, &t.last} {
		v.Store(0)
	}
	t.maxOpen.Store(s.open.Load())
	for i := range t.violations {
		t.violations[i].Store(0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retries = map[string]int{}
	for _, st := range s.standings {
		st.mu.Lock() // sessions hold the pointer: clear what it counts, keep what is open
		st.maxOpen, st.connections, st.accepted, st.refused, st.blocks = st.open, int64(st.open), 0, nil, 0
		st.blockedBy, st.rcpts, st.unknown, st.maxMinute, st.maxSecond = nil, 0, 0, 0, 0
		st.seconds, st.stamps = [60]uint32{}, [60]int64{}
		st.mu.Unlock()
	}
}

// Metrics serves GET /counters (JSON) and POST /reset on addr until ctx ends. It returns the bound address.
func (s *Server) Metrics(ctx context.Context, addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("sink: metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /counters", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Counters())
	})
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	go func() {
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Warn("metrics ended", "error", err)
		}
	}()
	return l.Addr().String(), nil
}
