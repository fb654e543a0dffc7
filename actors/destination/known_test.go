package destination

import (
	"net/netip"
	"testing"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/mail"
)

// TestKnown: of what a scan brings, what waits, what is in flight and what was settled meanwhile is known, whatever the
// numbers are, and a table that was used before remembers nothing.
func TestKnown(t *testing.T) {
	parcel := func(seq mail.Seq) *protocol.Parcel {
		return &protocol.Parcel{Job: mail.Job{Delivery: mail.Delivery{Seq: seq}}}
	}
	env := &Env{Sources: func(string) []netip.Addr { return nil }}
	for name, tt := range map[string]struct {
		scan, waiting, flight, ghosts []mail.Seq
		want                          []bool
	}{
		"nothing in memory":    {scan: []mail.Seq{1, 2, 3}, want: []bool{false, false, false}},
		"one of each":          {scan: []mail.Seq{7, 5, 9, 6}, waiting: []mail.Seq{5}, flight: []mail.Seq{9}, ghosts: []mail.Seq{7}, want: []bool{true, true, true, false}},
		"others in memory":     {scan: []mail.Seq{100, 101}, waiting: []mail.Seq{99, 102, 1 << 60}, flight: []mail.Seq{1}, want: []bool{false, false}},
		"far apart":            {scan: []mail.Seq{1, 1 << 50, 1<<50 + 1<<20}, waiting: []mail.Seq{1 << 50, 2, 3}, want: []bool{false, true, false}},
		"nothing on disk":      {waiting: []mail.Seq{1}, want: []bool{}},
		"one, and it is known": {scan: []mail.Seq{4}, ghosts: []mail.Seq{4}, want: []bool{true}},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewOutbox(mail.Destination{}, env, func(any) {})
			s := &shelf{}
			b.shelves = []*shelf{s}
			for _, seq := range tt.waiting {
				s.waiting.push(refTo(parcel(seq)))
			}
			for _, seq := range tt.flight {
				b.launch(parcel(seq))
			}
			b.disk.ghosts = tt.ghosts
			var ds []mail.Delivery
			for _, seq := range tt.scan {
				ds = append(ds, mail.Delivery{Seq: seq})
			}
			for range 2 {
				k := b.known(ds)
				for i, want := range tt.want {
					if k.is[i] != want {
						t.Errorf("%d: known %v, want %v", tt.scan[i], k.is[i], want)
					}
				}
				env.known.Put(k)
			}
		})
	}
}

// Those that hash to one place stay apart.
func TestKnownApart(t *testing.T) {
	var k known
	ds := make([]mail.Delivery, 512)
	for i := range ds {
		ds[i].Seq = mail.Seq(i) << 52
	}
	k.reset(ds)
	for i := 0; i < len(ds); i += 2 {
		k.mark(ds[i].Seq)
	}
	for i := range ds {
		if k.is[i] != (i%2 == 0) {
			t.Fatalf("delivery %d: known %v", i, k.is[i])
		}
	}
}
