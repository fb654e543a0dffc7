package service

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

func TestParseStatusReadsWhatStatusWordWrites(t *testing.T) {
	for k := mail.EventAccepted; k <= mail.EventDiscarded; k++ {
		for _, word := range []string{StatusWord(k), k.String()} {
			if got, err := ParseStatus(word); err != nil || got != k {
				t.Errorf("%q: got %v %v, want %v", word, got, err, k)
			}
		}
	}
	if k, err := ParseStatus(""); k != 0 || err != nil {
		t.Errorf("every status: got %v %v", k, err)
	}
	if _, err := ParseStatus("none"); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

// TestParseStatuses: several words, each checked; what is written reads as the same.
func TestParseStatuses(t *testing.T) {
	for _, row := range []struct{ text, want, wrong string }{
		{"", "", ""},
		{"failed", "failed", ""},
		{"failed, suppressed,discarded,failed", "failed,suppressed,discarded", ""},
		{"failed,lost", "", `"lost" is no status`},
		{"failed,", "", `a status is missing`},
	} {
		kinds, err := ParseStatuses(row.text)
		switch {
		case row.wrong == "" && (err != nil || Statuses(kinds) != row.want):
			t.Errorf("%q: got %q %v, want %q", row.text, Statuses(kinds), err, row.want)
		case row.wrong != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), row.wrong)):
			t.Errorf("%q: got %v, want %s", row.text, err, row.wrong)
		}
	}
}

func TestParseInstant(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	tests := []struct {
		text string
		want time.Time
		bad  bool
	}{
		{text: ""},
		{text: "0", want: time.Unix(0, 0)},
		{text: "1000000000", want: now},
		{text: "2001-09-09T10:46:40+09:00", want: now},
		{text: "90m", want: now.Add(-90 * time.Minute)},
		{text: "0s", want: now},
		{text: "-1h", bad: true},
		{text: "-5", bad: true},
		{text: "99999999999999999999", bad: true},
		{text: "yesterday", bad: true},
	}
	for _, tt := range tests {
		got, err := ParseInstant(tt.text, now)
		if tt.bad != errors.Is(err, ErrInvalid) || !got.Equal(tt.want) {
			t.Errorf("%q: got %v %v, want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestParseSubject(t *testing.T) {
	tests := []struct {
		kind, value, want string
		bad               bool
	}{
		{SubjectDomain, "Example.JP", "example.jp", false},
		{SubjectDomain, "a..b", "", true},
		{SubjectSource, "::ffff:127.0.0.2", "127.0.0.2", false},
		{SubjectSource, "127.0.0.2:25", "", true},
		{SubjectReceiver, "docomo", "docomo", false},
		{SubjectTenant, "", "", true},
		{"", "x", "", true},
	}
	for _, tt := range tests {
		got, err := ParseSubject(tt.kind, tt.value)
		if tt.bad != errors.Is(err, ErrInvalid) || got.Value != tt.want {
			t.Errorf("%s %q: got %v %v, want %q", tt.kind, tt.value, got, err, tt.want)
		}
	}
}
