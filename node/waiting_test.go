package node

import (
	"testing"

	"github.com/ekiden-mta/ekiden/actors/protocol"
	"github.com/ekiden-mta/ekiden/actors/source"
)

// TestEveryReasonHasAWord: whatever a destination may wait for is named in the trace, and no limit by another's name (N12).
func TestEveryReasonHasAWord(t *testing.T) {
	limits := map[string]protocol.Reason{}
	for r := protocol.ReasonSlots; r < protocol.Reasons; r++ {
		word := bindings[r.String()]
		switch r {
		case protocol.ReasonStopping: // there is nobody to ask any more
			continue
		case protocol.ReasonConnect, protocol.ReasonDNS: // both are tried again
		default:
			if other, taken := limits[word]; taken {
				t.Errorf("%s and %s are both %q", r, other, word)
			}
			limits[word] = r
		}
		if r.String() == "" || word == "" {
			t.Errorf("reason %d, %q: %q", r, r, word)
		}
	}
}

func TestWordsOfASource(t *testing.T) {
	for _, row := range []struct {
		why  string
		r    source.Standing
		want string
	}{
		{"slot", source.Standing{Connections: 4, Most: 5, All: 4, AllMost: 5}, "4 of 5 connections in use"},
		{"slot", source.Standing{Lane: "cleaning", Connections: 1, Most: 1, All: 10, AllMost: 10}, "10 of 10 connections in use, 1 of them for this kind of mail"},
		{"daily_cap", source.Standing{Lane: "cleaning"}, "the part of this kind of mail is used up"},
		{"daily_cap", source.Standing{}, ""},
		{"top_of_hour", source.Standing{}, "nothing is sent right after the full hour"},
		{"pace", source.Standing{Pace: 2.5}, "2.5 messages a second"},
		{"warmup", source.Standing{WarmStep: 1, WarmMost: 28}, "step 1 of its warm-up allows 28 messages for now"},
	} {
		if got := sourceWords(row.why, &row.r); got != row.want {
			t.Errorf("%s: %q, want %q", row.why, got, row.want)
		}
	}
}
