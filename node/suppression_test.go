package node_test

import (
	"testing"
	"time"
)

// TestSuppressedGetsNothing: an address that is suppressed before or while its mail waits is never mailed (invariant I6), its
// deliveries end as suppressed, and the books balance.
func TestSuppressedGetsNothing(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRigWith(t, to(sink), "", withTenant("another-tenant"))
	suppress := func(address, list, tenant string) {
		t.Helper()
		body := map[string]any{"suppressions": []map[string]string{{"address": address, "list": list, "tenant": tenant, "reason": "test"}}}
		if status := r.call("POST", "/ekiden.admin.v1.AdminService/Suppress", body, nil); status != 200 {
			t.Fatalf("suppress: %d", status)
		}
	}
	suppress("Blocked@A.example", "blocklist", "shop")
	suppress("left@a.example", "unsubscribe", "shop")
	suppress("other@a.example", "blocklist", "another-tenant")
	suppress("unknown@a.example", "blackbox", "") // the tenant does not use the black box

	c := r.session()
	body := "Subject: x\r\n\r\nx\r\n"
	if a := c.send("app@shop.example", body, "blocked@a.example", "left@a.example", "other@a.example", "unknown@a.example"); a[:3] != "250" {
		t.Fatal(a)
	}
	// One waits for its reservation, and is suppressed meanwhile.
	due := time.Unix(r.now(), 0).Add(time.Hour)
	if a := c.send("app@shop.example", "X-Relay-Start-Time: "+due.UTC().Format(time.RFC3339)+"\r\n"+body, "later@a.example"); a[:3] != "250" {
		t.Fatal(a)
	}
	suppress("later@a.example", "blocklist", "shop")
	r.advance(61 * time.Minute)

	classes := map[string]int{"blocked@a.example": 10, "left@a.example": 11, "later@a.example": 10}
	mustBecome(t, "three suppressed, two delivered", func() bool {
		return len(r.events("status=suppressed")) == 3 && len(r.events("status=succeeded")) == 2
	})
	for _, e := range r.events("status=suppressed") {
		if classes[e.To] != e.Class {
			t.Errorf("%s ended with status %d, want %d", e.To, e.Class, classes[e.To])
		}
	}
	r.atRest()
	r.again() // the lists survive
	if a := r.session().send("app@shop.example", body, "blocked@a.example"); a[:3] != "250" {
		t.Fatal(a)
	}
	mustBecome(t, "suppressed again", func() bool { return len(r.events("status=suppressed")) == 4 })
	r.atRest()
}
