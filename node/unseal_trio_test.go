package node_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/unseal"
	"github.com/ekiden-mta/ekiden/cluster/wire"
)

// stranger speaks to other members with a member's certificate, as whoever has its disk could.
type stranger struct{ *wire.Wire }

func (r *rig) stranger() stranger {
	r.Helper()
	c := r.cfg.Cluster
	w, err := wire.Listen(wire.Config{Name: r.cfg.Node.Name, Address: "127.0.0.1:0", CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = w.Close() })
	return stranger{w}
}

// ask asks a member for the root key, in a session.
func (s stranger) ask(t *testing.T, of *rig, session string) error {
	t.Helper()
	_, err := unseal.AskKey(s.dial(t, of), unseal.Status{State: unseal.StateSealed}, session, time.Now())
	return err
}

// dial opens a connection for one question about keys.
func (s stranger) dial(t *testing.T, of *rig) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, _, _, err := s.Dial(ctx, of.cfg.Cluster.Address, wire.Unseal)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestKeyIsGivenOnceAtATime: of two who ask two members at the same moment, a restarted member and a copy of its disk, one
// is given the key.
func TestKeyIsGivenOnceAtATime(t *testing.T) {
	t.Parallel()
	trio := newTrio(t, startReceiver(t, "127.0.0.1:0", nil))
	n1, others := trio[0], trio[1:]
	n1.stop()
	askers := []stranger{n1.stranger(), n1.stranger()}
	given := 0
	mustBecome(t, "the session of n1 is over", func() bool {
		answers := make([]error, len(askers))
		var asked sync.WaitGroup
		for i, s := range askers {
			c := s.dial(t, others[i])
			asked.Go(func() {
				_, answers[i] = unseal.AskKey(c, unseal.Status{State: unseal.StateSealed}, fmt.Sprint("asker ", i), time.Now())
			})
		}
		asked.Wait()
		for _, err := range answers {
			if err == nil {
				given++
			}
		}
		return given > 0
	})
	if given != 1 {
		t.Fatalf("given %d times", given)
	}
}

// TestKeyIsGivenOnce: a member that died is given the root key once, by whomever it asks; once more only to the session
// whose answer was lost. From then on it needs an operator, and so it does 15 minutes after its last renewal.
func TestKeyIsGivenOnce(t *testing.T) {
	t.Parallel()
	sink := startReceiver(t, "127.0.0.1:0", nil)
	trio := newTrio(t, sink)
	n1, n2, n3 := trio[0], trio[1], trio[2]
	thief := n1.stranger()
	if err := thief.ask(t, n2, "one"); !errors.Is(err, unseal.ErrRefused) || !strings.Contains(err.Error(), "not over") {
		t.Errorf("while n1 lives: %v", err)
	}
	n1.stop()
	mustBecome(t, "the session of n1 is over", func() bool { return thief.ask(t, n2, "one") == nil })
	for _, at := range []*rig{n2, n3} {
		mustBecome(t, "the same session gets it again", func() bool { return thief.ask(t, at, "one") == nil })
		for _, session := range []string{"", "two"} {
			if err := thief.ask(t, at, session); !errors.Is(err, unseal.ErrRefused) || !strings.Contains(err.Error(), "already") {
				t.Errorf("session %q at %s: %v", session, at.cfg.Node.Name, err)
			}
		}
	}
	if err := thief.ask(t, n2, strings.Repeat("x", 65)); !errors.Is(err, unseal.ErrRefused) || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long session: %v", err)
	}

	n1.start() // its session is another
	if becomes(3*time.Second, func() bool { return n1.call("GET", "/readyz", nil, nil) == 200 }) {
		t.Error("n1 was given the key though it had been given before")
	}
	if status := n2.call("POST", adminPath+"AdmitMember", map[string]any{"node": "n1"}, nil); status != 200 {
		t.Fatalf("admit: %d", status)
	}
	n1.takesMail()

	n3.stop()
	for _, r := range trio[:2] {
		r.advance(16 * time.Minute)
	}
	late := n3.stranger()
	mustBecome(t, "n3 is gone for a moment only, whatever the product's clock says", func() bool { return late.ask(t, n2, "one") == nil })
}
