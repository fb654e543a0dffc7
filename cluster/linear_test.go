package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
)

// deed is an operation of a client on one key: a setting with versions, or one suppressed address.
type deed struct {
	key  string
	what string // get, put, look, add, remove
	base uint64 // put
	data string // put
}

// came is what came of it.
type came struct {
	unknown bool   // it may or may not have been done
	refused bool   // put: conflict
	version uint64 // get, put
	data    string // get
	found   bool   // look; add, remove: it was there before
}

// held is the state of one key. A version is not known after a put whose answer was lost.
type held struct {
	version uint64
	lost    bool
	data    string
	found   bool
}

// linear is what a book that is one book does.
func linear() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			by := map[string][]porcupine.Operation{}
			for _, o := range history {
				key := o.Input.(deed).key
				by[key] = append(by[key], o)
			}
			var parts [][]porcupine.Operation
			for _, p := range by {
				parts = append(parts, p)
			}
			return parts
		},
		Init:  func() []any { return []any{held{}} },
		Equal: func(a, b any) bool { return a == b },
		Step:  func(state, input, output any) []any { return step(state.(held), input.(deed), output.(came)) },
		DescribeOperation: func(in, out any) string {
			return fmt.Sprintf("%+v -> %+v", in, out)
		},
	}
	return m.ToModel()
}

func step(s held, in deed, out came) []any {
	same := func(ok bool) []any {
		if ok {
			return []any{s}
		}
		return nil
	}
	is := func(version uint64) bool { return s.version == version || s.lost && version != 0 }
	switch in.what {
	case "get":
		if out.data != s.data || !is(out.version) {
			return nil
		}
		return []any{held{version: out.version, data: s.data}}
	case "put":
		done := held{version: out.version, lost: out.unknown, data: in.data}
		switch {
		case out.unknown && is(in.base):
			return []any{s, done}
		case out.unknown:
			return []any{s}
		case out.refused && is(out.version) && out.version != in.base:
			return []any{held{version: out.version, data: s.data}}
		case !out.refused && is(in.base) && out.version > in.base:
			return []any{done}
		}
		return nil
	case "look":
		return same(out.found == s.found)
	}
	done := held{found: in.what == "add"}
	switch {
	case out.unknown:
		return []any{s, done}
	case out.found == s.found:
		return []any{done}
	}
	return nil
}

// do has a member do a deed; done is false where nothing happened.
func do(c *Cluster, book *ledger.Store, d deed) (came, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	var r ledger.Result
	var err error
	address := ledger.Suppressed{Scope: ledger.Scope{List: ledger.Blackbox}, Address: d.key}
	switch d.what {
	case "get", "look":
		if err := c.Barrier(ctx); err != nil {
			return came{}, false
		}
		if d.what == "get" {
			o, _ := book.State().Object("test", d.key)
			return came{version: o.Version, data: string(o.Data)}, true
		}
		_, found, err := book.Suppressed(d.key, time.Now(), address.Scope)
		return came{found: found}, err == nil
	case "put":
		r, err = c.Propose(ctx, &ledger.PutObjects{Changes: []ledger.ObjectChange{
			{Kind: "test", Name: d.key, Base: d.base, Data: []byte(d.data)}}})
	case "add":
		r, err = c.Propose(ctx, &ledger.Suppress{Add: []ledger.Suppression{{Suppressed: address, Since: time.Now()}}})
	case "remove":
		r, err = c.Propose(ctx, &ledger.Unsuppress{Remove: []ledger.Suppressed{address}})
	}
	switch {
	case errors.Is(err, ErrUncertain):
		return came{unknown: true}, true
	case err != nil:
		return came{}, false
	}
	return came{refused: r.Code == ledger.Conflict, version: r.Version,
		found: d.what == "add" && r.Added == 0 || d.what == "remove" && r.Removed == 1}, true
}

