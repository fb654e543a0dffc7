package unseal

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
)

func TestTurn(t *testing.T) {
	trio := []string{"n1", "n2", "n3"}
	turn := func(edit func(*Turn)) Turn {
		t := Turn{Name: "n2", Members: trio, HeldPrint: []byte("former")}
		edit(&t)
		return t
	}
	handing := func(edit func(*Turn)) Turn {
		return turn(func(t *Turn) {
			t.Next, t.Print = 1, []byte("new")
			edit(t)
		})
	}
	holding := func(edit func(*Turn)) Turn {
		return handing(func(t *Turn) {
			t.Held, t.HeldPrint, t.Staged, t.Older, t.Hears = 1, t.Print, true, true, true
			edit(t)
		})
	}
	inForce := func(edit func(*Turn)) Turn {
		return turn(func(t *Turn) {
			t.Current, t.Print = 1, []byte("new")
			t.Held, t.HeldPrint, t.Older, t.Hears = 1, t.Print, true, true
			edit(t)
		})
	}
	for _, row := range []struct {
		name string
		turn Turn
		want Step
	}{
		{"never rotated", turn(func(*Turn) {}), Rest},
		{"begun, nobody has the key yet", handing(func(*Turn) {}), Rest},
		{"one has it", handing(func(t *Turn) { t.Ready = []string{"n1"} }), Fetch},
		{"only one that was removed has it", handing(func(t *Turn) { t.Ready, t.Members = []string{"n1"}, trio[1:] }), Rest},
		{"taken", holding(func(t *Turn) { t.Ready = []string{"n1"} }), TellReady},
		{"taken by the starter, who died before it said so", holding(func(*Turn) {}), TellReady},
		{"another key of this version was taken", holding(func(t *Turn) { t.Ready, t.HeldPrint = []string{"n1"}, []byte("mine") }), Fetch},
		{"another key, and nobody has the one begun with", holding(func(t *Turn) { t.HeldPrint = []byte("mine") }), Rest},
		{"alone with another key", holding(func(t *Turn) { t.HeldPrint, t.Members = []byte("mine"), []string{"n2"} }), Restart},
		{"ready", holding(func(t *Turn) { t.Ready = []string{"n1", "n2"} }), Rest},
		{"all are ready", holding(func(t *Turn) { t.Ready = trio }), Rest},
		{"all are ready, this one leads", holding(func(t *Turn) { t.Ready, t.Leads = trio, true }), Finish},
		{"all are ready, the missing one was removed", holding(func(t *Turn) { t.Ready, t.Members, t.Leads = trio[:2], trio[:2], true }), Finish},
		{"one is missing, this one leads", holding(func(t *Turn) { t.Ready, t.Leads = trio[1:], true }), Rest},
		{"in force, still sealing under the former", inForce(func(t *Turn) { t.Staged = true }), Enforce},
		{"in force, the key was missed", inForce(func(t *Turn) { t.Held, t.HeldPrint = 0, []byte("former") }), Fetch},
		{"in force, not a member yet", inForce(func(t *Turn) { t.Members = []string{"n1", "n3"} }), Rest},
		{"in force", inForce(func(*Turn) {}), Wrap},
		{"wrapped, others are not", inForce(func(t *Turn) { t.Wrapped = trio[:2] }), Rest},
		{"all are wrapped", inForce(func(t *Turn) { t.Wrapped = trio }), Part},
		{"all are wrapped, a queue is being taken over", inForce(func(t *Turn) { t.Wrapped, t.Hears, t.Needed = trio, false, true }), Rest},
		{"all are wrapped, gossip is through", inForce(func(t *Turn) { t.Wrapped, t.Hears = trio, false }), Drop},
		{"through", inForce(func(t *Turn) { t.Wrapped, t.Hears, t.Older = trio, false, false }), Rest},
		{"the next one begins before this one is enforced here", inForce(func(t *Turn) { t.Staged, t.Next, t.Ready = true, 2, trio[:1] }), Enforce},
		{"the next one begins", inForce(func(t *Turn) { t.Next, t.Print, t.Ready = 2, []byte("third"), trio[:1] }), Fetch},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := row.turn.Step(); got != row.want {
				t.Fatalf("%v, want %v", got, row.want)
			}
		})
	}
}

