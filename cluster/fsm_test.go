package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
)

// A member puts what it has prepared into its book, and only where that is what was agreed on.
func TestPreparedProposal(t *testing.T) {
	box := newTestBox(t)
	book, err := ledger.Open(ledger.Config{Dir: t.TempDir(), Box: box})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := book.Close(); err != nil {
			t.Error(err)
		}
	}()
	f := newFSM(book, func(err error) { t.Error(err) })
	on := ledger.Scope{List: ledger.Blackbox}
	list := func(of string) (cmd *ledger.Suppress, sealed []byte) {
		cmd = &ledger.Suppress{Signed: ledger.Signed{At: time.Unix(1_800_000_000, 0)}}
		for i := range 100 {
			cmd.Add = append(cmd.Add, ledger.Suppression{Suppressed: ledger.Suppressed{Scope: on, Address: fmt.Sprintf("%d@%s", i, of)}, Reason: of})
		}
		sealed, err := ledger.EncodeSealed(box, cmd)
		if err != nil {
			t.Fatal(err)
		}
		return cmd, sealed
	}
	own, ownSealed := list("own.example")
	_, otherSealed := list("other.example")
	for i, row := range []struct {
		name   string
		agreed []byte
		found  string
	}{
		{"another's entry under the same id", otherSealed, "7@other.example"},
		{"its own", ownSealed, "7@own.example"},
	} {
		id := proposalID{byte(i)}
		p := f.expect(id, ownSealed, ledger.Prepare(box, own))
		f.ApplyBatch([]*raft.Log{{Index: uint64(i + 1), Term: 1, Type: raft.LogCommand, Data: packEntry(id, row.agreed)}})
		if r, known := p.now(); !known || r.Code != ledger.OK || r.Added != 100 {
			t.Fatalf("%s: %v, %t", row.name, r, known)
		}
		v, found, err := book.Suppressed(row.found, time.Unix(1_900_000_000, 0), on)
		if err != nil || !found || !v.Since.Equal(time.Unix(1_800_000_000, 0)) || v.Address != row.found {
			t.Errorf("%s: found %v, %t: %v", row.name, v, found, err)
		}
		if n := book.SuppressionCount(); n != uint64(100*(i+1)) {
			t.Errorf("%s: %d suppressions", row.name, n)
		}
	}
}
