package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/unseal"
	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// keysState is what the tests read of GetKeys.
type keysState struct {
	Version, Next int
	Since         time.Time
	Members       []struct {
		Name                  string
		Alive, Holds, Wrapped bool
	}
	Waiting []struct{ Name, Reason string }
}

func (r *rig) keys() keysState {
	r.Helper()
	var got struct{ Keys keysState }
	r.call("POST", adminPath+"GetKeys", map[string]any{}, &got)
	return got.Keys
}

// through waits until all members say that the version is in force with everybody, and that all data keys are wrapped under it.
func through(t *testing.T, version, members int, rigs ...*rig) {
	t.Helper()
	for _, r := range rigs {
		done := func() bool {
			k := r.keys()
			n := 0
			for _, m := range k.Members {
				if m.Holds && m.Wrapped {
					n++
				}
			}
			return k.Version == version && k.Next == 0 && n == members && len(k.Members) == members
		}
		if !becomes(40*time.Second, done) {
			t.Fatalf("%s: version %d is not through: %+v", r.cfg.Node.Name, version, r.keys())
		}
	}
}

// rotate gives the cluster another root key, by command at this member.
func (r *rig) rotate() (got rotated) {
	r.Helper()
	if status := r.call("POST", adminPath+"RotateKeys", map[string]any{}, &got); status != 200 || got.RecoveryCode == "" {
		r.Fatalf("rotation at %s: %d %+v", r.cfg.Node.Name, status, got)
	}
	return got
}

// opens tells whether a recovery code opens the key files of a member that is stopped.
func (r *rig) opens(code string) bool {
	r.Helper()
	v, err := seal.OpenVault(filepath.Join(r.dir, "data"), seal.Config{Providers: []seal.Provider{{Kind: seal.KindRecovery}}})
	if err != nil {
		r.Fatal(err)
	}
	defer v.Close()
	err = v.Unseal(r.Context(), time.Now(), code)
	if err != nil && !errors.Is(err, seal.ErrWrongCode) {
		r.Fatal(err)
	}
	return err == nil
}

// flow sends a message after the other to a member until it is ended; it returns how many were accepted. What is not
// accepted is not sent again.
func (r *rig) flow(name string) (end func() (accepted int)) {
	r.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	var n int
	var done sync.WaitGroup
	c := r.session()
	done.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if answer := c.send("sender@shop.test", text(""), fmt.Sprintf("%s-%d@flow.test", name, i)); answer[:3] != "250" {
				r.Errorf("%s was answered %s", name, answer)
				return
			}
			n++
		}
	})
	return func() int {
		cancel()
		done.Wait()
		return n
	}
}

