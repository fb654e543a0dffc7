package compat_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/suppression"
)

// TestLogAPI: which records the log API shows of both kinds, and how it goes from page to page (requirement B8).
func TestLogAPI(t *testing.T) {
	const ann = "ann@shop.example"
	hanako := "retry 451 Hanako@Example.JP, failure 550 Hanako@Example.JP"
	s := newSite(t)
	old := s.events[1]
	old.At = noon(t).AddDate(0, 0, -32)
	s.events = append([]mail.Event{old}, s.events...)
	base := s.serve(t)
	for _, row := range []struct{ name, user, params, want string }{
		{"sent, of a tenant", ann, "", "success 250 taro@docomo.ne.jp, " + hanako + ", failure 591 jiro@example.jp, failure 552 taro@docomo.ne.jp"},
		{"received", ann, "kind=received", "success 250 taro@docomo.ne.jp, success 250 Hanako@Example.JP, success 250 jiro@example.jp, success 250 saburo@example.jp"},
		{"received of all tenants, by the operator", "", "kind=received&to=taro", "success 250 taro@docomo.ne.jp, success 250 taro@docomo.ne.jp"},
		{"of one, by the operator", "", "kind=received&to=taro&tenant=other", "success 250 taro@docomo.ne.jp"},
		{"own data", "own@shop.example", "", hanako},
		{"recipient", ann, "to=nako@example", hanako},
		{"sender", ann, "from=nobody@", ""},
		{"code", ann, "code=451", "retry 451 Hanako@Example.JP"},
		{"source", ann, "source_ip=198.51.100.7&code=550", "failure 550 Hanako@Example.JP"},
		{"another source", ann, "source_ip=198.51.100.8", ""},
		{"client", ann, "kind=received&source_ip=192.0.2.1&to=jiro", "success 250 jiro@example.jp"},
		{"another client", ann, "kind=received&source_ip=192.0.2.2", ""},
		{"since", ann, "since=121m", "failure 550 Hanako@Example.JP, failure 591 jiro@example.jp, failure 552 taro@docomo.ne.jp"},
		{"until", ann, "until=121m", "success 250 taro@docomo.ne.jp, retry 451 Hanako@Example.JP"},
		{"longer ago than 31 days", ann, "since=2000h&until=30h", ""},
		{"a page by number", ann, "limit=2&page=1", "failure 550 Hanako@Example.JP, failure 591 jiro@example.jp"},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, _, body := get(t, base+"/baremail/v1/logs?"+row.params, row.user)
			if got, _ := logged(t, body); status != http.StatusOK || got != row.want {
				t.Errorf("%d %s, want %s", status, got, row.want)
			}
		})
	}
	_, _, body := get(t, base+"/baremail/v1/logs?limit=1&to=hanako", ann)
	golden(t, "logs.json", body)
	_, _, body = get(t, base+"/baremail/v1/logs?kind=received&to=jiro", ann)
	golden(t, "logs-received.json", body)

	var pages []string
	for page := ""; ; {
		_, _, body := get(t, base+"/baremail/v1/logs?limit=2&page="+page, ann)
		got, next := logged(t, body)
		pages = append(pages, got)
		if next == nil {
			break
		}
		page = *next
	}
	if got := strings.Join(pages, " | "); got != "success 250 taro@docomo.ne.jp, retry 451 Hanako@Example.JP | "+
		"failure 550 Hanako@Example.JP, failure 591 jiro@example.jp | failure 552 taro@docomo.ne.jp" {
		t.Error(got)
	}
}

func logged(t *testing.T, body string) (string, *string) {
	t.Helper()
	var out struct {
		Logs []struct {
			Result, To string
			Code       int
		}
		Next *string
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var got []string
	for _, r := range out.Logs {
		got = append(got, fmt.Sprintf("%s %d %s", r.Result, r.Code, r.To))
	}
	return strings.Join(got, ", "), out.Next
}

// unread is a node that reads what the members agreed on.
type unread struct{ service.Node }

func (unread) Status() service.Status {
	return service.Status{State: service.StateUnsealed, Unread: true}
}

// TestUsersThatAreNotReadYet: a node that knows no users yet answers 503 to whom it does not know, and not that the key is wrong.
func TestUsersThatAreNotReadYet(t *testing.T) {
	for _, row := range []struct {
		name   string
		node   service.Node
		status int
		code   string
	}{
		{"read", nil, 401, "13-001"},
		{"not read yet", unread{}, 503, "15-001"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t)
			s.node = row.node
			base := s.serve(t)
			for _, path := range []string{"/baremail/v1/logs", "/srs/v1/queue"} {
				if status, _, body := get(t, base+path, "nobody@shop.example"); status != row.status || !strings.Contains(body, row.code) {
					t.Errorf("%s: %d %s, want %d", path, status, body, row.status)
				}
			}
			status, _, body := post(t, base+"/transaction/v2/deliveries/list.json", "application/x-www-form-urlencoded", "api_user=nobody&api_key="+key)
			if status != row.status || !strings.Contains(body, row.code) {
				t.Errorf("/transaction: %d %s, want %d", status, body, row.status)
			}
		})
	}
}

