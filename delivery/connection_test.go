package delivery

import (
	"context"
	"fmt"
	"testing"

	"github.com/ekiden-mta/ekiden/delivery/smtpc"
	"github.com/ekiden-mta/ekiden/mail"
)

// TestConnections: every TCP connection of a trip, and every attempt at one, is told of once, with what its host said and
// what became of its mail (R70).
func TestConnections(t *testing.T) {
	for _, row := range []struct {
		name    string
		hosts   []*receiver
		tenants []string
		want    []string
	}{
		{"in peace", []*receiver{{}}, []string{"shop", "shop"}, []string{"mx1.test 220 receiver.test, {2 0 0} of shop, none"}},
		{"of two tenants", []*receiver{{}}, []string{"shop", "other"}, []string{"mx1.test 220 receiver.test, {2 0 0} of , none"}},
		{"turned away, then taken", []*receiver{{greeting: "554 5.7.1 no"}, {}}, []string{"shop", "shop"},
			[]string{"mx1.test 554 5.7.1 no, {0 0 0} of , greeting", "mx2.test 220 receiver.test, {2 0 0} of shop, none"}},
		{"TLS broken, again in clear", []*receiver{{broken: true}}, []string{"shop", "shop"},
			[]string{"mx1.test 220 receiver.test, {0 0 0} of , tls", "mx1.test 220 receiver.test, {2 0 0} of shop, none"}},
		{"refused", []*receiver{nil}, nil, []string{"mx1.test , {0 0 0} of , connect"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var hosts []*receiver
			for _, h := range row.hosts {
				if h == nil {
					hosts = append(hosts, closedPort(t))
					continue
				}
				hosts = append(hosts, startReceiver(t, h, "127.0.0.1:0"))
			}
			var got []Connection
			c := New(Config{Guard: NewGuard(true, nil), Session: smtpc.Config{Helo: "client.test"}, Notify: func(c Connection) { got = append(got, c) }})
			b := newBasket(len(row.tenants))
			for i, tenant := range row.tenants {
				b.jobs[i].Delivery.Tenant = tenant
			}
			c.Run(context.Background(), Trip{Route: at(hosts...), Linger: -1, Domain: "x.test"}, b)
			if len(got) != len(row.want) {
				t.Fatalf("told of %d connections, want %d: %+v", len(got), len(row.want), got)
			}
			for i, c := range got {
				stage := mail.StageNone
				if c.Outcome.Result != 0 {
					stage = c.Outcome.Stage
				}
				said := fmt.Sprintf("%s %s, %v of %s, %s", c.Host, c.Greeting.String(), c.Served, c.Tenant, map[mail.Stage]string{mail.StageNone: "none",
					mail.StageGreeting: "greeting", mail.StageTLS: "tls", mail.StageConnect: "connect"}[stage])
				if said != row.want[i] {
					t.Errorf("connection %d: %q, want %q", i+1, said, row.want[i])
				}
				if c.Domain != "x.test" || !c.Remote.IsValid() || c.Began.IsZero() || c.Ended.Before(c.Began) ||
					stage != mail.StageConnect && c.Source.String() != "127.0.0.1" {
					t.Errorf("connection %d: %+v", i+1, c)
				}
			}
		})
	}
}

// Addresses that no mail may go to are not tried, so there is no connection to tell of.
func TestNoConnectionToForbidden(t *testing.T) {
	h := startReceiver(t, &receiver{}, "127.0.0.1:0")
	told := 0
	c := New(Config{Guard: NewGuard(false, nil), Session: smtpc.Config{Helo: "client.test"}, Notify: func(Connection) { told++ }})
	c.Run(context.Background(), Trip{Route: at(h), Linger: -1}, newBasket(1))
	if told != 0 {
		t.Errorf("told of %d connections", told)
	}
}
