package node_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/secret"
)

// as asks by GET as an API user, and returns the answer as it came.
func (r *rig) as(user, path string) (status int, body string) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), "GET", "http://"+r.node.Ready().HTTP+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	req.SetBasicAuth(user, "secret-key-1")
	return r.answer(req)
}

// newReaders is a node with two tenants and users of all sorts, one of whom handed over some mail, after a night.
func newReaders(t *testing.T) *rig {
	t.Helper()
	far := startReceiver(t, "127.0.0.1:0", nobodyUnknown)
	hash := secret.Make("secret-key-1")
	user := func(name, more string) string {
		return fmt.Sprintf("{name: %s, secret_hash: '%s'%s}", name, hash, more)
	}
	r := newRigWith(t, to(far), ", access: either, users: ["+user("ann@shop.test", "")+", "+user("own@shop.test", ", own_data: true, role: user")+
		", "+user("blind@shop.test", ", view_addresses: false")+", "+user("smtp@shop.test", ", permissions: [smtp]")+"]",
		func(settings string) string {
			settings = strings.Replace(settings, "{name: shop, ", "{name: shop, bounce: {format: none}, ", 1)
			return strings.TrimSuffix(strings.TrimSpace(settings), "]") + ", {name: other, compositions: [{name: second, networks: [10.0.0.0/8], users: [" +
				user("eve@other.test", "") + "]}]}]\n"
		}, func(file string) string {
			return strings.Replace(file, `{address: "127.0.0.1:0"}]`, `{address: "127.0.0.1:0", tls: none}]`, 1)
		})
	r.setClock(12, 0) // the 25 hours below cross one midnight, whenever this runs
	r.session().mustSend(text("X-Relay-Group: g1\n"), "a@a.test", "nobody@a.test")
	own := r.session()
	if a := own.cmd("AUTH PLAIN AG93bkBzaG9wLnRlc3QAc2VjcmV0LWtleS0x"); a[:3] != "235" {
		t.Fatal(a)
	}
	own.mustSend(text(""), "b@a.test", "nobody@b.test")
	r.atRest()
	if status := r.call("POST", "/v1/suppressions", map[string]string{"address": "listed@a.test", "list": "blocklist", "tenant": "shop"}, nil); status/100 != 2 {
		t.Fatalf("suppress: %d", status)
	}
	r.advance(25 * time.Hour)
	if status := r.call("POST", "/testing/jobs/nightly", nil, nil); status/100 != 2 {
		t.Fatalf("nightly: %d", status)
	}
	return r
}

