package sim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// TestSupplyBringsWhatWaits: a scan brings what is due and not settled in the order of due time and Seq, from the cursor on,
// and what it brought stays as it was until the next one, whatever is settled or deferred meanwhile.
func TestSupplyBringsWhatWaits(t *testing.T) {
	const domain, batch = mail.Domain("d.example"), 64
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	s := newSupply(func() time.Time { return now }, loud, calm, still)
	s.fail = func(err error) { t.Fatal(err) }
	waits := map[mail.Seq]mail.Delivery{}
	var cursor protocol.Cursor
	var at mail.Delivery // of the cursor
	order := func(a, b mail.Delivery) int { return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.Seq, b.Seq)) }
	for round := range 800 {
		now = now.Add(time.Duration(rng.IntN(20)) * time.Millisecond)
		if cursor == nil {
			at = mail.Delivery{}
		}
		known := s.seq
		got, next, more, _, _ := s.Scan(mail.Destination{Domain: domain}, cursor, now, batch)
		for _, d := range s.by[domain].mail {
			if d.Seq > known {
				waits[d.Seq] = d
			}
		}
		var want []mail.Delivery
		for _, d := range waits {
			if !d.Due.After(now) && order(d, at) > 0 {
				want = append(want, d)
			}
		}
		slices.SortFunc(want, order)
		want = want[:min(len(want), batch)]
		if !slices.Equal(got, want) || more != (len(want) == batch) {
			t.Fatalf("round %d: %d came, %d wait, more %v", round, len(got), len(want), more)
		}
		if cursor = next; len(got) > 0 {
			at = got[len(got)-1]
		}
		for range rng.IntN(40) {
			x := mail.Settlement{Delivery: pick(rng, waits, want)}
			delete(waits, x.Delivery.Seq)
			if rng.IntN(4) == 0 {
				later := *x.Delivery
				later.Due = now.Add(time.Duration(rng.IntN(300)) * time.Millisecond)
				x.Next, waits[later.Seq] = &later, later
			}
			s.Settle(x, func(error) {})
		}
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: what came has changed", round)
		}
		if !more || rng.IntN(3) == 0 {
			cursor = nil
		}
	}
}

// pick is a delivery that waits: mostly one of the first.
func pick(rng *rand.Rand, waits map[mail.Seq]mail.Delivery, first []mail.Delivery) *mail.Delivery {
	if n := len(first); n > 0 && rng.IntN(10) > 0 {
		if d, ok := waits[first[rng.IntN(n)].Seq]; ok {
			return &d
		}
	}
	seqs := make([]mail.Seq, 0, len(waits))
	for seq := range waits {
		seqs = append(seqs, seq)
	}
	d := waits[slices.Min(seqs)]
	return &d
}
