package node_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// text asks as an operator and returns the answer as it came.
func (r *rig) text(path string) (int, string) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), "GET", "http://"+r.node.Ready().HTTP+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token())
	return r.answer(req)
}

// answer sends a request and returns the answer as it came.
func (r *rig) answer(req *http.Request) (status int, body string) {
	r.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// statistics are the lines of a query, one line of JSON each, without braces and quotes.
func (r *rig) statistics(query string) (lines []string) {
	r.Helper()
	var out struct{ Statistics []json.RawMessage }
	status, raw := r.text("/v1/statistics?" + query)
	if err := json.Unmarshal([]byte(raw), &out); status != 200 || err != nil {
		r.Fatalf("statistics: %d %s", status, raw)
	}
	for _, l := range out.Statistics {
		lines = append(lines, strings.NewReplacer(`"`, "", "{", "", "}", "").Replace(string(l)))
	}
	return lines
}

func (r *rig) mustLines(what string, got []string, want ...string) {
	r.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestStatistics lets two tenants send for a day and looks at what the night makes of it (requirements R81 to R83, R97,
// R99, R133, E-1): nothing of today, the identities, the rates, the addresses; and the same again after a restart and
// after a rebuild.
func TestStatistics(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		switch {
		case stage == "rcpt" && strings.HasPrefix(arg, "unknown"):
			return "550 5.1.1 <" + arg + ">: User unknown"
		case stage == "rcpt" && strings.HasPrefix(arg, "refused"):
			return "550 5.7.1 we do not want this"
		}
		return ""
	})
	r := newRigWith(t, to(sink), ", from_domains: [shop.test]", func(s string) string {
		return strings.Replace(s, "}]}]", "}]}, {name: other, bounce: {format: none}, compositions: [{name: main, networks: [127.0.0.0/8], from_domains: [other.test]}]}]", 1)
	})
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	if status := r.call("POST", "/testing/clock", map[string]int64{"set": noon.Unix()}, nil); status != 200 {
		t.Fatal(status)
	}
	add := map[string]string{"address": "blocked@a.example", "list": "blocklist", "tenant": "shop"}
	if status := r.call("POST", "/v1/suppressions", add, nil); status != 200 {
		t.Fatal(status)
	}
	c := r.session()
	c.mustSend(text(""), "a@docomo.ne.jp", "b@docomo.ne.jp", "unknown@docomo.ne.jp")
	c.mustSend(text("X-KAEDE-Cleaning: true\n"), "c@docomo.ne.jp")
	c.mustSend(text(""), "blocked@a.example", "a@a.example", "refused@b.example")
	if a := c.send("x@other.test", text(""), "a@a.example"); a[:3] != "250" {
		t.Fatal(a)
	}
	mustBecome(t, "all ended", func() bool {
		return len(r.events("status=succeeded")) >= 5 && len(r.events("status=failed")) == 2
	})
	r.atRest()
	r.mustLines("today", r.statistics(""))
	r.advance(12*time.Hour + time.Minute)
	r.mustLines("after midnight", r.statistics("view=results"))
	if status, raw := r.text("/v1/error-addresses?tenant=shop&date=2026/03/01"); status != 404 {
		t.Errorf("error addresses before the night: %d %s", status, raw)
	}
	if status := r.call("POST", "/testing/jobs/nightly", nil, nil); status != 200 {
		t.Fatalf("nightly: %d", status)
	}
	look := func(when string) {
		t.Helper()
		r.mustLines(when+", daily", r.statistics("tenant=shop&from=2026/03/01&to=2026/03/02"),
			"date:2026/03/01,queued:7,succeeded:4,failed:2,blocked:1,valid:6,bounced:0,error_rate:33.3,delivery_rate:66.7,warning:true",
			"date:total,queued:7,succeeded:4,failed:2,blocked:1,valid:6,bounced:0,error_rate:33.3,delivery_rate:66.7,warning:true")
		r.mustLines(when+", results", r.statistics("view=results&tenant=shop&from=2026/03/01&to=2026/03/02"),
			"date:2026/03/01,source:shop.test,destination:docomo.ne.jp,cleaning:--,success:2,ng:1,rate:33.3",
			"date:2026/03/01,source:shop.test,destination:docomo.ne.jp,cleaning:1,success:1,ng:0,rate:0",
			"date:2026/03/01,source:shop.test,destination:pc,cleaning:--,success:1,ng:1,rate:50.0",
			"date:total,source:,destination:,cleaning:--,success:4,ng:2,rate:33.3")
		r.mustLines(when+", the other's", r.statistics("view=results&domain=other.test&by=month&from=20260301&to=20260302"),
			"date:2026/03,source:other.test,destination:pc,cleaning:--,success:1,ng:0,rate:0",
			"date:total,source:,destination:,cleaning:--,success:1,ng:0,rate:0")
		r.mustLines(when+", errors", r.statistics("view=errors&tenant=shop&from=2026-03-01&to=2026-03-02"),
			"domain:total,status:2,count:1", "domain:total,status:4,count:1", "domain:total,status:10,count:1",
			"domain:a.example,status:10,count:1", "domain:b.example,status:4,count:1", "domain:docomo.ne.jp,status:2,count:1")
		if all := r.statistics("view=errors&tenant=other"); len(all) != 0 {
			t.Errorf("%s: errors of the other tenant: %v", when, all)
		}
		for tenant, want := range map[string]int64{"shop": 4, "other": 1} {
			if got := r.counters("tenant=" + tenant)[0]["succeeded"]; got != want {
				t.Errorf("%s: %s succeeded %d times, want %d", when, tenant, got, want)
			}
		}
		if got := r.counters("tenant=shop&domain=a.example")[0]; got["succeeded"] != 1 || got["failed"] != 1 {
			t.Errorf("%s: a.example of shop, one of two on the block list: %v", when, got)
		}
		if got := r.counters("tenant=shop&domain=docomo.ne.jp")[0]; got["succeeded"] != 3 || got["failed"] != 1 || got["undelivered"] != 0 {
			t.Errorf("%s: docomo of shop: %v", when, got)
		}
	}
	look("after the night")
	r.again()
	look("after a restart")
	var rebuilt struct {
		Nodes []struct {
			Node   string
			Events string
			Same   bool
		}
	}
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/RebuildStatistics", map[string]bool{"watch": true}, nil); status != 404 {
		t.Errorf("how far is a rebuild that nobody began: %d", status)
	}
	for _, watch := range []bool{false, true} { // the second asks what the first found
		if status := r.call("POST", "/ekiden.admin.v1.AdminService/RebuildStatistics", map[string]bool{"watch": watch}, &rebuilt); status != 200 ||
			len(rebuilt.Nodes) != 1 || !rebuilt.Nodes[0].Same || rebuilt.Nodes[0].Events == "" {
			t.Errorf("rebuild: %d %+v", status, rebuilt)
		}
	}
	look("after a rebuild")

	status, list := r.text("/v1/error-addresses?tenant=shop&domain=shop.test&date=2026/03/01&format=tsv")
	if want := "unknown@docomo.ne.jp\tunknown user\nrefused@b.example\treject\n"; status != 200 ||
		list != want && list != "refused@b.example\treject\nunknown@docomo.ne.jp\tunknown user\n" {
		t.Errorf("error addresses: %d %q", status, list)
	}
	for range 10 {
		if status, raw := r.text("/v1/error-addresses?tenant=other&date=2026-03-01&format=tsv"); status != 200 || raw != "" {
			t.Errorf("of the other tenant: %d %q", status, raw)
		}
	}
	for tenant, want := range map[string]string{"shop": "[2]", "other": fmt.Sprint(make([]int, 10)), "": fmt.Sprint(make([]int, 10))} {
		var log struct{ Downloads []struct{ Count int } }
		r.call("GET", "/v1/error-addresses/downloads?tenant="+tenant, nil, &log)
		counts := []int{}
		for _, d := range log.Downloads {
			counts = append(counts, d.Count)
		}
		if fmt.Sprint(counts) != want {
			t.Errorf("downloads of %q: %v, want %s", tenant, counts, want)
		}
	}
}

