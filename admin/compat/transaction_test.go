package compat_test

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
)

// form is a call's parameters: those of ann, with more and others.
func form(more string) url.Values {
	v := url.Values{"api_user": {"ann@shop.example"}, "api_key": {key}, "server_composition": {"main"}}
	add, err := url.ParseQuery(more)
	if err != nil {
		panic(err)
	}
	for name, values := range add {
		v[name] = values
	}
	return v
}

// TestLists: what each call answers, in JSON and in XML, byte by byte (requirements B3, B4).
func TestLists(t *testing.T) {
	for _, row := range []struct{ name, path, params string }{
		{"deliveries", "v2/deliveries/list", "date=2026-03-10"},
		{"deliveries-v1", "v1/deliveries/list", "date=2026-03-10"},
		{"deliveries-yesterday", "v2/deliveries/list", "date=2026-03-09"},
		{"deliveries-none", "v2/deliveries/list", "date=2026-01-01"},
		{"bounces", "v2/bounces/list", ""},
		{"blocks", "v2/blocks/list", ""},
		{"blocks-removed", "v2/blocks/list", "removed=true"},
		{"statistics", "v2/statistics/list", "year=2026&month=3"},
		{"statistics-total", "v2/statistics/list", "year=2026&month=03&total=true"},
		{"statistics-none", "v2/statistics/list", "year=2025&month=12"},
		{"blocks-cancelled", "v2/blocks/cancel", "email=Hanako@example.jp"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, format := range []string{"json", "xml"} {
				base := newSite(t).serve(t)
				status, kind, body := post(t, base+"/transaction/"+row.path+"."+format, "application/x-www-form-urlencoded", form(row.params).Encode())
				if status != http.StatusOK || kind != "application/"+format+"; charset=UTF-8" {
					t.Fatalf("%d %s %s", status, kind, body)
				}
				golden(t, row.name+"."+format, body)
			}
		})
	}
}

// TestSearch: which records a call finds; each is named by its status and recipient.
func TestSearch(t *testing.T) {
	const hanako = "Hanako@Example.JP"
	all := "queued " + hanako + ", deferred " + hanako + ", failed " + hanako + ", queued jiro@example.jp, failed jiro@example.jp"
	base := newSite(t).serve(t)
	for _, row := range []struct{ name, call, params, want string }{
		{"a day", "deliveries", "date=2026-03-10", all},
		{"the day in another zone", "deliveries", "date=2026-03-10&api_user=utc@shop.example", all},
		{"the day before in another zone", "deliveries", "date=2026-03-09&api_user=utc@shop.example", "queued taro@docomo.ne.jp, succeeded taro@docomo.ne.jp"},
		{"an hour", "deliveries", "date=2026-03-10&hour=10", "failed " + hanako},
		{"a minute", "deliveries", "date=2026-03-10&hour=9&minute=1", "deferred " + hanako},
		{"status", "deliveries", "date=2026-03-10&status=failed", "failed " + hanako + ", failed jiro@example.jp"},
		{"part of a recipient, any case", "deliveries", "date=2026-03-10&to=NAKO@exam&status=queued", "queued " + hanako},
		{"recipient from its beginning", "deliveries", "date=2026-03-10&to=ji&search_option=prefix", "queued jiro@example.jp, failed jiro@example.jp"},
		{"not its middle", "deliveries", "date=2026-03-10&to=iro@&search_option=prefix", ""},
		{"whole recipient", "deliveries", "date=2026-03-10&to=hanako@example.jp&search_option=full&status=failed", "failed " + hanako},
		{"not a part then", "deliveries", "date=2026-03-10&to=nako@example.jp&search_option=full", ""},
		{"reference data", "deliveries", "date=2026-03-10&api_data=d", "queued jiro@example.jp, failed jiro@example.jp"},
		{"header From", "deliveries", "date=2026-03-10&from=news@&status=queued", "queued " + hanako + ", queued jiro@example.jp"},
		{"the envelope is not the header", "deliveries", "date=2026-03-10&from=return@", ""},
		{"the other composition", "deliveries", "date=2026-03-10&server_composition=second", "queued saburo@example.jp"},
		{"first page", "deliveries", "date=2026-03-10&r=2", "queued " + hanako + ", deferred " + hanako},
		{"third page", "deliveries", "date=2026-03-10&r=2&p=2", "failed jiro@example.jp"},
		{"behind the last", "deliveries", "date=2026-03-10&r=2&p=3", ""},
		{"own data", "deliveries", "date=2026-03-10&api_user=own@shop.example", "queued " + hanako + ", deferred " + hanako + ", failed " + hanako},
		{"all bounces", "bounces", "", "2 " + hanako + ", 10 jiro@example.jp, 5 taro@docomo.ne.jp"},
		{"bounces of a status", "bounces", "status=10", "10 jiro@example.jp"},
		{"bounces of a day", "bounces", "date=2026-03-10&hour=11", "10 jiro@example.jp, 5 taro@docomo.ne.jp"},
		{"bounces of a period", "bounces", "start_date=2026-03-10&end_date=2026-03-10", "2 " + hanako + ", 10 jiro@example.jp, 5 taro@docomo.ne.jp"},
		{"bounces until yesterday", "bounces", "end_date=2026-03-09", ""},
		{"own bounces", "bounces", "api_user=own@shop.example", "2 " + hanako},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, _, body := post(t, base+"/transaction/v2/"+row.call+"/list.json", "application/x-www-form-urlencoded", form(row.params).Encode())
			var out map[string][]map[string]string
			if err := json.Unmarshal([]byte(body), &out); err != nil || status != http.StatusOK {
				t.Fatalf("%d %s", status, body)
			}
			var got []string
			for _, r := range out[row.call] {
				got = append(got, r["status"]+" "+r["to"])
			}
			if strings.Join(got, ", ") != row.want {
				t.Errorf("%s\nwant %s", strings.Join(got, ", "), row.want)
			}
		})
	}
}

