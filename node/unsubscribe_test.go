package node_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// linkIn finds the path of the link by which the recipient of a message leaves its list.
func linkIn(t *testing.T, data string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^List-Unsubscribe: <https://[^/]+(/unsubscribe/[A-Za-z0-9_-]+)>\r$`).FindStringSubmatch(data)
	if m == nil || !strings.Contains(data, "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n") {
		t.Fatalf("no link in %q", data)
	}
	return m[1]
}

// request asks a link as a mailbox provider does, without any credential.
func (r *rig) request(method, path string) (int, string) {
	r.Helper()
	body := ""
	if method == "POST" {
		body = "List-Unsubscribe=One-Click"
	}
	req, err := http.NewRequestWithContext(r.Context(), method, "http://"+r.node.Ready().HTTP+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(page)
}

// TestUnsubscribe: POST to the link, run the batch, send again: status 11, for mail of that list only (R104, E-42). GET
// changes nothing, and the link outlives the process.
func TestUnsubscribe(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), `, unsubscribe: [{name: news, header: X-Campaign, pattern: "news.*", one_click: true, url: "https://u.shop.example"},
  {name: alerts, header: X-Campaign, pattern: "alert", one_click: true, immediate: true}]`)
	send := func(campaign string, rcpts ...string) {
		t.Helper()
		r.session().mustSend(text("X-Campaign: "+campaign+"\n"), rcpts...)
	}
	send("news 1", "a@x.example", "b@x.example")
	mustBecome(t, "two with links", func() bool { return sink.count() == 2 })
	links := map[string]string{}
	for n := range 2 {
		m := sink.mustGet(t, n+1)
		links[strings.Trim(m.to, "<>")] = linkIn(t, m.data)
	}
	link := links["a@x.example"]
	if link == "" || link == links["b@x.example"] {
		t.Fatalf("links: %v", links)
	}
	list := func(name string) (out struct {
		Suppressions []struct{ Address, Filter, List string }
	}) {
		t.Helper()
		if status := r.call("GET", "/v1/suppressions?tenant=shop&list="+name, nil, &out); status != 200 {
			t.Fatalf("list: %d", status)
		}
		return out
	}
	status := func(want map[string]int) {
		t.Helper()
		got := map[string]int{}
		for _, e := range r.events("status=suppressed") {
			got[e.To] = e.Class
		}
		for to, class := range want {
			if got[to] != class {
				t.Errorf("%s: status %d, want %d", to, got[to], class)
			}
		}
		if len(got) != len(want) {
			t.Errorf("suppressed: %v, want %v", got, want)
		}
	}
	if code, page := r.request("GET", link); code != 200 || !strings.Contains(page, "<form") || len(list("leaving").Suppressions) != 0 {
		t.Fatalf("GET: %d %s", code, page)
	}
	if code, page := r.request("POST", link[:len(link)-3]+"AAA"); code != 404 {
		t.Fatalf("a forged link: %d %s", code, page)
	}
	r.again() // the key of links outlives the process
	for range 2 {
		if code, page := r.request("POST", link); code != 200 {
			t.Fatalf("POST: %d %s", code, page)
		}
	}
	if got := list("leaving").Suppressions; len(got) != 1 || got[0].Filter != "news" || len(list("unsubscribe").Suppressions) != 0 {
		t.Errorf("before the batch: %+v", got)
	}
	if code, _ := r.request("POST", links["b@x.example"]); code != 200 || len(list("leaving").Suppressions) != 2 {
		t.Fatalf("another asks: %d", code)
	}
	if code := r.call("DELETE", "/v1/suppressions?list=unsubscribe&tenant=shop&filter=news&address=b@x.example", nil, nil); code != 200 {
		t.Errorf("and is forgiven: %d", code)
	}
	send("news 2", "a@x.example")
	mustBecome(t, "sent before the batch", func() bool { return sink.count() == 3 })
	due := time.Unix(r.now(), 0).Add(time.Hour)
	r.session().mustSend(text("X-Relay-Start-Time: "+due.UTC().Format(time.RFC3339)+"\nX-Campaign: news 3\n"), "a@x.example") // waits meanwhile
	if code := r.call("POST", "/testing/jobs/unsubscribe", nil, nil); code != 200 {
		t.Fatalf("batch: %d", code)
	}
	if got := list("unsubscribe").Suppressions; len(got) != 1 || got[0].Address != "a@x.example" || len(list("leaving").Suppressions) != 0 {
		t.Errorf("after the batch: %+v", got)
	}
	r.advance(61 * time.Minute)
	mustBecome(t, "what waited is suppressed", func() bool { return len(r.events("status=suppressed")) == 1 })
	send("news 4", "a@x.example", "b@x.example")
	send("other", "a@x.example") // is of no list
	send("alert", "a@x.example") // is of another
	mustBecome(t, "three more, one suppressed", func() bool { return sink.count() == 6 && len(r.events("status=suppressed")) == 2 })
	status(map[string]int{"a@x.example": 11})
	for n := range 6 {
		if m := sink.mustGet(t, n+1); strings.Contains(m.data, "X-Campaign: alert") {
			link = linkIn(t, m.data)
		}
	}
	if code, page := r.request("POST", link); code != 200 { // of a list that does not wait for the batch (E-30)
		t.Fatalf("POST: %d %s", code, page)
	}
	send("alert", "a@x.example")
	mustBecome(t, "suppressed at once", func() bool { return len(r.events("status=suppressed")) == 3 })
	if sink.count() != 6 {
		t.Errorf("%d messages", sink.count())
	}
	r.atRest()
}
