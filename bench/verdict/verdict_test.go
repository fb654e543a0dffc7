package verdict

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	sumA = "aaaa"
	sumB = "bbbb"
)

func ledgerLine(token, rcpts string) string {
	return token + " 2026-11-22T10:00:00.5Z " + sumA + " <" + token + "@x> 2026-11-22T10:00:00Z " + sumA + " " + rcpts
}

func recordLine(event, token, rcpt, content, rest string) string {
	return `{"event":"` + event + `","time":"2026-11-22T10:00:01Z","rcpt":["` + rcpt + `"],"token":"` + token +
		`","content":"` + content + `"` + rest + `}`
}

func mustWrite(t *testing.T, dir, name string, lines []string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	text := strings.Join(lines, "\n")
	if len(lines) > 0 && !strings.HasSuffix(text, "torn") {
		text += "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name           string
		ledger, record []string
		want           Verdict
	}{
		{"all arrived", []string{ledgerLine("t1", "a@x"), ledgerLine("t2", "b@x")},
			[]string{recordLine("message", "t1", "a@x", sumA, ""), recordLine("message", "t2", "b@x", sumA, "")},
			Verdict{Messages: 2, Accepted: 2, Delivered: 2}},
		{"one lost", []string{ledgerLine("t1", "a@x"), ledgerLine("t2", "b@x")},
			[]string{recordLine("message", "t1", "a@x", sumA, "")},
			Verdict{Messages: 2, Accepted: 2, Delivered: 1, Lost: 1}},
		{"one recipient of two lost", []string{ledgerLine("t1", "a@x,b@x")},
			[]string{recordLine("message", "t1", "b@x", sumA, "")},
			Verdict{Messages: 1, Accepted: 2, Delivered: 1, Lost: 1}},
		{"duplicate", []string{ledgerLine("t1", "a@x")},
			[]string{recordLine("message", "t1", "a@x", sumA, ""), recordLine("message", "t1", "a@x", sumA, "")},
			Verdict{Messages: 1, Accepted: 1, Delivered: 1, Duplicates: 1}},
		{"wrong body", []string{ledgerLine("t1", "a@x")},
			[]string{recordLine("message", "t1", "a@x", sumB, "")},
			Verdict{Messages: 1, Accepted: 1, Delivered: 1, Wrong: 1}},
		{"refused for good at RCPT", []string{ledgerLine("t1", "unknown-1@x")},
			[]string{recordLine("refused", "", "unknown-1@x", "", `,"code":550`)},
			Verdict{Messages: 1, Accepted: 1, Refused: 1}},
		{"refused for good at the dot", []string{ledgerLine("t1", "a@x")},
			[]string{recordLine("refused", "t1", "a@x", sumA, `,"code":554`)},
			Verdict{Messages: 1, Accepted: 1, Refused: 1}},
		{"a deferral is no outcome", []string{ledgerLine("t1", "a@x")},
			[]string{recordLine("refused", "", "a@x", "", `,"code":451`)},
			Verdict{Messages: 1, Accepted: 1, Lost: 1}},
		{"an unanswered dot is no delivery", []string{ledgerLine("t1", "a@x")},
			[]string{recordLine("unanswered", "t1", "a@x", sumA, "")},
			Verdict{Messages: 1, Accepted: 1, Lost: 1}},
		{"arrived without a 250", nil, []string{recordLine("message", "t9", "a@x", sumA, "")}, Verdict{Unledgered: 1}},
		{"violation", []string{ledgerLine("t1", "a@x")},
			[]string{recordLine("message", "t1", "a@x", sumA, `,"violations":2`)},
			Verdict{Messages: 1, Accepted: 1, Delivered: 1, Violations: 2}},
		{"torn last ledger line was never promised", []string{ledgerLine("t1", "a@x"), "t2 2026-torn"},
			[]string{recordLine("message", "t1", "a@x", sumA, "")},
			Verdict{Messages: 1, Accepted: 1, Delivered: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			got, err := Check(mustWrite(t, dir, "ledger", tt.ledger), mustWrite(t, dir, "record", tt.record))
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != tt.want.String() || got.Messages != tt.want.Messages {
				t.Errorf("got  %s messages=%d\nwant %s messages=%d", got, got.Messages, tt.want, tt.want.Messages)
			}
			if got.Delivered > 0 && got.P99 != time.Second {
				t.Errorf("p99 = %s, want 1s from MAIL to arrival", got.P99)
			}
			if bad := got.Lost + got.Wrong + got.Duplicates + got.Violations; (bad > 0) != (len(got.Examples) > 0) {
				t.Errorf("examples %q for %d troubles", got.Examples, bad)
			}
		})
	}
}

func TestCheckMissingRecord(t *testing.T) {
	dir := t.TempDir()
	got, err := Check(mustWrite(t, dir, "ledger", []string{ledgerLine("t1", "a@x")}), filepath.Join(dir, "none"))
	if err != nil || got.Lost != 1 || got.OK() {
		t.Errorf("got %s, %v; want one lost", got, err)
	}
}

func TestCheckBadLines(t *testing.T) {
	dir := t.TempDir()
	good := mustWrite(t, dir, "good", nil)
	for name, lines := range map[string][2][]string{
		"short ledger line": {{"t1 now"}, nil},
		"bad time":          {{strings.Replace(ledgerLine("t1", "a@x"), "2026", "year", 1)}, nil},
		"record no JSON":    {nil, []string{"hello"}},
	} {
		t.Run(name, func(t *testing.T) {
			ledger, record := good, good
			if lines[0] != nil {
				ledger = mustWrite(t, dir, "ledger", lines[0])
			} else {
				record = mustWrite(t, dir, "record", lines[1])
			}
			if _, err := Check(ledger, record); !errors.Is(err, ErrLine) {
				t.Errorf("error %v, want ErrLine", err)
			}
		})
	}
}
