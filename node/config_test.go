package node

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ekiden-mta/ekiden/cluster/wire"
	"github.com/ekiden-mta/ekiden/smtpd"
	smtpwire "github.com/ekiden-mta/ekiden/smtpd/wire"
)

const fullFile = `
node:    {name: n1, data: /var/lib/ekiden, hostname: relay1.example.jp, source_ips: [127.0.0.2, "::ffff:127.0.0.3"]}
smtp:
  listeners:
    - {address: "127.0.0.1:25",  role: relay, tls: optional}          # comment
    - {address: "127.0.0.1:587", role: submission}
    - {address: "[::1]:10026", role: bounce}
  proxy_protocol_from: [10.0.0.0/8, 192.0.2.1]
  tls: {cert: "", key: ""}
http:    {address: "127.0.0.1:8025", tls: {cert: "", key: ""}}
delivery:
  port: 2525
  allow_private: true
  routes:
    - {domain: "*", to: "127.0.0.2:2526"}
    - {domain: "*.Example.jp", to: "[::1]:26"}
    - {domain: shop.example, to: relay.example}
  helo: relay1.example.jp
dns:     {servers: ["127.0.0.1:5353", 192.0.2.53], timeout: 3s}
keys:    {unseal: [keyring, peer, recovery-code, {exec: "age -d k"}, {file: k.bin}]}
cluster: {address: "127.0.0.1:7950", join: ["127.0.0.2:7950"], expect: 3, role: member, standbys: 1, shortfall: degrade, tls: {ca: PKI/ca.crt, cert: PKI/n1.crt, key: PKI/n1.key}}
log:     {level: debug}
testing: {enabled: true}
`

