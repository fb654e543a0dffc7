package source

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// TestCall: a call is served as an ask would be, at once or in its turn, and left to the actors where more is to be seen to.
func TestCall(t *testing.T) {
	limits := shaping.Limits{Receiver: "r", Connections: 1, Edition: 2}
	same, fewer, older := limits, limits, limits
	fewer.PerConnection = 7
	older.Edition = 1
	call := func(x *box, l *shaping.Limits, key, tenant string) *protocol.Call {
		return &protocol.Call{Outbox: x, Key: key, Limits: l, Tenant: tenant, Deadline: testStart.Add(time.Minute)}
	}
	for _, row := range []struct {
		name    string
		prepare func(b *Book, s *Session) // s has worked for another outbox and idles
		limits  *shaping.Limits
		key     string
		ok      bool
		wakes   bool // the idle session
	}{
		{"a session is idle", nil, &limits, "k", true, true},
		{"another destination's limits, which say the same", nil, &same, "k", true, true},
		{"a session is at work", func(b *Book, s *Session) { b.Woken(s) }, &limits, "k", true, false},
		{"limits that say something else", nil, &fewer, "k", false, false},
		{"limits of older rules", nil, &older, "k", false, false},
		{"a receiver that nobody asked for", nil, &shaping.Limits{Receiver: "other", Connections: 1, Edition: 2}, "k", false, false},
		{"hosts that nobody asked for", nil, &limits, "other", false, false},
		{"the node stops", func(b *Book, _ *Session) { b.stopping = true }, &limits, "k", false, false},
		{"the source is another node's", func(b *Book, _ *Session) { b.cfg.Holds = func(netip.Addr) bool { return false } }, &limits, "k", false, false},
		{"a plan of warm-up is new", func(b *Book, _ *Session) { b.plan = &shaping.Plan{} }, &limits, "k", false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBook(10)
			s := started(b.Step(testStart, askFor(&box{name: "a", waiting: 1}, 1, &limits, "k")))[0]
			for v := Busy; v == Busy; {
				_, v, _, _ = b.Next(testStart, s, true)
			}
			if row.prepare != nil {
				row.prepare(b, s)
			}
			es, ok := b.Call(testStart, call(&box{name: "b"}, row.limits, row.key, ""))
			wakes := slices.ContainsFunc(es, func(e Effect) bool { return e.Kind == EffectWake && e.Session == s })
			if ok != row.ok || wakes != row.wakes {
				t.Errorf("taken: %v, effects %+v", ok, es)
			}
			waiting := 0
			for _, st := range b.Snapshot(testStart) {
				waiting += st.Waiting
			}
			if (waiting == 1) != (row.ok && !row.wakes) {
				t.Errorf("%d stand in line", waiting)
			}
		})
	}
}

// TestCallsStandInLine: calls of a tenant wait for their turn among the asks of others (requirement N11).
func TestCallsStandInLine(t *testing.T) {
	b := newBook(1)
	l := &shaping.Limits{Receiver: "r", Connections: 1}
	s := started(b.Step(testStart, askFor(&box{name: "first", waiting: 1}, 1, l, "k")))[0]
	for _, name := range []string{"a1", "a2", "a3"} {
		b.Call(testStart, &protocol.Call{Outbox: &box{name: name, waiting: 1}, Key: "k", Limits: l, Tenant: "a", Deadline: testStart.Add(time.Minute)})
	}
	other := askFor(&box{name: "b1", waiting: 1}, 1, l, "k")
	other.Tenant = "b"
	b.Step(testStart, other)
	b.Call(testStart, &protocol.Call{Outbox: &box{name: "a4", waiting: 1}, Key: "k", Limits: l, Tenant: "a", Ahead: true, Deadline: testStart.Add(time.Minute)})
	var order []string
	for {
		p, v, _, _ := b.Next(testStart, s, true)
		if v != Busy {
			break
		}
		order = append(order, string(p.Job.Delivery.Domain))
	}
	if want := []string{"first", "a4", "b1", "a1", "a2", "a3"}; !slices.Equal(order, want) {
		t.Errorf("served %v, want %v", order, want)
	}
}
