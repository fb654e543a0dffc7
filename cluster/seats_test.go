package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
)

func TestPlan(t *testing.T) {
	voter := func(name string) seat { return seat{name, name + ":1", true} }
	spare := func(name string) seat { return seat{name, name + ":1", false} }
	here := func(name string, since time.Duration) sighting {
		return sighting{Live: Live{name, name + ":1", RoleNode}, alive: true, since: since}
	}
	gone := func(name string, since time.Duration) sighting {
		return sighting{Live: Live{name, name + ":1", RoleNode}, since: since}
	}
	witness := here("w", 0)
	witness.Role = RoleWitness
	moved := here("b", 0)
	moved.Address = "b:2"
	const day = 24 * time.Hour
	rows := []struct {
		name    string
		seats   []seat
		seen    []sighting
		removed string
		want    string
	}{
		{"all well", []seat{voter("a"), voter("b"), voter("c")}, []sighting{here("b", 0), here("c", 0)}, "", ""},
		{"newcomer", []seat{voter("a")}, []sighting{here("b", day)}, "", "1 b:1 false"},
		{"newcomer that was removed", []seat{voter("a")}, []sighting{here("b", day)}, "b", ""},
		{"vote only after a while", []seat{voter("a"), spare("b")}, []sighting{here("b", day-time.Second)}, "", ""},
		{"second vote", []seat{voter("a"), spare("b")}, []sighting{here("b", 0)}, "", "3 b:1 true"},
		{"third vote", []seat{voter("a"), voter("b"), spare("c")}, []sighting{here("b", 0), here("c", 0)}, "", "3 c:1 true"},
		{"no fourth vote", []seat{voter("a"), voter("b"), voter("c"), spare("d")},
			[]sighting{here("b", 0), here("c", 0), here("d", 0)}, "", ""},
		{"fourth and fifth vote", []seat{voter("a"), voter("b"), voter("c"), spare("d"), spare("e")},
			[]sighting{here("b", 0), here("c", 0), here("d", 0), here("e", 0)}, "", "3 d:1 true"},
		{"no sixth vote", []seat{voter("a"), voter("b"), voter("c"), voter("d"), voter("e"), spare("f"), spare("g")},
			[]sighting{here("b", 0), here("c", 0), here("d", 0), here("e", 0), here("f", 0), here("g", 0)}, "", ""},
		{"a witness votes before a node", []seat{voter("a"), voter("b"), spare("c"), spare("w")},
			[]sighting{here("b", 0), here("c", 0), witness}, "", "3 w:1 true"},
		{"moved", []seat{voter("a"), voter("b"), voter("c")}, []sighting{moved, here("c", 0)}, "", "2 b:2 true"},
		{"dead for a day", []seat{voter("a"), voter("b"), voter("c")}, []sighting{gone("b", 0), here("c", 0)}, "", "4 b:1 true"},
		{"dead, not yet a day", []seat{voter("a"), voter("b"), voter("c")}, []sighting{gone("b", time.Second), here("c", 0)}, "", ""},
		{"dead, the last two stay", []seat{voter("a"), voter("b")}, []sighting{gone("b", 0)}, "", ""},
		{"dead, too few would be left", []seat{voter("a"), voter("b"), voter("c")}, []sighting{gone("b", 0), gone("c", day)}, "", ""},
		{"dead spare", []seat{voter("a"), spare("b")}, []sighting{gone("b", 0)}, "", "4 b:1 false"},
		{"removed goes at once", []seat{voter("a"), voter("b")}, []sighting{here("b", 0)}, "b", "4 b:1 true"},
		{"the last voter cannot go", []seat{voter("a")}, nil, "a", ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			p := planner{self: "a", deadAfter: day, minQuorum: 2, stable: stableFor}
			seen := map[string]sighting{"a": here("a", 0)}
			for _, s := range row.seen {
				seen[s.Name] = s
			}
			got := ""
			if c, any := p.next(day, row.seats, seen, func(n string) bool { return n == row.removed }); any {
				got = fmt.Sprint(int(c.do), " ", c.seat.address, " ", c.seat.voter)
			}
			if got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// A member that lost its disk is given a snapshot, and one that is new a seat and then a vote; one that is removed loses both.
func TestSeatsFollowTheMembers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 4)
	fourth := h.members[3]
	var peers []Peer
	for _, m := range h.members[:3] {
		m.mustStart()
		peers = append(peers, Peer{m.name, m.address, true})
	}
	if err := h.members[0].c.Bootstrap(peers); err != nil {
		t.Fatal(err)
	}
	leader := h.mustLeader(h.members[:3]...)
	for i := range 20 {
		leader.mustPropose(putMeta(fmt.Sprint("k", i), "v"))
	}
	// As if there had been entries enough: a snapshot, and a log without what is in it.
	e := leader.c.engine.Load()
	rc := e.raft.ReloadableConfig()
	rc.TrailingLogs = 1
	if err := e.raft.ReloadConfig(rc); err != nil {
		t.Fatal(err)
	}
	if err := e.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if first, err := leader.c.logs.FirstIndex(); err != nil || first < 10 {
		t.Fatalf("the log still begins at %d, %v", first, err)
	}

	victim := h.others(leader)[0]
	victim.stop()
	victim.wipe()
	victim.mustStart()
	eventually(t, 20*time.Second, "the wiped member has everything", func() bool { return victim.meta("k19") == "v" })
	victim.mustPropose(putMeta("from the wiped", "1"))

	fourth.mustStart()
	eventually(t, 20*time.Second, "the newcomer has everything", func() bool { return fourth.meta("k19") == "v" })
	fourth.mustPropose(putMeta("from the newcomer", "1"))
	one := func(of *member, name string) (found Member) {
		for _, m := range of.c.Members(t.Context()) {
			if m.Name == name {
				found = m
			}
		}
		return found
	}
	if m := one(leader, fourth.name); !m.Seated || m.Voter {
		t.Errorf("the fourth of four: %+v", m)
	}

	if _, err := leader.c.Remove(t.Context(), victim.name, ledger.Signed{Author: "op", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the seat to go, and its vote to pass on", func() bool {
		return !one(leader, victim.name).Seated && one(leader, fourth.name).Voter
	})
}

// Two of three are lost for good; the third goes on alone with what it has.
func TestRecover(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	h.mustFound()
	h.mustLeader().mustPropose(putMeta("kept", "1"))
	last := h.members[2]
	if err := last.c.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range h.members {
		m.stop()
	}
	box := newTestBox(t)
	book, err := ledger.Open(ledger.Config{Dir: last.dir + "/ledger", Box: box})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Name: last.name, Dir: last.dir + "/raft", Ledger: book, Box: box}
	r, err := Inspect(cfg)
	if err != nil || r.Applied == 0 || r.Last < r.Applied || len(r.Members) != 3 {
		t.Fatalf("remains %+v, %v", r, err)
	}
	if err := Recover(cfg, []Peer{{last.name, last.address, true}}); err != nil {
		t.Fatal(err)
	}
	if after, err := Inspect(cfg); err != nil || len(after.Members) != 1 || after.Last != r.Last || after.Snapshot != r.Last {
		t.Fatalf("remains %+v, %v", after, err)
	}
	if err := book.Close(); err != nil {
		t.Fatal(err)
	}
	last.mustStart()
	h.mustLeader(last)
	last.mustPropose(putMeta("alone", "1"))
	if last.meta("kept") != "1" {
		t.Error("what was agreed on is gone")
	}
	// The others come back empty and are given everything.
	for _, m := range h.others(last) {
		m.wipe()
		m.mustStart()
	}
	for _, m := range h.others(last) {
		eventually(t, 20*time.Second, m.name+" is given everything", func() bool { return m.meta("kept") == "1" })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.members[0].c.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
}
