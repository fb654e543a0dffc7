package gossip

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Each message counts once, until thousands of others have pushed it out.
func TestHeard(t *testing.T) {
	h := newHeard()
	first, _ := pack(nil)
	if !h.first(first) || h.first(first) {
		t.Fatal("the first time is not the only one")
	}
	for range maxHeard {
		who, _ := pack(nil)
		if !h.first(who) {
			t.Fatal("two identities are alike")
		}
	}
	if len(h.set) != maxHeard || !h.first(first) {
		t.Fatalf("remembers %d of %d", len(h.set), maxHeard)
	}
}

// FuzzMessage takes what any holder of the key may send.
func FuzzMessage(f *testing.F) {
	_, msg := pack([]byte("stop g1"))
	f.Add(msg)
	f.Add([]byte{})
	f.Add([]byte{messageVersion})
	f.Add([]byte{2, 3, 4})
	f.Fuzz(func(t *testing.T, in []byte) {
		who, content, ok := unpack(in)
		if !ok {
			return
		}
		again := append(append([]byte{messageVersion}, who[:]...), content...)
		if len(content) > MaxMessage || !bytes.Equal(again, in) {
			t.Fatalf("%q became %q", in, again)
		}
	})
}

func TestLogWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		w := newLogWriter(slog.New(slog.NewTextHandler(&text, nil)))
		write := func(line string) string {
			text.Reset()
			_, _ = w.Write([]byte(line))
			return text.String()
		}
		rows := []struct{ line, want string }{
			{"[DEBUG] memberlist: Stream connection\n", ""},
			{"[INFO] memberlist: Suspect n2\n", `level=INFO msg="gossip: Suspect n2"`},
			{"[WARN] memberlist: Got \"x\"\n", `level=WARN msg="gossip: Got \"x\""`},
			{"[ERR] memberlist: Conflicting\n", `level=WARN msg="gossip: Conflicting"`},
			{"without a level\xff\n", `level=WARN msg="gossip: without a level?"`},
		}
		for _, row := range rows {
			if got := write(row.line); !strings.Contains(got, row.want) || row.want == "" && got != "" {
				t.Errorf("%q is logged as %q, want %q", row.line, got, row.want)
			}
		}
		for range 10 {
			write("[WARN] memberlist: again\n")
		}
		if got := write("[WARN] memberlist: again\n"); got != "" {
			t.Errorf("logged %q in one second", got)
		}
		time.Sleep(time.Second) // of the bubble
		if got := write("[WARN] memberlist: later\n"); !strings.Contains(got, "not_logged=10") {
			t.Errorf("a second later: %q", got)
		}
	})
}
