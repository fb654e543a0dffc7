package events

import (
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Events of the network are found by their kinds only.
func TestNetworkByKind(t *testing.T) {
	r := newRig(t)
	now := time.UnixMilli(1_700_000_000_000).UTC()
	r.write(now, mail.Event{At: now, Kind: mail.EventLookup, Domain: "a.example"}, mail.Event{At: now, Kind: mail.EventDelivered, Delivery: 1, To: "u@a.example"},
		mail.Event{At: now, Kind: mail.EventConnection, Domain: "a.example", Served: mail.Served{Delivered: 2}})
	for _, row := range []struct {
		name  string
		query Query
		want  int
	}{
		{"all", Query{}, 1},
		{"a domain", Query{Domain: "a.example"}, 1},
		{"look-ups", Query{Kinds: []mail.EventKind{mail.EventLookup}}, 1},
		{"both", Query{Kinds: []mail.EventKind{mail.EventLookup, mail.EventConnection}, Domain: "a.example"}, 2},
	} {
		n := 0
		if err := r.Search(t.Context(), row.query, func(mail.Event, Cursor) bool { n++; return true }); err != nil || n != row.want {
			t.Errorf("%s: %d events, want %d, %v", row.name, n, row.want, err)
		}
	}
}