// TestTheNightComesByItself: at half past midnight of the product's clock the day before is worked up without anybody
// asking, and mail that was taken on one day and delivered on the next counts where each view says.
func TestTheNightComesByItself(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRig(t, to(sink), "")
	evening := time.Date(2026, 3, 1, 23, 0, 0, 0, time.Local)
	if status := r.call("POST", "/testing/clock", map[string]int64{"set": evening.Unix()}, nil); status != 200 {
		t.Fatal(status)
	}
	due := evening.Add(2 * time.Hour)
	r.session().mustSend(text("X-Relay-Start-Time: "+due.UTC().Format(time.RFC3339)+"\n"), "a@a.example")
	r.advance(2*time.Hour + time.Second)
	sink.mustGet(t, 1)
	mustBecome(t, "yesterday worked up", func() bool { return len(r.statistics("")) > 0 })
	mustBecome(t, "delivered", func() bool { return len(r.events("status=succeeded")) == 1 })
	r.advance(24 * time.Hour)
	mustBecome(t, "the second day worked up", func() bool { return len(r.statistics("view=results")) > 0 })
	r.mustLines("daily", r.statistics("from=2026/03/01&to=2026/03/02")[:1],
		"date:2026/03/01,queued:1,succeeded:1,failed:0,blocked:0,valid:1,bounced:0,error_rate:0,delivery_rate:100.0,warning:false")
	r.mustLines("results", r.statistics("view=results")[:1],
		"date:2026/03/02,source:shop.test,destination:pc,cleaning:--,success:1,ng:0,rate:0")
}
