package filter

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ekiden-mta/ekiden/mail"
)

func cond(header, pattern string) Condition {
	return Condition{header, regexp.MustCompile(`(?s)\A(?:` + pattern + `)\z`)}
}

func TestFirstPriorityWins(t *testing.T) {
	var s Set
	s.AddPriority(cond("X-P", "high"), 90)
	s.AddPriority(cond("x-p", "h.*"), 80)
	s.AddPriority(cond("x-q", ".*tail"), 70)
	s.AddPriority(cond("TO", `.+@docomo\.ne\.jp`), 10)
	for _, tt := range []struct {
		name, header string
		to           mail.Address
		want         uint8
	}{
		{"both match", "X-P: high\r\n", "a@x.example", 90},
		{"the whole value", "X-P: higher\r\n", "a@x.example", 80},
		{"a long value", "X-P: h" + strings.Repeat("o", 600) + "\r\n", "a@x.example", 80},
		{"the end of a long value", "X-Q: " + strings.Repeat("o", 600) + "tail\r\n", "a@x.example", 70},
		{"no header", "", "a@docomo.ne.jp", 10},
		{"nothing", "X-P: low\r\nTo: b@docomo.ne.jp\r\n", "a@x.example", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := s.Read([]byte(tt.header))
			if got := v.Priority(tt.to); got != tt.want {
				t.Errorf("priority %d", got)
			}
		})
	}
}

func TestQuietAppliesAndExcepts(t *testing.T) {
	var s Set
	s.AddQuiet([]Condition{cond("To", `.+@docomo\.ne\.jp`), cond("Subject", "promo.*")}, []Condition{cond("X-Urgent", "yes")}, "2100-0800")
	s.AddQuiet([]Condition{cond("To", `.+@docomo\.ne\.jp`)}, nil, "1200-1300")
	for _, tt := range []struct {
		name, header string
		to           mail.Address
		want         string
	}{
		{"each that matches", "", "a@docomo.ne.jp", "2100-0800,1200-1300"},
		{"any condition", "Subject: promotion\r\n", "a@x.example", "2100-0800"},
		{"excepted", "X-Urgent: yes\r\n", "a@docomo.ne.jp", "1200-1300"},
		{"none", "Subject: news\r\n", "a@x.example", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := s.Read([]byte(tt.header))
			if got := v.Quiet(tt.to); got != tt.want {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestForward(t *testing.T) {
	var s Set
	s.AddForward(cond("Subject", ".*order.*"), "archive@x.example", true)
	s.AddForward(cond("To", "old@x.example"), "new@x.example", false)
	s.AddForward(cond("To", "old@x.example"), "other@x.example", false)
	s.AddForward(cond("To", ".+"), "all@x.example", true)
	v := s.Read([]byte("Subject: your order\r\n"))
	to, copies := v.Forward("old@x.example")
	if to != "new@x.example" || !slices.Equal(copies, []mail.Address{"archive@x.example", "all@x.example"}) {
		t.Errorf("%s, copies %v", to, copies)
	}
	var none *Set
	v = none.Read(nil)
	if v.Forwards() || v.Priority("a@x.example") != 0 || v.Quiet("a@x.example") != "" {
		t.Error("no filters match nothing")
	}
}
