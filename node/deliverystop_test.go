package node_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// blockHook is a tenant's HTTP server that keeps what is told of its block list: "operation address status occurred".
type blockHook struct {
	*httptest.Server

	mu  sync.Mutex
	got []string
}

func startBlockHook(t *testing.T) *blockHook {
	h := &blockHook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var post struct {
			Type   string              `json:"event_type"`
			Events []map[string]string `json:"event"`
		}
		if err := json.NewDecoder(r.Body).Decode(&post); err != nil || post.Type != "blocks" {
			t.Errorf("%+v, %v", post, err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range post.Events {
			h.got = append(h.got, e["operation"]+" "+e["email"]+" "+e["status"]+" "+e["occurred"])
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *blockHook) told() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(slices.Values(h.got))
}

// TestDeliveryStop: the run at its time is shown with what it did; who was stopped for a reason that is disabled is
// released, and so is who was stopped long enough, each told by webhook like a release by hand (requirements R101, R102,
// B5, B7.1). A start makes up for a run that was missed.
func TestDeliveryStop(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		switch {
		case stage == "rcpt" && strings.HasPrefix(arg, "gone"):
			return "550 5.1.1 User unknown"
		case stage == "rcpt" && strings.HasPrefix(arg, "full"):
			return "552 5.2.2 Mailbox full"
		}
		return ""
	})
	hook := startBlockHook(t)
	r := newRigWith(t, to(sink), ", delivery_stop: {run_at: '03:00', release_after_days: 2, reasons: {2: 1, 5: 1}}", func(s string) string {
		return strings.Replace(s, "{name: shop, ", fmt.Sprintf("{name: shop, webhooks: [{url: '%s', events: [blocks]}], ", hook.URL), 1)
	})
	set := func(at time.Time) {
		t.Helper()
		if status := r.call("POST", "/testing/clock", map[string]int64{"set": at.Unix()}, nil); status != 200 {
			t.Fatal(status)
		}
	}
	night := time.Date(2026, 3, 2, 2, 30, 0, 0, time.Local)
	set(night)
	type stop struct {
		Tenant, Composition string
		LastRun             time.Time `json:"last_run"`
		Stopped             int
	}
	last := func() stop {
		t.Helper()
		var out struct {
			Stops []stop `json:"delivery_stops"`
		}
		if status := r.call("GET", "/v1/delivery-stops?tenant=shop", nil, &out); status != 200 || len(out.Stops) != 1 {
			t.Fatalf("delivery stops: %d %+v", status, out)
		}
		return out.Stops[0]
	}
	told := func(what string, want ...string) {
		t.Helper()
		slices.Sort(want)
		if !becomes(20*time.Second, func() bool { return slices.Equal(hook.told(), want) }) {
			t.Fatalf("%s: told %q, want %q", what, hook.told(), want)
		}
	}
	counted := func(n int) {
		t.Helper()
		mustBecome(t, "errors are counted", func() bool {
			var out struct{ Suppressions []any }
			r.call("GET", "/v1/suppressions?list=errors", nil, &out)
			return len(out.Suppressions) == n
		})
	}
	if s := last(); !s.LastRun.IsZero() || s.Composition != "main" {
		t.Errorf("before the first run: %+v", s)
	}
	r.session().mustSend(text(""), "gone@a.test", "full1@a.test", "full2@a.test")
	counted(3)
	ran := func() bool { return !last().LastRun.IsZero() }
	if becomes(1500*time.Millisecond, ran) { // the node's first look at the clock, which runs none
		t.Errorf("before its time: %+v", last())
	}
	set(night.Add(31 * time.Minute))
	told("after the run", "added gone@a.test 2 1", "added full1@a.test 5 1", "added full2@a.test 5 1")
	mustBecome(t, "the run is noted", func() bool { return last().Stopped == 3 && last().LastRun.After(night.Add(30*time.Minute)) })
	counted(0)

	// Over a restart that sleeps through the next run.
	first := last()
	r.session().mustSend(text(""), "gone2@a.test")
	counted(1)
	set(night.Add(20 * time.Hour))
	r.again()
	if again := last(); !again.LastRun.Equal(first.LastRun) || again.Stopped != 3 {
		t.Errorf("after a restart %+v, before %+v", again, first)
	}

	// Reason 5 is disabled: who was stopped for it is released. The others are by time, the missed run is made up for.
	raw, err := os.ReadFile(filepath.Join(r.dir, "settings.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	yaml := strings.Replace(string(raw), "reasons: {2: 1, 5: 1}", "release_disabled: true, reasons: {2: 1}", 1)
	if status := r.call("POST", "/ekiden.admin.v1.AdminService/ApplySettings", map[string]string{"yaml": yaml}, nil); status != 200 {
		t.Fatalf("apply: %d", status)
	}
	set(night.Add(26 * time.Hour))
	mustBecome(t, "the next run is noted", func() bool { r.advance(time.Minute); return last().Stopped == 1 })
	all := []string{"added gone@a.test 2 1", "added full1@a.test 5 1", "added full2@a.test 5 1", "added gone2@a.test 2 1",
		"removed full1@a.test 5 1", "removed full2@a.test 5 1"}
	told("after a reason was disabled", all...)
	set(night.Add(49 * time.Hour))
	told("after two days", append(all, "removed gone@a.test 2 1")...)
	r.session().mustSend(text(""), "full1@a.test")
	if !becomes(10*time.Second, func() bool { return len(r.events("to=full1@a.test&status=failed")) == 2 }) {
		t.Errorf("mail to who was released: %+v", r.events("to=full1@a.test"))
	}
	r.atRest()
}
