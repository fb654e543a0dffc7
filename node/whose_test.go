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
		{"queues", "GET", "/v1/queues?tenant=typo", nil},
		{"queues by RPC", "POST", adminPath + "GetQueues", body{"tenant": "typo"}},
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
			if want := `there is no tenant "typo"; there are: shop`; status != 400 || !strings.Contains(no.Detail+no.Message, want) {
				t.Errorf("%d %+v, want 400 and %s", status, no, want)
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