// client does deeds at one member until stop is closed.
func client(h *house, m *member, id int, seed uint64, stop <-chan struct{}, began time.Time, record func(porcupine.Operation)) {
	rng := rand.New(rand.NewPCG(seed, uint64(id)))
	versions := map[string]uint64{}
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rng.IntN(40)) * time.Millisecond):
		}
		m.mu.Lock()
		c, book := m.c, m.book
		m.mu.Unlock()
		if c == nil {
			continue
		}
		d := deed{key: fmt.Sprint("set", rng.IntN(4)), what: []string{"get", "put", "put"}[rng.IntN(3)]}
		if rng.IntN(2) == 0 {
			d = deed{key: fmt.Sprintf("u%d@example.com", rng.IntN(4)), what: []string{"look", "add", "remove"}[rng.IntN(3)]}
		}
		if d.what == "put" {
			d.base, d.data = versions[d.key], fmt.Sprintf("%d.%d", id, n)
		}
		call := time.Since(began).Nanoseconds()
		out, done := do(c, book, d)
		if !done {
			continue
		}
		back := time.Since(began).Nanoseconds()
		if out.unknown {
			back = math.MaxInt64 // it may yet be done
		}
		if out.version != 0 {
			versions[d.key] = out.version
		}
		record(porcupine.Operation{ClientId: id, Input: d, Output: out, Call: call, Return: back})
	}
}

// harm breaks one thing for a while and mends it.
func harm(h *house, rng *rand.Rand) string {
	m := h.members[rng.IntN(len(h.members))]
	for _, l := range h.members {
		if rng.IntN(2) == 0 && l.up.Load() && l.c.Leads() {
			m = l
		}
	}
	lasts := time.Duration(1000+rng.IntN(2500)) * time.Millisecond
	what := []string{"cut off", "disk hangs", "stopped"}[rng.IntN(3)]
	switch what {
	case "cut off":
		h.part(m, true)
		<-time.After(lasts)
		h.part(m, false)
	case "disk hangs":
		m.sick.hang()
		<-time.After(lasts)
		m.sick.heal()
	case "stopped":
		m.stop()
		<-time.After(lasts)
		m.mustStart()
	}
	return fmt.Sprintf("%s %s for %v", m.name, what, lasts)
}

// TestLinearizable has clients at all members write and read settings and suppressions while members are cut off, stopped and
// given hanging disks, and asks porcupine whether one book could have answered so. EKIDEN_SCHEDULES=50 is the full form,
// EKIDEN_SEED repeats one.
func TestLinearizable(t *testing.T) {
	schedules, harms := 1, 3
	if n, err := strconv.Atoi(os.Getenv("EKIDEN_SCHEDULES")); err == nil {
		schedules, harms = n, 6
	}
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("EKIDEN_SEED"), 10, 64); err == nil {
		seed = s
	}
	for i := range schedules {
		t.Run(fmt.Sprintf("seed=%d", seed+uint64(i)), func(t *testing.T) { linearize(t, seed+uint64(i), harms) })
	}
}

// enoughOperations is how many a history must have to tell anything.
const enoughOperations = 50

func linearize(t *testing.T, seed uint64, harms int) {
	h := newHouse(t, 3)
	h.mustFound()
	var (
		mu      sync.Mutex
		history []porcupine.Operation
		clients sync.WaitGroup
		stop    = make(chan struct{})
		began   = time.Now()
		rng     = rand.New(rand.NewPCG(seed, 0))
	)
	for i := range 6 {
		clients.Go(func() {
			client(h, h.members[i%3], i, seed, stop, began, func(o porcupine.Operation) {
				mu.Lock()
				defer mu.Unlock()
				history = append(history, o)
			})
		})
	}
	for range harms {
		t.Log(harm(h, rng))
		<-time.After(time.Duration(rng.IntN(1000)) * time.Millisecond)
	}
	h.mustLeader()
	// A busy machine may have done little between the harms: it goes on until there is enough to judge.
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(history) >= enoughOperations
	}
	<-time.After(500 * time.Millisecond)
	for healed := time.Now(); !enough() && time.Since(healed) < time.Minute; {
		<-time.After(50 * time.Millisecond)
	}
	close(stop)
	clients.Wait()
	unknown := 0
	for _, o := range history {
		if o.Output.(came).unknown {
			unknown++
		}
	}
	t.Logf("%d operations, %d of them with an unknown outcome", len(history), unknown)
	if len(history) < enoughOperations {
		t.Errorf("too few operations to tell anything")
	}
	if got := porcupine.CheckOperationsTimeout(linear(), history, time.Minute); got != porcupine.Ok {
		t.Errorf("the history is not linearizable: %v; repeat with EKIDEN_SEED=%d", got, seed)
	}
}