// TestOwnDataInTheLog: the log is looked through for a user's own mail, and not for all of which the rest is thrown away.
func TestOwnDataInTheLog(t *testing.T) {
	s := newSite(t)
	base := s.serve(t)
	for user, want := range map[string]string{"own@shop.example": "own@shop.example", "ann@shop.example": ""} {
		for _, call := range []string{"deliveries/list.json", "bounces/list.json"} {
			post(t, base+"/transaction/v2/"+call, "application/x-www-form-urlencoded", form("date=2026-03-10&api_user="+user).Encode())
			if s.asked.User != want || s.asked.Tenant != "shop" {
				t.Errorf("%s of %s: the log is asked for %+v", call, user, s.asked)
			}
		}
		if get(t, base+"/baremail/v1/logs", user); s.asked.User != want {
			t.Errorf("log API of %s: the log is asked for %+v", user, s.asked)
		}
	}
}

// TestListGoesOn: a list that takes long ends in time with what there is, as does a full page, and goes on behind it with the
// cursor, until nothing is left.
func TestListGoesOn(t *testing.T) {
	const hanako = "Hanako@Example.JP"
	for _, row := range []struct {
		name, list, params string
		slow               time.Duration // of each event of the log
		want               string
	}{
		{"a search that takes long", "deliveries", "date=2026-03-10&status=failed", 10 * time.Second, " | failed " + hanako + ", failed jiro@example.jp | "},
		{"nothing to be found", "deliveries", "date=2026-03-10&status=failed&api_data=none", 10 * time.Second, " |  | "},
		{"full pages", "deliveries", "date=2026-03-10&r=2", 0, "queued " + hanako + ", deferred " + hanako + " | failed " + hanako + ", queued jiro@example.jp | failed jiro@example.jp"},
		{"a later page", "deliveries", "date=2026-03-10&r=2&p=1", 0, "failed " + hanako + ", queued jiro@example.jp | failed jiro@example.jp"},
		{"a later page that takes long", "deliveries", "date=2026-03-10&r=2&p=1", 10 * time.Second, " | failed " + hanako + ", queued jiro@example.jp | failed jiro@example.jp | "},
		{"releases, which are rare", "blocks", "removed=true", 10 * time.Second, " |  | 5 shiro@example.jp"},
		{"releases, a full page", "blocks", "removed=true&r=1", 0, "5 shiro@example.jp | "},
		{"no releases", "blocks", "removed=true&email=nobody", 10 * time.Second, " |  | "},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			s.slow = row.slow
			front := s.front(t)
			var pages []string
			for cursor := ""; ; {
				r := httptest.NewRequestWithContext(t.Context(), "POST", "/transaction/v2/"+row.list+"/list.json",
					strings.NewReader(form(row.params+"&cursor="+cursor).Encode()))
				r.RemoteAddr = "127.0.0.1:1025"
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				w, start := httptest.NewRecorder(), clock.Wall()
				front.ServeHTTP(w, r)
				var out struct {
					Deliveries, Blocks []struct{ Status, To, Email string }
				}
				if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusOK || clock.Since(start) > 45*time.Second {
					t.Fatalf("%s: %d %s after %v", row.name, w.Code, w.Body, clock.Since(start))
				}
				var page []string
				for _, d := range append(out.Deliveries, out.Blocks...) {
					page = append(page, d.Status+" "+d.To+d.Email)
				}
				pages = append(pages, strings.Join(page, ", "))
				if cursor = w.Header().Get(compat.CursorHeader); cursor == "" {
					break
				}
			}
			if got := strings.Join(pages, " | "); got != row.want {
				t.Errorf("%s: %s\nwant %s", row.name, got, row.want)
			}
		})
	}
}

