package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Limits bounds what one connection may take. Zero fields are replaced by the defaults of DefaultLimits.
type Limits struct {
	Idle      time.Duration // waiting for a command to begin (RFC 5321 §4.5.3.2.7: at least 5 minutes)
	Command   time.Duration // from the first octet of a command to its CRLF
	Envelope  time.Duration // from MAIL to the end of the envelope
	DataIdle  time.Duration // between two octets of a body
	DataMax   time.Duration // a whole body
	RateGrace time.Duration // how long a body may be slow before MinRate holds
	MinRate   int           // octets per second of a body, on average
	Handshake time.Duration // TLS handshake
	Header    time.Duration // PROXY header
	Write     time.Duration // until the peer takes a reply

	Recipients   int   // per transaction; more get 452
	Junk         int   // commands refused since the last message, until 421
	Idles        int   // NOOP, RSET, VRFY, EHLO since the last message, until 421
	Commands     int   // any commands since the last message, until 421
	Discard      int64 // octets of refused bodies to swallow per connection
	HeaderBytes  int   // of a message's header section
	HeaderFields int
	Memory       int64 // octets of bodies beyond 128 KiB each that all connections may hold together
}

// DefaultLimits are the limits of an unconfigured server.
func DefaultLimits() Limits {
	return Limits{
		Idle: 5 * time.Minute, Command: time.Minute, Envelope: time.Hour, DataIdle: 3 * time.Minute, DataMax: time.Hour,
		RateGrace: 30 * time.Second, MinRate: 64, Handshake: 30 * time.Second, Header: 5 * time.Second,
		Write: 30 * time.Second, Recipients: 1000, Junk: 20, Idles: 50, Commands: 5000, Discard: 64 << 20,
		HeaderBytes: 1 << 20, HeaderFields: 2000, Memory: 1 << 30,
	}
}

// fill replaces what is not set.
func (l Limits) fill() Limits {
	d := DefaultLimits()
	for _, f := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&l.Idle, d.Idle}, {&l.Command, d.Command}, {&l.Envelope, d.Envelope}, {&l.DataIdle, d.DataIdle}, {&l.DataMax, d.DataMax},
		{&l.RateGrace, d.RateGrace}, {&l.Handshake, d.Handshake}, {&l.Header, d.Header}, {&l.Write, d.Write},
	} {
		if *f.v <= 0 {
			*f.v = f.d
		}
	}
	for _, f := range []struct{ v, d *int }{
		{&l.MinRate, &d.MinRate}, {&l.Recipients, &d.Recipients}, {&l.Junk, &d.Junk}, {&l.Idles, &d.Idles},
		{&l.Commands, &d.Commands}, {&l.HeaderBytes, &d.HeaderBytes}, {&l.HeaderFields, &d.HeaderFields},
	} {
		if *f.v <= 0 {
			*f.v = *f.d
		}
	}
	if l.Discard <= 0 {
		l.Discard = d.Discard
	}
	if l.Memory <= 0 {
		l.Memory = d.Memory
	}
	return l
}

// shortest is the smallest of the time limits, which sets how often Sweep should run.
func (l Limits) shortest() time.Duration {
	return min(l.Idle, l.Command, l.Envelope, l.DataIdle, l.DataMax, l.RateGrace, l.Handshake, l.Header, l.Write)
}

// TLSMode says what a listener does about TLS (contract 3).
type TLSMode uint8

// The modes of a listener.
const (
	TLSNone TLSMode = iota
	TLSOptional
	TLSRequired
	TLSImplicit
)

// Options are what one listener asks of its connections.
type Options struct {
	TLS       TLSMode
	Config    *tls.Config // nil = no TLS whatever the mode; one per listener, so that tickets stay with it (threat T24)
	Normalize bool        // repair bare CR, LF and NUL instead of refusing
	Anybody   bool        // who is not known may open transactions: patience ends at recipients that are refused, too
	MaxLine   int         // longest body line without CRLF in octets; 0 = 998
}

