package node_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/internal/secret"
)

// TestOneKeepsHouse: what one member does for all is done once, also after that member has gone: a delivery stop's run,
// what is over on its list, the report mail of a day (requirements R84, R101, R102). What the one that has gone knows is
// missing from answers, and every answer says so, where it looks single messages up as well (B3-B6).
func TestOneKeepsHouse(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nobodyUnknown)
	trio := newTrioWith(t, sink, fmt.Sprintf(`tenants:
  - name: shop
    bounce: {format: none}
    compositions:
      - name: main
        networks: [127.0.0.0/8]
        delivery_stop: {run_at: '03:00', release_after_days: 1, reasons: {2: 1}}
        users: [{name: ann@shop.test, secret_hash: '%s', report_mail: true}]
`, secret.Make("secret-key-1")))
	set := func(at time.Time) {
		t.Helper()
		for _, r := range trio {
			if status := r.call("POST", "/testing/clock", map[string]int64{"set": at.Unix()}, nil); status != 200 {
				t.Fatal(status)
			}
		}
	}
	counted := func(n int) {
		t.Helper()
		mustBecome(t, fmt.Sprintf("%d addresses with errors", n), func() bool {
			var out struct{ Suppressions []any }
			trio[0].call("GET", "/v1/suppressions?list=errors", nil, &out)
			return len(out.Suppressions) == n
		})
	}
	told := func(status string) (to []string) {
		for _, e := range trio[0].events("status=" + status) {
			to = append(to, e.To)
		}
		slices.Sort(to)
		return to
	}
	mustTell := func(status string, want ...string) {
		t.Helper()
		if !becomes(20*time.Second, func() bool { return slices.Equal(told(status), want) }) {
			t.Fatalf("%s: %q, want %q", status, told(status), want)
		}
	}
	reports := func() map[string]int { // by their days
		sink.mu.Lock()
		defer sink.mu.Unlock()
		of := map[string]int{}
		for _, m := range sink.messages {
			if _, title, ok := strings.Cut(m.data, "Subject: Delivery report "); ok {
				of[title[:len("2006/01/02")]]++
			}
		}
		return of
	}
	y, m, d := time.Unix(trio[0].now(), 0).Local().Date()
	night := time.Date(y, m, d+1, 2, 59, 0, 0, time.Local)
	set(night)
	trio[1].session().mustSend(text(""), "nobody1@a.test")
	counted(1)
	set(night.Add(2 * time.Minute))
	mustTell("blocked", "nobody1@a.test")
	counted(0)

	gone := slices.IndexFunc(trio, (*rig).leads)
	name := trio[gone].cfg.Node.Name
	trio[gone].stop()
	trio = slices.Delete(slices.Clone(trio), gone, gone+1)
	if !becomes(30*time.Second, func() bool { return trio[0].leads() || trio[1].leads() }) {
		t.Fatal("nobody leads")
	}
	if !becomes(40*time.Second, func() bool { return trio[1].call("GET", "/readyz", nil, nil) == 200 }) {
		t.Fatalf("%s takes no mail: %+v", trio[1].cfg.Node.Name, trio[1].status())
	}
	trio[1].session().mustSend(text(""), "nobody2@a.test")
	counted(1)
	mustSayMissing(trio[0], name)
	set(night.Add(24*time.Hour + 3*time.Minute))
	has := func(status, to string) int {
		return len(slices.DeleteFunc(told(status), func(s string) bool { return s != to }))
	}
	for status, to := range map[string]string{"blocked": "nobody2@a.test", "released": "nobody1@a.test"} {
		if !becomes(20*time.Second, func() bool { return has(status, to) > 0 }) {
			t.Errorf("%s: %q, want %s", status, told(status), to)
		}
	}
	today := night.Format("2006/01/02")
	mustBecome(t, "the report of a day", func() bool { return reports()[today] > 0 })
	set(night.Add(24*time.Hour + 70*time.Minute)) // another look at the lists, and at the stops
	counted(0)
	if b, r := has("blocked", "nobody2@a.test"), has("released", "nobody1@a.test"); b != 1 || r != 1 {
		t.Errorf("blocked %d times, released %d times; want once each", b, r)
	}
	for day, n := range reports() {
		if n != 1 {
			t.Errorf("%d reports of %s", n, day)
		}
	}
}

// mustSayMissing checks that every way to read the log names a member that is down.
func mustSayMissing(r *rig, name string) {
	r.Helper()
	day := time.Unix(r.now(), 0).Local()
	for _, path := range []string{"/v1/events?to=nobody2@a.test", "/v1/counters?unit=total", "/v1/queues", "/v1/statistics?view=daily&live=true",
		"/v1/reservations", "/baremail/v1/logs", "/srs/v1/log/delivery", "/srs/v1/queue"} {
		if status, head, body := r.head("GET", path, ""); status != 200 || !slices.Equal(head.Values("Ekiden-Missing"), []string{name}) {
			r.Errorf("%s: %d, missing %q, want %s: %s", path, status, head.Values("Ekiden-Missing"), name, body)
		}
	}
	for call, more := range map[string]string{"deliveries/list": "&date=" + day.Format(time.DateOnly), "bounces/list": "",
		"statistics/list": day.Format("&year=2006&month=1"), "blocks/list": "&removed=true"} {
		form := "api_user=ann@shop.test&api_key=secret-key-1&server_composition=main" + more
		if status, head, body := r.head("POST", "/transaction/v2/"+call+".json", form); status != 200 || !slices.Equal(head.Values("Ekiden-Missing"), []string{name}) {
			r.Errorf("%s: %d, missing %q, want %s: %s", call, status, head.Values("Ekiden-Missing"), name, body)
		}
	}
}

// head makes a call of the operator's, with a form if there is one.
func (r *rig) head(method, path, form string) (status int, head http.Header, body string) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), method, "http://"+r.node.Ready().HTTP+path, strings.NewReader(form))
	if err != nil {
		r.Fatal(err)
	}
	if form == "" {
		req.Header.Set("Authorization", "Bearer "+r.token())
	} else {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(raw)
}
