package node_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/delivery/dns/dnstest"
)

// domainsOf counts by domain the lines of a log of the TSV API that a member shows, all members together.
func (r *rig) domainsOf(log string, column int) map[string]int {
	r.Helper()
	lines := map[string]int{}
	for _, row := range r.rows("log/" + log) {
		lines[row[column]]++
	}
	return lines
}

// TestLinksAndLogsOfMembers: a link to leave a list is honoured by every member, also once the one is dead that sent it, and
// counts everywhere (R104); each member tells of the look-ups and connections of all (R69, R70), and of those it can ask
// where one is dead.
func TestLinksAndLogsOfMembers(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.5:0", nil)
	_, port, err := net.SplitHostPort(sink.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	zone := dnstest.Zone{MX: map[string][]dnstest.MX{}, A: map[string][]string{"mx.x.test": {"127.0.0.5"}}, TTL: 3600}
	for i := range 3 {
		zone.MX[fmt.Sprintf("n%d.x.test", i+1)] = []dnstest.MX{{Pref: 10, Host: "mx.x.test"}}
	}
	names := dnstest.Start(t, zone)
	trio := newTrioOf(t, fmt.Sprintf("delivery: {port: %s, allow_private: true}\ndns: {servers: ['%s'], timeout: 2s}\n", port, names.Addr),
		`tenants: [{name: shop, compositions: [{name: main, networks: [127.0.0.0/8],
  unsubscribe: [{name: news, header: X-Campaign, pattern: news, one_click: true, url: "https://u.shop.example"}]}]}]
`)
	n1, n2, n3 := trio[0], trio[1], trio[2]
	for _, r := range trio {
		domain := r.cfg.Node.Name + ".x.test"
		r.session().mustSend(text("X-Campaign: news\n"), "a@"+domain, "b@"+domain)
	}
	links := map[string]string{}
	for n := range 6 {
		m := sink.mustGet(t, n+1)
		links[strings.Trim(m.to, "<>")] = linkIn(t, m.data)
	}

	tells := func(r *rig, of ...*rig) func() bool {
		return func() bool {
			looked, connected := r.domainsOf("domain", 1), r.domainsOf("connection", 2)
			for _, m := range of {
				domain := m.cfg.Node.Name + ".x.test"
				if looked[domain] != 1 || connected[domain] == 0 || len(r.events("status=connection&domain="+domain)) != connected[domain] {
					return false
				}
			}
			return true
		}
	}
	for _, r := range trio {
		mustBecome(t, r.cfg.Node.Name+" tells of the network of all", tells(r, trio...))
	}

	leave := func(r *rig, address string) {
		t.Helper()
		if code, page := 0, ""; !becomes(30*time.Second, func() bool { // who leads may be dead
			code, page = r.request("POST", links[address])
			return code == 200
		}) {
			t.Fatalf("%s does not honour the link of %s: %d %s", r.cfg.Node.Name, address, code, page)
		}
	}
	leave(n2, "a@n1.x.test")
	n1.stop()
	leave(n3, "b@n1.x.test")
	leave(n2, "a@n3.x.test")
	if code := n2.call("POST", "/testing/jobs/unsubscribe", nil, nil); code != 200 {
		t.Fatalf("batch: %d", code)
	}
	for _, r := range []*rig{n2, n3} {
		mustBecome(t, r.cfg.Node.Name+" tells of what it can ask", tells(r, n2, n3))
		var left struct{ Suppressions []struct{ Address string } }
		if !becomes(5*time.Second, func() bool {
			r.call("GET", "/v1/suppressions?tenant=shop&list=unsubscribe", nil, &left)
			return len(left.Suppressions) == 3
		}) {
			t.Errorf("%s: who left: %+v", r.cfg.Node.Name, left)
		}
	}
	n3.takesMail() // the dead one may have been its standby
	n3.session().mustSend(text("X-Campaign: news\n"), "a@n1.x.test", "b@n1.x.test", "a@n3.x.test", "b@n3.x.test")
	mustBecome(t, "three are told that they left", func() bool {
		e := n3.events("status=suppressed")
		return len(e) == 3 && e[0].Class == 11 && e[1].Class == 11 && e[2].Class == 11
	})
	if m := sink.mustGet(t, 7); strings.Trim(m.to, "<>") != "b@n3.x.test" {
		t.Errorf("%s got the news", m.to)
	}
}
