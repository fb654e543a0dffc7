package node_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// hookReceiver is a tenant's HTTP server that keeps what it took.
type hookReceiver struct {
	*httptest.Server

	mu     sync.Mutex
	cursor string // of the newest post
	down   bool
	events map[string]int // "type status recipient" -> how often
	names  map[string]bool
	sizes  []int
}

func startHookReceiver(t *testing.T) *hookReceiver {
	h := &hookReceiver{events: map[string]int{}, names: map[string]bool{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var post struct {
			Type   string              `json:"event_type"`
			Cursor string              `json:"cursor"`
			Events []map[string]string `json:"event"`
		}
		if err := json.NewDecoder(r.Body).Decode(&post); err != nil {
			t.Error(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.cursor = post.Cursor
		if h.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if id := r.Header.Get("webhook-id"); h.names[id] {
			t.Errorf("%s twice", id)
		} else {
			h.names[id] = true
		}
		h.sizes = append(h.sizes, len(post.Events))
		for _, e := range post.Events {
			h.events[post.Type+" "+e["status"]+" "+e["to"]]++
			if e["messageId"] != "<1@shop.test>" || e["subject"] != "test" {
				t.Errorf("record %v", e)
			}
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hookReceiver) switchOff(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

func (h *hookReceiver) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.events)
}

// TestWebhooks: every event of every delivery is posted once, over a receiver that is down and two restarts of the node
// (requirement R141).
func TestWebhooks(t *testing.T) {
	far := startReceiver(t, "127.0.0.1:0", nobodyUnknown)
	hook := startHookReceiver(t)
	r := newRigWith(t, to(far), "", func(settings string) string {
		return strings.Replace(settings, "{name: shop, ", fmt.Sprintf("{name: shop, bounce: {format: none}, webhooks: [{url: '%s'}], ", hook.URL), 1)
	})
	const n = 60
	want := map[string]int{}
	send := func(round int) {
		c := r.session()
		for i := range n {
			good, bad := fmt.Sprintf("r%d.%d@a.test", round, i), fmt.Sprintf("nobody%d.%d@b.test", round, i)
			c.mustSend(text(""), good, bad)
			for _, k := range []string{"deliveries queued " + good, "deliveries succeeded " + good, "deliveries queued " + bad,
				"deliveries failed " + bad, "bounces 2 " + bad} {
				want[k] = 1
			}
		}
	}
	send(0)
	mustBecome(t, "the first round posted", func() bool { return hook.count() == len(want) })
	hook.mu.Lock()
	cursor := hook.cursor
	hook.mu.Unlock()
	if all, rest := r.events("limit=1000"), r.events("limit=1000&cursor="+cursor); len(rest) >= len(all) || !strings.HasPrefix(cursor, "n1@") {
		t.Errorf("behind cursor %s are %d events of %d", cursor, len(rest), len(all))
	}
	hook.switchOff(true)
	send(1)
	r.atRest()
	r.stop()
	hook.switchOff(false) // before the node is back: after one more refusal it would wait a minute
	r.again()
	send(2)
	mustBecome(t, "the second and third round posted", func() bool { return hook.count() == len(want) })
	r.again()
	send(3)
	mustBecome(t, "the fourth round posted", func() bool { return hook.count() == len(want) })
	hook.mu.Lock()
	defer hook.mu.Unlock()
	for k := range want {
		if hook.events[k] != 1 {
			t.Errorf("%s: %d times", k, hook.events[k])
		}
	}
	if slices.Max(hook.sizes) > 100 {
		t.Errorf("sizes %v", hook.sizes)
	}
}

// TestWebhooksDialGuard: without allow_private nothing is dialled on this machine (threat T20).
func TestWebhooksDialGuard(t *testing.T) {
	hook := startHookReceiver(t)
	r := newRigWith(t, "", "", func(settings string) string {
		return strings.Replace(settings, "{name: shop, ", fmt.Sprintf("{name: shop, webhooks: [{url: '%s'}], ",
			strings.Replace(hook.URL, "http:", "https:", 1)), 1)
	})
	r.session().mustSend(text("X-Relay-Start-Time: 4102444800\n"), "a@a.test")
	mustBecome(t, "a failed post", func() bool {
		resp, err := http.Get("http://" + r.node.Ready().HTTP + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var page strings.Builder
		if err := resp.Write(&page); err != nil {
			return false
		}
		return strings.Contains(page.String(), `ekiden_webhook_posts_total{result="failed"} 1`)
	})
	if hook.count() > 0 {
		t.Error("it was dialled")
	}
}