// TestRefusals: the codes of requirement B1 and their HTTP statuses.
func TestRefusals(t *testing.T) {
	base := newSite(t).serve(t)
	for _, row := range []struct {
		name, path, params string
		status             int
		want               string // code and field, for each fault
	}{
		{"nobody", "v2/deliveries/list", "api_user=&api_key=", 400, "10-001 api_user, 10-001 api_key"},
		{"a wrong key", "v2/deliveries/list", "api_key=wrong-key-1", 401, "13-001 "},
		{"no such user", "v2/deliveries/list", "api_user=bob@shop.example", 401, "13-001 "},
		{"SMTP only", "v2/deliveries/list", "api_user=smtp@shop.example&date=2026-03-10", 403, "13-002 "},
		{"no addresses for him", "v2/deliveries/list", "api_user=blind@shop.example&date=2026-03-10", 403, "13-002 "},
		{"no cursor", "v2/bounces/list", "cursor=zz", 400, "10-003 cursor"},
		{"no cursor of releases", "v2/blocks/list", "removed=true&cursor=zz", 400, "10-003 cursor"},
		{"a cursor of no log", "v2/bounces/list", "cursor=0-zz", 400, "10-003 cursor"},
		{"nothing said", "v2/deliveries/list", "server_composition=", 400, "10-001 server_composition, 10-001 date"},
		{"unknown composition", "v2/deliveries/list", "server_composition=third&date=2026-03-10", 404, "12-001 server_composition"},
		{"no date", "v2/deliveries/list", "date=10.3.2026", 400, "10-003 date"},
		{"no such date", "v2/deliveries/list", "date=2026-02-30", 400, "10-003 date"},
		{"tomorrow", "v2/deliveries/list", "date=2026-03-11", 400, "10-004 date"},
		{"an hour to come", "v2/deliveries/list", "date=2026-03-10&hour=13", 400, "10-004 hour"},
		{"hour 24", "v2/deliveries/list", "date=2026-03-10&hour=24", 400, "10-003 hour"},
		{"a minute of no hour", "v2/deliveries/list", "date=2026-03-10&minute=3", 400, "10-001 hour"},
		{"status", "v2/deliveries/list", "date=2026-03-10&status=sent", 400, "10-003 status"},
		{"many records", "v2/deliveries/list", "date=2026-03-10&r=101", 400, "10-003 r"},
		{"page before the first", "v2/deliveries/list", "date=2026-03-10&p=-1", 400, "10-003 p"},
		{"search option", "v2/deliveries/list", "date=2026-03-10&search_option=regex", 400, "10-003 search_option"},
		{"long", "v2/deliveries/list", "date=2026-03-10&to=" + strings.Repeat("x", 257), 400, "10-002 to"},
		{"several at once", "v2/deliveries/list", "r=0&status=x", 400, "10-003 r, 10-001 date, 10-003 status"},
		{"bounce status 12", "v2/bounces/list", "status=12", 400, "10-003 status"},
		{"reversed", "v2/bounces/list", "start_date=2026-03-09&end_date=2026-03-08", 400, "10-004 end_date"},
		{"period to come", "v2/bounces/list", "start_date=2026-03-09&end_date=2026-03-11", 400, "10-004 end_date"},
		{"a reader may not cancel", "v2/blocks/cancel", "api_user=reader@shop.example&email=hanako@example.jp", 403, "13-002 "},
		{"nothing to cancel", "v2/blocks/cancel", "", 400, "10-001 email"},
		{"not blocked", "v2/blocks/cancel", "email=nobody@example.jp", 404, "12-001 "},
		{"no address", "v2/blocks/cancel", "email=nobody", 400, "11-006 email"},
		{"no id", "v2/blocks/cancel", "id=!", 400, "10-003 id"},
		{"removed or not", "v2/blocks/list", "removed=perhaps", 400, "10-003 removed"},
		{"blocks to come", "v2/blocks/list", "start_date=2026-03-11", 400, "10-004 start_date"},
		{"no download of it", "v2/blocks/download", "end_date=2026-03-11", 400, "10-004 end_date"},
		{"no addresses in a download", "v2/blocks/download", "api_user=blind@shop.example", 403, "13-002 "},
		{"no month", "v2/statistics/list", "year=2026", 400, "10-001 month"},
		{"month 13", "v2/statistics/list", "year=2026&month=13", 400, "10-003 month"},
		{"a month to come", "v2/statistics/list", "year=2026&month=4", 400, "10-004 month"},
		{"statistics of no composition", "v2/statistics/list", "year=2026&month=3&server_composition=third", 404, "12-001 server_composition"},
		{"no such resource", "v2/bounce/list", "", 404, "12-001 "},
		{"no such version", "v3/bounces/list", "", 404, "12-001 "},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, _, body := post(t, base+"/transaction/"+row.path+".json", "application/x-www-form-urlencoded", form(row.params).Encode())
			if got := faultsOf(t, body); got != row.want || status != row.status {
				t.Errorf("%d %s, want %d %s", status, got, row.status, row.want)
			}
		})
	}
}

