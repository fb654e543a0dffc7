package node_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestAnAttemptIsVisibleAtOnce: within a second of the receiver's answer the log tells of the attempt, with the items of
// requirement R73 and the reference data of requirement R22, and finds it by them (R76).
func TestAnAttemptIsVisibleAtOnce(t *testing.T) {
	var answered atomic.Int64
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		switch {
		case stage == "rcpt" && strings.HasPrefix(arg, "gone"):
			answered.Store(time.Now().UnixNano())
			return "550 5.1.1 user unknown"
		case stage == "rcpt" && strings.HasPrefix(arg, "later"):
			answered.Store(time.Now().UnixNano())
			return "451 4.3.0 come again"
		case stage == "dot":
			answered.Store(time.Now().UnixNano())
		}
		return ""
	})
	r := newRig(t, to(sink), "", func(s string) string {
		return strings.Replace(s, "hostname: relay.test}", "hostname: relay.test, source_ips: [127.0.0.2]}", 1)
	})
	for _, c := range []struct{ address, status, code string }{
		{"ok@a.example", "succeeded", "250"}, {"gone@a.example", "failed", "550"}, {"later@a.example", "deferred", "451"},
	} {
		r.session().mustSend(text("X-Api-Data: CMC-"+c.code+"\n"), c.address)
		var found struct {
			Events []struct {
				At, From, To, Source, Reply string
				Code                        int
				APIData                     string `json:"api_data"`
			}
		}
		query := "/v1/events?source=127.0.0.2&api_data=cmc-" + c.code + "&status=" + c.status + "&to=" + c.address
		mustBecome(t, c.address+" in the log", func() bool {
			return r.call("GET", query, nil, &found) == 200 && len(found.Events) == 1
		})
		if took := time.Since(time.Unix(0, answered.Load())); took > time.Second {
			t.Errorf("%s was in the log %v after the answer", c.address, took)
		}
		e := found.Events[0]
		if at, err := time.Parse(time.RFC3339, e.At); err != nil || time.Since(at) > time.Minute || e.From != "sender@shop.test" ||
			e.To != c.address || e.Source != "127.0.0.2" || e.APIData != "CMC-"+c.code || e.Reply == "" {
			t.Errorf("%s: %+v", c.address, e)
		}
	}
}
