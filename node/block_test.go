package node_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// blocks are the sources that the node says are blocked, as /metrics does.
func (r *rig) blocks() (out []string) {
	r.Helper()
	resp, err := http.Get("http://" + r.node.Ready().HTTP + "/metrics")
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	s := bufio.NewScanner(resp.Body)
	for s.Scan() {
		if l := s.Text(); strings.HasPrefix(l, "ekiden_blocks{") && strings.HasSuffix(l, " 1") {
			_, l, _ = strings.Cut(l, `source="`)
			source, _, _ := strings.Cut(l, `"`)
			out = append(out, source)
		}
	}
	return out
}

// TestABlockedSourceIsMarked: a receiver that turns one of four sources away, with a reply or with TCP resets, blocks that
// source and no other; the mail goes over the others without waiting, and the source serves again once a probe has succeeded
// (R43, R67, contract 10).
func TestABlockedSourceIsMarked(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"by 421": "421 not from there", "by TCP resets": reset} {
		t.Run(name, func(t *testing.T) { blockOne(t, answer) })
	}
}

func blockOne(t *testing.T, answer string) {
	const bad = "127.0.0.3"
	var blocking atomic.Bool
	var served atomic.Int32 // greetings to the source in question
	blocking.Store(true)
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		switch {
		case stage == "greet" && arg == bad && blocking.Load():
			return answer
		case stage == "greet" && arg == bad:
			served.Add(1)
		case stage == "dot":
			time.Sleep(20 * time.Millisecond) // a round trip to somewhere
		}
		return ""
	})
	r := newRig(t, to(sink), "", fourSourceIPs)
	c := r.session()
	n := 0
	send := func(done func() bool) bool {
		return becomes(20*time.Second, func() bool {
			n++
			c.mustSend(text(""), fmt.Sprintf("u%d@one.test", n))
			return done()
		})
	}
	if !send(func() bool { return len(r.blocks()) > 0 }) {
		t.Fatal("nobody is blocked")
	}
	if b := r.blocks(); len(b) != 1 || b[0] != bad {
		t.Errorf("blocked: %v, want %s only", b, bad)
	}
	sink.mustGet(t, n) // over the three others, before the fourth is probed
	sink.note(func() {
		carried := map[string]int{}
		for _, s := range sink.sessions {
			carried[s.client] += len(s.began)
		}
		if len(carried) != 4 || carried[bad] != 0 {
			t.Errorf("carried by source: %v, want by three, and nothing by %s", carried, bad)
		}
	})
	blocking.Store(false)
	if !send(func() bool { return served.Load() > 0 && len(r.blocks()) == 0 }) {
		t.Errorf("%d sessions of the source that was blocked, still blocked: %v", served.Load(), r.blocks())
	}
	sink.mustGet(t, n)
	r.atRest()
}

// TestSuspendedSourceMustBeOne: to suspend what no mail leaves by would look like a success and hold back nothing.
func TestSuspendedSourceMustBeOne(t *testing.T) {
	for _, tt := range []struct {
		name, sources, suspend, words string
		status                        int
	}{
		{"one of them", "[127.0.0.2, 127.0.0.3]", "127.0.0.3", "", 200},
		{"another", "[127.0.0.2, 127.0.0.3]", "127.0.0.4", "127.0.0.2, 127.0.0.3", 400},
		{"the system chooses", "[]", "127.0.0.1", "the system chooses", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, "", "", func(s string) string {
				return strings.Replace(s, "hostname: relay.test}", "hostname: relay.test, source_ips: "+tt.sources+"}", 1)
			})
			var a struct{ Message string }
			body := map[string]any{"subject": map[string]string{"source": tt.suspend}}
			status := r.call("POST", "/ekiden.admin.v1.AdminService/Suspend", body, &a)
			if status != tt.status || !strings.Contains(a.Message, tt.words) {
				t.Errorf("%d %q, want %d with %q", status, a.Message, tt.status, tt.words)
			}
		})
	}
}