func faultsOf(t *testing.T, body string) string {
	t.Helper()
	var out struct {
		Errors []struct{ Code, Field, Message string }
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var got []string
	for _, e := range out.Errors {
		if e.Message == "" {
			t.Errorf("%s without words", e.Code)
		}
		got = append(got, e.Code+" "+e.Field)
	}
	return strings.Join(got, ", ")
}

// TestForms: how the parameters may be written, and which bodies are none.
func TestForms(t *testing.T) {
	base := newSite(t).serve(t)
	login := `"api_user":"ann@shop.example","api_key":"` + key + `"`
	for _, row := range []struct {
		name, kind, body string
		status           int
		want             string
	}{
		{"JSON with numbers", "application/json", `{` + login + `,"server_composition":"main","date":"2026-03-10","r":1,"p":0}`, 200, ""},
		{"JSON with texts", "application/json; charset=utf-8", `{` + login + `,"server_composition":"main","date":"2026-03-10","r":"1"}`, 200, ""},
		{"an object within", "application/json", `{` + login + `,"to":{}}`, 400, "11-006 "},
		{"no object", "application/json", `[1]`, 400, "11-006 "},
		{"null", "application/json", `null`, 400, "11-006 "},
		{"no JSON", "application/json", `{`, 400, "11-006 "},
		{"JSON as text, as a foreign page would send it", "text/plain", `{` + login + `}`, 400, "11-006 "},
		{"no type", "", `api_user=ann`, 400, "11-006 "},
		{"a form that is none", "application/x-www-form-urlencoded", `%zz`, 400, "11-006 "},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, _, body := post(t, base+"/transaction/v2/deliveries/list.json", row.kind, row.body)
			if status != row.status || row.want != "" && faultsOf(t, body) != row.want {
				t.Errorf("%d %s", status, body)
			}
			if row.want == "" && strings.Count(body, `"created"`) != 1 {
				t.Errorf("%s", body)
			}
		})
	}
}