// TestRotateKeysTrio rotates the root key of a cluster under mail flow, then with a member down, then without one that was
// removed. After each, every member opens again what was accepted before.
func TestRotateKeysTrio(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := newTrio(t, sink)
	n1, n2, n3 := trio[0], trio[1], trio[2]
	former := n1.code + n2.code + n3.code // one of them founded the cluster
	for _, r := range trio {              // who is asked acts at once, the others when they hear of it
		if status := r.call("POST", adminPath+"Suspend", suspended(), nil); status != 200 {
			t.Fatalf("suspend: %d", status)
		}
	}
	for i, r := range trio {
		r.session().mustSend(text(""), fmt.Sprintf("before%d@held.test", i))
	}
	ends := []func() int{n1.flow("n1"), n2.flow("n2"), n3.flow("n3")}
	got := n2.rotate()
	through(t, 2, 3, trio...)
	sent := 0
	for _, end := range ends {
		sent += end()
	}
	mustBecome(t, "what flowed is delivered", func() bool { return sink.count() == sent })
	for _, action := range []string{"begin key", "hand over key", "rotate keys"} {
		if !n3.audited(action) {
			t.Errorf("%q is not in the audit trail", action)
		}
	}
	for i, r := range trio {
		r.session().mustSend(text(""), fmt.Sprintf("between%d@held.test", i))
		r.stop()
		if r.opens(former) || !r.opens(got.RecoveryCode) {
			t.Errorf("%s: the former code opens it: %v, the new one: %v", r.cfg.Node.Name, r.opens(former), r.opens(got.RecoveryCode))
		}
		r.start()
		r.takesMail()
	}

	// One is down: the new key waits for it, and it gets it at its start, from its peers.
	n3.stop()
	mustBecome(t, "n3 is seen to be gone", func() bool {
		return slices.ContainsFunc(n1.keys().Members, func(m struct {
			Name                  string
			Alive, Holds, Wrapped bool
		}) bool {
			return m.Name == "n3" && !m.Alive
		})
	})
	second := n1.rotate()
	var k keysState
	waits := func() bool {
		k = n2.keys()
		return k.Next == 3 && len(k.Waiting) == 1 && k.Waiting[0].Name == "n3" && strings.Contains(k.Waiting[0].Reason, "ekiden cluster leave n3")
	}
	if !becomes(10*time.Second, waits) || second.Keys.Version != 2 || second.Keys.Next != 3 {
		t.Fatalf("with n3 down: %+v, %+v", second, k)
	}
	var refused rotated
	if status := n2.call("POST", adminPath+"RotateKeys", map[string]any{}, &refused); status == 200 || !strings.Contains(refused.Message, "n3") {
		t.Fatalf("another rotation meanwhile: %d %+v", status, refused)
	}
	n3.start()
	through(t, 3, 3, trio...)
	n3.takesMail()

	// One is removed: it is locked out, and the key does not wait for it.
	n3.stop()
	mustBecome(t, "n3 is removed", func() bool {
		return n1.call("POST", adminPath+"RemoveMember", map[string]any{"node": "n3", "force": true, "statement": "n3 is powered off"}, nil) == 200
	})
	third := n1.rotate()
	through(t, 4, 2, n1, n2)
	n3.lockedOut(n1)
	for _, r := range []*rig{n1, n2} {
		r.stop()
		if r.opens(second.RecoveryCode) || !r.opens(third.RecoveryCode) {
			t.Errorf("%s does not open by the newest code alone", r.cfg.Node.Name)
		}
		r.start()
		if status := r.unseal(third.RecoveryCode); status != 200 { // the other one has no majority to give the key with
			t.Fatalf("unseal: %d", status)
		}
		r.takesMail()
	}
	n1.call("POST", adminPath+"Unsuspend", suspended(), nil)
	if !becomes(40*time.Second, func() bool { return sink.count() >= sent+6 }) {
		t.Fatalf("%d of %d messages came", sink.count(), sent+6)
	}
}

// TestRotateKeysNotKept: a member that cannot write the key it is given asks again at ever longer intervals, for each time
// the giver writes into the audit trail; it takes the key when it can. Meanwhile whoever asked has the new code, for the former
// one opens n1 no more.
func TestRotateKeysNotKept(t *testing.T) {
	t.Parallel()
	trio := newTrio(t, startReceiver(t, "127.0.0.1:0", nil))
	n1, n3 := trio[0], trio[2]
	keys := filepath.Join(n3.dir, "data", "keys")
	if err := os.Rename(keys, keys+".aside"); err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	n1.rotate()
	if took := time.Since(asked); took > 12*time.Second {
		t.Errorf("the new code was held back for %v", took)
	}
	given := func() int { return n1.timesAudited("hand over key") }
	mustBecome(t, "n2 and n3 are given the key", func() bool { return given() >= 2 })
	if becomes(5*time.Second, func() bool { return given() > 12 }) {
		t.Errorf("given %d times within 5 s", given())
	}
	if err := os.Rename(keys+".aside", keys); err != nil {
		t.Fatal(err)
	}
	through(t, 2, 3, trio...)
}

// lockedOut tells whether a member that was removed, with its certificate and its disk, is told nothing by another.
func (r *rig) lockedOut(by *rig) {
	r.Helper()
	c := r.cfg.Cluster.TLS
	w, err := wire.Listen(wire.Config{Name: r.cfg.Node.Name, Address: spare(r.T), CA: c.CA, Cert: c.Cert, Key: c.Key})
	if err != nil {
		r.Fatal(err)
	}
	defer w.Close()
	w.Start()
	for _, proto := range []string{wire.Unseal, wire.Ship, wire.RPC, wire.Gossip} {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		conn, _, _, err := w.Dial(ctx, by.cfg.Cluster.Address, proto)
		cancel()
		if err != nil {
			continue // refused at the door
		}
		if proto == wire.Unseal {
			if s, err := unseal.AskNext(conn, unseal.Status{Name: r.cfg.Node.Name, InUse: 3}, time.Now()); err == nil {
				r.Errorf("%s is given %v", r.cfg.Node.Name, s)
			}
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			r.Errorf("%s is let in over %s: %v", r.cfg.Node.Name, proto, err)
		}
		conn.Close()
	}
}
