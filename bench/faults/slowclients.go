package faults

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/internal/clock"
)

// stages are where a slow client stays: it speaks properly until then, and one octet per interval from there on.
func stages() []string { return []string{"greeting", "ehlo", "auth", "data", "bdat", "tls"} }

// SlowConfig is a crowd of slow clients (threat T7).
type SlowConfig struct {
	Target      string
	Connections int
	Interval    time.Duration // between two octets
	Hold        time.Duration // how long the crowd stays once it is there
	Ready       func(open int)
}

// SlowResult is what became of the crowd.
type SlowResult struct {
	Open   int            `json:"open"`   // at once, when all were there
	Failed int            `json:"failed"` // that were not let in or did not get to their stage
	Why    string         `json:"why,omitempty"`
	Cut    map[string]int `json:"cut"` // ended by the engine, by stage
}

// crowd is the state of a run.
type crowd struct {
	SlowConfig
	arrived sync.WaitGroup
	open    atomic.Int64
	mu      sync.Mutex
	res     SlowResult
}

// SlowClients plays the crowd until Hold is over or ctx ends. It belongs in a process of its own: every client is a
// descriptor.
func SlowClients(ctx context.Context, cfg SlowConfig) (SlowResult, error) {
	if cfg.Connections <= 0 || cfg.Interval <= 0 {
		return SlowResult{}, errors.New("faults: slow clients need a number and an interval")
	}
	c := &crowd{SlowConfig: cfg, res: SlowResult{Cut: map[string]int{}}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	gate := make(chan struct{}, 64) // dialogues up to the stage at once
	for i := range cfg.Connections {
		c.arrived.Add(1)
		wg.Add(1)
		go func() {
			defer wg.Done()
			c.client(ctx, i, gate)
		}()
	}
	c.arrived.Wait()
	c.mu.Lock()
	c.res.Open = int(c.open.Load())
	c.mu.Unlock()
	if cfg.Ready != nil {
		cfg.Ready(c.res.Open)
	}
	t := time.NewTimer(cfg.Hold)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	cancel()
	wg.Wait()
	return c.res, nil
}

// client is one of the crowd.
func (c *crowd) client(ctx context.Context, n int, gate chan struct{}) {
	stage := stages()[n%len(stages())]
	gate <- struct{}{}
	conn, err := c.reach(ctx, n, stage)
	<-gate
	if err == nil {
		c.open.Add(1)
		defer func() { _ = conn.Close() }()
	}
	c.arrived.Done()
	if err != nil {
		c.mu.Lock()
		c.res.Failed++
		c.res.Why = stage + ": " + err.Error()
		c.mu.Unlock()
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if c.crawl(ctx, conn, stage) {
		c.mu.Lock()
		c.res.Cut[stage]++
		c.mu.Unlock()
	}
	c.open.Add(-1)
}

// bodiesPerAddress is how many clients that get as far as a body share an address: a server composition takes a
// hundred sessions (requirement R8).
const bodiesPerAddress = 90

// address is where client n comes from. Who stays before the envelope is a stranger from one of a hundred addresses,
// so that ports suffice; who gets as far as a body comes from an address that may relay.
func address(n int, stage string) net.IP {
	if stage == "data" || stage == "bdat" {
		return net.IPv4(127, 0, 2, byte(1+n/len(stages())*2/bodiesPerAddress))
	}
	return net.IPv4(127, 0, 1, byte(1+n%100))
}

// relays returns the addresses that must be let relay for a crowd of n.
func relays(n int) []string {
	var out []string
	for i := 0; i <= n/len(stages())*2/bodiesPerAddress; i++ {
		out = append(out, net.IPv4(127, 0, 2, byte(1+i)).String())
	}
	return out
}

// reach connects and speaks up to the stage.
func (c *crowd) reach(ctx context.Context, n int, stage string) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: address(n, stage)}}
	conn, err := d.DialContext(ctx, "tcp", c.Target)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(clock.Wall().Add(30 * time.Second))
	if err := c.speak(conn, stage, n); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// speak is the proper part of the dialogue.
func (c *crowd) speak(conn net.Conn, stage string, n int) error {
	hello := []string{"EHLO slow.example"}
	envelope := []string{"MAIL FROM:<slow@load.example>", fmt.Sprintf("RCPT TO:<slow%d@d0.example>", n)}
	var say []string
	last := ""
	switch stage {
	case "greeting":
		return nil
	case "ehlo":
	case "auth":
		say = hello
	case "data":
		say = append(append(hello, envelope...), "DATA")
	case "bdat":
		say, last = append(hello, envelope...), "BDAT 100000 LAST\r\n"
	case "tls":
		say = append(hello, "STARTTLS")
	}
	buf := make([]byte, 512)
	if err := reply(conn, buf); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	for _, line := range say {
		if _, err := conn.Write([]byte(line + "\r\n")); err != nil {
			return err
		}
		if err := reply(conn, buf); err != nil {
			return fmt.Errorf("%.8s: %w", line, err)
		}
	}
	_, err := conn.Write([]byte(last))
	return err
}

// reply reads one whole reply and wants it good.
func reply(conn net.Conn, buf []byte) error {
	var text []byte
	for len(text) < 4096 {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		text = append(text, buf[:n]...)
		lines := strings.Split(string(text), "\r\n")
		if len(lines) < 2 || lines[len(lines)-1] != "" {
			continue
		}
		if l := lines[len(lines)-2]; len(l) >= 4 && l[3] == ' ' {
			if l[0] > '3' {
				return fmt.Errorf("answered %.80q", l)
			}
			return nil
		}
	}
	return errors.New("endless reply")
}

// crawl says (in the greeting: reads) one octet per interval until the engine ends the connection or the crowd goes.
// It tells whether the engine did.
func (c *crowd) crawl(ctx context.Context, conn net.Conn, stage string) (cut bool) {
	octets := map[string]string{
		"ehlo": "EHLO slow.example.slow.example", "auth": "AUTH PLAIN AHVzZXIAcGFzc3dvcmQAAAAA", "tls": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	}[stage]
	if octets == "" {
		octets = "slow"
	}
	var one [1]byte
	b := make([]byte, 64)
	_, _ = rand.Read(one[:])
	next := clock.Wall().Add(c.Interval * time.Duration(one[0]) / 255) // not all in one moment
	for i := 0; ctx.Err() == nil; {
		_ = conn.SetReadDeadline(next)
		if ctx.Err() != nil {
			return false
		}
		into := b
		if stage == "greeting" {
			into = b[:1]
		}
		_, err := conn.Read(into)
		switch {
		case err == nil && stage != "greeting":
			continue // its last words
		case err == nil:
			if !pause(ctx, next) {
				return false
			}
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return ctx.Err() == nil
		case stage != "greeting":
			if _, err := conn.Write([]byte{octets[i%len(octets)]}); err != nil {
				return ctx.Err() == nil
			}
			i++
		}
		next = next.Add(c.Interval)
	}
	return false
}

// pause waits until at, or tells that ctx ended before.
func pause(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(-clock.Since(at))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