func TestDecodeConfigReadsEveryKey(t *testing.T) {
	pki := filepath.Join(t.TempDir(), "pki")
	if err := wire.Init(pki, []string{"n1"}); err != nil {
		t.Fatal(err)
	}
	c, err := DecodeConfig("/etc/ekiden/node.yaml", []byte(strings.ReplaceAll(fullFile, "PKI", pki)))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := Config{
		Node: Member{Name: "n1", Data: "/var/lib/ekiden", Hostname: "relay1.example.jp",
			SourceIPs: []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}},
		SMTP: SMTPConfig{
			Listeners: []ListenerConfig{
				{Address: "127.0.0.1:25", Role: "relay", TLS: "optional"}, {Address: "127.0.0.1:587", Role: "submission", TLS: "optional"},
				{Address: "[::1]:10026", Role: "bounce", TLS: "optional"}},
			ProxyProtocolFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")},
		},
		HTTP: HTTPConfig{Address: "127.0.0.1:8025"},
		Delivery: DeliveryConfig{Port: 2525, AllowPrivate: true, Helo: "relay1.example.jp",
			Routes: []RouteConfig{{"*", "127.0.0.2:2526"}, {"*.Example.jp", "[::1]:26"}, {"shop.example", "relay.example"}}},
		DNS: DNSConfig{Timeout: 3 * time.Second,
			Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5353"), netip.MustParseAddrPort("192.0.2.53:53")}},
		Keys: KeysConfig{Unseal: []UnsealConfig{{Kind: "keyring"}, {Kind: "peer"}, {Kind: "recovery-code"},
			{"exec", "age -d k"}, {"file", "/etc/ekiden/k.bin"}}},
		Cluster: ClusterConfig{Address: "127.0.0.1:7950", Join: []string{"127.0.0.2:7950"}, Expect: 3, Role: "member",
			Standbys: 1, Shortfall: "degrade", TLS: ClusterTLSFiles{CA: pki + "/ca.crt", Cert: pki + "/n1.crt", Key: pki + "/n1.key"}},
		Log:     LogConfig{"debug"},
		Testing: TestingConfig{Enabled: true},
	}
	c.file, c.lines = "", nil
	opts := cmp.Options{cmp.AllowUnexported(Config{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}
	if d := cmp.Diff(want, c, opts); d != "" {
		t.Error(d)
	}
	if n := len(c.Warnings()); n != 3 {
		t.Errorf("got %d warnings, want 3 (file, allow_private, testing): %q", n, c.Warnings())
	}
}

func TestDefaultsServeLoopbackOnly(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "comment only": "# nothing\n", "empty section": "smtp:\nhttp:\n"} {
		t.Run(name, func(t *testing.T) {
			c, err := DecodeConfig("n.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			if c.Node.Data != "./ekiden-data" || c.SMTP.Listeners[0].Address != "127.0.0.1:2525" ||
				c.HTTP.Address != "127.0.0.1:8025" || !c.OnLoopback() || len(c.Warnings()) != 0 {
				t.Errorf("not the embedded default: %+v", c)
			}
		})
	}
}

// TestListenersAsConfigured: what stands at a listener of the file reaches the server.
func TestListenersAsConfigured(t *testing.T) {
	c, err := DecodeConfig("n.yaml", []byte(`smtp: {listeners: [
  {address: '127.0.0.1:0', role: submission, tls: required, normalize: true}, {address: '127.0.0.1:0', role: submission},
  {address: '127.0.0.1:0', role: bounce, sessions: 5, interval: 20ms, size_kb: 9}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []smtpd.Listener{
		{Address: "127.0.0.1:0", Role: smtpd.RoleSubmission, TLS: smtpwire.TLSRequired, Normalize: true},
		{Address: "127.0.0.1:0", Role: smtpd.RoleSubmission, TLS: smtpwire.TLSOptional},
		{Address: "127.0.0.1:0", Role: smtpd.RoleBounce, TLS: smtpwire.TLSOptional, Sessions: 5, Interval: 20 * time.Millisecond, SizeKB: 9},
	}
	if got := smtpListeners(c.SMTP.Listeners); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestConfigErrorsNameFileLineKeyAndAllowedValues(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown top key", "node: {name: a}\nsmpt: {}\n", "n.yaml:2: smpt: unknown key; allowed: node, smtp, http"},
		{"unknown nested key", "smtp:\n  listeners:\n    - address: 127.0.0.1:25\n      rolle: relay\n",
			"n.yaml:4: smtp.listeners[0].rolle: unknown key; allowed: address, role, tls"},
		{"role", "smtp:\n  listeners:\n  - {address: '127.0.0.1:25',\n     role: mx}\n",
			`n.yaml:4: smtp.listeners[0].role: "mx" is not allowed; allowed: relay, submission, bounce`},
		{"tls", "smtp: {listeners: [{address: '127.0.0.1:25', tls: yes}]}",
			`n.yaml:1: smtp.listeners[0].tls: "yes" is not allowed; allowed: none, optional, required, implicit`},
		{"bounds of other mail", "smtp: {listeners: [{address: '127.0.0.1:25', role: relay, sessions: 5}]}",
			"n.yaml:1: smtp.listeners[0].role: sessions, interval and size_kb stand here for a bounce listener only"},
		{"normalize", "smtp: {listeners: [{address: '127.0.0.1:25', normalize: true}]}",
			"n.yaml:1: smtp.listeners[0].normalize: stands at a submission listener only"},
		{"sessions", "smtp: {listeners: [{address: '127.0.0.1:25', role: bounce, sessions: 101}]}",
			"n.yaml:1: smtp.listeners[0].sessions: 101 is out of range; allowed: 1 to 100"},
		{"interval", "smtp: {listeners: [{address: '127.0.0.1:25', role: bounce, interval: 11s}]}",
			"n.yaml:1: smtp.listeners[0].interval: 11s is out of range; allowed: 10ms to 10s"},
		{"source ip", "node:\n  source_ips: [127.0.0.1, nonsense]\n", `n.yaml:2: node.source_ips[1]: "nonsense" is no IP address`},
		{"wildcard source", "node:\n  source_ips:\n   - 0.0.0.0\n", `n.yaml:3: node.source_ips[0]: 0.0.0.0 cannot be a source address`},
		{"duplicate key", "http: {address: 'a:1'}\nlog: {level: info}\nhttp: {address: 'b:1'}\n", "n.yaml:3:"},
		{"not a mapping", "- a\n", "n.yaml:1: must be a mapping with the keys node, smtp"},
		{"list expected", "smtp:\n  listeners: 25\n", "n.yaml:2: smtp.listeners: must be a list"},
		{"boolean", "testing: {enabled: 1}\n", `n.yaml:1: testing.enabled: "1" is not allowed; allowed: true, false`},
		{"integer", "delivery:\n  port: many\n", `n.yaml:2: delivery.port: "many" must be a whole number`},
		{"port range", "delivery:\n  port: 70000\n", `n.yaml:2: delivery.port: 70000 is out of range; allowed: 1 to 65535`},
		{"duration", "dns: {timeout: 5}\n", `n.yaml:1: dns.timeout: "5" must be a duration such as 5s or 300ms`},
		{"address without port", "http:\n  address: localhost\n", `n.yaml:2: http.address: "localhost" must be host:port`},
		{"unseal word", "keys:\n  unseal:\n  - tpm\n", `n.yaml:3: keys.unseal[0]: "tpm" is not allowed; allowed: keyring, peer, recovery-code`},
		{"unseal map", "keys:\n  unseal: [{exce: x}]\n", `n.yaml:2: keys.unseal[0]: "exce" is not allowed; allowed: keyring`},
		{"route target", "delivery:\n  routes:\n  - {domain: '*', to: 'a:b:c'}\n", `n.yaml:3: delivery.routes[0].to: "a:b:c" names neither a host nor an address`},
		{"route port", "delivery:\n  routes:\n  - domain: '*'\n    to: 'a:0'\n", `n.yaml:4: delivery.routes[0].to: "a:0" needs a port of 1-65535`},
		{"route without a target", "delivery:\n  routes:\n  - {domain: '*', to: a}\n  - {domain: a.example}\n", `n.yaml:4: delivery.routes[1]: to: "" names neither`},
		{"route twice", "delivery:\n  routes:\n  - {domain: A.example, to: a}\n  - {domain: a.example, to: b}\n", `n.yaml:4: delivery.routes[1].domain: "a.example" stands twice`},
		{"route domain", "delivery:\n  routes:\n  - {domain: '**', to: 'a:25'}\n", `n.yaml:3: delivery.routes[0].domain: "**" must be a domain, "*.suffix" or "*"`},
		{"half a pair", "http:\n  tls: {cert: c.pem}\n", "n.yaml:2: http.tls: cert and key must be given together"},
		{"missing settings", "settings: none.yaml\n", `n.yaml:1: settings: cannot use "none.yaml"`},
		{"level", "log: {level: loud}\n", `n.yaml:1: log.level: "loud" is not allowed; allowed: debug, info, warn, error`},
		{"testing off loopback", "http: {address: '0.0.0.0:8025'}\ntesting: {enabled: true}\n", "n.yaml:2: testing.enabled: refused"},
		{"testing on every address", "smtp: {listeners: [{address: ':25'}]}\ntesting:\n  enabled: true\n", "n.yaml:3: testing.enabled: refused"},
		{"bare in earnest", "testing:\n  bare: true\n", "n.yaml:2: testing.bare: refused"},
		{"bare off loopback", "http: {address: '0.0.0.0:8025'}\ntesting: {enabled: true, bare: true}\n", "n.yaml:2: testing.enabled: refused"},
		{"syntax", "node: {name: a\n", "n.yaml:1:"},
		{"alias", "node: &x {name: a}\nhttp: *x\n", "n.yaml:1: node: anchors, aliases and tags are not allowed"},
		{"two documents", "node: {name: a}\n---\nnode: {name: b}\n", "n.yaml:3: a node file is one YAML document"},
		{"cluster without tls", "cluster:\n  address: '127.0.0.1:7950'\n", "n.yaml:1: cluster.tls.ca: is needed where cluster.address is given"},
		{"cluster without a key", "cluster:\n  address: '127.0.0.1:7950'\n  tls: {ca: a, cert: b, key: ''}\n", `n.yaml:3: cluster.tls.key: is needed where cluster.address is given: "ekiden cluster init"`},
		{"cluster without address", "cluster:\n  expect: 3\n", "cluster.address: is needed where"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := DecodeConfig("n.yaml", []byte(tt.text))
			if err == nil {
				err = c.Validate()
			}
			var ce *ConfigError
			if !errors.As(err, &ce) {
				t.Fatalf("got %v, want a ConfigError", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
}

func TestConfigReportsEveryProblemInTheOrderOfLines(t *testing.T) {
	_, err := DecodeConfig("n.yaml", []byte("nod: {}\nsmtp:\n  listener: []\ndns: {timeout: [1]}\n"))
	var ce *ConfigError
	if !errors.As(err, &ce) || len(ce.Problems) != 3 {
		t.Fatalf("got %v, want three problems", err)
	}
	for i, p := range ce.Problems {
		if p.Line != []int{1, 3, 4}[i] {
			t.Errorf("problem %d is at line %d: %v", i, p.Line, p)
		}
	}
}

func TestOverrideWinsOverFile(t *testing.T) {
	o := Overrides{Data: "/d", SMTP: "127.0.0.1:0", HTTP: "127.0.0.1:1", Name: "x"}
	one, err := DecodeConfig("n.yaml", []byte("smtp: {listeners: [{address: '0.0.0.0:25', tls: required, role: submission}]}"))
	if err != nil {
		t.Fatal(err)
	}
	got := one.Override(o)
	if got.Node.Data != "/d" || got.Node.Name != "x" || got.HTTP.Address != "127.0.0.1:1" {
		t.Errorf("flags lost: %+v", got)
	}
	if want := (ListenerConfig{Address: "127.0.0.1:0", Role: "submission", TLS: "required"}); got.SMTP.Listeners[0] != want {
		t.Errorf("got %v, want %v", got.SMTP.Listeners[0], want)
	}
	two, err := DecodeConfig("n.yaml", []byte(fullFile))
	if err != nil {
		t.Fatal(err)
	}
	if l := two.Override(o).SMTP.Listeners; len(l) != 1 || l[0] != (ListenerConfig{Address: "127.0.0.1:0", Role: "relay", TLS: "optional"}) {
		t.Errorf("got %v, want one plain relay listener", l)
	}
	if two.SMTP.Listeners[0].Address != "127.0.0.1:25" {
		t.Error("Override changed its receiver")
	}
}

func TestKeysShortForms(t *testing.T) {
	tests := []struct {
		name, text string
		want       []UnsealConfig
	}{
		{"exec", `keys: {exec: "get-key"}`, []UnsealConfig{{"exec", "get-key"}}},
		{"file", `keys: {file: /k}`, []UnsealConfig{{"file", "/k"}}},
		{"list and file", `keys: {unseal: [keyring], file: /k}`, []UnsealConfig{{Kind: "keyring"}, {"file", "/k"}}},
		{"map in list", `keys: {unseal: [{file: /k}]}`, []UnsealConfig{{"file", "/k"}}},
		{"nothing", ``, []UnsealConfig{{Kind: "keyring"}, {Kind: "recovery-code"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := DecodeConfig("n.yaml", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, c.Keys.Unseal); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestReadConfigResolvesPathsBesideTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.yaml")
	for name, text := range map[string]string{"node.yaml": "node: {data: d}\nsettings: s.yaml\n", "s.yaml": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Node.Data != filepath.Join(dir, "d") || c.Settings != filepath.Join(dir, "s.yaml") {
		t.Errorf("got data %q, settings %q", c.Node.Data, c.Settings)
	}
	if _, err := ReadConfig(filepath.Join(dir, "absent.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

func FuzzDecodeConfig(f *testing.F) {
	f.Add([]byte(fullFile))
	f.Add([]byte("keys: {unseal: [{file: }]}"))
	f.Add([]byte("? {a: b}\n: c"))
	f.Add([]byte("<<: {node: 1}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		c, err := DecodeConfig("n.yaml", data)
		if err != nil {
			var ce *ConfigError
			if !errors.As(err, &ce) || len(ce.Problems) == 0 {
				t.Fatalf("error without a problem: %v", err)
			}
			return
		}
		if c.Validate() == nil && c.Testing.Enabled && !c.OnLoopback() {
			t.Fatal("testing allowed off loopback")
		}
	})
}
