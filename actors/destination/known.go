package destination

import (
	"math/bits"

	"github.com/ekiden-mta/ekiden/mail"
)

// known finds out which deliveries of a scan are in memory. It is filled with the scan, which is bounded, and not with
// what waits, which is not: a table with open addresses, used again for the next scan of any destination.
type known struct {
	slots []place
	shift int      // of a hash, to a slot
	first mail.Seq // smallest of the scan …
	span  mail.Seq // … and how much larger the largest is
	is    []bool   // by place in the scan
}

// place is where in the scan a delivery stands.
type place struct {
	seq mail.Seq
	at  int // from 1 on; 0 = nothing is here
}

// reset makes k the table of a scan of which nothing is known yet.
func (k *known) reset(ds []mail.Delivery) {
	size := bits.Len(uint(max(2*len(ds), 2) - 1)) // at most half full
	if n := 1 << size; n > cap(k.slots) {
		k.slots = make([]place, n)
	} else {
		k.slots = k.slots[:n]
		clear(k.slots)
	}
	k.shift = 64 - size
	if len(ds) > cap(k.is) {
		k.is = make([]bool, len(ds))
	} else {
		k.is = k.is[:len(ds)]
		clear(k.is)
	}
	first, last := ^mail.Seq(0), mail.Seq(0)
	for i := range ds {
		seq := ds[i].Seq
		first, last = min(first, seq), max(last, seq)
		p := k.find(seq)
		p.seq, p.at = seq, i+1
	}
	k.first, k.span = first, last-first
}

// find is the slot of a delivery, or the one that it would have.
func (k *known) find(seq mail.Seq) *place {
	for i := uint64(seq) * 0x9e3779b97f4a7c15 >> k.shift; ; i++ { // the golden ratio's part of 2^64 spreads what is counted up
		if p := &k.slots[i&uint64(len(k.slots)-1)]; p.at == 0 || p.seq == seq {
			return p
		}
	}
}

// mark notes that a delivery is known. Most are outside what the scan goes over.
func (k *known) mark(seq mail.Seq) {
	if seq-k.first > k.span {
		return
	}
	if p := k.find(seq); p.at > 0 {
		k.is[p.at-1] = true
	}
}

// known tells of each delivery that a scan brought whether it must not come back by that: it is in memory, or was settled
// while the scan ran. b.mu is held.
func (b *Outbox) known(ds []mail.Delivery) *known {
	k, _ := b.env.known.Get().(*known)
	if k == nil {
		k = &known{}
	}
	k.reset(ds)
	if len(ds) == 0 {
		return k
	}
	for _, s := range b.shelves {
		for i := range s.waiting {
			k.mark(mail.Seq(s.waiting[i].seq))
		}
	}
	for _, p := range b.flight {
		k.mark(p.Job.Delivery.Seq)
	}
	for _, seq := range b.disk.ghosts {
		k.mark(seq)
	}
	return k
}
