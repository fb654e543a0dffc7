package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSourceOfTwoMembers: an address that two members have in their files is one member's, or its receivers would be sent twice
// what they bear; the other says so, its mail waits, and the address is its own once the first has gone (N6).
func TestSourceOfTwoMembers(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := newTrioOf(t, to(sink), "tenants: [{name: shop, compositions: [{name: main, networks: [127.0.0.0/8], retry: {lifetime: 1h}}]}]\n",
		func(s string) string {
			source := "127.0.0.9"
			if strings.Contains(s, "name: n3") {
				source = "127.0.0.10"
			}
			return strings.Replace(s, "hostname: relay.test}", "hostname: relay.test, source_ips: ["+source+"]}", 1)
		})
	for i, r := range trio {
		r.session().mustSend(text(""), fmt.Sprintf("u%d@one.test", i))
	}
	type waiting struct{ Binding, Detail string }
	trace := func(i int) []waiting {
		var a struct{ Waiting []waiting }
		trio[i].call("POST", adminPath+"Trace", map[string]string{"address": fmt.Sprintf("u%d@one.test", i)}, &a)
		return a.Waiting
	}
	sink.mustGet(t, 2)
	loser := 0
	if !becomes(10*time.Second, func() bool {
		if loser = 0; len(trace(0)) == 0 {
			loser = 1
		}
		return len(trace(1-loser)) == 0 && len(trace(loser)) == 1 && trace(loser)[0].Binding == "source"
	}) {
		t.Fatalf("n1 waits for %+v, n2 for %+v: want one to wait for its source", trace(0), trace(1))
	}
	winner, name := trio[1-loser], trio[1-loser].cfg.Node.Name
	want := "127.0.0.9: " + name + " sends from it"
	alarm := fmt.Sprintf("127.0.0.9 is a source of both %s and %s", name, trio[loser].cfg.Node.Name)
	if !becomes(20*time.Second, func() bool {
		return trace(loser)[0].Detail == want && strings.Contains(fmt.Sprint(trio[loser].status().Notices), alarm)
	}) {
		t.Errorf("%+v, %+v, want %q and %q", trace(loser), trio[loser].status(), want, alarm)
	}
	if said := fmt.Sprint(winner.status().Notices); strings.Contains(said, "127.0.0.9") {
		t.Errorf("%s says %s", name, said)
	}
	sink.note(func() {
		for _, s := range sink.sessions {
			if s.client != "127.0.0.9" && s.client != "127.0.0.10" {
				t.Errorf("a session from %s", s.client)
			}
		}
	})
	winner.stop()
	if !becomes(60*time.Second, func() bool { return sink.tried(fmt.Sprintf("u%d@one.test", loser)) == 1 }) {
		t.Errorf("%s does not take the address over: %+v", trio[loser].cfg.Node.Name, trace(loser))
	}
}
