package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

type reservations struct {
	Reservations []struct {
		ID         string
		Time       time.Time
		FromDomain string `json:"from_domain"`
		Count      int
	}
}

// TestReservationsAreOneRow lists 1,000 mails for one moment as one row, over a restart, and cancels them: none is
// delivered and all count as interrupted (R29, E-14).
func TestReservationsAreOneRow(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRigWith(t, to(sink), "", func(s string) string {
		return strings.Replace(s, "tenants: [", "tenants: [{name: other, compositions: [{name: main}]}, ", 1)
	})
	at := r.now() + 3600
	c := r.session()
	for i := range 10 {
		rcpts := make([]string, 100)
		for j := range rcpts {
			rcpts[j] = fmt.Sprintf("u%d@d%d.test", i*100+j, j%3)
		}
		c.mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", at)), rcpts...)
	}
	c.mustSend(text(fmt.Sprintf("X-Relay-Start-Time: %d\n", at+60)), "later@d0.test")
	var list reservations
	r.call("GET", "/v1/reservations?tenant=shop", nil, &list)
	if len(list.Reservations) != 2 || list.Reservations[0].Count != 1000 || list.Reservations[1].Count != 1 {
		t.Fatalf("%+v", list)
	}
	first := list.Reservations[0]
	if first.Time.Unix() != at || first.FromDomain != "shop.test" {
		t.Errorf("%+v, not at %d", first, at)
	}
	if r.call("GET", "/v1/reservations?tenant=other", nil, &list); len(list.Reservations) != 0 {
		t.Errorf("of another tenant: %+v", list)
	}
	if status := r.call("DELETE", "/v1/reservations/nonesuch", nil, nil); status != 404 {
		t.Errorf("nothing to cancel: %d", status)
	}
	var done struct{ Cancelled int }
	if status := r.call("DELETE", "/v1/reservations/"+first.ID+"?tenant=shop", nil, &done); status != 200 || done.Cancelled != 1000 {
		t.Fatalf("%d, %+v", status, done)
	}
	r.advance(62 * time.Minute)
	if got := sink.mustGet(t, 1); got.to != "later@d0.test" {
		t.Errorf("%s was delivered", got.to)
	}
	if n := r.counters("unit=total")[0]["interrupted"]; n != 1000 {
		t.Errorf("%d interrupted", n)
	}
	if e := r.events("status=discarded&to=u7@d1.test"); len(e) != 1 || e[0].Detail != "592 interrupted: the reservation was cancelled" {
		t.Errorf("the log says %+v", e)
	}
	r.atRest()
}