// TestSkippedRecords: nobody looks for the acceptance of a record that is only skipped.
func TestSkippedRecords(t *testing.T) {
	s := newSite(t)
	base := s.serve(t)
	_, _, body := get(t, base+"/baremail/v1/logs?limit=1&page=3&source_ip=198.51.100.7", "ann@shop.example")
	if got, _ := logged(t, body); got != "failure 552 taro@docomo.ne.jp" || s.lookups != 1 {
		t.Errorf("%s after %d look-ups", got, s.lookups)
	}
}

// TestTSV: what each path answers, byte by byte (requirement B9).
func TestTSV(t *testing.T) {
	for _, row := range []struct{ name, user, path string }{
		{"queue", "", "queue"},
		{"queue-hours", "ann@shop.example", "queue?unit=hour"},
		{"delivery", "ann@shop.example", "log/delivery?to=o@e"},
		{"delivery-failed", "ann@shop.example", "log/delivery?status=failed&tenant=shop"},
		{"bounce", "ann@shop.example", "log/bounce"},
		{"exclusion", "ann@shop.example", "log/exclusion?since=2h"},
		{"exclusion-listed", "ann@shop.example", "log/exclusion?since=2h"}, // what other lists kept back is not in it (E-42)
		{"none", "ann@shop.example", "log/exclusion?since=1m"},
		{"errors", "ann@shop.example", "error-address"},
		{"errors-many", "ann@shop.example", "error-address?address=HANAKO&min=3"},
		{"group", "ann@shop.example", "group?name=g%201&op=status"},
		{"group-stop", "ann@shop.example", "group?name=g%201&op=stop"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t)
			s.events[3].Group, s.events[3].Reply = "g\\1\t", smtp.Reply{Code: 451, Text: "try\r\nlater"}
			for i := range s.events {
				if row.name == "exclusion" && s.events[i].Kind == mail.EventSuppressed {
					s.events[i].Detail = suppression.Verdict(suppression.ErrorCount).Detail
				}
			}
			s.events[3].Remote = netip.MustParseAddrPort("203.0.113.9:25")
			status, kind, body := get(t, s.serve(t)+"/srs/v1/"+row.path, row.user)
			if status != http.StatusOK || kind != "text/tab-separated-values; charset=UTF-8" {
				t.Fatalf("%d %s %s", status, kind, body)
			}
			golden(t, row.name+".tsv", body)
		})
	}
}

// TestStatusWords: the log of deliveries takes the words that it writes, and those of the native API.
func TestStatusWords(t *testing.T) {
	s := newSite(t)
	for _, i := range []int{3, 4} { // once more, for the name service
		e := s.events[i]
		e.Stage = mail.StageDNS
		s.events = append(s.events, e)
	}
	base := s.serve(t) + "/srs/v1/log/delivery?status="
	for word, want := range map[string]string{"success": "success", "temporary+failure": "temporary failure", "failure": "failure",
		"dns+temporary+failure": "dns temporary failure", "dns+failure": "dns failure",
		"succeeded": "success", "deferred": "temporary failure,dns temporary failure", "failed": "failure,dns failure",
		"failed,suppressed,discarded": "failure,suppressed,dns failure", "dns+failure,+success": "success,dns failure"} {
		_, _, body := get(t, base+word, "ann@shop.example")
		var got []string
		for _, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n")[1:] {
			got = append(got, strings.Split(line, "\t")[7])
		}
		if strings.Join(got, ",") != want {
			t.Errorf("%s: %q, want %s", word, got, want)
		}
	}
}