// TestPause: what fails for a day is tried, and noted by other members, some 1,400 times, and what failed once is tried again
// at once.
func TestPause(t *testing.T) {
	for _, row := range []struct {
		failed int
		want   time.Duration
	}{{0, time.Second}, {1, time.Second}, {2, 2 * time.Second}, {6, 32 * time.Second}, {7, time.Minute}, {1 << 40, time.Minute}} {
		if got := Pause(row.failed); got != row.want {
			t.Errorf("after %d failures %v, want %v", row.failed, got, row.want)
		}
	}
}

// plain seals nothing: what the book holds is no matter here.
type plain struct{}

func (plain) Seal(dst, text, _ []byte) []byte          { return append(dst, text...) }
func (plain) Open(dst, text, _ []byte) ([]byte, error) { return append(dst, text...), nil }
func (plain) Index(_ string, b []byte) (name [16]byte) { copy(name[:], b); return name }

// disk is what a member has that outlives its process.
type disk struct {
	held  uint64
	print string
	older bool
}

// players are the members of a cluster under rotation, with the book that all of them read. A member is killed by taking it
// out of up; its disk stays.
type players struct {
	*testing.T
	book   *ledger.Store
	index  uint64
	disks  map[string]*disk
	staged map[string]bool
	up     map[string]bool
	parted map[string]bool
}

