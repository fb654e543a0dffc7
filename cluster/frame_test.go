package cluster

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
)

func TestFrameRoundTrip(t *testing.T) {
	rows := []frame{
		{what: askStatus, number: 1},
		{what: askSubmit, number: 1<<64 - 1, patience: 10 * time.Second, payload: bytes.Repeat([]byte{7}, maxEntry)},
		{what: sayRenewed, number: 2, payload: packLineages([]ledger.LineageEpoch{{Lineage: 5, Epoch: 6}})},
	}
	for _, f := range rows {
		got, err := readFrame(bytes.NewReader(f.append(nil)))
		if err != nil {
			t.Fatal(err)
		}
		if len(got.payload) == 0 {
			got.payload = nil
		}
		if got.what != f.what || got.number != f.number || got.patience != f.patience || !bytes.Equal(got.payload, f.payload) {
			t.Errorf("got %+v, want %+v", got, f)
		}
	}
	s := status{applied: 3, last: 4, leads: true}
	if got, err := unpackStatus(s.append(nil)); err != nil || got != s {
		t.Errorf("status %+v, %v", got, err)
	}
	id := proposalID{1, 2, 3}
	if got, sealed, err := unpackEntry(packEntry(id, []byte("sealed"))); err != nil || got != id || string(sealed) != "sealed" {
		t.Errorf("entry %v %q %v", got, sealed, err)
	}
}

// FuzzFrame feeds a stranger's octets to everything that reads from a member. What is taken is written back the same.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add((&frame{what: askSubmit, number: 9, patience: time.Second, payload: packEntry(proposalID{}, []byte("x"))}).append(nil))
	f.Add((&frame{what: askRenew, payload: packLineages([]ledger.LineageEpoch{{Lineage: 1, Epoch: 2}})}).append(nil))
	f.Add((&frame{what: sayStatus, payload: (&status{1, 2, true}).append(nil)}).append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		if back := got.append(nil); !bytes.Equal(back, data[:len(back)]) {
			t.Fatalf("%x was read, %x written", data, back)
		}
		if of, err := unpackLineages(got.payload); err == nil {
			if diff := cmp.Diff(packLineages(of), got.payload); len(got.payload) > 0 && diff != "" {
				t.Fatal(diff)
			}
		}
		if s, err := unpackStatus(got.payload); err == nil && !bytes.Equal(s.append(nil), got.payload) {
			t.Fatalf("status %+v", s)
		}
		if id, sealed, err := unpackEntry(got.payload); err == nil && sealed != nil && !bytes.Equal(packEntry(id, sealed), got.payload) {
			t.Fatalf("entry %x", got.payload)
		}
	})
}
