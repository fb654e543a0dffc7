package node_test

import (
	"strings"
	"testing"
)

// withTenant adds a tenant that nobody submits mail for.
func withTenant(name string) func(string) string {
	return func(settings string) string {
		return strings.Replace(settings, "tenants: [", "tenants: [{name: "+name+", compositions: [{name: "+name+", networks: [192.0.2.1]}]}, ", 1)
	}
}

// TestTenantThatThereIsNot: what an operator asks for a tenant that the settings do not have is refused with the names of
// those they have, and a tenant that is not named is the only one.
func TestTenantThatThereIsNot(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	type body = map[string]any
	one := []body{{"address": "a@x.test", "tenant": "typo"}}
	for _, tt := range []struct {
		name, method, path string
		body               body
	}{
		{"block", "POST", "/v1/suppressions", body{"address": "a@x.test", "tenant": "typo"}},
		{"unblock", "DELETE", "/v1/suppressions?address=a@x.test&tenant=typo", nil},
		{"unblock by a body", "DELETE", "/v1/suppressions", body{"address": "a@x.test", "tenant": "typo"}},
		{"stop", "POST", "/v1/groups/g/stop", body{"tenant": "typo"}},
		{"counters", "GET", "/v1/counters?tenant=typo", nil},
		{"queues", "GET", "/v1/queues?tenant=typo", nil},
		{"statistics", "GET", "/v1/statistics?tenant=typo", nil},
		{"results", "GET", "/v1/statistics?view=results&tenant=typo", nil},
		{"error addresses", "GET", "/v1/error-addresses?tenant=typo", nil},
		{"error addresses as TSV", "GET", "/v1/error-addresses?format=tsv&tenant=typo", nil},
		{"downloads", "GET", "/v1/error-addresses/downloads?tenant=typo", nil},
		{"events", "GET", "/v1/events?tenant=typo", nil},
		{"message", "GET", "/v1/messages/0000000100000000000000a4?tenant=typo", nil},
		{"reservations", "GET", "/v1/reservations?tenant=typo", nil},
		{"suppressions", "GET", "/v1/suppressions?tenant=typo", nil},
		{"delivery stops", "GET", "/v1/delivery-stops?tenant=typo", nil},
		{"counters by RPC", "POST", adminPath + "GetCounters", body{"tenant": "typo"}},
		{"queues by RPC", "POST", adminPath + "GetQueues", body{"tenant": "typo"}},
		{"events by RPC", "POST", adminPath + "SearchEvents", body{"tenant": "typo"}},
		{"suppressions by RPC", "POST", adminPath + "ListSuppressions", body{"tenant": "typo"}},
		{"reservations by RPC", "POST", adminPath + "ListReservations", body{"tenant": "typo"}},
		{"statistics by RPC", "POST", adminPath + "GetStatistics", body{"tenant": "typo"}},
		{"delivery stops by RPC", "POST", adminPath + "ListDeliveryStops", body{"tenant": "typo"}},
		{"suppress", "POST", adminPath + "Suppress", body{"suppressions": one}},
		{"unsuppress", "POST", adminPath + "Unsuppress", body{"addresses": []string{"a@x.test"}, "tenant": "typo"}},
		{"reset", "POST", adminPath + "ResetErrors", body{"addresses": []string{"a@x.test"}, "tenant": "typo"}},
		{"token", "POST", adminPath + "CreateToken", body{"token": body{"name": "t", "role": "viewer", "tenant": "typo"}}},
		{"stop by RPC", "POST", adminPath + "StopGroup", body{"group": "g", "tenant": "typo"}},
		{"suspend", "POST", adminPath + "Suspend", body{"subject": body{"tenant": "typo"}}},
		{"suspend a part", "POST", adminPath + "Suspend", body{"subject": body{"domain": "x.test", "ofTenant": "typo"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var no struct{ Detail, Message string }
			status := r.call(tt.method, tt.path, tt.body, &no)
			if want := `tenant: there is no tenant "typo"; there are: shop`; status != 400 || !strings.Contains(no.Detail+no.Message, want) {
				t.Errorf("%d %+v, want 400 and %s", status, no, want)
			}
		})
	}
	for _, path := range []string{"/baremail/v1/logs?", "/srs/v1/queue?", "/srs/v1/log/delivery?", "/srs/v1/log/domain?", "/srs/v1/log/connection?",
		"/srs/v1/log/bounce?", "/srs/v1/log/exclusion?", "/srs/v1/error-address?", "/srs/v1/error-address/reset?address=a@x.test&", "/srs/v1/group?name=g&"} {
		t.Run(path, func(t *testing.T) {
			if status, text := r.bearing(r.token(), path+"tenant=typo"); status != 404 || !strings.Contains(text, "12-001") || !strings.Contains(text, "tenant") {
				t.Errorf("%d %s, want 404 and 12-001 of tenant", status, text)
			}
			if status, text := r.bearing(r.token(), path+"tenant=shop"); status == 404 && strings.Contains(text, "tenant") {
				t.Errorf("of the tenant there is: %d %s", status, text)
			}
		})
	}
	var no struct{ Message string }
	if status := r.call("POST", adminPath+"Suspend", body{"subject": body{"receiver": "nonesuch"}}, &no); status != 400 || !strings.Contains(no.Message, `no receiver "nonesuch"; there are: `) {
		t.Errorf("a receiver that there is not: %d %s", status, no.Message)
	}
	if status := r.call("POST", "/v1/groups/never-seen/stop", body{"tenant": "shop"}, nil); status != 200 {
		t.Errorf("stop of a group without mail: %d", status)
	}

	var added struct{ Added int }
	if status := r.call("POST", "/v1/suppressions", body{"address": "a@x.test"}, &added); status != 200 || added.Added != 1 {
		t.Fatalf("block for the only tenant: %d %+v", status, added)
	}
	r.session().mustSend(text(""), "a@x.test")
	mustBecome(t, "suppressed", func() bool { return len(r.events("status=suppressed&to=a@x.test")) == 1 })
	if status := r.call("DELETE", "/v1/suppressions", body{"address": "a@x.test"}, nil); status != 200 {
		t.Errorf("unblock by a body: %d", status)
	}
}
