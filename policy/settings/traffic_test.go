package settings

import (
	"strings"
	"testing"
	"time"

	"github.com/ekiden-mta/ekiden/policy/filter"
)

func TestTraffic(t *testing.T) { // R40, R42, R57
	const text = `
tenants:
  - name: shop
    speed_cap: {messages: 100, per: 1m}
    speed: [{name: smart, patterns: ['.+@routed\.example'], connections: 3, interval: 50ms, source_ips: 2, route: '[2001:db8::1]:2525'}]
    compositions: [{name: main, speed_cap: {messages: 5}}, {name: other}]
  - name: free
    compositions: [{name: main}]
speed_cap: {messages: 1000, per: 2s}
`
	s, err := Decode([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Split(s)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = Join(objects); err != nil { // as members agree on them
		t.Fatal(err)
	}
	x, err := NewIndex(s)
	if err != nil {
		t.Fatal(err)
	}
	engine, shop := filter.Cap{Name: "", Messages: 1000, Per: 2 * time.Second}, filter.Cap{Name: "shop", Messages: 100, Per: time.Minute}
	main := filter.Cap{Name: "shop/main", Messages: 5, Per: time.Second}
	for _, row := range []struct {
		tenant, composition string
		want                []filter.Cap
	}{
		{"shop", "main", []filter.Cap{engine, shop, main}},
		{"shop", "other", []filter.Cap{engine, shop}},
		{"free", "main", []filter.Cap{engine}},
	} {
		got := x.Traffic().Caps(row.tenant, row.composition, nil)
		if len(got) != len(row.want) {
			t.Errorf("%s/%s: %d caps, want %d", row.tenant, row.composition, len(got), len(row.want))
			continue
		}
		for i := range got {
			if *got[i] != row.want[i] {
				t.Errorf("%s/%s: %+v, want %+v", row.tenant, row.composition, *got[i], row.want[i])
			}
		}
	}
	f := x.Traffic().Speed("shop", "u@routed.example", nil)
	if f == nil || f.Key() != "shop/smart" || f.Connections != 3 || f.Interval != 50*time.Millisecond || f.Sources != 2 ||
		f.Route.Key() != "2001:db8::1:2525" || !f.Routed() {
		t.Errorf("filter %+v", f)
	}
	for bad, want := range map[string]string{
		"speed_cap: {messages: -1}":                         "speed_cap.messages",
		"speed_cap: {messages: 1, per: 10ms}":               "speed_cap.per",
		"speed: [{name: a, patterns: ['.+'], route: mail}]": "route",
	} {
		_, err := Decode([]byte("tenants:\n  - name: a\n    compositions: [{name: main}]\n    "+bad+"\n"), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error about %s", bad, err, want)
		}
	}
	if plain, err := NewIndex(Default()); err != nil || plain.Traffic() != nil {
		t.Errorf("without filters and caps: %v, %v", plain.Traffic(), err)
	}
}
