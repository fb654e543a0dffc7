package node_test

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/secret"
)

// bearer makes a call with a token and returns status and answer.
func (r *rig) bearer(token, method, path string) (int, string) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), method, "http://"+r.node.Ready().HTTP+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, body.String()
}

// mustToken makes a token by the operator's RPC.
func (r *rig) mustToken(fields map[string]any) string {
	r.Helper()
	var made struct{ Token string }
	if status := r.call("POST", adminPath+"CreateToken", map[string]any{"token": fields}, &made); status != 200 || made.Token == "" {
		r.Fatalf("token: %d", status)
	}
	return made.Token
}

// TestTokens: a tenant's token reads the tenant's data by the HTTP APIs and nothing else, one of a user that user's only;
// it ends when it is revoked or over, and cannot be made twice (requirements B8, R132).
func TestTokens(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	adjust := func(s string) string {
		return strings.Replace(s, "}]\n", "}, {name: other, compositions: [{name: main}]}]\n", 1)
	}
	r := newRigWith(t, to(sink), ", users: [{name: u@shop.test, secret_hash: '"+secret.Make("secret-key-1")+"'}]", adjust)
	r.session().mustSend(text(""), "a@x.test")
	sink.mustGet(t, 1)
	r.atRest()
	shop := r.mustToken(map[string]any{"name": "shop", "tenant": "shop", "role": "viewer"})
	other := r.mustToken(map[string]any{"name": "other", "tenant": "other", "role": "administrator"})
	own := r.mustToken(map[string]any{"name": "own", "tenant": "shop", "role": "viewer", "user": "u@shop.test"})
	for _, row := range []struct {
		name, token, method, path string
		status                    int
		has                       bool // the mail is in the answer
	}{
		{"events of the tenant", shop, "GET", "/v1/events", 200, true},
		{"of another", other, "GET", "/v1/events", 200, false},
		{"of another by name", other, "GET", "/v1/events?tenant=shop", 403, false},
		{"log of the tenant", shop, "GET", "/baremail/v1/logs", 200, true},
		{"log of another by name", other, "GET", "/baremail/v1/logs?tenant=shop", 403, false},
		{"TSV", shop, "GET", "/srs/v1/log/delivery", 200, true},
		{"own data only", own, "GET", "/v1/events", 200, false},
		{"own log only", own, "GET", "/baremail/v1/logs", 200, false},
		{"what cannot be told apart", own, "GET", "/v1/counters", 403, false},
		{"the operator's", shop, "PUT", "/v1/settings", 401, false},
		{"the operator's RPC", other, "POST", adminPath + "ListTokens", 401, false},
		{"another secret", shop[:len(shop)-4] + "AAAA", "GET", "/v1/events", 401, false},
		{"no secret", "ekiden_shop_", "GET", "/baremail/v1/logs", 401, false},
	} {
		if status, body := r.bearer(row.token, row.method, row.path); status != row.status || strings.Contains(body, "a@x.test") != row.has {
			t.Errorf("%s: %d %s", row.name, status, body)
		}
	}
	r.transactionsByToken(shop, own, other)
	for _, bad := range []map[string]any{{"name": "shop", "tenant": "shop", "role": "viewer"}, {"name": "a_b", "tenant": "shop", "role": "viewer"},
		{"name": "x", "tenant": "none", "role": "viewer"}, {"name": "x", "tenant": "shop", "role": "root"},
		{"name": "x", "tenant": "other", "role": "viewer", "user": "u@shop.test"}} {
		if status := r.call("POST", adminPath+"CreateToken", map[string]any{"token": bad}, nil); status == 200 {
			t.Errorf("made: %v", bad)
		}
	}
	over := r.mustToken(map[string]any{"name": "over", "tenant": "shop", "role": "viewer", "expires": time.Unix(r.now(), 0).Add(time.Hour).UTC().Format(time.RFC3339)})
	if status, _ := r.bearer(over, "GET", "/v1/events"); status != 200 {
		t.Errorf("before its end: %d", status)
	}
	r.advance(2 * time.Hour)
	if status, _ := r.bearer(over, "GET", "/v1/events"); status != 401 {
		t.Errorf("after its end: %d", status)
	}
	var list struct {
		Tokens []struct{ Name, Tenant string }
	}
	r.call("POST", adminPath+"ListTokens", map[string]any{"tenant": "shop"}, &list)
	if len(list.Tokens) != 3 || list.Tokens[2].Name != "shop" {
		t.Errorf("list %+v", list)
	}
	if status := r.call("POST", adminPath+"RevokeToken", map[string]any{"name": "shop"}, nil); status != 200 {
		t.Errorf("revoke: %d", status)
	}
	if status, _ := r.bearer(shop, "GET", "/v1/events"); status != 401 {
		t.Errorf("revoked: %d", status)
	}
	raw, err := os.ReadFile(filepath.Join(r.dir, "settings.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	yaml := strings.Replace(string(raw), ", {name: other, compositions: [{name: main}]}", "", 1)
	if status := r.call("POST", adminPath+"ApplySettings", map[string]string{"yaml": yaml}, nil); status != 200 {
		t.Fatalf("apply: %d", status)
	}
	mustBecome(t, "the token of a tenant that is gone opens nothing", func() bool {
		status, _ := r.bearer(other, "GET", "/v1/events")
		return status == 401
	})
}

// transactionsByToken has tokens stand for api_user and api_key: a viewer's, one of a user, an administrator's of another tenant.
func (r *rig) transactionsByToken(viewer, own, other string) {
	r.Helper()
	day := "&date=" + time.Unix(r.now(), 0).Format(time.DateOnly)
	for _, row := range []struct {
		name, token, call, form string
		status                  int
		want                    string
	}{
		{"deliveries of the tenant", viewer, "v2/deliveries/list.json", "server_composition=main" + day, 200, "a@x.test"},
		{"in XML", viewer, "v2/deliveries/list.xml", "server_composition=main" + day, 200, "<to>a@x.test</to>"},
		{"own data only", own, "v2/deliveries/list.json", "server_composition=main" + day, 200, `{"deliveries":[]}`},
		{"of another tenant", other, "v2/deliveries/list.json", "server_composition=main" + day, 200, `{"deliveries":[]}`},
		{"a viewer changes nothing", viewer, "v2/blocks/cancel.json", "server_composition=main&email=a@x.test", 403, "13-002"},
		{"an administrator may", other, "v2/blocks/cancel.json", "server_composition=main&email=a@x.test", 404, "12-001"},
		{"what is no token", "ekiden_shop_x", "v2/statistics/list.json", "year=2026&month=3", 401, "13-001"},
	} {
		req, err := http.NewRequestWithContext(r.Context(), "POST", "http://"+r.node.Ready().HTTP+"/transaction/"+row.call, strings.NewReader(row.form))
		if err != nil {
			r.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+row.token)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			r.Fatal(err)
		}
		var body bytes.Buffer
		_, err = body.ReadFrom(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != row.status || !strings.Contains(body.String(), row.want) {
			r.Errorf("transaction API, %s: %d %s %v", row.name, resp.StatusCode, body.String(), err)
		}
	}
}

// TestTokensOfMembers: a token made at one member opens at all, and at none once any of them has revoked it.
func TestTokensOfMembers(t *testing.T) {
	t.Parallel()
	trio := newTrio(t, startReceiver(t, "127.0.0.5:0", nil))
	token := trio[0].mustToken(map[string]any{"name": "shop", "tenant": "shop", "role": "viewer"})
	everywhere := func(want int) func() bool {
		return func() bool {
			return !slices.ContainsFunc(trio, func(r *rig) bool {
				status, _ := r.bearer(token, "GET", "/v1/counters")
				return status != want
			})
		}
	}
	mustBecome(t, "the token opens at all members", everywhere(200))
	if status := trio[2].call("POST", adminPath+"RevokeToken", map[string]any{"name": "shop"}, nil); status != 200 {
		t.Fatalf("revoke: %d", status)
	}
	mustBecome(t, "it opens at none", everywhere(401))
}

// TestNothingIsReadableOnDisk: after deliveries, failures, late bounces, lists, webhooks, tokens and report mail no file of
// the data directory holds an address, a subject or a secret (issue 5, requirement R23).
func TestNothingIsReadableOnDisk(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage == "rcpt" && strings.Contains(arg, "canary-unknown") {
			return "550 5.1.1 canary-reply: User unknown"
		}
		return ""
	})
	adjust := func(s string) string {
		return strings.Replace(s, "{name: shop,", "{name: shop, blackbox: true, exclusion: {enabled: true}, webhooks: [{url: 'http://127.0.0.1:1/canary-hook', secret: canary-secret}],", 1)
	}
	r := newRigWith(t, to(sink), ", envelope_from: {rewrite: true, domain: return.shop.test}"+
		", users: [{name: canary-user@shop.test, report_mail: true, secret_hash: '"+secret.Make("secret-key-1")+"'}]", adjust, withBounceListener)
	r.call("POST", "/testing/jobs/nightly", nil, nil) // a cluster that begins has no yesterday
	r.session().mustSend("Subject: canary-subject\r\nX-Relay-Group: canary-group\r\n\r\ncanary-body\r\n", "canary-one@canary-domain.test", "canary-unknown@canary-domain.test")
	sink.mustGet(t, 1)
	r.atRest()
	for _, m := range sink.messages {
		if m.to == "canary-one@canary-domain.test" {
			if a := r.reports().send("", dsn(m.to, "550 <"+m.to+">: canary-late"), m.from); a[:3] != "250" {
				t.Fatal(a)
			}
			away := "From: canary-person@x.test\r\nSubject: canary-away\r\nAuto-Submitted: auto-replied\r\n\r\ncanary-gone\r\n"
			if a := r.reports().send("", away, m.from); a[:3] != "250" {
				t.Fatal(a)
			}
		}
	}
	if status := r.call("POST", "/v1/suppressions", map[string]any{"address": "canary-listed@x.test", "list": "blocklist", "tenant": "shop", "reason": "canary-reason"}, nil); status/100 != 2 {
		t.Fatalf("suppression: %d", status)
	}
	token := r.mustToken(map[string]any{"name": "shop", "tenant": "shop", "role": "viewer"})
	r.advance(24 * time.Hour)
	r.call("POST", "/testing/jobs/nightly", nil, nil)
	mustBecome(t, "the report mail is delivered", func() bool {
		sink.mu.Lock()
		defer sink.mu.Unlock()
		return slices.ContainsFunc(sink.messages, func(m received) bool { return strings.Contains(m.data, "Subject: Delivery report ") })
	})
	r.atRest()
	if len(r.events("status=bounced")) != 1 || len(r.events("status=received")) != 1 || len(r.events("to=canary-unknown@canary-domain.test&status=failed")) != 1 {
		t.Fatalf("what was to be on disk is not: %+v", r.events(""))
	}
	r.stop()
	files := 0
	hidden := strings.TrimPrefix(token, "ekiden_shop_")
	err := filepath.WalkDir(filepath.Join(r.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, what := range []string{"canary-", "c\x00a\x00n\x00a\x00r\x00y", hidden} {
			if at := bytes.Index(raw, []byte(what)); at >= 0 {
				t.Errorf("%s holds %q: %q", path, what, raw[max(0, at-20):min(len(raw), at+60)])
			}
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("%d files: %v", files, err)
	}
}