// TestWords: errors speak Japanese to who asks for it first, in both formats.
func TestWords(t *testing.T) {
	base := newSite(t).serve(t)
	for _, row := range []struct{ language, format, name string }{
		{"ja", "json", "error-ja.json"}, {"ja-JP,en;q=0.5", "xml", "error-ja.xml"}, {"en", "xml", "error-en.xml"}, {"fr", "json", "error-en.json"},
	} {
		_, _, body := post(t, base+"/transaction/v2/deliveries/list."+row.format, "application/x-www-form-urlencoded",
			form("date=2026-03-11&r=0").Encode(), "Accept-Language", row.language)
		golden(t, row.name, body)
	}
}

// TestDoor: who may come in at all.
func TestDoor(t *testing.T) {
	s := newSite(t)
	base := s.serve(t)
	req, err := http.NewRequest(http.MethodGet, base+"/transaction/v2/deliveries/list.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, _, _ := do(t, req); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", status)
	}
	s.only = netip.MustParseAddr("192.0.2.1")
	status, _, body := post(t, base+"/transaction/v2/deliveries/list.json", "application/x-www-form-urlencoded", form("date=2026-03-10").Encode())
	if status != http.StatusForbidden || faultsOf(t, body) != "13-003 " {
		t.Errorf("address not allowed: %d %s", status, body)
	}
}

// TestTenAtATime: the eleventh call of a user is refused while ten are under way, and another user's is not (B1, R21).
func TestTenAtATime(t *testing.T) {
	s := newSite(t)
	s.hold, s.entered = make(chan struct{}), make(chan struct{}, 20)
	base := s.serve(t)
	call := func(user string) (int, string) {
		status, _, body := post(t, base+"/transaction/v2/deliveries/list.json", "application/x-www-form-urlencoded",
			form("date=2026-03-10&api_user="+user).Encode())
		return status, body
	}
	var all sync.WaitGroup
	under := func(user string) {
		all.Go(func() {
			if status, body := call(user); status != http.StatusOK {
				t.Errorf("%s: %d %s", user, status, body)
			}
		})
		<-s.entered
	}
	for range 10 {
		under("ann@shop.example")
	}
	if status, body := call("ann@shop.example"); status != http.StatusTooManyRequests || faultsOf(t, body) != "14-001 " {
		t.Errorf("the eleventh: %d %s", status, body)
	}
	under("reader@shop.example")
	close(s.hold)
	all.Wait()
	if status, body := call("ann@shop.example"); status != http.StatusOK {
		t.Errorf("afterwards: %d %s", status, body)
	}
}

// TestGuessing: wrong keys are answered honestly for a while only, and lock out nobody whose key is known.
func TestGuessing(t *testing.T) {
	base := newSite(t).serve(t)
	call := func(key string) int {
		status, _, _ := post(t, base+"/transaction/v2/bounces/list.json", "application/x-www-form-urlencoded", form("api_key="+key).Encode())
		return status
	}
	if status := call(key); status != http.StatusOK {
		t.Fatal(status)
	}
	last := 0
	for i := range 60 {
		if last = call("guess" + strings.Repeat("x", i)); last != http.StatusUnauthorized {
			break
		}
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("after 60 guesses: %d", last)
	}
	if status := call(key); status != http.StatusOK {
		t.Errorf("the right one: %d", status)
	}
}

