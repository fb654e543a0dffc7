package node

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// onePeer is a member that answers or not; its lease ends so long after begin.
type onePeer struct {
	confirm func(ctx context.Context) (Standing, error)
	begin   time.Time
	lease   time.Duration
}

func (p *onePeer) Members() []string { return []string{"n2"} }
func (p *onePeer) Confirm(ctx context.Context, _ string, _ gate.Gate) (Standing, error) {
	return p.confirm(ctx)
}
func (p *onePeer) Discard(context.Context, string, gate.Gate) (int, error) { return 0, nil }
func (p *onePeer) Closed(context.Context, string) ([]gate.Gate, error)     { return nil, nil }
func (p *onePeer) Lease(context.Context, string, map[string]time.Duration) time.Duration {
	return p.lease - clock.Since(p.begin)
}
func (p *onePeer) Silent(string) time.Duration { return clock.Since(p.begin) }

// TestAskUntilAnsweredOrLapsed: a stop waits for a member until it has answered, or can send no more (E2).
func TestAskUntilAnsweredOrLapsed(t *testing.T) {
	still := Standing{Confirmed: true, Held: 3}
	hangs := func(ctx context.Context) (Standing, error) { <-ctx.Done(); return Standing{}, ctx.Err() }
	refused := func(context.Context) (Standing, error) { return Standing{}, errors.New("the store has failed") }
	gone := func(context.Context) (Standing, error) {
		return Standing{}, fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	}
	begin := clock.Wall()
	restarts := func(context.Context) (Standing, error) {
		if clock.Since(begin) < goneAfter/2 {
			return Standing{}, syscall.ECONNREFUSED
		}
		return still, nil
	}
	for _, row := range []struct {
		name              string
		confirm           func(context.Context) (Standing, error)
		lease             time.Duration
		confirmed, lapsed bool
		state             string
		least, most       time.Duration
	}{
		{"answers", func(context.Context) (Standing, error) { return still, nil }, time.Minute, true, false, service.GroupStopped, 0, 0},
		{"has a dot on its way", func(context.Context) (Standing, error) { return Standing{Held: 3}, nil }, time.Minute, false, false, service.GroupStopping, 0, 0},
		{"hangs until its lease ends", hangs, 11500 * time.Millisecond, false, true, service.GroupStopped, 11500 * time.Millisecond, 12 * time.Second},
		{"refuses until its lease ends", refused, 5 * time.Second, false, true, service.GroupStopped, 5 * time.Second, 6 * time.Second},
		{"is dead", refused, 0, false, true, service.GroupStopped, 0, 0},
		{"is gone, and nobody knows of its lease", gone, time.Hour, false, true, service.GroupStopped, goneAfter, goneAfter + confirmPause},
		{"comes back from a restart", restarts, time.Hour, true, false, service.GroupStopped, goneAfter / 2, goneAfter},
		{"hangs and keeps its lease", hangs, time.Hour, false, false, service.GroupStopping, stopWait, stopWait},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin = clock.Wall()
				p := &onePeer{confirm: row.confirm, begin: clock.Wall(), lease: row.lease}
				s := newGates(nil)
				s.peers = p
				ctx, cancel := context.WithTimeout(context.Background(), stopWait)
				defer cancel()
				st, node := s.ask(ctx, "n2", gate.Gate{Group: "g", Closed: true}, &absence{})
				took := clock.Since(p.begin)
				if node.Confirmed != row.confirmed || node.Lapsed != row.lapsed || took < row.least || took > row.most {
					t.Errorf("after %v: %+v", took, node)
				}
				sum := sum([]Standing{{Confirmed: true, Held: 1}, st}, []service.GroupNode{{Name: "n1", Confirmed: true}, node})
				if sum.State != row.state || sum.Held != 1+st.Held {
					t.Errorf("all in all %+v, want %s", sum, row.state)
				}
			})
		})
	}
}

// cutOff are two others where nobody has heard of a leader: n2 does as back says once its process may be up again, n3
// takes connections and says nothing.
type cutOff struct {
	onePeer
	down time.Duration // from begin
	back func(ctx context.Context) (Standing, error)
}

func (p *cutOff) Confirm(ctx context.Context, name string, _ gate.Gate) (Standing, error) {
	switch {
	case name == "n3":
		<-ctx.Done()
		return Standing{}, ctx.Err()
	case clock.Since(p.begin) < p.down:
		return Standing{}, syscall.ECONNREFUSED
	}
	return p.back(ctx)
}

