package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEtiquette: on the wire, what a receiver's rules say holds: connections at once and a second, messages on each, the
// interval between them, and one recipient in each transaction (R39, R44, D2).
func TestEtiquette(t *testing.T) {
	const (
		n, connections, perConnection = 40, 2, 5
		interval                      = 60 * time.Millisecond
		perSecond                     = 4
	)
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRigWith(t, to(sink), "", func(s string) string {
		return s + fmt.Sprintf("receivers: [{name: carrier, domains: [carrier.test], connections: %d, per_connection: %d, interval: %s, connection_rate: %d}]\n",
			connections, perConnection, interval, perSecond)
	}, func(s string) string {
		return strings.Replace(s, "hostname: relay.test}", "hostname: relay.test, source_ips: [127.0.0.2]}", 1)
	})
	c := r.session()
	for i := range n {
		c.mustSend(text(""), fmt.Sprintf("u%d@carrier.test", i))
	}
	sink.mustGet(t, n)
	r.atRest()
	sink.mu.Lock()
	defer sink.mu.Unlock()
	var opened []time.Time
	for _, s := range sink.sessions {
		if len(s.began) == 0 {
			continue
		}
		opened = append(opened, s.began[0])
		if len(s.began) > perConnection || s.rcpts != len(s.began) {
			t.Errorf("a connection carried %d messages to %d recipients, at most %d to one each are allowed", len(s.began), s.rcpts, perConnection)
		}
		for i := 1; i < len(s.began); i++ {
			if d := s.began[i].Sub(s.began[i-1]); d < interval-5*time.Millisecond {
				t.Errorf("%s between two messages of a connection, want %s", d, interval)
			}
		}
	}
	slices.SortFunc(opened, time.Time.Compare)
	if d, least := opened[len(opened)-1].Sub(opened[0]), time.Duration(len(opened)-1-connections)*time.Second/perSecond; d < least {
		t.Errorf("%d connections in %s, want at least %s", len(opened), d, least)
	}
}
