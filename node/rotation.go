package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/unseal"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/storage/queue"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// keyService rotates the root key that the members share. Whoever is asked to draws the key and takes it; all the rest is
// every member's turn (unseal.Turn), told by the book and by what lies on the disk, so that a crash anywhere on the way
// leaves nothing that the next look does not go on with:
//
//	book: next=v ─▶ key and code taken, staged ─▶ ready ─▶ book: current=v ─▶ sealed under it ─▶ data keys wrapped anew ─▶ former dropped
//	             ▲ a crash before: begun again by the same command
type keyService struct{ *Node }

// metaRotated is the name under which the book keeps when the root key was last rotated.
const metaRotated = "root key rotated"

// beginWait bounds what goes before the new key is taken, and readyWait what comes between that and the answer, so that it
// is written well within the minute that the server and the command give it: a code that nobody saw opens nothing.
const (
	beginWait = 45 * time.Second
	readyWait = 3 * time.Second
)

// Status implements service.Keys.
func (n keyService) Status(context.Context) (service.KeyState, error) {
	m, err := n.agree()
	if err != nil {
		return service.KeyState{}, err
	}
	if n.vault.Root() == nil {
		return service.KeyState{}, service.ErrSealed
	}
	s := m.book.State()
	keys := s.Keys()
	k := service.KeyState{Version: uint32(keys.Current) + 1}
	if keys.Next != 0 {
		k.Next = uint32(keys.Next) + 1
	}
	k.Since, _ = m.metaTime(metaRotated)
	here := map[string]bool{n.cfg.Node.Name: true}
	for _, a := range m.alive() {
		here[a.Name] = true
	}
	for _, v := range s.Members() {
		if v.Removed {
			continue
		}
		h := service.KeyHolder{Name: v.Name, Alive: here[v.Name]}
		h.Holds = keys.Next == 0 || slices.Contains(keys.Ready, v.Name)
		h.Wrapped = keys.Current == 0 || slices.Contains(keys.Wrapped, v.Name)
		k.Members = append(k.Members, h)
		if h.Holds {
			continue
		}
		a := service.Absent{Name: v.Name, Reason: "it is about to take the new key"}
		if !h.Alive {
			a.For = max(0, clock.Since(m.heardOf(v.Name)))
			a.Reason = missingKey(v.Name)
		}
		k.Waiting = append(k.Waiting, a)
	}
	return k, nil
}

// missingKey is what to do about a member that is not here to take the new key.
func missingKey(name string) string {
	return fmt.Sprintf("start it, and admit it where it asks for the key in vain; or lock it out: ekiden cluster leave %s", name)
}

