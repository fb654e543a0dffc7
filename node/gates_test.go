package node_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stopped is the answer of StopGroup.
type stopped struct {
	State string
	Nodes []struct {
		Name      string
		Confirmed bool
	}
	Held     int
	InFlight int        `json:"in_flight"`
	LastSent *time.Time `json:"last_sent"`
}

func (r *rig) group(act, group, body string, out any) int {
	r.Helper()
	return r.call("POST", "/v1/groups/"+group+"/"+act, jsonText(body), out)
}

// jsonText is passed on as it is.
type jsonText string

func (t jsonText) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("{}"), nil
	}
	return []byte(t), nil
}

// TestEmergencyStop is R34: group A is stopped at half its mail, under load. Its remainder is not sent, group B is not
// held up, a restart changes nothing, and what is discarded is counted as interrupted.
func TestEmergencyStop(t *testing.T) {
	const each = 1500
	var mu sync.Mutex
	dotsA := map[string]time.Time{} // of group A, when the receiver has read them
	var countA, countB atomic.Int64 // asked twice per message: when it is kept, and when it is answered
	sink := startReceiver(t, "127.0.0.1:0", func(stage, arg string) string {
		if stage != "dot" {
			return ""
		}
		if strings.HasPrefix(arg, "a") {
			mu.Lock()
			if _, answered := dotsA[arg]; !answered {
				dotsA[arg] = time.Now()
			}
			mu.Unlock()
			countA.Add(1)
		} else {
			countB.Add(1)
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	var load sync.WaitGroup
	for k := range 8 {
		c := r.session()
		load.Go(func() {
			for i := k; i < each; i += 8 {
				for _, g := range []string{"a", "b"} {
					if a := c.send("sender@shop.test", text("X-Relay-Group: "+g+"\n"), fmt.Sprintf("%s%d@x%d.test", g, i, i%5)); a[:3] != "250" {
						t.Errorf("not taken: %s", a)
					}
				}
			}
		})
	}
	mustBecome(t, "half of A sent", func() bool { return countA.Load() >= each })
	var st stopped
	if status := r.group("stop", "a", "", &st); status != 200 {
		t.Fatalf("stop: %d", status)
	}
	after := time.Now()
	if st.State != "stopped" || len(st.Nodes) != 1 || st.Nodes[0].Name != "n1" || !st.Nodes[0].Confirmed || st.LastSent == nil || st.LastSent.After(after.Add(r.ahead)) {
		t.Errorf("answered %+v", st)
	}
	load.Wait()
	mustBecome(t, "all of B sent", func() bool { return countB.Load() == 2*each })
	mu.Lock()
	for arg, at := range dotsA {
		if at.After(after) {
			t.Errorf("the dot of %s came %v after the answer", arg, at.Sub(after))
		}
	}
	mu.Unlock()
	r.atRest()
	sent := r.counters("unit=total&group=a")[0]["succeeded"]
	if sent == 0 || sent >= each {
		t.Fatalf("%d of A were sent", sent)
	}
	r.again()
	r.session().mustSend(text("X-Relay-Group: a\n"), "a-late@x1.test")
	r.session().mustSend(text("X-Relay-Group: b\n"), "b-late@x1.test")
	mustBecome(t, "B goes on after a restart", func() bool { return r.counters("unit=total&group=b")[0]["succeeded"] == each+1 })
	if n := r.counters("unit=total&group=a")[0]; n["succeeded"] != sent || n["undelivered"] != each+1-sent || n["failed"]+n["temporary"] != 0 {
		t.Errorf("A after a restart: %v, want %d sent and the others undelivered", n, sent)
	}
	var done struct{ Discarded int }
	if status := r.group("discard", "a", "", &done); status != 200 || int64(done.Discarded) != each+1-sent {
		t.Errorf("discard: %d %+v, want %d", status, done, each+1-sent)
	}
	if n := r.counters("unit=total&group=a")[0]; n["interrupted"] != each+1-sent || n["undelivered"] != 0 || n["succeeded"] != sent {
		t.Errorf("A after the discard: %v", n)
	}
	e := r.events("status=discarded&group=a&to=a-late@x1.test")
	if len(e) != 1 || e[0].Class != 12 || e[0].Detail != "592 interrupted: discarded by the stop function" {
		t.Errorf("logged %+v", e)
	}
	r.atRest()
}

// TestStopAndResume: what is stopped is held, refused or let expire as asked, is told by trace, list and status, and
// goes on at once when it may.
func TestStopAndResume(t *testing.T) {
	var sent atomic.Int64
	sink := startReceiver(t, "127.0.0.1:0", func(stage, _ string) string {
		if stage == "mail" {
			sent.Add(1)
		}
		return ""
	})
	r := newRig(t, to(sink), "")
	var st stopped
	if status := r.group("discard", "news", "", nil); status != 409 {
		t.Errorf("discard of an open group: %d, want 409", status)
	}
	var no struct{ Detail string }
	if status := r.group("resume", "news", "", &no); status != 404 || !strings.Contains(no.Detail, `"news" was not stopped`) {
		t.Errorf("resume of an unknown group: %d %q, want 404 and its name", status, no.Detail)
	}
	if status := r.group("stop", "news", `{"hold_expiry": true}`, &st); status != 200 || st.State != "stopped" || st.Held != 0 {
		t.Fatalf("stop: %d %+v", status, st)
	}
	c := r.session()
	c.mustSend(text("X-Relay-Group: news\nX-Relay-Lifetime: 600\n"), "u@x.test")
	c.mustSend(text("X-Relay-Group: other\n"), "u@x.test")
	mustBecome(t, "the other group is sent", func() bool { return r.counters("unit=total&group=other")[0]["succeeded"] == 1 })
	var trace struct {
		Waiting []struct{ Binding, Detail string }
	}
	if r.call("POST", "/ekiden.admin.v1.AdminService/Trace", map[string]string{"address": "u@x.test"}, &trace); len(trace.Waiting) != 1 ||
		trace.Waiting[0].Binding != "gate" || !strings.Contains(trace.Waiting[0].Detail, "news") {
		t.Errorf("trace: %+v", trace)
	}
	var groups struct {
		Groups []struct {
			Name, State string
			Counters    map[string]string
		}
	}
	r.call("POST", "/ekiden.admin.v1.AdminService/ListGroups", map[string]any{}, &groups)
	if g := groups.Groups; len(g) != 2 || g[0].State != "stopped" || g[0].Counters["undelivered"] != strconv.Itoa(1) || g[1].State != "open" {
		t.Errorf("groups: %+v", groups)
	}
	r.advance(20 * time.Minute) // past the lifetime
	if status := r.group("stop", "news", `{"hold_expiry": true, "refuse_intake": true}`, &st); status != 200 || st.State != "stopped" || st.Held != 1 {
		t.Errorf("stop again: %d %+v", status, st)
	}
	if a := c.send("sender@shop.test", text("X-Relay-Group: news\n"), "v@x.test"); !strings.HasPrefix(a, "451 4.3.2") {
		t.Errorf("new mail is answered %q", a)
	}
	r.again()
	if a := r.session().send("sender@shop.test", text("X-Relay-Group: news\n"), "v@x.test"); !strings.HasPrefix(a, "451 4.3.2") {
		t.Errorf("new mail after a restart is answered %q", a)
	}
	if n := sent.Load(); n != 1 {
		t.Errorf("%d transactions while the group was stopped, want the other group's", n)
	}
	if status := r.group("resume", "news", "", nil); status != 200 {
		t.Fatalf("resume: %d", status)
	}
	mustBecome(t, "the held mail is sent", func() bool { return r.counters("unit=total&group=news")[0]["succeeded"] == 1 })
	r.session().mustSend(text("X-Relay-Group: news\n"), "v@x.test")
	mustBecome(t, "new mail is sent", func() bool { return r.counters("unit=total&group=news")[0]["succeeded"] == 2 })
	r.atRest()
}

// TestStopOfOneTenant: the gate of another tenant binds nobody here.
func TestStopOfOneTenant(t *testing.T) {
	sink := startReceiver(t, "127.0.0.1:0", nil)
	r := newRigWith(t, to(sink), "", withTenant("bank"))
	var st stopped
	r.group("stop", "news", `{"tenant": "bank"}`, &st)
	r.session().mustSend(text("X-Relay-Group: news\n"), "u@x.test")
	sink.mustGet(t, 1)
	r.group("stop", "news", `{"tenant": "shop"}`, &st)
	r.session().mustSend(text("X-Relay-Group: news\n"), "v@x.test")
	var done struct{ Discarded int }
	if status := r.group("discard", "news", `{"tenant": "shop"}`, &done); status != 200 || done.Discarded != 1 {
		t.Errorf("discard: %d %+v", status, done)
	}
	r.atRest()
}

// TestStopWithoutMajority: with two of three members gone a group is stopped at the one that is left, which says so,
// for nothing listens where the others were; and they know of it before they send anything when they come back.
func TestStopWithoutMajority(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := newTrio(t, sink)
	n1, n2, n3 := trio[0], trio[1], trio[2]
	n2.stop()
	n3.stop()
	var st stopped
	begin := time.Now()
	if status := n1.group("stop", "campaign", "", &st); status != 200 || st.State != "stopped" || len(st.Nodes) != 3 {
		t.Fatalf("stop: %d %+v", status, st)
	}
	for _, n := range st.Nodes {
		if n.Confirmed != (n.Name == "n1") {
			t.Errorf("%s: confirmed %v", n.Name, n.Confirmed)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	n2.start()
	n3.start()
	n2.takesMail()
	c := n2.session()
	c.mustSend(text("X-Relay-Group: campaign\n"), "held@a.test")
	c.mustSend(text("X-Relay-Group: other\n"), "goes@a.test")
	if got := sink.mustGet(t, 1); got.to != "goes@a.test" {
		t.Fatalf("%+v was sent", got)
	}
	mustBecome(t, "resumed by the majority", func() bool { return n3.group("resume", "campaign", "", nil) == 200 })
	sink.mustGet(t, 2)
}

// TestStopWithOneGoneAndOneHanging: nothing listens any more where one member was, and another takes connections and says
// nothing. It cannot renew a lease without the one that is gone or the one that asks, so the stop waits for its lease only.
func TestStopWithOneGoneAndOneHanging(t *testing.T) {
	t.Parallel()
	trio := newTrio(t, startReceiver(t, "127.0.0.1:0", nil))
	n1, n2, n3 := trio[0], trio[1], trio[2]
	n2.stop()
	n3.stop()
	hanging, err := net.Listen("tcp", n3.cfg.Cluster.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	var st stopped
	begin := time.Now()
	if status := n1.group("stop", "campaign", "", &st); status != 200 || st.State != "stopped" || len(st.Nodes) != 3 {
		t.Fatalf("stop: %d %+v", status, st)
	}
	if took := time.Since(begin); took < 4*time.Second || took > 12*time.Second { // the lease lasts 9 s
		t.Errorf("the stop took %s", took)
	}
}
