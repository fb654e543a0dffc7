package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mustWrite writes a file of lines; a last line without its end was torn by the death of its writer.
func mustWrite(t *testing.T, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func promised(token, content string) string {
	const at = "2026-01-02T03:04:05Z"
	return fmt.Sprintf("%s %s sum <%s@load.example> %s %s %s@d0.example", token, at, token, at, content, token)
}

func arrived(token, content string) string {
	return fmt.Sprintf(`{"event":"message","time":"2026-01-02T03:04:06Z","rcpt":["%s@d0.example"],"token":"%s","content":"%s"}`, token, token, content)
}

func TestTally(t *testing.T) {
	for _, tt := range []struct {
		name            string
		ledger, record  []string
		copies, altered int
		broken          string // begin of the promise that is told broken; "" = none
	}{
		{"kept", []string{promised("a", "x"), ""}, []string{arrived("a", "x"), ""}, 0, 0, ""},
		{"lost", []string{promised("a", "x"), promised("b", "x"), ""}, []string{arrived("b", "x"), ""}, 0, 0, "here: of 2 acknowledged 1"},
		{"torn promise", []string{promised("a", "x"), promised("b", "x")}, []string{arrived("a", "x"), ""}, 0, 0, ""},
		{"torn arrival", []string{promised("a", "x"), ""}, []string{arrived("a", "x")}, 0, 0, "here: of 1 acknowledged 0"},
		{"twice", []string{promised("a", "x"), ""}, []string{arrived("a", "x"), arrived("a", "x"), ""}, 1, 0, ""},
		{"wrong", []string{promised("a", "x"), ""}, []string{arrived("a", "y"), ""}, 0, 0, "here: 1 messages arrived with other bytes"},
		{"twice without a 250", []string{""}, []string{arrived("a", "x"), arrived("a", "x"), ""}, 1, 0, ""},
		{"altered without a 250", []string{""}, []string{arrived("a", "x"), arrived("a", "z"), ""}, 1, 1, "here: 0 messages arrived with other bytes, 1 copies differ"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := check(mustWrite(t, "ledger", tt.ledger...), mustWrite(t, "record", tt.record...))
			if err != nil {
				t.Fatal(err)
			}
			if got.copies != tt.copies || got.altered != tt.altered {
				t.Errorf("copies %d altered %d, want %d and %d", got.copies, got.altered, tt.copies, tt.altered)
			}
			var r Report
			got.judge(&r, "here")
			if said := strings.Join(r.Broken, "\n"); (tt.broken == "") != r.OK() || !strings.HasPrefix(said, tt.broken) {
				t.Errorf("broken %q, want %q", said, tt.broken)
			}
		})
	}
}

func TestTailStopsAtWholeLines(t *testing.T) {
	path := mustWrite(t, "ledger", "one", "two", "thr")
	follow := tail{path: path}
	if err := follow.look(); err != nil || follow.lines != 2 || follow.bytes != 8 {
		t.Fatalf("%d lines in %d octets, %v; want 2 in 8", follow.lines, follow.bytes, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("ee\nfo"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := follow.look(); err != nil || follow.lines != 3 || follow.bytes != 14 {
		t.Errorf("%d lines in %d octets, %v; want 3 in 14", follow.lines, follow.bytes, err)
	}
	if none := (tail{path: path + ".none"}); none.look() != nil || none.lines != 0 {
		t.Error("a file that is not there is not empty")
	}
}

func TestSameSeedSameSchedule(t *testing.T) {
	a, b, c := Config{Seed: 5}.dice(3), Config{Seed: 5}.dice(3), Config{Seed: 6}.dice(3)
	same, other := true, true
	for range 10 {
		x := a.Uint64()
		same, other = same && x == b.Uint64(), other && x == c.Uint64()
	}
	if !same || other {
		t.Errorf("same seed same schedule: %v; other seed same schedule: %v", same, other)
	}
}