// TestTSVChanges: stop, discard and resume of a group, and the reset of an address.
func TestTSVChanges(t *testing.T) {
	s := newSite(t)
	base := s.serve(t) + "/srs/v1/"
	for _, row := range []struct {
		name, user, path string
		status           int
		want             string // last line
	}{
		{"discard before a stop", "", "group?name=g%201&op=discard", 403, "ERROR\t13-002\tThe API user has no permission for this action."},
		{"a reader stops nothing", "reader@shop.example", "group?name=g%201&op=stop", 403, "ERROR\t13-002\tThe API user has no permission for this action."},
		{"stop", "ann@shop.example", "group?name=g%201&op=stop", 200, "g 1\tstopping\t9"},
		{"discard", "", "group?name=g%201&op=discard&tenant=shop", 200, "g 1\tstopped\t9"},
		{"resume", "", "group?name=g%201&op=resume&tenant=shop", 200, "g 1\topen\t9"},
		{"stop before any mail", "ann@shop.example", "group?name=empty&op=stop", 200, "empty\tstopping\t9"},
		{"resume before any mail", "ann@shop.example", "group?name=empty&op=resume", 200, "empty\topen\t0"},
		{"no such group", "", "group?name=g2", 404, "ERROR\t12-001\tname: It was not found."},
		{"a reader resets nothing", "reader@shop.example", "error-address/reset?address=hanako@example.jp", 403, "ERROR\t13-002\tThe API user has no permission for this action."},
		{"reset", "ann@shop.example", "error-address/reset?address=hanako@example.jp", 200, "success"},
		{"reset for all tenants", "", "error-address/reset?address=hanako@example.jp", 200, "success"},
		{"nothing counted", "", "error-address/reset?address=nobody@example.jp", 404, "ERROR\t12-001\taddress: It was not found."},
	} {
		status, _, body := get(t, base+row.path, row.user)
		lines := strings.Split(strings.TrimSuffix(body, "\n"), "\n")
		if got := lines[len(lines)-1]; status != row.status || got != row.want {
			t.Errorf("%s: %d %q, want %d %q", row.name, status, got, row.status, row.want)
		}
	}
	if len(s.reset) != 3 || s.reset[0] != "ann@shop.example resets shop hanako@example.jp" {
		t.Errorf("%q", s.reset)
	}
	status, _, _ := get(t, base+"group?name=g%201&op=stop", "ann@shop.example", "Sec-Fetch-Site", "cross-site")
	if status != http.StatusForbidden || s.stopped != "" {
		t.Errorf("for a page of somebody else: %d", status)
	}
}

// TestReaderRefusals: who may not, and what makes no sense.
func TestReaderRefusals(t *testing.T) {
	s := newSite(t)
	base := s.serve(t)
	for _, row := range []struct {
		name, user, path string
		status           int
		code             string
	}{
		{"a stranger", "bob@shop.example", "/srs/v1/log/delivery", 401, "13-001"},
		{"a stranger's log", "bob@shop.example", "/baremail/v1/logs", 401, "13-001"},
		{"no addresses for him", "blind@shop.example", "/baremail/v1/logs", 403, "13-002"},
		{"another tenant", "ann@shop.example", "/srs/v1/log/delivery?tenant=other", 403, "13-002"},
		{"own data only", "own@shop.example", "/srs/v1/queue", 403, "13-002"},
		{"own data only, of a group", "own@shop.example", "/srs/v1/group?name=g%201", 403, "13-002"},
		{"kind", "", "/baremail/v1/logs?kind=both", 400, "10-003"},
		{"limit", "", "/baremail/v1/logs?limit=1001", 400, "10-003"},
		{"page", "", "/baremail/v1/logs?page=-1", 400, "10-003"},
		{"a place that is none", "", "/baremail/v1/logs?page=cx", 400, "10-003"},
		{"reversed", "", "/baremail/v1/logs?since=100&until=50", 400, "10-004"},
		{"code", "", "/baremail/v1/logs?code=99", 400, "10-003"},
		{"source", "", "/baremail/v1/logs?source_ip=here", 400, "10-003"},
		{"unit", "", "/srs/v1/queue?unit=day", 400, "10-003"},
		{"domain", "", "/srs/v1/queue?domain=-.", 400, "10-003"},
		{"status", "", "/srs/v1/log/delivery?status=lost", 400, "10-003"},
		{"since", "", "/srs/v1/log/bounce?since=yesterday", 400, "10-003"},
		{"a cursor that is none", "", "/srs/v1/log/delivery?cursor=cx", 400, "10-003\tcursor"},
		{"min", "", "/srs/v1/error-address?min=0", 400, "10-003"},
		{"op", "", "/srs/v1/group?name=g&op=kill", 400, "10-003"},
		{"no name", "", "/srs/v1/group", 400, "10-001"},
		{"no address", "", "/srs/v1/error-address/reset", 400, "10-001"},
		{"no address at all", "", "/srs/v1/error-address/reset?address=nobody", 400, "11-006"},
		{"no path", "", "/srs/v1/nothing", 404, "12-001"},
	} {
		status, _, body := get(t, base+row.path, row.user)
		if status != row.status || !strings.Contains(body, row.code) || strings.HasPrefix(row.path, "/srs/") != strings.HasPrefix(body, "ERROR\t") {
			t.Errorf("%s: %d %s, want %d %s", row.name, status, body, row.status, row.code)
		}
	}
	resp, err := http.Get(base + "/srs/v1/queue")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized || len(resp.Header.Values("WWW-Authenticate")) != 2 {
		t.Errorf("nobody: %d %v", resp.StatusCode, resp.Header)
	}
}