// Rotate implements service.Keys. It does not wait for the rotation: the former code opens nothing here from begin on, so the
// new one must be on its way.
func (n keyService) Rotate(ctx context.Context, author string) (k service.KeyState, code string, err error) {
	m, err := n.agree()
	if err != nil {
		return k, "", err
	}
	if !n.isWitness() {
		if _, err := n.running(); err != nil {
			return k, "", err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, beginWait)
	defer cancel()
	if err := m.current(ctx); err != nil {
		return k, "", err
	}
	if code, err = n.begin(ctx, m, author); err != nil {
		return k, "", err
	}
	n.log.Warn("a new root key was drawn: the former recovery code opens nothing any more where a member holds the new one")
	m.poke()
	if k, err = n.Status(ctx); err != nil {
		n.log.Error("how far the rotation is cannot be told", "error", err) // the code is
	}
	return k, code, nil
}

// begin draws the next root key, tells the book and takes it, unless whoever asked is gone by then. The code is of use from
// then on, and the former one opens nothing here.
func (n keyService) begin(ctx context.Context, m *member, author string) (code string, err error) {
	m.keys.Lock()
	defer m.keys.Unlock()
	turn := m.turn()
	if err := n.mayBegin(m, &turn); err != nil {
		return "", err
	}
	d, err := n.vault.Draw(ctx)
	var form *seal.ProviderError
	switch {
	case errors.Is(err, seal.ErrLastVersion), errors.As(err, &form):
		return "", fmt.Errorf("%w: %w", service.ErrRefused, err)
	case err != nil:
		return "", fmt.Errorf("node: %w", err)
	}
	defer d.Wipe()
	next := &ledger.BeginKey{Signed: m.by(author), Version: turn.Current + 1, Print: d.Fingerprint}
	if _, err := m.command(ctx, next); err != nil {
		return "", err
	}
	if ctx.Err() != nil { // nobody would see the code: the same command begins again
		return "", fmt.Errorf("%w: the rotation was given up before the key was taken: %w", service.ErrRefused, ctx.Err())
	}
	if code, err = n.vault.Take(d); err != nil {
		return "", fmt.Errorf("node: %w", err)
	}
	m.renewKeys()
	// A code that was made must be shown, but only where its key is the one that the others will take.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWait)
	defer cancel()
	_, err = m.command(ctx, &ledger.KeyReady{Signed: m.stamp(), Version: next.Version, Print: next.Print, Node: n.cfg.Node.Name})
	if errors.Is(err, service.ErrConflict) {
		return "", fmt.Errorf("%w: another member began a rotation at the same time", service.ErrRefused)
	}
	return code, nil
}

// mayBegin refuses where an earlier rotation is not through: each member then has to open what two former keys wrapped.
func (n keyService) mayBegin(m *member, t *unseal.Turn) error {
	s := m.book.State()
	behind, what := s.Behind(t.Wrapped), "wrap their data keys anew"
	switch {
	case t.Next != 0 && len(s.Holders()) > 0:
		behind, what = s.Behind(t.Ready), "take its key"
		if len(behind) == 0 {
			return fmt.Errorf("%w: version %d of the root key is about to be in force; try again in a moment", service.ErrRefused, t.Next+1)
		}
	case t.Next != 0 && t.Holds():
		return fmt.Errorf("%w: version %d of the root key was drawn here and is about to be in force; try again in a moment", service.ErrRefused, t.Next+1)
	case t.Current == 0:
		return nil
	case t.Held < t.Current || t.Staged && t.Held == t.Current:
		return fmt.Errorf("%w: this member is still to take version %d of the root key; try again in a moment", service.ErrRefused, t.Current+1)
	}
	if len(behind) == 0 {
		return nil
	}
	return fmt.Errorf("%w: a rotation is under way, and these members are still to %s: %s. Start them, or lock them out by \"ekiden cluster leave\"",
		service.ErrRefused, what, strings.Join(behind, ", "))
}

// turn is what this member knows of the root key's versions.
func (m *member) turn() unseal.Turn {
	n, s := m.node, m.book.State()
	k, root := s.Keys(), n.vault.Root()
	t := unseal.Turn{Name: n.cfg.Node.Name, Leads: m.agreed.Leads(), Current: k.Current, Next: k.Next, Print: k.Print,
		Ready: k.Ready, Wrapped: k.Wrapped, Members: s.Behind(nil)}
	if root != nil {
		t.Held, t.HeldPrint, t.Staged = uint64(root.Version())-1, root.Fingerprint(), root.Staged()
	}
	if m.agreed.Alone() && len(t.Members) == 0 { // the book lists no members: this one speaks for itself
		t.Leads, t.Members = true, []string{t.Name}
		t.Ready = t.Members
		if m.wrapped.Load() == k.Current || !n.vault.KeepsOlder() {
			t.Wrapped = t.Members
		}
	}
	t.Older, t.Hears = n.vault.KeepsOlder(), m.hears.Load() != nil
	t.Needed = m.needsOlder(s, t.Wrapped)
	return t
}

// needsOlder tells whether there is a queue whose data keys may be wrapped under a former root key: one whose owner has not
// said that they are not, or that is being taken over, or a copy that is left from a time in a cluster.
func (m *member) needsOlder(s *ledger.State, wrapped []string) bool {
	if m.node.wire == nil {
		_, err := os.Stat(filepath.Join(m.node.cfg.Node.Data, replicaDir))
		return !errors.Is(err, os.ErrNotExist)
	}
	return slices.ContainsFunc(s.Lineages(), func(l ledger.Lineage) bool {
		return l.Phase == ledger.Taken || l.Phase != ledger.Closed && !slices.Contains(wrapped, l.Owner)
	})
}

// setback is what keeps a member from going on with something that it tries again by itself.
type setback struct {
	step   unseal.Step
	why    string
	failed int           // times in a row
	until  time.Duration // of the clock of leases: it is not tried again before
}

// hit notes a failure at a moment of the clock of leases, and tells whether it is another one than before.
func (s *setback) hit(step unseal.Step, now time.Duration, err error) (fresh bool) {
	if s.step != step {
		*s = setback{step: step}
	}
	fresh = s.why != err.Error()
	s.why = err.Error()
	s.failed++
	s.until = now + unseal.Pause(s.failed)
	return fresh
}

// mindKeys goes on with a rotation as far as this member can, beside whatever else it does. Only follow calls it.
func (m *member) mindKeys(ctx context.Context) {
	if !m.turning.CompareAndSwap(false, true) {
		return
	}
	t := m.turn()
	step := t.Step()
	if step == unseal.Rest {
		m.stuck = setback{}
	}
	if step == unseal.Rest || step == m.stuck.step && m.boot.Now() < m.stuck.until {
		m.turning.Store(false)
		return
	}
	m.tasks.Go(func() {
		defer m.turning.Store(false)
		m.keys.Lock()
		defer m.keys.Unlock()
		for ctx.Err() == nil {
			t := m.turn()
			step := t.Step()
			if step == unseal.Rest {
				m.stuck = setback{}
				return
			}
			if step == unseal.Wrap && !m.node.isWitness() && m.node.engine.Load() == nil {
				return // the queue is being opened
			}
			if err := m.take(ctx, &t, step); err != nil {
				if m.stuck.hit(step, m.boot.Now(), err) && ctx.Err() == nil {
					m.node.log.Warn("the rotation of the root key waits; it goes on by itself", "step", step.String(), "error", err)
				}
				return
			}
			m.stuck = setback{}
		}
	})
}

// mindProviders enrols, beside whatever else this member does, exec and file providers that did not answer when the root key
// was taken: else the next start would find the node sealed. Only follow calls it.
func (m *member) mindProviders(ctx context.Context) {
	if !m.enrols.CompareAndSwap(false, true) {
		return
	}
	vault := m.node.vault
	if !vault.Unenrolled() || m.boot.Now() < m.lacking.until {
		m.enrols.Store(false)
		return
	}
	m.tasks.Go(func() {
		defer m.enrols.Store(false)
		if err := vault.EnrolMissing(ctx); err != nil {
			if m.lacking.hit(unseal.Rest, m.boot.Now(), err) && ctx.Err() == nil {
				m.node.log.Warn("an unseal provider does not open this node at its next start; it is asked again until it answers", "error", err)
			}
			return
		}
		if m.lacking.failed > 0 {
			m.node.log.Info("all unseal providers open this node at its next start")
		}
		m.lacking = setback{}
	})
}

// keyWait bounds a step of a rotation that needs other members; the next look tries again.
const keyWait = 10 * time.Second

// take does one step of a rotation.
func (m *member) take(ctx context.Context, t *unseal.Turn, step unseal.Step) error {
	n, whole := m.node, ctx
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	agree := func(cmd ledger.Command) error {
		_, err := m.command(ctx, cmd)
		return err
	}
	switch step {
	case unseal.Restart:
		return agree(&ledger.BeginKey{Signed: m.stamp(), Version: t.Next, Print: t.HeldPrint})
	case unseal.Fetch:
		return m.fetchKey(whole, t.From())
	case unseal.TellReady:
		return agree(&ledger.KeyReady{Signed: m.stamp(), Version: t.Next, Print: t.Print, Node: t.Name})
	case unseal.Finish:
		if err := m.putTime(ctx, metaRotated, n.clock.Now()); err != nil {
			return err
		}
		err := agree(&ledger.Note{Signed: m.stamp(), Action: "rotate keys", Subject: fmt.Sprint(t.Next + 1),
			Detail: "in force: every member holds it"})
		if err != nil {
			return err
		}
		return agree(&ledger.KeyDone{Signed: m.stamp(), Version: t.Next})
	case unseal.Enforce:
		n.vault.Root().Enforce()
		m.renewKeys()
		if e := n.engine.Load(); e != nil {
			e.ring.Retire()
		}
		n.log.Warn("the new root key is in force", "version", t.Held+1)
	case unseal.Wrap:
		return m.wrapKeys(ctx, t)
	case unseal.Part:
		if old := m.hears.Swap(nil); old != nil {
			if err := m.gossip.RemoveKey(*old); err != nil {
				return fmt.Errorf("node: forget a secret of gossip: %w", err)
			}
		}
	case unseal.Drop:
		if err := n.vault.DropOlder(); err != nil {
			return fmt.Errorf("node: %w", err)
		}
		n.log.Info("the former root key opens nothing any more", "version", t.Held)
	case unseal.Rest:
	}
	return nil
}

// wrapKeys wraps all data keys under the key in force, and says so once the standbys hold them, too.
func (m *member) wrapKeys(ctx context.Context, t *unseal.Turn) error {
	n := m.node
	if !n.isWitness() {
		e, err := n.running()
		if err != nil {
			return err
		}
		if err := e.store.Rewrap(ctx); err != nil {
			return fmt.Errorf("node: %w", err)
		}
		if err := e.store.Flush(ctx); err != nil && (!errors.Is(err, queue.ErrShort) || m.hasStandbys()) {
			return fmt.Errorf("node: bring the data keys to the standbys: %w", err)
		}
	}
	if _, listed := m.book.State().Member(t.Name); !listed && m.agreed.Alone() {
		m.wrapped.Store(t.Current)
		return nil
	}
	_, err := m.command(ctx, &ledger.KeyWrapped{Signed: m.stamp(), Version: t.Current, Node: t.Name})
	return err
}

// hasStandbys tells whether anybody is here who may hold copies of this node's queue.
func (m *member) hasStandbys() bool {
	return slices.ContainsFunc(m.alive(), func(a cluster.Live) bool { return a.Name != m.node.cfg.Node.Name && a.Role != witnessRole })
}

// fetchKey asks members for the root key that follows this one's, until one gives it. What they do is bounded by keyWait for
// each; this node's own providers have the time that a provider may take.
func (m *member) fetchKey(ctx context.Context, from []string) (err error) {
	n := m.node
	for _, name := range from {
		dialing, cancel := context.WithTimeout(ctx, keyWait)
		c, dialErr := m.peers.dial(dialing, name, wire.Unseal)
		cancel()
		if err = dialErr; err != nil {
			continue
		}
		share, askErr := unseal.AskNext(c, n.forming.status(), clock.Wall())
		if err = askErr; err == nil {
			err = n.succeed(ctx, share)
		}
		if err == nil {
			m.renewKeys()
			n.log.Warn("took the next root key", "member", name, "version", n.vault.Root().Version())
			return nil
		}
	}
	return err
}

// succeed takes the root key that a member gave.
func (n *Node) succeed(ctx context.Context, share *unseal.Share) error {
	id, err := decodeStore(share.Store)
	if err == nil {
		err = n.vault.Succeed(ctx, &seal.Share{Key: share.Key, Store: id, Recovery: share.Recovery, InForce: share.InForce})
	}
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// renewKeys has everything that seals with the root key, or opens, follow it.
func (m *member) renewKeys() {
	m.box.Renew(m.node.vault.Root())
	m.tuneGossip()
}

// tuneGossip has this member understand the secrets of both root keys while a rotation is under way, and speak under that
// of the one in use.
func (m *member) tuneGossip() {
	if m.gossip == nil {
		return
	}
	use, other := m.node.vault.Root().GossipKeys()
	errs := []error{m.gossip.AddKey(use), m.gossip.UseKey(use)}
	var hears *[seal.KeySize]byte
	if other != [seal.KeySize]byte{} {
		errs, hears = append(errs, m.gossip.AddKey(other)), &other
	}
	if old := m.hears.Swap(hears); old != nil && *old != other && *old != use {
		errs = append(errs, m.gossip.RemoveKey(*old))
	}
	if err := errors.Join(errs...); err != nil {
		m.node.log.Error("gossip does not follow the root key", "error", err)
	}
}
