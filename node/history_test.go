package node_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/node"
)

// newTrio starts three members n1, n2, n3 of one cluster that deliver to sink, and returns when all of them take mail.
func newTrio(t *testing.T, sink *receiver) []*rig {
	t.Helper()
	return newTrioWith(t, sink, "tenants: [{name: shop, compositions: [{name: main, networks: [127.0.0.0/8]}]}]\n")
}

func newTrioWith(t *testing.T, sink *receiver, settings string) []*rig {
	t.Helper()
	return newTrioOf(t, to(sink), settings)
}

// newTrioOf starts members whose node files end with delivery; edit changes them at last.
func newTrioOf(t *testing.T, delivery, settings string, edit ...func(string) string) []*rig {
	t.Helper()
	trio := startTrio(t, delivery, settings, "", edit...)
	for _, r := range trio {
		r.takesMail()
	}
	return trio
}

// startTrio starts members, of which the one named witness has no queue, and does not wait for them.
func startTrio(t *testing.T, delivery, settings, witness string, edit ...func(string) string) []*rig {
	t.Helper()
	pki := filepath.Join(t.TempDir(), "pki")
	names := []string{"n1", "n2", "n3"}
	if err := wire.Init(pki, names); err != nil {
		t.Fatal(err)
	}
	var at []string
	for range names {
		at = append(at, spare(t))
	}
	var trio []*rig
	var starting sync.WaitGroup
	for i, name := range names {
		r := &rig{T: t, dir: t.TempDir()}
		text := fmt.Sprintf(`node: {name: %s, data: data, hostname: relay.test}
smtp: {listeners: [{address: "127.0.0.1:0"}]}
http: {address: "127.0.0.1:0"}
keys: {unseal: [peer, recovery-code]}
settings: settings.yaml
testing: {enabled: true}
cluster: {address: "%s", join: ["%s"], expect: 3, standbys: 1, tls: {ca: "%[4]s/ca.crt", cert: "%[4]s/%[1]s.crt", key: "%[4]s/%[1]s.key"}}
`, name, at[i], strings.Join(at, `", "`), pki) + delivery
		if name == witness {
			text = strings.Replace(text, "standbys: 1", "role: witness", 1)
		}
		for _, f := range edit {
			text = f(text)
		}
		if err := os.WriteFile(filepath.Join(r.dir, "settings.yaml"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if r.cfg, err = node.DecodeConfig(filepath.Join(r.dir, "node.yaml"), []byte(text)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.stop)
		trio = append(trio, r)
		starting.Go(r.start)
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return trio
}

// takesMail waits until the member is ready, with a standby for its queue.
func (r *rig) takesMail() {
	r.Helper()
	if !becomes(40*time.Second, func() bool { return r.call("GET", "/readyz", nil, nil) == 200 && r.covered() }) {
		r.Fatalf("%s does not come to take mail: it says %+v, of the members %+v", r.cfg.Node.Name, r.status(), r.members())
	}
}

// member is what the tests read of ListMembers.
type member struct {
	Name     string
	Leader   bool
	Waiting  int `json:",string"`
	Lineages []struct {
		ID       string
		Standbys []struct{ Acknowledging bool }
	}
}

func (r *rig) members() map[string]member {
	r.Helper()
	var a struct{ Members []member }
	r.call("POST", "/ekiden.admin.v1.AdminService/ListMembers", map[string]string{}, &a)
	by := map[string]member{}
	for _, m := range a.Members {
		by[m.Name] = m
	}
	return by
}

func (r *rig) covered() bool {
	own := r.members()[r.cfg.Node.Name]
	for _, l := range own.Lineages {
		for _, s := range l.Standbys {
			if s.Acknowledging {
				return true
			}
		}
	}
	return false
}

// told counts the lines of the log by status and recipient, all members together.
func (r *rig) told() map[string]int {
	r.Helper()
	lines := map[string]int{}
	for _, e := range r.events("") {
		lines[e.Status+" "+e.To]++
	}
	return lines
}

// TestHistoryOutlivesQueue: a member that loses its queue to another keeps its log and counters, over the next one and a
// restart: no line is missing or comes twice, and the books of all members together balance (I12).
func TestHistoryOutlivesQueue(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := newTrio(t, sink)
	n1, n2 := trio[0], trio[1]
	c := n1.session()
	want := map[string]int{}
	expect := func(to string, status ...string) {
		for _, s := range status {
			want[s+" "+to]++
		}
	}
	for i := range 5 {
		now, later := fmt.Sprintf("now%d@a.test", i), fmt.Sprintf("later%d@b.test", i)
		c.mustSend(text(""), now)
		c.mustSend(text(fmt.Sprintf("X-Relay-Group: g1\nX-KAEDE-Appoint: %d\n", n1.now()+3600)), later)
		expect(now, "queued", "succeeded")
		expect(later, "queued")
	}
	sink.mustGet(t, 5)
	check := func(r *rig, waiting int) {
		t.Helper()
		var sum int64
		same := func() bool {
			got := r.counters("unit=total")[0]
			group := r.counters("unit=total&group=g1")[0]
			sum = got["undelivered"] + got["retry"] + got["in_delivery"]
			return got["succeeded"] == 5 && sum == int64(waiting) && group["undelivered"] == int64(waiting) && maps.Equal(r.told(), want)
		}
		if !becomes(30*time.Second, same) {
			t.Fatalf("%v, %d wait, want %d\nlog  %v\nwant %v", r.counters("unit=total"), sum, waiting, r.told(), want)
		}
		for _, r := range trio {
			r.atRest()
		}
	}
	check(n1, 5)

	// The queue gets another owner without the consent of this one.
	before := n1.members()["n1"].Lineages[0].ID
	body := map[string]any{"node": "n1", "force": true, "statement": "n1 is powered off"}
	if status := n2.call("POST", "/ekiden.admin.v1.AdminService/Takeover", body, nil); status != 200 {
		t.Fatalf("takeover: %d", status)
	}
	for i := range 5 {
		expect(fmt.Sprintf("later%d@b.test", i), "handed over", "taken over")
	}
	renewed := func() bool {
		for _, l := range n1.members()["n1"].Lineages {
			if l.ID == before {
				return false
			}
		}
		return n1.call("GET", "/readyz", nil, nil) == 200 && n1.covered()
	}
	if !becomes(40*time.Second, renewed) {
		t.Fatal("n1 does not begin a new queue")
	}
	check(n1, 5)
	check(n2, 5)

	// By consent, and with a restart between.
	c = n1.session()
	c.mustSend(text(fmt.Sprintf("X-Relay-Group: g1\nX-KAEDE-Appoint: %d\n", n1.now()+3600)), "last@b.test")
	expect("last@b.test", "queued", "handed over", "taken over")
	if status := n1.call("POST", "/ekiden.admin.v1.AdminService/Drain", map[string]string{}, nil); status != 200 {
		t.Fatalf("drain: %d", status)
	}
	n1.again()
	n1.takesMail()
	check(n1, 6)

	var trace struct {
		Events  []event
		Waiting []struct{ Binding string }
	}
	if n1.call("POST", "/ekiden.admin.v1.AdminService/Trace", map[string]string{"address": "later3@b.test"}, &trace); len(trace.Events) != 3 ||
		len(trace.Waiting) != 1 || trace.Waiting[0].Binding != "reservation" {
		t.Errorf("trace of what changed hands: %+v", trace)
	}
	// What was taken over is sent, once, and is known to its first member as delivered.
	for i := range 5 {
		expect(fmt.Sprintf("later%d@b.test", i), "succeeded")
	}
	expect("last@b.test", "succeeded")
	for _, r := range trio {
		r.advance(61 * time.Minute)
	}
	if !becomes(20*time.Second, func() bool { return maps.Equal(n1.told(), want) }) || sink.count() != 11 {
		t.Errorf("%d messages came, want 11\nlog  %v\nwant %v", sink.count(), n1.told(), want)
	}
	for _, r := range trio {
		r.atRest()
	}
}
