package node_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// status is what the tests read of GetStatus.
type status struct {
	Reasons, Notices []struct{ Code, Detail string }
}

func (r *rig) status() (s status) {
	r.Helper()
	r.call("POST", adminPath+"GetStatus", map[string]any{}, &s)
	return s
}

// backup copies the data directory of a member that is stopped.
func (r *rig) backup() (dir string) {
	r.Helper()
	dir = filepath.Join(r.TempDir(), "backup")
	if out, err := exec.CommandContext(r.Context(), "cp", "-a", "--sparse=always", filepath.Join(r.dir, "data"), dir).CombinedOutput(); err != nil {
		r.Fatalf("%v: %s", err, out)
	}
	return dir
}

// restore puts a backup in the place of the data directory.
func (r *rig) restore(dir string) {
	r.Helper()
	data := filepath.Join(r.dir, "data")
	for _, err := range []error{os.Rename(data, data+".lost"), os.Rename(dir, data)} {
		if err != nil {
			r.Fatal(err)
		}
	}
}

// waiting is how much mail waits at all members together.
func waiting(rigs ...*rig) (n int) {
	for _, r := range rigs {
		n += r.members()[r.cfg.Node.Name].Waiting
	}
	return n
}

// TestRestoredDirectory: a backup of a member's data is put back while the lease of its queue lasts. What was delivered
// since is not delivered again, what was accepted since is not lost: a standby owns the queue, and the member begins anew.
func TestRestoredDirectory(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := newTrio(t, sink)
	n1 := trio[0]
	reserve := func(to string, in time.Duration) {
		n1.session().mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", n1.now()+int64(in/time.Second))), to)
	}
	reserve("delivered-since@a.test", 10*time.Minute)
	reserve("before@a.test", time.Hour)
	n1.stop()
	old := n1.backup()
	n1.start()
	n1.takesMail()
	queue := n1.members()["n1"].Lineages[0].ID

	n1.advance(11 * time.Minute)
	sink.mustGet(t, 1)
	reserve("accepted-since@a.test", time.Hour)
	n1.atRest()
	n1.stop()
	n1.restore(old)
	n1.start()
	n1.takesMail()

	for _, l := range n1.members()["n1"].Lineages {
		if l.ID == queue {
			t.Fatalf("n1 serves the queue %s that it has an old copy of", queue)
		}
	}
	s := n1.status()
	if len(s.Notices) != 1 || s.Notices[0].Code != "restored" || !strings.Contains(s.Notices[0].Detail, "queue "+queue) {
		t.Errorf("n1 says of itself: %+v", s)
	}
	var audit struct {
		Entries []struct{ Action, Author, Subject string }
	}
	n1.call("POST", adminPath+"ListAudit", map[string]any{}, &audit)
	if !slices.ContainsFunc(audit.Entries, func(e struct{ Action, Author, Subject string }) bool {
		return e.Action == "handover" && e.Author == "n1"
	}) {
		t.Errorf("no hand-over by n1 in the audit trail: %+v", audit.Entries)
	}
	if !becomes(20*time.Second, func() bool { return waiting(trio...) == 2 }) {
		t.Errorf("%d messages wait, want 2: %+v", waiting(trio...), n1.members())
	}
	for _, r := range trio {
		r.advance(75 * time.Minute)
	}
	if !becomes(20*time.Second, func() bool { return waiting(trio...) == 0 }) {
		t.Errorf("mail waits: %+v", n1.members())
	}
	for _, to := range []string{"before@a.test", "delivered-since@a.test", "accepted-since@a.test"} {
		if n := sink.tried(to); n != 1 {
			t.Errorf("%s was sent %d times", to, n)
		}
	}
}

// spoil flips an octet in the middle of the copy that a member, which is stopped, has of a queue.
func (r *rig) spoil(queue string) {
	r.Helper()
	segments, err := filepath.Glob(filepath.Join(r.dir, "data", "replica", queue, "*.seg*"))
	if err != nil || len(segments) == 0 {
		r.Fatalf("no copy of %s: %v", queue, err)
	}
	path := segments[len(segments)-1]
	raw, err := os.ReadFile(path)
	if err != nil {
		r.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		r.Fatal(err)
	}
}

