package demo

import (
	"strings"
	"testing"

	policy "github.com/ekiden-mta/ekiden/policy/settings"
)

func TestMix(t *testing.T) {
	of := map[string]string{}
	total := 0
	for _, p := range parts() {
		total += p.weight
		for _, d := range p.domains {
			of[d] = p.name
		}
	}
	if total != 100 {
		t.Fatalf("weights sum to %d", total)
	}
	count := map[string]int{}
	for _, d := range mix() {
		count[of[d]]++
	}
	for _, p := range parts() {
		if count[p.name] != p.weight {
			t.Errorf("%s has %d of a hundred, want %d", p.name, count[p.name], p.weight)
		}
	}
	// Every receiver gets every kind of recipient: the two cycles have no divisor in common.
	seen := map[string]bool{}
	for k := range 5300 {
		seen[of[mix()[k%100]]+" "+locals()[k%53]] = true
	}
	if len(seen) != len(parts())*4 {
		t.Errorf("%d pairs of receiver and kind, want %d", len(seen), len(parts())*4)
	}
}

func TestWorld(t *testing.T) {
	model, listen, routes, err := world()
	if err != nil {
		t.Fatal(err)
	}
	if err := model.Validate(); err != nil {
		t.Fatal(err)
	}
	if len(listen) != len(parts()) || len(routes) < len(parts()) {
		t.Errorf("%d listeners, %d routes for %d receivers", len(listen), len(routes), len(parts()))
	}
}

func TestSettingsAreAccepted(t *testing.T) {
	s, err := policy.Decode([]byte(settings()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Pools) != 1 || len(s.Pools[0].Sources) != len(sources()) {
		t.Errorf("pools %+v", s.Pools)
	}
	if s.Receivers.Rules[0].Name != "docomo" {
		t.Errorf("rules %+v", s.Receivers.Rules)
	}
}

func TestDisplay(t *testing.T) {
	var out strings.Builder
	d := newDisplay(Config{Out: &out, Terminal: true, Messages: 100, Width: 60})
	rows := make([]Row, len(parts()))
	d.draw(0, rows, nil)
	d.draw(0, rows, nil)
	if !strings.Contains(out.String(), "\x1b[11A") {
		t.Errorf("the second drawing does not overwrite the first: %q", out.String())
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[11A"), "\x1b[K\n"))); n > 60 {
			t.Errorf("a line of %d columns on a terminal of 60", n)
		}
	}
	out.Reset()
	newDisplay(Config{Out: &out, Messages: 100}).draw(0, rows, nil)
	if strings.Contains(out.String(), "\x1b") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("plain progress %q", out.String())
	}
}
