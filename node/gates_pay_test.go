package node

import (
	"context"
	"testing"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/policy/gate"
)

// slowBook is a ledger that is asked about one gate at a time and lets the test say how it answers.
type slowBook struct {
	asked  chan gate.Gate
	answer chan error
}

func (b slowBook) SetGate(_ context.Context, g gate.Gate) error {
	b.asked <- g
	return <-b.answer
}

// TestPayOwesWhatCameMeanwhile: a stop that comes while an earlier one is on its way to the ledger is not taken for that one.
func TestPayOwesWhatCameMeanwhile(t *testing.T) {
	first := gate.Gate{Group: "news", Closed: true, Version: 1}
	later := gate.Gate{Group: "news", Closed: true, Version: 3, RefuseIntake: true}
	for _, row := range []struct {
		name string
		err  error
	}{
		{"the ledger takes the earlier one", nil},
		{"the ledger has a later word than the earlier one", service.ErrConflict},
	} {
		t.Run(row.name, func(t *testing.T) {
			book := slowBook{make(chan gate.Gate), make(chan error)}
			s := newGates(nil)
			s.ledger = book
			s.owe(first)
			done := make(chan struct{})
			go func() { s.pay(t.Context()); close(done) }()
			if g := <-book.asked; g.Version != 1 {
				t.Fatalf("the ledger is told %+v", g)
			}
			s.owe(later)
			book.answer <- row.err
			<-done
			go s.pay(t.Context())
			if g := <-book.asked; g != later {
				t.Errorf("then the ledger is told %+v, want %+v", g, later)
			}
			book.answer <- nil
		})
	}
}
