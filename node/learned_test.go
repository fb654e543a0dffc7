package node

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/cluster/gossip"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// TestRumourFits: what is told fits a rumour, the newest objection comes first, and what was told is not told again.
func TestRumourFits(t *testing.T) {
	all := map[netip.Addr]map[string]shaping.Memory{}
	for i := range 4 {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		all[a] = map[string]shaping.Memory{}
		for r := range 300 {
			name := fmt.Sprintf("mx:%s%d.example", strings.Repeat("long.", r%50), r)
			all[a][name] = shaping.Memory{Pace: float32(r) + .123456, Ceiling: float32(r) + .7654321, Objected: int64(1_700_000_000 + 10*r + i), Spent: 7, Plan: 1}
		}
	}
	told, rest := map[string]shaping.Memory{}, 300
	for round := 0; rest > 0; round++ {
		out := lessons(all, told)
		if len(out) == 0 {
			t.Fatalf("%d receivers are never told", rest)
		}
		raw, err := json.Marshal(rumour{Learned: out})
		if err != nil || len(raw) > gossip.MaxMessage {
			t.Fatalf("%d octets, at most %d: %v", len(raw), gossip.MaxMessage, err)
		}
		if got := readRumour(raw).Learned; len(got) != len(out) || got[0] != out[0] || got[0].Plan != 0 || got[0].Spent != 0 {
			t.Fatalf("heard %d of %d, %+v", len(got), len(out), got)
		}
		if round == 0 && out[0].Objected != 1_700_000_000+10*299+3 {
			t.Errorf("first told: %+v, want the newest of the last source", out[0])
		}
		rest -= len(out)
	}
	if out := lessons(all, told); len(out) != 0 {
		t.Errorf("%d told again", len(out))
	}
}

// TestPartsAreBounded: what is written fits the store and is found again.
func TestPartsAreBounded(t *testing.T) {
	all := map[string]shaping.Memory{}
	for i := range 5000 {
		all[fmt.Sprintf("mx:mx%d.receiver.example", i)] = shaping.Memory{Pace: 1.5, Objected: int64(i) + 1, Plan: 2, Step: 3, WarmDay: 20_000}
	}
	parts, err := split(all)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, raw := range parts {
		var part []lesson
		if err := json.Unmarshal(raw, &part); err != nil || len(raw) > learnedPart {
			t.Fatalf("%d octets: %v", len(raw), err)
		}
		for _, l := range part {
			if all[l.Receiver] != l.Memory {
				t.Fatalf("%s: %+v", l.Receiver, l.Memory)
			}
			n++
		}
	}
	if n != len(all) || len(parts) < 2 {
		t.Errorf("%d of %d in %d parts", n, len(all), len(parts))
	}
}

func FuzzReadRumour(f *testing.F) {
	f.Add([]byte(`{"learned":[{"x":"docomo","p":3,"c":4,"o":1700000000}]}`))
	f.Add([]byte(`{"learned":[{"x":"","p":1e39}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, l := range readRumour(raw).Learned {
			if l.Receiver == "" || len(l.Receiver) > nameMost {
				t.Fatalf("%+v", l)
			}
		}
	})
}