func newPlayers(t *testing.T) *players {
	t.Helper()
	book, err := ledger.Open(ledger.Config{Dir: t.TempDir(), Box: plain{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = book.Close() })
	p := &players{T: t, book: book, disks: map[string]*disk{}, staged: map[string]bool{}, up: map[string]bool{}, parted: map[string]bool{}}
	for _, name := range []string{"n1", "n2", "n3"} {
		p.disks[name], p.up[name] = &disk{print: "former"}, true
		p.agree(&ledger.Admit{Name: name})
	}
	return p
}

// agree adds a command to the book.
func (p *players) agree(cmd ledger.Command) ledger.Code {
	p.Helper()
	sealed, err := ledger.EncodeSealed(plain{}, cmd)
	if err != nil {
		p.Fatal(err)
	}
	p.index++
	r, err := p.book.ApplyBatch([]ledger.Entry{{Index: p.index, Term: 1, Data: sealed}})
	if err != nil {
		p.Fatal(err)
	}
	return r[0].Code
}

func (p *players) turn(name string) Turn {
	s, d := p.book.State(), p.disks[name]
	k := s.Keys()
	leader := ""
	for _, other := range []string{"n1", "n2", "n3"} {
		if m, _ := s.Member(other); p.up[other] && !m.Removed && leader == "" {
			leader = other
		}
	}
	return Turn{Name: name, Leads: name == leader, Members: s.Behind(nil), Current: k.Current, Next: k.Next, Print: k.Print, Ready: k.Ready,
		Wrapped: k.Wrapped, Held: d.held, HeldPrint: []byte(d.print), Staged: p.staged[name], Older: d.older, Hears: d.held > 0 && !p.parted[name]}
}

// restart brings a member up as its disk and the book say.
func (p *players) restart(name string) {
	p.up[name], p.parted[name] = true, false
	p.staged[name] = p.disks[name].older && p.book.State().Keys().Current != p.disks[name].held
}

// take does the next step of a member, and tells which.
func (p *players) take(name string) Step {
	p.Helper()
	t, d := p.turn(name), p.disks[name]
	step := t.Step()
	switch step {
	case Rest:
	case Restart:
		p.Fatal("a cluster begins anew by itself")
	case Fetch:
		for _, from := range t.From() {
			if giver := p.turn(from); p.up[from] && (t.Next == 0 || giver.Holds()) {
				*d = disk{p.disks[from].held, p.disks[from].print, true}
				p.staged[name] = p.staged[from]
				return step
			}
		}
		return Rest // nobody is there to give it
	case TellReady:
		p.agree(&ledger.KeyReady{Version: t.Next, Print: t.Print, Node: name})
	case Finish:
		p.agree(&ledger.KeyDone{Version: t.Next})
	case Enforce:
		p.staged[name] = false
	case Wrap:
		p.agree(&ledger.KeyWrapped{Version: t.Current, Node: name})
	case Part:
		p.parted[name] = true
	case Drop:
		d.older = false
	}
	return step
}

// begin is what the command does at a member, up to cut.
func (p *players) begin(name, print string, cut int) {
	p.Helper()
	next := p.book.State().Keys().Current + 1
	if code := p.agree(&ledger.BeginKey{Version: next, Print: []byte(print)}); code != ledger.OK {
		p.Fatalf("the rotation is not begun: %v", code)
	}
	if cut > 0 {
		*p.disks[name] = disk{next, print, true}
		p.staged[name] = true
	}
	if cut > 1 {
		p.agree(&ledger.KeyReady{Version: next, Print: []byte(print), Node: name})
	}
}

// check is what must hold after each step: nobody seals what a member may not open.
func (p *players) check(at string) {
	p.Helper()
	for name, d := range p.disks {
		in := d.held
		if p.staged[name] {
			in--
		}
		for _, m := range p.book.State().Members() {
			o := p.disks[m.Name]
			if m.Removed || !p.up[name] {
				continue
			}
			if o.held < in || in < o.held && !o.older && !slices.Contains(p.book.State().Keys().Wrapped, name) {
				p.Fatalf("%s: %s seals under %d, and %s holds %d (older: %v)", at, name, in, m.Name, o.held, o.older)
			}
		}
	}
}

// run lets all who are up take turns until nobody has one, or until after n steps; it returns how many there were.
func (p *players) run(n int) (steps int) {
	p.Helper()
	for busy := true; busy; {
		busy = false
		for _, name := range []string{"n1", "n2", "n3"} {
			if !p.up[name] {
				continue
			}
			if steps == n {
				return steps
			}
			step := p.take(name)
			p.check(fmt.Sprintf("step %d of %s: %v", steps, name, step))
			if step != Rest {
				busy = true
				steps++
			}
		}
	}
	return steps
}

// through tells whether the rotation is through for all who are members.
func (p *players) through() bool {
	s := p.book.State()
	for _, name := range s.Behind(nil) {
		if d := p.disks[name]; d.held != 1 || d.older || p.staged[name] || !p.parted[name] {
			return false
		}
	}
	return s.Keys().Current == 1 && s.Keys().Next == 0
}

// TestTurnCut kills a member after every number of steps of a rotation, and the command at every point of its own, and
// has the member come back later, or not: it is removed then. The rotation is through in the end, and at no moment did
// anybody seal what a member could not open.
func TestTurnCut(t *testing.T) {
	whole := newPlayers(t)
	whole.begin("n2", "new", 2)
	most := whole.run(-1)
	if !whole.through() || most < 15 {
		t.Fatalf("a rotation that nothing cuts: %d steps, %+v", most, whole.book.State().Keys())
	}
	for at := 0; at <= most; at += 2 { // a book on disk for each: every other step, and the victims differ
		for i, victim := range []string{"n1", "n2", "n3"} {
			t.Run(fmt.Sprintf("%s after %d steps", victim, at+i%2), func(t *testing.T) {
				p := newPlayers(t)
				p.begin("n2", "new", 2)
				p.run(at + i%2)
				p.up[victim] = false
				p.run(-1)
				if at%4 < 2 {
					p.restart(victim)
				} else {
					p.agree(&ledger.RemoveMember{Name: victim})
				}
				p.run(-1)
				if !p.through() && len(p.book.State().Holders()) == 0 { // the only one that had the key is gone
					p.begin("n3", "another", 2)
					p.run(-1)
				}
				if !p.through() {
					t.Fatalf("not through: %+v, disks %+v %+v %+v", p.book.State().Keys(), p.disks["n1"], p.disks["n2"], p.disks["n3"])
				}
			})
		}
	}
	for cut := range 2 {
		t.Run(fmt.Sprintf("the command after %d of its steps", cut), func(t *testing.T) {
			p := newPlayers(t)
			p.begin("n2", "lost", cut)
			p.up["n2"] = false
			p.run(-1)
			p.begin("n3", "new", 2) // nobody has the first key: the command is given again, at another member
			p.run(-1)
			if p.through() {
				t.Fatal("through without a member")
			}
			p.restart("n2")
			p.run(-1)
			if !p.through() || p.disks["n2"].print != "new" {
				t.Fatalf("not through: %+v, %+v", p.book.State().Keys(), p.disks["n2"])
			}
		})
	}
}
