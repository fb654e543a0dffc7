package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestThreeAgree(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	began := time.Now()
	h.mustFound()
	t.Logf("leader after %v", time.Since(began))
	for _, m := range h.members {
		m.mustPropose(putMeta("at "+m.name, m.name))
		if got := m.meta("at " + m.name); got != m.name {
			t.Errorf("%s does not read its own write: %q", m.name, got)
		}
	}
	for _, m := range h.members {
		if err := m.c.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, o := range h.members {
			if got := m.meta("at " + o.name); got != o.name {
				t.Errorf("%s reads %q of %s", m.name, got, o.name)
			}
		}
		if contact, lag := m.c.Staleness(); contact > 2*time.Second || lag > time.Second {
			t.Errorf("%s is stale: %v, %v", m.name, contact, lag)
		}
	}
	if err := h.members[1].c.Bootstrap([]Peer{{h.members[1].name, h.members[1].address, true}}); err == nil {
		t.Error("a cluster could be founded twice")
	}
	eventually(t, 10*time.Second, "all members in the ledger", func() bool {
		n := 0
		for _, m := range h.members[2].c.Members(t.Context()) {
			if m.Seated && m.Voter && m.Alive && m.Applied > 0 && m.Role == RoleNode {
				n++
			}
		}
		return n == 3 && len(h.members[0].book.State().Members()) == 3
	})
}

func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	h.mustFound()
	old := h.mustLeader()
	old.mustPropose(putMeta("before", "1"))
	began := time.Now()
	old.stop()
	left := h.others(old)
	left[0].mustPropose(putMeta("after", "1"))
	took := time.Since(began)
	t.Logf("agreed again after %v", took)
	if took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	old.mustStart()
	old.mustPropose(putMeta("back", "1"))
	for _, name := range []string{"before", "after", "back"} {
		if old.meta(name) != "1" {
			t.Errorf("%s: the member that came back does not have it", name)
		}
	}
}

func TestLeaderDiskHangs(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	h.mustFound()
	old := h.mustLeader()
	left := h.others(old)
	old.mustPropose(putMeta("before", "1"))
	began := time.Now()
	old.sick.hang()
	left[0].mustPropose(putMeta("after", "1"))
	took := time.Since(began)
	t.Logf("agreed again after %v", took)
	if took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if leader := h.mustLeader(left...); leader == old {
		t.Error("the member whose disk hangs leads")
	}
	old.sick.heal()
	eventually(t, 20*time.Second, "the member takes part again", func() bool { return old.meta("after") == "1" })
	old.mustPropose(putMeta("back", "1"))
	if old.c.restarted.Load() == 0 {
		t.Error("raft was not started anew after its disk had hung")
	}
}

// TestAllDisksHang: where the disks of all members hung at once, nobody is left out of doubt, and one of them leads all the
// same once they answer.
func TestAllDisksHang(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	h.mustFound()
	h.mustLeader().mustPropose(putMeta("before", "1"))
	for _, m := range h.members {
		m.sick.hang()
	}
	eventually(t, quarantine/2, "every disk to be in doubt", func() bool {
		return !slices.ContainsFunc(h.members, func(m *member) bool { return !m.c.logs.SickWithin(quarantine) })
	})
	for _, m := range h.members {
		m.sick.heal()
	}
	eventually(t, quarantine/2, "a leader", func() bool {
		return slices.ContainsFunc(h.members, func(m *member) bool { return m.c.Leads() })
	})
	h.mustLeader().mustPropose(putMeta("after", "1"))
}

func TestMinorityStops(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	h.mustFound()
	old := h.mustLeader()
	h.part(old, true)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if r, err := old.c.Propose(ctx, putMeta("minority", "1")); !errors.Is(err, ErrNoQuorum) && !errors.Is(err, ErrUncertain) {
		t.Fatalf("the minority answered %+v, %v", r, err)
	}
	left := h.others(old)
	left[0].mustPropose(putMeta("majority", "1"))
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := old.c.Propose(ctx, putMeta("minority", "2")); !errors.Is(err, ErrNoQuorum) {
		t.Fatalf("without a leader: %v", err)
	}
	h.part(old, false)
	old.mustPropose(putMeta("healed", "1"))
	for _, m := range h.members {
		if err := m.c.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m.meta("majority") != "1" || m.meta("healed") != "1" || m.meta("minority") != "" {
			t.Errorf("%s: majority %q, healed %q, minority %q", m.name, m.meta("majority"), m.meta("healed"), m.meta("minority"))
		}
	}
}

func TestRestartFromDisk(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 3)
	h.mustFound()
	for i := range 50 {
		h.members[i%3].mustPropose(putMeta(fmt.Sprint("k", i), "v"))
	}
	for _, m := range h.members {
		m.stop()
	}
	for _, m := range h.members {
		m.mustStart()
	}
	h.mustLeader()
	for _, m := range h.members {
		if err := m.c.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			if m.meta(fmt.Sprint("k", i)) != "v" {
				t.Fatalf("%s lost k%d", m.name, i)
			}
		}
	}
}