// TestRestoredWithoutCompleteCopy: a backup is put back, and the only copy that is ahead of it is damaged. Nothing of the
// backup is sent, and the member says what to do; the operator gives the queue to the copy, which sends what can be read.
func TestRestoredWithoutCompleteCopy(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := newTrio(t, sink)
	n1 := trio[0]
	n1.session().mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", n1.now()+600)), "delivered-since@a.test")
	n1.stop()
	old := n1.backup()
	n1.start()
	n1.takesMail()
	queue := n1.members()["n1"].Lineages[0].ID
	n1.advance(11 * time.Minute)
	sink.mustGet(t, 1)
	n1.atRest()
	n1.stop()
	var others []*rig
	for _, r := range trio[1:] {
		if _, err := os.Stat(filepath.Join(r.dir, "data", "replica", queue)); err == nil {
			r.stop()
			r.spoil(queue)
			others = append(others, r)
		}
	}
	n1.restore(old)
	code := trio[0].code + trio[1].code + trio[2].code // one of them founded the cluster
	for _, r := range append(others, n1) {
		r.start()
		if status := r.unseal(code); status != 200 { // there is no majority that could give the key
			t.Fatalf("unseal %s: %d", r.cfg.Node.Name, status)
		}
	}
	stuck := func() bool {
		return slices.ContainsFunc(n1.status().Reasons, func(x struct{ Code, Detail string }) bool {
			return x.Code == "restored" && strings.Contains(x.Detail, "ekiden cluster takeover n1 --force")
		})
	}
	if !becomes(30*time.Second, stuck) || n1.call("GET", "/readyz", nil, nil) == 200 {
		t.Fatalf("n1 says of itself: %+v; of its queue: %+v", n1.status(), n1.members())
	}
	n1.advance(11 * time.Minute) // past the time of what lies in the backup
	if a := n1.dial().reply(); a[0] != '4' {
		t.Errorf("n1 takes mail: %s", a)
	}
	if status := n1.call("POST", adminPath+"Takeover", map[string]any{"node": "n1", "force": true, "statement": "n1 is powered off"}, nil); status != 200 {
		t.Fatalf("takeover: %d", status)
	}
	n1.takesMail()
	for _, l := range n1.members()["n1"].Lineages {
		if l.ID == queue {
			t.Errorf("n1 serves the queue %s that it has an old copy of", queue)
		}
	}
	if n := sink.tried("delivered-since@a.test"); n != 1 {
		t.Errorf("what was delivered since the backup was sent %d times", n)
	}
}

// TestRestoredWithoutAnyCopy: a backup is put back while no standby answers. The book knows that the queue was further:
// nothing of the backup is sent until an operator says that it is all there is.
func TestRestoredWithoutAnyCopy(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := newTrio(t, sink)
	n1 := trio[0]
	n1.session().mustSend(text(fmt.Sprintf("X-KAEDE-Appoint: %d\n", n1.now()+600)), "delivered-since@a.test")
	n1.stop()
	old := n1.backup()
	n1.start()
	n1.takesMail()
	queue := n1.members()["n1"].Lineages[0].ID
	n1.advance(11 * time.Minute)
	sink.mustGet(t, 1)
	n1.atRest()
	n1.stop()
	for _, r := range trio[1:] { // whoever has a copy loses it; both vote
		r.stop()
		if err := os.RemoveAll(filepath.Join(r.dir, "data", "replica", queue)); err != nil {
			t.Fatal(err)
		}
	}
	n1.restore(old)
	code := trio[0].code + trio[1].code + trio[2].code
	for _, r := range []*rig{trio[1], trio[2], n1} {
		r.start()
		if status := r.unseal(code); status != 200 {
			t.Fatalf("unseal %s: %d", r.cfg.Node.Name, status)
		}
	}
	stuck := func() bool {
		return slices.ContainsFunc(n1.status().Reasons, func(x struct{ Code, Detail string }) bool {
			return x.Code == "restored" && strings.Contains(x.Detail, "no copy of that answers")
		})
	}
	if !becomes(30*time.Second, stuck) || n1.call("GET", "/readyz", nil, nil) == 200 {
		t.Fatalf("n1 says of itself: %+v; of its queue: %+v", n1.status(), n1.members())
	}
	n1.advance(11 * time.Minute)
	if a := n1.dial().reply(); a[0] != '4' {
		t.Errorf("n1 takes mail: %s", a)
	}
	if n := sink.tried("delivered-since@a.test"); n != 1 {
		t.Errorf("what was delivered since the backup was sent %d times", n)
	}
	if status := n1.call("POST", adminPath+"Takeover", map[string]any{"node": "n1", "force": true, "statement": "n1 is powered off"}, nil); status != 200 {
		t.Fatalf("takeover: %d", status)
	}
	n1.takesMail()
	if got := n1.members()["n1"].Lineages; len(got) != 1 || got[0].ID != queue {
		t.Errorf("n1 goes on with %+v", got)
	}
}
