package progress

import (
	"strings"
	"testing"
	"time"
)

// TestDraw: each drawing goes over the last one, and no line is longer than the terminal is wide.
func TestDraw(t *testing.T) {
	var out strings.Builder
	d := Display{Out: &out, Terminal: true, Width: 20}
	d.Draw("one", "a line that is longer than the terminal is wide")
	d.Draw("two", "short")
	want := "one\x1b[K\na line that is long\x1b[K\n" + "\x1b[2A" + "two\x1b[K\nshort\x1b[K\n"
	if out.String() != want {
		t.Errorf("drawn %q, want %q", out.String(), want)
	}
}

func TestEvery(t *testing.T) {
	for name, tt := range map[string]struct {
		d    Display
		want time.Duration
	}{
		"a terminal":          {Display{Terminal: true, Plain: time.Minute}, 200 * time.Millisecond},
		"a file":              {Display{}, 2 * time.Second},
		"a file of few lines": {Display{Plain: time.Minute}, time.Minute},
	} {
		if got := tt.d.Every(); got != tt.want {
			t.Errorf("%s: every %s, want %s", name, got, tt.want)
		}
	}
}

func TestBar(t *testing.T) {
	for name, tt := range map[string]struct {
		done, whole float64
		width       int
		want        string
	}{
		"half":               {5, 10, 4, "██░░"},
		"more than all":      {11, 10, 4, "████"},
		"nothing to be done": {0, 0, 4, ""},
		"no room":            {1, 2, 0, ""},
	} {
		if got := Bar(tt.done, tt.whole, tt.width); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