// Env is what all connections of a server share: limits, buffers, the coarse clock of the sweeper.
type Env struct {
	Hostname string
	Panicked func(v any) // told of a panic that ended a connection; nil = nobody is
	limits   Limits
	start    time.Time
	now      atomic.Int64 // nanoseconds since start, as of the last Tick
	draining atomic.Bool
	memory   atomic.Int64
	handover func(*Conn)
	reactors []*reactor
	sat      atomic.Uint32 // connections that were given a reactor
	big      sync.Pool     // *[bigSize]byte
	bodies   [len(bodySizes)]sync.Pool
}

// NewEnv returns the shared part of a server. handover receives the connection that goes on above TLS after STARTTLS;
// it must serve it like an accepted one and must not block for long.
func NewEnv(hostname string, l Limits, handover func(*Conn)) *Env {
	e := &Env{Hostname: hostname, limits: l.fill(), start: clock.Wall(), handover: handover}
	e.big.New = func() any { return new([bigSize]byte) }
	return e
}

// Start begins to serve connections together where the system lets it (docs/adr/0030); without, each serves itself. On an error
// nothing is left running.
func (e *Env) Start() error {
	for range (runtime.GOMAXPROCS(0) + 1) / 2 { // the other half is for storing and sending
		r, err := newReactor()
		if err != nil {
			e.Stop()
			e.reactors = nil
			if errors.Is(err, errors.ErrUnsupported) {
				return nil
			}
			return fmt.Errorf("serve connections: %w", err)
		}
		e.reactors = append(e.reactors, r)
	}
	return nil
}

// Stop ends what Start began, once the connections are gone. It does not wait for that.
func (e *Env) Stop() {
	for _, r := range e.reactors {
		r.stop()
	}
}

// reactor is for one more connection; nil = there is none.
func (e *Env) reactor() *reactor {
	if len(e.reactors) == 0 {
		return nil
	}
	return e.reactors[int(e.sat.Add(1))%len(e.reactors)]
}

// Limits returns the limits in force.
func (e *Env) Limits() Limits { return e.limits }

// Tick moves the coarse clock; the sweeper calls it every Interval.
func (e *Env) Tick() { e.now.Store(int64(clock.Since(e.start))) }

// Now is the coarse clock: the time since start, as of the last Tick.
func (e *Env) Now() time.Duration { return time.Duration(e.now.Load()) }

// Interval is how often to Tick and to look for overdue connections.
func (e *Env) Interval() time.Duration {
	return min(max(e.limits.shortest()/8, 5*time.Millisecond), time.Second)
}

// Drain makes every connection end at the next moment it has no transaction open.
func (e *Env) Drain() { e.draining.Store(true) }

// bigSize is the size of a read buffer, held only while octets are waiting in it.
const bigSize = 64 << 10

// bodySizes are the capacities of pooled body buffers. Larger bodies are not pooled and count against Limits.Memory.
var bodySizes = [...]int{2 << 10, 8 << 10, 32 << 10, 128 << 10}

// body returns an empty buffer of at least n octets; n beyond the largest class gives exactly n.
func (e *Env) body(n int) []byte {
	for i, size := range bodySizes {
		if n > size {
			continue
		}
		if b, ok := e.bodies[i].Get().(*[]byte); ok {
			return (*b)[:0]
		}
		return make([]byte, 0, size)
	}
	return make([]byte, 0, n)
}

// release gives b back. Nobody may touch b afterwards.
func (e *Env) release(b []byte) {
	for i, size := range bodySizes {
		if cap(b) == size {
			b = b[:0]
			e.bodies[i].Put(&b)
			return
		}
	}
	if n := cap(b); n > bodySizes[len(bodySizes)-1] {
		e.memory.Add(-int64(n))
	}
}

// grow returns a buffer with b's content and room for n octets more, or false where memory is short.
func (e *Env) grow(b []byte, n int) ([]byte, bool) {
	need := len(b) + n
	if need <= cap(b) {
		return b, true
	}
	if last := bodySizes[len(bodySizes)-1]; need > last {
		need = max(need, 2*cap(b))
		if e.memory.Add(int64(need)) > e.limits.Memory {
			e.memory.Add(-int64(need))
			return b, false
		}
	}
	nb := append(e.body(need), b...)
	if b != nil {
		e.release(b)
	}
	return nb, true
}