// TestAPIUsersReadTheNativeAPI: of their own tenant, with own data of their own mail, and nothing that they may not
// (requirement R132).
func TestAPIUsersReadTheNativeAPI(t *testing.T) {
	r := newReaders(t)
	for _, row := range []struct {
		user, path string
		status     int
		has, lacks string
	}{
		{"ann@shop.test", "/v1/events?status=failed", 200, `"nobody@a.test"`, ""},
		{"ann@shop.test", "/v1/events?status=failed&tenant=shop", 200, `"nobody@b.test"`, ""},
		{"ann@shop.test", "/v1/events?tenant=other", 403, "own tenant", "@a.test"},
		{"own@shop.test", "/v1/events", 200, `"nobody@b.test"`, "nobody@a.test"},
		{"own@shop.test", "/v1/events?limit=1", 200, `"b@a.test"`, "nobody"},
		{"own@shop.test", "/v1/events?user=ann@shop.test", 403, "handed over itself", "@a.test"},
		{"eve@other.test", "/v1/events", 200, `"events":[]`, "@a.test"},
		{"blind@shop.test", "/v1/events", 403, "permission", "@a.test"},
		{"smtp@shop.test", "/v1/counters", 403, "permission", ""},
		{"nobody@shop.test", "/v1/counters", 401, "authentication", ""},
		{"ann@shop.test", "/v1/counters", 200, `"succeeded":2,"failed":2`, ""},
		{"blind@shop.test", "/v1/counters", 200, `"succeeded":2,"failed":2`, ""},
		{"eve@other.test", "/v1/counters", 200, `"succeeded":0,"failed":0`, ""},
		{"own@shop.test", "/v1/counters", 403, "handed over itself", "succeeded"},
		{"ann@shop.test", "/v1/statistics", 200, `"queued":4,"succeeded":2,"failed":2`, ""},
		{"own@shop.test", "/v1/statistics", 200, `"queued":2,"succeeded":1,"failed":1`, `"queued":4`},
		{"own@shop.test", "/v1/statistics?view=errors", 200, `"domain":"b.test"`, `"domain":"a.test"`},
		{"eve@other.test", "/v1/statistics", 200, `"statistics":[]`, `"queued":4`},
		{"ann@shop.test", "/v1/suppressions", 200, "listed@a.test", ""},
		{"own@shop.test", "/v1/suppressions", 200, "listed@a.test", ""}, // lists are the tenant's
		{"eve@other.test", "/v1/suppressions", 200, `"suppressions":[]`, "listed"},
		{"ann@shop.test", "/v1/error-addresses?format=tsv", 200, "nobody@a.test\tunknown user\n", ""},
		{"own@shop.test", "/v1/error-addresses?format=tsv", 200, "nobody@b.test\tunknown user\n", "nobody@a.test"},
		{"ann@shop.test", "/v1/error-addresses/downloads", 200, `"ann@shop.test"`, ""},
		{"own@shop.test", "/v1/error-addresses/downloads", 403, "", `"count"`},
		{"ann@shop.test", "/v1/reservations", 200, `"reservations":[]`, ""},
		{"ann@shop.test", "/v1/events?since=xx", 400, "since: ", `"events"`},
		{"ann@shop.test", "/v1/events?until=xx", 400, "until: ", `"events"`},
		{"ann@shop.test", "/v1/events?status=lost", 400, "status: ", `"events"`},
		{"ann@shop.test", "/v1/events?class=lost", 400, "class: ", `"events"`},
		{"ann@shop.test", "/v1/events?cursor=zz", 400, "cursor: ", `"events"`},
		{"ann@shop.test", "/v1/counters?unit=day", 400, "unit: ", "buckets"},
		{"ann@shop.test", "/v1/statistics?view=day", 400, "view: ", `"statistics"`},
		{"ann@shop.test", "/v1/suppressions?list=lost", 400, "list: ", `"suppressions"`},
		{"ann@shop.test", "/v1/suppressions?cursor=zz", 400, "cursor: ", `"suppressions"`}, // not the end of the list
		{"ann@shop.test", "/v1/suppressions?cursor=%21", 400, "cursor: ", `"suppressions"`},
		{"ann@shop.test", "/v1/error-addresses?format=csv", 400, "format: ", `"error_addresses"`},
		{"ann@shop.test", "/v1/settings", 401, "admin token", "secret_hash"},
		{"ann@shop.test", "/v1/queues", 200, `{"name":"docomo","waiting":0}`, ""},
		{"own@shop.test", "/v1/queues", 403, "handed over itself", "docomo"}, // they are of the whole tenant
		{"ann@shop.test", "/v1/queues?tenant=other", 403, "own tenant", "docomo"},
		{"ann@shop.test", "/metrics/../v1/settings", 401, "", "secret_hash"},
	} {
		status, body := r.as(row.user, row.path)
		if status != row.status || !strings.Contains(body, row.has) || row.lacks != "" && strings.Contains(body, row.lacks) {
			t.Errorf("%s %s: %d %.300s; want %d with %q, without %q", row.user, row.path, status, body, row.status, row.has, row.lacks)
		}
	}
	for call, want := range map[string]int{"POST /v1/suppressions": 401, "DELETE /v1/suppressions?address=listed@a.test&list=blocklist&tenant=shop": 401,
		"POST /v1/groups/g1/stop?tenant=shop": 401, "PUT /v1/settings": 401, "PATCH /v1/settings": 401, "POST /v1/events": 405, "PATCH /v1/suppressions": 405} {
		method, path, _ := strings.Cut(call, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.node.Ready().HTTP+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("ann@shop.test", "secret-key-1")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != want || (resp.Header.Get("Allow") != "") != (want == 405) {
			t.Errorf("%s as an API user: %d, allowed: %q; want %d", call, resp.StatusCode, resp.Header.Get("Allow"), want)
		}
	}
}

// TestMessage: whoever handed a message over, or reads its tenant's log, sees what became of it; for others there is none.
func TestMessage(t *testing.T) {
	r := newReaders(t)
	var log struct {
		Events []struct{ Message, To, Status string }
	}
	r.call("GET", "/v1/events?status=queued", nil, &log)
	of := map[string]string{}
	for _, e := range log.Events {
		of[e.To] = "/v1/messages/" + e.Message
	}
	r.call("POST", adminPath+"Suspend", map[string]any{"subject": map[string]string{"domain": "held.test"}, "reason": "asked for"}, nil)
	r.session().mustSend(text(""), "u@held.test")
	r.call("GET", "/v1/events?to=u@held.test", nil, &log)
	held := "/v1/messages/" + log.Events[0].Message
	for _, row := range []struct {
		user, path string
		status     int
		has, lacks string
	}{
		{"ann@shop.test", of["nobody@b.test"], 200, `"status":"failed"`, "a@a.test"},
		{"own@shop.test", of["nobody@b.test"], 200, `"waiting":[]`, "nobody@a.test"},
		{"own@shop.test", of["nobody@a.test"], 404, "nothing is known about message", "@a.test"},
		{"eve@other.test", of["nobody@a.test"], 404, "nothing is known about message", "@a.test"},
		{"eve@other.test", of["nobody@a.test"] + "?tenant=shop", 403, "own tenant", "@a.test"},
		{"blind@shop.test", of["nobody@a.test"], 403, "permission", "@a.test"},
		{"nobody@shop.test", of["nobody@a.test"], 401, "authentication", "@a.test"},
		{"ann@shop.test", held, 200, `"binding":"suspension"`, ""},
		{"eve@other.test", held, 404, "nothing is known", "suspension"},
		{"ann@shop.test", "/v1/messages/0000000000000000000000ff", 404, "nothing is known about message 0000000000000000000000ff", ""},
		{"ann@shop.test", "/v1/messages/000000000000000000000000", 400, "message: ", ""},
		{"ann@shop.test", "/v1/messages/xx", 400, "message: ", ""},
	} {
		status, body := r.as(row.user, row.path)
		if status != row.status || !strings.Contains(body, row.has) || row.lacks != "" && strings.Contains(body, row.lacks) {
			t.Errorf("%s %s: %d %.300s; want %d with %q, without %q", row.user, row.path, status, body, row.status, row.has, row.lacks)
		}
	}
	var whole struct {
		Message string
		Events  []struct{ Message string }
		Waiting []struct{ To, Binding string }
	}
	if status := r.call("GET", held+"?tenant=shop", nil, &whole); status != 200 || len(whole.Events) == 0 || len(whole.Waiting) != 1 || whole.Waiting[0].To != "u@held.test" {
		t.Errorf("with the admin token: %d %+v", status, whole)
	}
	if status := r.call("GET", held+"?tenant=other", nil, nil); status != 404 {
		t.Errorf("narrowed to another tenant: %d", status)
	}
}

// TestQueuesOfATenant: tenant= narrows the carrier view.
func TestQueuesOfATenant(t *testing.T) {
	far := startReceiver(t, "127.0.0.1:0", nil)
	r := newRigWith(t, to(far), "", withTenant("other"))
	r.call("POST", adminPath+"Suspend", map[string]any{"subject": map[string]string{"domain": "docomo.ne.jp"}}, nil)
	r.session().mustSend(text(""), "a@docomo.ne.jp", "b@docomo.ne.jp")
	for query, want := range map[string]int64{"": 2, "?tenant=shop": 2, "?tenant=other": 0} {
		var out struct {
			Queues []struct {
				Name    string
				Waiting int64
			}
		}
		if status := r.call("GET", "/v1/queues"+query, nil, &out); status != 200 || len(out.Queues) < 12 || out.Queues[0].Waiting != want {
			t.Errorf("%q: %d %+v, want %d waiting for docomo", query, status, out.Queues, want)
		}
	}
}

// bearing asks by GET with a tenant's token.
func (r *rig) bearing(token, path string) (status int, body string) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), "GET", "http://"+r.node.Ready().HTTP+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return r.answer(req)
}

