package node_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/secret"
)

// form calls the transaction API as ann, or as params say; out may be nil.
func (r *rig) form(call, params string, out any) int {
	r.Helper()
	v, err := url.ParseQuery(params)
	if err != nil {
		r.Fatal(err)
	}
	if !v.Has("api_user") {
		v.Set("api_user", "ann@shop.test")
	}
	v.Set("api_key", "secret-key-1")
	v.Set("server_composition", "main")
	resp, err := http.PostForm("http://"+r.node.Ready().HTTP+"/transaction/v2/"+call+".json", v)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			r.Fatalf("%d %s", resp.StatusCode, raw)
		}
	}
	return resp.StatusCode
}

// transaction calls the transaction API as a user and returns the records' status and recipient.
func (r *rig) transaction(user, call, params string) (int, []string) {
	r.Helper()
	var out map[string][]map[string]string
	status := r.form(call, "api_user="+user+"&"+params, &out)
	var rows []string
	resource, _, _ := strings.Cut(call, "/")
	for _, e := range out[resource] {
		rows = append(rows, e["status"]+" "+e["to"])
	}
	return status, rows
}

// TestTransactionAPI: an API user reads of its tenant's mail; one with own data only of what it handed over with AUTH
// (requirement R132).
func TestTransactionAPI(t *testing.T) {
	far := startReceiver(t, "127.0.0.1:0", nobodyUnknown)
	hash := secret.Make("secret-key-1")
	r := newRig(t, to(far), fmt.Sprintf(", access: either, users: [{name: ann@shop.test, secret_hash: '%s', zone: UTC}, "+
		"{name: own@shop.test, secret_hash: '%s', own_data: true, role: user, zone: UTC}, {name: smtp@shop.test, secret_hash: '%s', permissions: [smtp]}]",
		hash, hash, hash), func(file string) string {
		return strings.Replace(file, `{address: "127.0.0.1:0"}]`, `{address: "127.0.0.1:0", tls: none}]`, 1)
	})
	r.session().mustSend(text(""), "a@a.test", "nobody@a.test")
	own := r.session()
	if a := own.cmd("AUTH PLAIN AG93bkBzaG9wLnRlc3QAc2VjcmV0LWtleS0x"); a[:3] != "235" {
		t.Fatal(a)
	}
	own.mustSend(text(""), "b@a.test", "nobody@b.test")
	r.atRest()
	date := clockDate(r)
	for _, row := range []struct{ name, user, call, params, want string }{
		{"everything", "ann@shop.test", "deliveries/list", "r=100&status=queued&date=" + date, "[queued a@a.test queued nobody@a.test queued b@a.test queued nobody@b.test]"},
		{"successes", "ann@shop.test", "deliveries/list", "r=100&status=succeeded&date=" + date, "[succeeded a@a.test succeeded b@a.test]"},
		{"own", "own@shop.test", "deliveries/list", "r=100&status=succeeded&date=" + date, "[succeeded b@a.test]"},
		{"own bounces", "own@shop.test", "bounces/list", "", "[2 nobody@b.test]"},
		{"bounces by header From", "ann@shop.test", "bounces/list", "from=sender@shop&to=nobody@a", "[2 nobody@a.test]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if status, got := r.transaction(row.user, row.call, row.params); status != 200 || fmt.Sprint(got) != row.want {
				t.Errorf("%d %v, want %s", status, got, row.want)
			}
		})
	}
	if status, _ := r.transaction("smtp@shop.test", "bounces/list", ""); status != http.StatusForbidden {
		t.Errorf("a user for SMTP only: %d", status)
	}
}

// clockDate is the day of the product clock, as an API user in UTC writes it.
func clockDate(r *rig) string { return time.Unix(r.now(), 0).UTC().Format("2006-01-02") }

// TestBlocks: what gets on the block list and off it again is told by the transaction API and the log.
func TestBlocks(t *testing.T) {
	far := startReceiver(t, "127.0.0.1:0", nobodyUnknown)
	r := newRig(t, to(far), fmt.Sprintf(", delivery_stop: {run_at: immediate, reasons: {2: 2}}, users: [{name: ann@shop.test, secret_hash: '%s'}]",
		secret.Make("secret-key-1")))
	for range 2 {
		r.session().mustSend(text(""), "nobody@a.test")
		r.atRest()
	}
	is := func(call, params, want string) bool {
		_, got := r.transaction("ann@shop.test", call, params)
		return fmt.Sprint(got) == want
	}
	blocks := func() (out []map[string]string) {
		var answer struct{ Blocks []map[string]string }
		r.form("blocks/list", "", &answer)
		return answer.Blocks
	}
	mustBecome(t, "a block", func() bool { return len(blocks()) == 1 })
	if b := blocks()[0]; b["email"] != "nobody@a.test" || b["status"] != "2" || b["occurred"] != "2" {
		t.Errorf("%v", b)
	}
	mustBecome(t, "an event of it", func() bool { return len(r.events("status=blocked&to=nobody@a.test")) == 1 })
	if status := r.form("blocks/cancel", "email=nobody@a.test", nil); status != 200 {
		t.Errorf("cancel: %d", status)
	}
	var released struct{ Blocks []map[string]string }
	r.form("blocks/list", "removed=true", &released)
	if len(blocks()) != 0 || len(released.Blocks) != 1 || released.Blocks[0]["occurred"] != "2" {
		t.Errorf("blocked %v, released %v", blocks(), released.Blocks)
	}
	if !is("deliveries/list", "date="+clockDate(r)+"&to=nobody&status=failed", "[failed nobody@a.test failed nobody@a.test]") {
		t.Error("events of blocks are no deliveries")
	}
	for _, to := range []string{"nobody@a.test", "nobody2@a.test", "nobody2@a.test"} { // the last is counted after the first
		r.session().mustSend(text(""), to)
		r.atRest()
	}
	mustBecome(t, "another block", func() bool { return len(blocks()) > 0 })
	if b := blocks(); len(b) != 1 || b[0]["email"] != "nobody2@a.test" {
		t.Errorf("one failure after the release is enough to stop again: %v", b)
	}
}
