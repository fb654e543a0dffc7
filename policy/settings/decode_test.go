package settings

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func readTestdata(name string) ([]byte, error) { return os.ReadFile(filepath.Join("testdata", name)) }

func mustDecode(t *testing.T, src string) *Settings {
	t.Helper()
	s, err := Decode([]byte(src), readTestdata)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDecodeContract(t *testing.T) {
	src, err := readTestdata("contract.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := mustDecode(t, string(src))
	c := s.Tenants[0].Compositions[0]
	if got := c.QuietHours[0].Apply[0].Pattern; got != `.+@docomo\.ne\.jp` {
		t.Errorf("quiet hours pattern %q", got)
	}
	if c.Priority[0].Header != "X-P" || c.Priority[0].Priority != 90 || c.DeliveryStop.Reasons[2] != 1 {
		t.Errorf("priority %+v, delivery stop %+v", c.Priority[0], c.DeliveryStop)
	}
	if time.Duration(c.Retry.Lifetime) != 30*time.Minute || time.Duration(s.Tenants[0].Speed[0].Interval) != 100*time.Millisecond {
		t.Errorf("durations: %v, %v", c.Retry.Lifetime, s.Tenants[0].Speed[0].Interval)
	}
	if r := s.Receivers.Rules; len(r) != 2 || r[0].PerConnection != 20 || r[1].Rate != 2.5 || r[1].ConnectionRate != -1 {
		t.Errorf("receivers %+v", r)
	}

	// What is written is read back equal, as YAML and as JSON.
	out, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	back := mustDecode(t, string(out))
	back.Receivers.File = s.Receivers.File // written inline
	if d := cmp.Diff(s, back, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("YAML round trip (-want +got):\n%s\n%s", d, out)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again Settings
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	again.Receivers.File = s.Receivers.File
	if d := cmp.Diff(s, &again, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("JSON round trip (-want +got):\n%s", d)
	}
}

func TestDefault(t *testing.T) {
	s := Default()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	out, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(s, mustDecode(t, string(out))); d != "" {
		t.Errorf("round trip (-want +got):\n%s\n%s", d, out)
	}
}

// inComposition puts lines into a settings file of one tenant and one composition; the first stands on line 5.
func inComposition(lines string) string {
	return "tenants:\n  - name: t\n    compositions:\n      - name: c\n" + indent(8, lines)
}

func indent(n int, s string) string {
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(s, "\n", "\n"+pad) + "\n"
}

func TestDecodeErrors(t *testing.T) {
	const hash = `"argon2id:$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"`
	tests := []struct {
		name, src string
		line      int
		key, text string // text is a part of what is said
	}{
		{"not yaml", "tenants: [", 1, "", "not YAML"},
		{"unknown key at the top", "tenant: []", 1, "tenant", "unknown key; allowed here: tenants, pools, receivers"},
		{"unknown key deep", inComposition("intake: {session: 3}"), 5, "tenants[0].compositions[0].intake.session", "allowed here: sessions, interval, size_kb"},
		{"repeated key", inComposition("pool: a\npool: b"), 6, "", "already defined"},
		{"no permission", inComposition("users: [{name: u, permissions: [], secret_hash: " + hash + "}]"), 5, "tenants[0].compositions[0].users[0].permissions", "at least one"},
		{"no role", inComposition("users: [{name: u, role: root, secret_hash: " + hash + "}]"), 5, "tenants[0].compositions[0].users[0].role", "administrator, user"},
		{"report mail to nobody", inComposition("users: [{name: u, report_mail: true, secret_hash: " + hash + "}]"), 5, "tenants[0].compositions[0].users[0].name", "address"},
		{"no zone", inComposition("users: [{name: u, zone: Mars, secret_hash: " + hash + "}]"), 5, "tenants[0].compositions[0].users[0].zone", "no time zone"},
		{"text for a number", inComposition("intake: {sessions: many}"), 5, "tenants[0].compositions[0].intake.sessions", "must be a number"},
		{"number for a list", inComposition("networks: 3"), 5, "tenants[0].compositions[0].networks", "must be a list"},
		{"text for a boolean", inComposition(`cleaning_default: "true"`), 5, "tenants[0].compositions[0].cleaning_default", "true or false"},
		{"bare number as duration", inComposition("retry: {interval: 60}"), 5, "tenants[0].compositions[0].retry.interval", "write it like"},
		{"alias", "tenants: &a []\npools: *a", 1, "tenants", "anchors"},
		{"two documents", "tenants: []\n---\ntenants: []", 3, "", "second document"},
		{"warm-up plan that is not there", inComposition("pool: default") + "pools:\n  - {name: p, warmup: mine}", 7, "pools[0].warmup", "allowed: none, sendgrid, sparkpost"},
		{"warm-up plan of a built-in name", inComposition("pool: default") + "warmups:\n  - {name: sendgrid, steps: [1]}", 7, "warmups[0].name", "already"},
		{"warm-up plan twice", inComposition("pool: default") + "warmups:\n  - {name: a, steps: [1]}\n  - {name: a, steps: [1]}", 8, "warmups[1].name", "already"},
		{"warm-up plan without days", inComposition("pool: default") + "warmups:\n  - {name: a, steps: []}", 7, "warmups[0].steps", "1 to 366"},
		{"warm-up plan by the week", inComposition("pool: default") + "warmups:\n  - {name: a, per: week, steps: [1]}", 7, "warmups[0].per", "allowed: hour, day"},
		{"warm-up plan that goes down", inComposition("pool: default") + "warmups:\n  - {name: a, steps: [20, 10]}", 7, "warmups[0].steps[1]", "goes up"},
		{"hourly cap", inComposition("pool: default") + "receivers:\n  - {name: docomo, hourly_cap: -1}", 7, "receivers[0].hourly_cap", "0 (none) or more"},
		{"no tenants", "pools: []", 1, "tenants", "at least one tenant"},
		{"tenant twice", "tenants:\n  - {name: a, compositions: [{name: c}]}\n  - {name: a, compositions: [{name: c}]}", 3, "tenants[1].name", "used twice"},
		{"access", inComposition("access: any"), 5, "tenants[0].compositions[0].access", "allowed: either, network, both"},
		{"sessions", inComposition("intake: {sessions: 101}"), 5, "tenants[0].compositions[0].intake.sessions", "1 to 100"},
		{"interval", inComposition("intake: {interval: 5ms}"), 5, "tenants[0].compositions[0].intake.interval", "10ms to 10s"},
		{"lifetime", inComposition("retry: {lifetime: 121h}"), 5, "tenants[0].compositions[0].retry.lifetime", "120h"},
		{"received", inComposition("received: none"), 5, "tenants[0].compositions[0].received", "short, normal, keep, strip"},
		{"network", inComposition("networks:\n  - 10.0.0.0/33"), 6, "tenants[0].compositions[0].networks[0]", "neither an IP address"},
		{"from domain", inComposition("from_domains: [a_b..example]"), 5, "tenants[0].compositions[0].from_domains[0]", "no domain"},
		{"pool unknown", inComposition("pool: fast"), 5, "tenants[0].compositions[0].pool", `no pool is named "fast"`},
		{"priority", inComposition("priority: [{name: p, header: X-P, pattern: x, priority: 100}]"), 5, "tenants[0].compositions[0].priority[0].priority", "1 to 99"},
		{"filter on Received", inComposition("priority: [{name: p, header: received, pattern: x, priority: 9}]"), 5, "tenants[0].compositions[0].priority[0].header", "more than once"},
		{"look-ahead", inComposition("priority: [{name: p, header: X-P, pattern: '(?=a)b', priority: 9}]"), 5, "tenants[0].compositions[0].priority[0].pattern", "look-ahead"},
		{"quiet hours empty", inComposition("quiet_hours: [{name: q, apply: [{header: To, pattern: x}], from: '10:00', to: '10:00'}]"), 5, "tenants[0].compositions[0].quiet_hours[0].to", "must differ"},
		{"quiet hours whole day", inComposition("quiet_hours: [{name: q, apply: [{header: To, pattern: x}], from: '00:00', to: '24:00'}]"), 5, "tenants[0].compositions[0].quiet_hours[0].to", "must differ"},
		{"quiet hours zone", inComposition("quiet_hours: [{name: q, apply: [{header: To, pattern: x}], from: '10:00', to: '11:00', zone: Mars/Base}]"), 5, "tenants[0].compositions[0].quiet_hours[0].zone", "no time zone"},
		{"unsubscribe name", inComposition("unsubscribe: [{name: " + strings.Repeat("あ", 51) + ", header: X, pattern: x}]"), 5, "tenants[0].compositions[0].unsubscribe[0].name", "50 characters"},
		{"unsubscribe name of bytes", inComposition("unsubscribe: [{name: " + strings.Repeat("あ", 33) + ", header: X, pattern: " + strings.Repeat("x", 101) + "}]"), 5, "tenants[0].compositions[0].unsubscribe[0].pattern", "100 characters"},
		{"unsubscribe header", inComposition("unsubscribe: [{name: n, header: " + strings.Repeat("X", 101) + ", pattern: x}]"), 5, "tenants[0].compositions[0].unsubscribe[0].header", "no header name"},
		{"unsubscribe by http", inComposition("unsubscribe: [{name: n, header: X, pattern: x, url: 'http://a.example'}]"), 5, "tenants[0].compositions[0].unsubscribe[0].url", "https://"},
		{"unsubscribe url with a bracket", inComposition("unsubscribe: [{name: n, header: X, pattern: x, url: 'https://a.example/>'}]"), 5, "tenants[0].compositions[0].unsubscribe[0].url", "angle brackets"},
		{"webhook zone", "tenants:\n- name: a\n  compositions: [{name: c}]\n  webhooks:\n  - {url: 'https://a.test/', zone: Mars/Base}\n", 5, "tenants[0].webhooks[0].zone", "no time zone"},
		{"webhook twice", "tenants:\n- name: a\n  compositions: [{name: c}]\n  webhooks:\n  - {url: 'https://a.test/', events: [blocks]}\n  - {url: 'https://a.test/', events: [bounces, blocks]}\n", 6, "tenants[0].webhooks[1].events[1]", "webhooks[0] posts blocks"},
		{"webhook status", "tenants:\n- name: a\n  compositions: [{name: c}]\n  webhooks:\n  - {url: 'https://a.test/', statuses: [lost]}\n", 5, "tenants[0].webhooks[0].statuses[0]", "allowed: queued"},
		{"webhook version", "tenants:\n- name: a\n  compositions: [{name: c}]\n  webhooks:\n  - {url: 'https://a.test/', version: 3}\n", 5, "tenants[0].webhooks[0].version", "allowed: 1 to 2"},
		{"webhook JSON of version 1", "tenants:\n- name: a\n  compositions: [{name: c}]\n  webhooks:\n  - {url: 'https://a.test/', version: 1, format: json}\n", 5, "tenants[0].webhooks[0].format", "version: 2"},
		{"webhook without a first secret", "tenants:\n- name: a\n  compositions: [{name: c}]\n  webhooks:\n  - {url: 'https://a.test/', second_secret: x}\n", 5, "tenants[0].webhooks[0].secret", "needs a first"},
		{"steering headers alike", inComposition("headers: {group: X-G, appoint: x-g}"), 5, "tenants[0].compositions[0].headers.appoint", "twice"},
		{"steering by Subject", inComposition("headers: {group: subject}"), 5, "tenants[0].compositions[0].headers.group", "must stay"},
		{"secret hash", inComposition(`users: [{name: u, secret_hash: "plain"}]`), 5, "tenants[0].compositions[0].users[0].secret_hash", "argon2id"},
		{"secret hash too dear", inComposition(`users: [{name: u, secret_hash: "argon2id:$argon2id$v=19$m=99999999,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"}]`), 5, "tenants[0].compositions[0].users[0].secret_hash", "m="},
		{"user twice", inComposition("users:\n  - {name: u, secret_hash: " + hash + "}\n  - {name: u, secret_hash: " + hash + "}"), 7, "tenants[0].compositions[0].users[1].name", "exists already"},
		{"reasons", inComposition("delivery_stop: {reasons: {10: 1}}"), 5, "tenants[0].compositions[0].delivery_stop.reasons.10", "1 to 9, or 99"},
		{"in doubt", "tenants: [{name: shop, in_doubt: {groups: [{name: a, policy: lose}]}, compositions: [{name: main}]}]\n", 1, "tenants[0].in_doubt.groups[0].policy", "retry, hold, give_up"},
		{"reasons key", inComposition("delivery_stop: {reasons: {two: 1}}"), 5, "tenants[0].compositions[0].delivery_stop.reasons.two", "must be a number"},
		{"source address", "tenants:\n  - {name: a, compositions: [{name: c}]}\npools:\n  - {name: p, sources: [192.0.2.300]}", 4, "pools[0].sources[0]", "no IP address"},
		{"speed connections", "tenants:\n  - name: a\n    compositions: [{name: c}]\n    speed: [{name: s, patterns: [x], connections: 101}]", 4, "tenants[0].speed[0].connections", "1 to 100"},
		{"source IP quota", "tenants:\n  - name: a\n    source_ip_quota: 1\n    compositions: [{name: c, networks: [192.0.2.1, 192.0.2.2]}]", 3, "tenants[0].source_ip_quota", "quota is 1"},
		{"receivers file missing", inComposition("pool: default") + "receivers: nowhere.yaml", 6, "receivers", "cannot read"},
		{"a rule about answers that is wrong", inComposition("pool: default") + "receivers:\n  - name: docomo\n    replies:\n      - {name: a, codes: [550], status: user, scope: nobody}", 9, "receivers[0].replies[0].scope", "allowed: connection, dkim"},
		{"a rule about answers twice", inComposition("pool: default") + "receivers:\n  - name: docomo\n    replies:\n      - {name: a, codes: [550], status: user, scope: recipient}\n      - {name: a, codes: [551], status: user, scope: recipient}", 10, "receivers[0].replies[1].name", ""},
		{"a share that is none", "tenants:\n  - {name: a, cleaning_above: 100, compositions: [{name: b}]}", 2, "tenants[0].cleaning_above", ""},
		{"receivers inline wrong", inComposition("pool: default") + "receivers:\n  - {name: r, tls: maybe}", 7, "receivers[0].tls", "opportunistic, required, none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Decode([]byte(tt.src), readTestdata)
			var e *Error
			if s != nil || !errors.As(err, &e) {
				t.Fatalf("got %v, %v; want an *Error", s, err)
			}
			if e.Line != tt.line || e.Key != tt.key || !strings.Contains(e.Text, tt.text) {
				t.Errorf("got line %d, key %q, text %q\nwant line %d, key %q, text …%q…", e.Line, e.Key, e.Text, tt.line, tt.key, tt.text)
			}
		})
	}
}

func TestDecodeReportsAll(t *testing.T) {
	_, err := Decode([]byte(inComposition("access: any\nreceived: none\nintake: {sessions: 0, size_kb: -1}")), nil)
	var all Errors
	if !errors.As(err, &all) || len(all) != 3 {
		t.Fatalf("want three errors, got: %v", err)
	}
	_, err = Decode([]byte(inComposition("acces: any\nrecieved: none")), nil)
	if !errors.As(err, &all) || len(all) != 2 {
		t.Fatalf("want two errors, got: %v", err)
	}
}

func TestReceiversFileErrorNamesFile(t *testing.T) {
	src := inComposition("pool: default") + "receivers: r.yaml"
	_, err := Decode([]byte(src), func(string) ([]byte, error) {
		return []byte("- name: a\n- {name: b, connections: 1000}\n"), nil
	})
	if err == nil || err.Error() != "r.yaml: line 2: [1].connections: 1000 is out of range; allowed: 0 to 100" {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	src, err := readTestdata("contract.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(src)
	f.Add([]byte("tenants: [{name: a, compositions: [{name: b}]}]\nreceivers: [{name: x}]"))
	f.Add([]byte("? [a]\n: b"))
	f.Add([]byte("a: !!binary x"))
	f.Fuzz(func(t *testing.T, src []byte) {
		s, err := Decode(src, nil)
		if err != nil {
			return
		}
		if _, err := NewIndex(s); err != nil {
			t.Fatalf("valid settings without an index: %v", err)
		}
		out, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(out, nil); err != nil {
			t.Fatalf("does not read what it wrote: %v\n%s", err, out)
		}
	})
}