// TestSealedNodeKnowsNoUsers: a node without keys cannot tell a right key from a wrong one, and says so as often as it is
// asked; nobody is locked out for having asked then. Nor does it say that a tenant does not exist.
func TestSealedNodeKnowsNoUsers(t *testing.T) {
	r := newReaders(t)
	var made struct{ Token string }
	r.call("POST", adminPath+"CreateToken", map[string]any{"token": map[string]string{"name": "t", "role": "viewer", "tenant": "shop"}}, &made)
	r.stop()
	r.cfg.Settings = "" // as where the file is gone: the users stand in the ledger
	r.start()
	paths := []string{"/v1/events", "/v1/queues", "/baremail/v1/logs", "/srs/v1/queue"}
	for range 20 { // more often than wrong keys, or tokens, are answered
		for _, path := range paths {
			if status, body := r.as("ann@shop.test", path); status != 503 {
				t.Fatalf("%s with a key: %d %s", path, status, body)
			}
			if status, body := r.bearing(made.Token, path); status != 503 {
				t.Fatalf("%s with a token: %d %s", path, status, body)
			}
		}
	}
	resp, err := http.PostForm("http://"+r.node.Ready().HTTP+"/transaction/v2/deliveries/list.json",
		url.Values{"api_user": {"ann@shop.test"}, "api_key": {"secret-key-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 503 {
		t.Errorf("/transaction: %d", resp.StatusCode)
	}
	for _, row := range []struct {
		method, path string
		body         any
		status       int
	}{
		{"GET", "/v1/counters?tenant=shop", nil, 503},
		{"GET", "/v1/queues?tenant=shop", nil, 503},
		{"GET", "/v1/suppressions?tenant=shop", nil, 503},
		{"POST", "/v1/suppressions", map[string]string{"address": "u@a.test", "list": "blocklist", "tenant": "shop"}, 503},
		{"POST", "/v1/groups/g1/stop", map[string]string{"tenant": "shop"}, 503},
		{"POST", adminPath + "CreateToken", map[string]any{"token": map[string]string{"name": "u", "role": "viewer", "tenant": "shop"}}, 400},
	} {
		var problem struct{ Code, Detail, Message string }
		status := r.call(row.method, row.path, row.body, &problem)
		if said := problem.Detail + problem.Message; status != row.status || !strings.Contains(said, "the node is sealed") {
			t.Errorf("%s %s: %d %q, want %d: the node is sealed", row.method, row.path, status, said, row.status)
		}
	}
	if status, body := r.bearing(r.token(), "/srs/v1/group?name=g1&tenant=shop"); status != 503 || !strings.HasPrefix(body, "ERROR\t15-001\t") {
		t.Errorf("/srs/v1/group: %d %s", status, body)
	}

	if status := r.unseal(r.code); status != 200 {
		t.Fatalf("unseal: %d", status)
	}
	for _, path := range paths {
		if status, body := r.as("ann@shop.test", path); status != 200 {
			t.Errorf("%s with a key, once it is unsealed: %d %s", path, status, body)
		}
		if status, body := r.bearing(made.Token, path); status != 200 {
			t.Errorf("%s with a token, once it is unsealed: %d %s", path, status, body)
		}
	}
}

// TestEveryReadAPI calls each call that reads, in each of its formats, and looks for what must be in it (requirements
// R138 to R140; issue 5, "Show").
func TestEveryReadAPI(t *testing.T) {
	r := newReaders(t)
	var log struct{ Events []struct{ Message string } }
	if status := r.call("GET", "/v1/events?limit=1", nil, &log); status != 200 || len(log.Events) != 1 {
		t.Fatalf("events: %d %+v", status, log)
	}
	id := log.Events[0].Message
	asks := []struct{ path, kind, has string }{
		{"/v1/messages/" + id, "json", `"message":"` + id + `","events":\[\{.*"waiting":\[\]`},
		{"/v1/delivery-stops", "json", `"delivery_stops":\[`},
		{"/srs/v1/log/domain", "tab-separated", "^time\tdomain\tstatus\tdetail\n"},
		{"/srs/v1/log/connection", "tab-separated", "^start\tend\tdomain\tsource\tdestination\tstatus\t"},
		{"/v1/events?to=a@a.test", "json", `"status":\s*"succeeded"`},
		{"/v1/counters?unit=total", "json", `"interrupted":0`},
		{"/v1/counters?unit=hour&tenant=shop", "json", `"buckets":\[\{"start":\d+`},
		{"/v1/counters?unit=5min&group=g1", "json", `"start":\d+`},
		{"/v1/queues", "json", `"name":"docomo"`},
		{"/v1/statistics?view=daily", "json", `"date":"total","queued":4`},
		{"/v1/statistics?view=results", "json", `"source":"shop.test"`},
		{"/v1/statistics?view=errors", "json", `"status":"2"`},
		{"/v1/suppressions", "json", `"address":"listed@a.test"`},
		{"/v1/error-addresses?tenant=shop", "json", `"result":"unknown user"`},
		{"/v1/error-addresses?tenant=shop&format=tsv", "tab-separated", "nobody@[ab].test\tunknown user\n"},
		{"/v1/error-addresses/downloads?tenant=shop", "json", `"count":2`},
		{"/v1/reservations", "json", `"reservations":\[\]`},
		{"/v1/openapi.json", "json", `"openapi":"3.1.0"`},
		{"/baremail/v1/logs", "json", "a@a.test"},
		{"/srs/v1/queue", "tab-separated", "^bucket_start\tundelivered\t"},
		{"/srs/v1/queue?unit=5min&domain=a.test", "tab-separated", "^bucket_start\t"},
		{"/srs/v1/log/delivery", "tab-separated", "nobody@a.test"},
		{"/srs/v1/log/bounce", "tab-separated", "^time\tgroup"},
		{"/srs/v1/log/exclusion", "tab-separated", "^time\t"},
		{"/srs/v1/error-address", "tab-separated", "^address\tcount"},
		{"/srs/v1/group?name=g1", "tab-separated", "g1\topen"},
	}
	for _, ask := range asks {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+r.node.Ready().HTTP+ask.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.token())
		r.mustAnswer(ask.path, req, ask.kind, ask.has)
	}
	now := time.Unix(r.now(), 0).UTC()
	params := map[string]string{"deliveries/list": "date=" + now.Add(-25*time.Hour).Format(time.DateOnly), "bounces/list": "", "blocks/list": "", "blocks/download": "",
		"statistics/list": now.Format("year=2006&month=1&total=true"), "unsubscribes/download": ""}
	for call, more := range params {
		for _, version := range []string{"v1", "v2"} {
			for _, format := range []string{"json", "xml"} {
				v, err := url.ParseQuery(more)
				if err != nil {
					t.Fatal(err)
				}
				v.Set("api_user", "ann@shop.test")
				v.Set("api_key", "secret-key-1")
				v.Set("server_composition", "main")
				path := "/transaction/" + version + "/" + call + "." + format
				req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+r.node.Ready().HTTP+path, strings.NewReader(v.Encode()))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				kind, has := format, strings.SplitN(call, "/", 2)[0]
				if strings.HasSuffix(call, "download") {
					kind, has = "zip", "^PK"
				}
				r.mustAnswer(path, req, kind, has)
			}
		}
	}
}

func (r *rig) mustAnswer(name string, req *http.Request, kind, has string) {
	r.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Content-Type"), kind) || !regexp.MustCompile(has).Match(raw) {
		r.Errorf("%s: %d %s %v %.300s; want %s with %q", name, resp.StatusCode, resp.Header.Get("Content-Type"), err, raw, kind, has)
	}
}