func (p *cutOff) Lease(_ context.Context, _ string, gone map[string]time.Duration) time.Duration {
	return p.lease - unled([]string{"n1", "n2", "n3"}, "n1", time.Hour, gone)
}

// TestAskWhileAnotherComesBack: who was gone for a while and is back may grant a member a lease that this node does not
// hear of, so the stop waits for that member's answer.
func TestAskWhileAnotherComesBack(t *testing.T) {
	hangs := func(ctx context.Context) (Standing, error) { <-ctx.Done(); return Standing{}, ctx.Err() }
	answers := func(context.Context) (Standing, error) { return Standing{Confirmed: true}, nil }
	for _, row := range []struct {
		name   string
		down   time.Duration
		back   func(context.Context) (Standing, error)
		lapsed bool
		least  time.Duration
	}{
		{"stays away", time.Hour, nil, true, 9 * time.Second},
		{"is back and answers", 1500 * time.Millisecond, answers, false, stopWait},
		{"is back and hangs", 1500 * time.Millisecond, hangs, false, stopWait},
		{"is back late", 8900 * time.Millisecond, hangs, false, stopWait},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &cutOff{onePeer{begin: clock.Wall(), lease: 9 * time.Second}, row.down, row.back}
				s := newGates(nil)
				s.peers = p
				ctx, cancel := context.WithTimeout(context.Background(), stopWait)
				defer cancel()
				var away absence
				go func() {
					if _, n2 := s.ask(ctx, "n2", gate.Gate{Group: "g", Closed: true}, &away); !n2.Lapsed {
						t.Errorf("n2 was down: %+v", n2)
					}
				}()
				_, n3 := s.ask(ctx, "n3", gate.Gate{Group: "g", Closed: true}, &away)
				if took := clock.Since(p.begin); n3.Lapsed != row.lapsed || took < row.least || took > row.least+time.Second {
					t.Errorf("after %v: %+v", took, n3)
				}
			})
		})
	}
}

// TestUnled: for how long nobody can have agreed on anything without this member.
func TestUnled(t *testing.T) {
	const s = time.Second
	type gone = map[string]time.Duration
	three, five := []string{"n1", "n2", "n3"}, []string{"n1", "n2", "n3", "n4", "n5"}
	for _, row := range []struct {
		name    string
		voters  []string
		contact time.Duration
		gone    gone
		want    time.Duration
	}{
		{"cut off from both", three, 9 * s, nil, 0},
		{"one is gone", three, 9 * s, gone{"n2": 4 * s}, 4 * s},
		{"one was gone before a leader was heard last", three, 4 * s, gone{"n2": 9 * s}, 4 * s},
		{"both are gone", three, 9 * s, gone{"n2": 4 * s, "n3": 5 * s}, 4 * s},
		{"who is gone has no vote", three, 9 * s, gone{"w": 4 * s}, 0},
		{"one of four others", five, 9 * s, gone{"n2": 4 * s}, 0},
		{"two of four others", five, 9 * s, gone{"n2": 4 * s, "n3": 6 * s}, 4 * s},
		{"the voters are not known", nil, 9 * s, gone{"n2": 4 * s}, 0},
	} {
		if got := unled(row.voters, "n1", row.contact, row.gone); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}

// TestAbsence: who refused once may be restarting, who refused for a while is gone, and who answers is not.
func TestAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a absence
		refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
		if a.note("n2", refused) || len(a.gone()) != 0 {
			t.Error("gone at once")
		}
		time.Sleep(goneAfter)
		if !a.note("n2", refused) || a.gone()["n2"] != goneAfter {
			t.Errorf("not gone: %v", a.gone())
		}
		if a.note("n3", errors.New("timeout")) || len(a.gone()) != 1 {
			t.Errorf("a member that does not answer is gone: %v", a.gone())
		}
		time.Sleep(2*confirmPause + 1)
		if len(a.gone()) != 0 {
			t.Errorf("gone although nobody has looked since: %v", a.gone())
		}
		if !a.note("n2", refused) || len(a.gone()) != 1 {
			t.Errorf("back although it refused again: %v", a.gone())
		}
		if a.note("n2", nil) || len(a.gone()) != 0 {
			t.Errorf("gone although it answered: %v", a.gone())
		}
	})
}
