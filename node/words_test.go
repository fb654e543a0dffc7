package node

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
)

// TestRefusalsOfTheAgreement: they say what happened in words of the front, and neither Go's names nor the same thing twice.
func TestRefusalsOfTheAgreement(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("node: propose *ledger.SetGate: %w", err) }
	for _, tt := range []struct {
		name string
		err  error
		kind error
		want string
	}{
		{"no quorum", wrap(cluster.ErrNoQuorum), service.ErrNoQuorum, "no majority of the members can be reached: this was not agreed on"},
		{"uncertain", wrap(cluster.ErrUncertain), service.ErrNoQuorum,
			"no majority of the members can be reached: whether it was done is not known; look before you ask again"},
		{"no such member", wrap(ledger.Result{Code: ledger.NotFound, Text: "no member nosuch"}.Err()), service.ErrNotFound, "there is no such thing: no member nosuch"},
		{"nothing to say", wrap(ledger.Result{Code: ledger.NotFound}.Err()), service.ErrNotFound, "there is no such thing"},
		{"refused", ledger.Result{Code: ledger.Refused, Text: "n1 is no member"}.Err(), service.ErrRefused, "refused: n1 is no member"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := agreedError(tt.err)
			if only := unchanged(got).Error(); (only == tt.want+", nothing was changed") != (tt.name == "no quorum") {
				t.Errorf("of a call's only command: %q", only)
			}
			if got.Error() != tt.want || !errors.Is(got, tt.kind) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