// TestMissing: an answer that lacks what a member knows says so.
func TestMissing(t *testing.T) {
	s := newSite(t)
	s.missing = []service.Absent{{Name: "n2", Reason: "no answer within 2s"}}
	resp, err := http.PostForm(s.serve(t)+"/transaction/v2/deliveries/list.json", form("date=2026-03-10&r=100"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Ekiden-Missing") != "n2" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// TestMissingFromLookUps: a member that only the look-ups of who sent what did not reach is named as well, once.
func TestMissingFromLookUps(t *testing.T) {
	s := newSite(t)
	s.behind = []service.Absent{{Name: "n2", Reason: "no answer within 2s"}}
	s.events = slices.DeleteFunc(s.events, func(e mail.Event) bool { return e.Kind == mail.EventAccepted })
	base := s.serve(t)
	resp, err := http.PostForm(base+"/transaction/v2/bounces/list.json", form(""))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if named := resp.Header.Values("Ekiden-Missing"); resp.StatusCode != http.StatusOK || !slices.Equal(named, []string{"n2"}) {
		t.Errorf("transaction: %d %q", resp.StatusCode, named)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/baremail/v1/logs", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("ann@shop.example", "secret-key-1")
	if resp, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if named := resp.Header.Values("Ekiden-Missing"); resp.StatusCode != http.StatusOK || !slices.Equal(named, []string{"n2"}) {
		t.Errorf("log: %d %q", resp.StatusCode, named)
	}
}

// TestDownloadEnds: a download that lacks what a member knows is whole, and says so behind its end; one that fails breaks off.
func TestDownloadEnds(t *testing.T) {
	s := newSite(t)
	base := s.serve(t)
	load := func() (*http.Response, string, error) {
		t.Helper()
		resp, err := http.PostForm(base+"/transaction/v2/blocks/download.json", form("removed=true"))
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		return resp, string(raw), err
	}
	s.missing = []service.Absent{{Name: "n2", Reason: "no answer within 2s"}}
	for _, n := range []int{1, 5000} {
		for i := range n {
			e := s.events[len(s.events)-1]
			e.To = mail.Address(fmt.Sprintf("%x@example.jp", sha256.Sum256([]byte{byte(i), byte(i >> 8)})))
			s.events = append(s.events, e)
		}
		resp, body, err := load()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := zip.NewReader(strings.NewReader(body), int64(len(body))); err != nil || resp.Trailer.Get("Ekiden-Missing") != "n2" {
			t.Errorf("%d octets: %v, head %v, trailer %v", len(body), err, resp.Header, resp.Trailer)
		}
	}
	s.broken = service.ErrSealed
	if resp, _, err := load(); err == nil {
		t.Errorf("a broken download ended with %s", resp.Status)
	}
}

// TestBlocks: the block list by address, day and page, as a download, and how addresses leave it (requirement B5).
func TestBlocks(t *testing.T) {
	s := newSite(t)
	base := s.serve(t)
	call := func(params string) (string, []string) {
		t.Helper()
		_, _, body := post(t, base+"/transaction/v2/blocks/list.json", "application/x-www-form-urlencoded", form(params).Encode())
		var out struct{ Blocks []struct{ Email, ID string } }
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			t.Fatal(body)
		}
		var emails, ids []string
		for _, b := range out.Blocks {
			emails, ids = append(emails, b.Email), append(ids, b.ID)
		}
		return strings.Join(emails, " "), ids
	}
	for _, row := range []struct{ name, params, want string }{
		{"all", "", "=jiro@example.jp hanako@example.jp"},
		{"part, any case", "email=HANAKO", "hanako@example.jp"},
		{"from a day on", "start_date=2026-03-10", "=jiro@example.jp"},
		{"until a day", "end_date=2026-03-09", "hanako@example.jp"},
		{"second page", "r=1&p=1", "hanako@example.jp"},
		{"released", "removed=1", "shiro@example.jp"},
		{"released, of another day", "removed=true&start_date=2026-03-10", ""},
		{"own data is not for blocks", "api_user=own@shop.example", "=jiro@example.jp hanako@example.jp"},
	} {
		if got, _ := call(row.params); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}

	status, kind, body := post(t, base+"/transaction/v2/blocks/download.json", "application/x-www-form-urlencoded", form("").Encode())
	if status != http.StatusOK || kind != "application/zip" {
		t.Fatalf("%d %s", status, kind)
	}
	pack, err := zip.NewReader(strings.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	file, err := pack.Open("blocks.csv")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "blocks.csv", string(raw))

	_, ids := call("email=jiro")
	status, _, body = post(t, base+"/transaction/v2/blocks/cancel.json", "application/json",
		`{"api_user":"ann@shop.example","api_key":"`+key+`","server_composition":"main","id":["`+ids[0]+`"],"email":["hanako@example.jp","nobody@example.jp"]}`)
	if left, _ := call(""); status != http.StatusOK || left != "" || len(s.blocked) != 5 {
		t.Errorf("%d %s: %q is left", status, body, left)
	}
}

// TestUnsubscribes: the list as a download, and how addresses leave it (requirement B7).
func TestUnsubscribes(t *testing.T) {
	s := newSite(t)
	for _, filter := range []string{"news", "offers"} {
		s.blocked = append(s.blocked, service.Suppression{Place: service.Place{List: service.Unsubscribe, Tenant: "shop", Filter: filter},
			Address: "taro@docomo.ne.jp", Since: noon(t).AddDate(0, 0, -1)})
	}
	s.blocked = append(s.blocked, service.Suppression{Place: service.Place{List: service.Leaving, Tenant: "shop", Filter: "news"},
		Address: "gone@docomo.ne.jp", Since: noon(t)})
	base := s.serve(t) + "/transaction/v2/unsubscribes/"
	download := func(params string) string {
		t.Helper()
		status, _, body := post(t, base+"download.json", "application/x-www-form-urlencoded", form(params).Encode())
		pack, err := zip.NewReader(strings.NewReader(body), int64(len(body)))
		if err != nil {
			t.Fatalf("%d %s", status, body)
		}
		file, err := pack.Open("unsubscribes.csv")
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(raw), "created,email,filtername\n", "")
	}
	const today, news, offers = "2026-03-10 12:00:00,taro@docomo.ne.jp,\n", "2026-03-09 12:00:00,taro@docomo.ne.jp,news\n", "2026-03-09 12:00:00,taro@docomo.ne.jp,offers\n"
	for _, row := range []struct{ params, want string }{
		{"", today + news + offers}, {"filter_name=news", news}, {"start_date=2026-03-10", today}, {"end_date=2026-03-09", news + offers}, {"email=nobody", ""},
	} {
		if got := download(row.params); got != row.want {
			t.Errorf("%s: %s", row.params, got)
		}
	}
	for _, row := range []struct {
		params string
		status int
		want   string
		left   string
	}{
		{"email=taro@docomo.ne.jp&filter_name=other", 404, "12-001 email", today + news + offers},
		{"email=taro@docomo.ne.jp&api_user=reader@shop.example", 403, "13-002 ", today + news + offers},
		{"", 400, "10-001 email", today + news + offers},
		{"email=gone@docomo.ne.jp", 200, "", today + news + offers},
		{"email=gone@docomo.ne.jp", 404, "12-001 email", today + news + offers},
		{"email=TARO@docomo.ne.jp&filter_name=news", 200, "", today + offers},
		{"email=taro@docomo.ne.jp&email=nobody@docomo.ne.jp", 200, "", ""},
	} {
		status, _, body := post(t, base+"cancel.json", "application/x-www-form-urlencoded", form(row.params).Encode())
		if left := download(""); status != row.status || left != row.left || row.want != "" && faultsOf(t, body) != row.want {
			t.Errorf("%s: %d %s, left %s", row.params, status, body, left)
		}
	}
}

// TestManyUnsubscribes: however many addresses are to leave the lists, these are walked but once.
func TestManyUnsubscribes(t *testing.T) {
	s := newSite(t)
	params := ""
	for i := range 100 {
		params += fmt.Sprintf("&email=a%d@docomo.ne.jp", i)
	}
	status, _, body := post(t, s.serve(t)+"/transaction/v2/unsubscribes/cancel.json", "application/x-www-form-urlencoded", form(params[1:]+"&email=taro@docomo.ne.jp").Encode())
	if status != http.StatusOK || s.walks != 2 {
		t.Errorf("%d %s after %d walks", status, body, s.walks)
	}
}

// TestStatistics: whose mail a call counts.
func TestStatistics(t *testing.T) {
	s := newSite(t)
	base := s.serve(t)
	for _, row := range []struct{ name, params, composition, user string }{
		{"all compositions", "year=2026&month=3&server_composition=", "", ""},
		{"one", "year=2026&month=3&server_composition=second", "second", ""},
		{"own data", "year=2026&month=3&api_user=own@shop.example", "main", "own@shop.example"},
		{"who may not see addresses sees numbers", "year=2026&month=3&api_user=blind@shop.example", "main", ""},
	} {
		status, _, body := post(t, base+"/transaction/v2/statistics/list.json", "application/x-www-form-urlencoded", form(row.params).Encode())
		q := s.counted
		if status != http.StatusOK || q.Tenant != "shop" || q.Composition != row.composition || q.User != row.user || !q.Live ||
			q.First.String() != "2026/03/01" || q.Last.String() != "2026/03/31" {
			t.Errorf("%s: %d %s %+v", row.name, status, body, q)
		}
	}
}
