package sink

import (
	"errors"
	"strings"
	"testing"
)

func TestBuiltinModel(t *testing.T) {
	m, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(Config{Model: m})
	for domain, want := range map[string]string{
		"docomo.ne.jp": "docomo", "ezweb.ne.jp": "au", "a2.ezweb.ne.jp": "au", "softbank.ne.jp": "softbank",
		"d.vodafone.ne.jp": "softbank", "ymobile.ne.jp": "ymobile", "gmail.com": "google", "yahoo.co.jp": "yahoo",
		"outlook.jp": "outlook", "icloud.com": "icloud", "example.org": "pc",
	} {
		if got := w.of([]byte(domain)).Name; got != want {
			t.Errorf("%s is played by %s, want %s", domain, got, want)
		}
	}
}

func TestParseModel(t *testing.T) {
	tests := []struct{ name, yaml, want string }{
		{"unknown key", "receivers:\n  - {name: a, speed: 3}\n", "speed"},
		{"unknown stage", "receivers:\n  - {name: a, rules: [{stage: helo, reply: \"451 x\"}]}\n", "connect greeting"},
		{"unknown action", "receivers:\n  - {name: a, rules: [{stage: dot, do: explode}]}\n", "reset close hang"},
		{"reply without code", "receivers:\n  - {name: a, rules: [{stage: dot, reply: later}]}\n", "three digits"},
		{"a refusal with 250", "receivers:\n  - {name: a, unknown: \"250 ok\"}\n", "4xx or 5xx"},
		{"unknown quota", "receivers:\n  - {name: a, quotas: [{of: luck, then: close}]}\n", "per_minute"},
		{"probability", "receivers:\n  - {name: a, rules: [{stage: dot, do: close, probability: 2}]}\n", "0 to 1"},
		{"source", "receivers:\n  - {name: a, rules: [{stage: dot, do: close, source: nowhere}]}\n", "address or a network"},
		{"name twice", "receivers:\n  - {name: a}\n  - {name: a}\n", "twice"},
		{"no such base", "receivers:\n  - {name: a, base: tin}\n", "tin"},
		{"duration", "receivers:\n  - {name: a, latency: soon}\n", "soon"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.yaml))
			if !errors.Is(err, ErrModel) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want ErrModel naming %q", err, tt.want)
			}
		})
	}
	m, err := Parse([]byte("receivers:\n  - {name: mine, base: docomo, listen: [\"127.0.0.1:2599\"], full: \"452 4.2.2 full\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r := m.Receivers[0]; r.Name != "mine" || r.Full != "452 4.2.2 full" || !strings.HasPrefix(r.Unknown, "550 Unknown user") || len(r.Quotas) == 0 {
		t.Errorf("overlay lost something: %+v", r)
	}
}
