package delivery

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRemembersBrokenTLS: the second trip does not try STARTTLS again until three days are over.
func TestRemembersBrokenTLS(t *testing.T) {
	rc := startReceiver(t, &receiver{broken: true}, "127.0.0.1:0")
	cfg := Config{Guard: NewGuard(true, nil)}
	c := New(cfg)
	for i, want := range []int{2, 3} { // connections made so far
		c.Run(context.Background(), Trip{Route: at(rc), Linger: -1}, newBasket(1))
		if _, conns := rc.log(); conns != want {
			t.Errorf("trip %d: %d connections, want %d", i+1, conns, want)
		}
	}
	c.cfg.Clock.Advance(brokenTLSFor + time.Minute)
	c.Run(context.Background(), Trip{Route: at(rc), Linger: -1}, newBasket(1))
	if _, conns := rc.log(); conns != 5 {
		t.Errorf("after three days: %d connections, want 5", conns)
	}
	for i := range 2 * maxMemory {
		c.memory.groupTorn(fmt.Sprint(i))
	}
	if len(c.memory.hosts) > maxMemory {
		t.Errorf("%d hosts remembered", len(c.memory.hosts))
	}
}

// TestLostInTheHandshake: a connection that breaks off in the TLS handshake does not send mail in clear. The next host is
// asked, or the mail waits; only a host that does so each time is believed to have no TLS that works.
func TestLostInTheHandshake(t *testing.T) {
	tlsConfig := selfSigned(t)
	trip := func(c *Courier, rs ...*receiver) string {
		r := c.Run(context.Background(), Trip{Route: at(rs...), Linger: -1}, newBasket(1))
		if r.Outcome.Result == 0 {
			return ""
		}
		return short(r.Outcome)
	}
	t.Run("once", func(t *testing.T) {
		rc := startReceiver(t, &receiver{tls: tlsConfig, hangUps: 1}, "127.0.0.1:0")
		c := New(Config{Guard: NewGuard(true, nil)})
		if got := trip(c, rc); !strings.HasPrefix(got, "deferred tls") {
			t.Errorf("got %q", got)
		}
		trip(c, rc)
		if got, _ := rc.log(); got != "u1@x.test tls from 127.0.0.1" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("another host", func(t *testing.T) {
		rc, other := startReceiver(t, &receiver{tls: tlsConfig, hangUps: 1}, "127.0.0.1:0"), startReceiver(t, &receiver{tls: tlsConfig}, "127.0.0.1:0")
		trip(New(Config{Guard: NewGuard(true, nil)}), rc, other)
		if got, _ := other.log(); got != "u1@x.test tls from 127.0.0.1" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("with TLS that works between", func(t *testing.T) {
		rc := startReceiver(t, &receiver{tls: tlsConfig, hangUps: 2}, "127.0.0.1:0")
		c := New(Config{Guard: NewGuard(true, nil)})
		for range 3 {
			trip(c, rc)
			c.cfg.Clock.Advance(silentApart)
		}
		rc.mu.Lock()
		rc.hangUps = 2
		rc.mu.Unlock()
		for range 3 {
			trip(c, rc)
			c.cfg.Clock.Advance(silentApart)
		}
		if got, _ := rc.log(); got != "u1@x.test tls from 127.0.0.1; u1@x.test tls from 127.0.0.1" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("each time", func(t *testing.T) {
		rc := startReceiver(t, &receiver{tls: tlsConfig, hangUps: 100}, "127.0.0.1:0")
		c := New(Config{Guard: NewGuard(true, nil)})
		for range 5 { // at the same time: one reason
			trip(c, rc)
		}
		for range maxSilent - 1 {
			if got, _ := rc.log(); got != "" {
				t.Errorf("got %q", got)
			}
			c.cfg.Clock.Advance(silentApart)
			trip(c, rc)
		}
		if got, _ := rc.log(); got != "u1@x.test plain from 127.0.0.1" {
			t.Errorf("got %q", got)
		}
	})
}
