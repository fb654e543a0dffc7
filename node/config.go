package node

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/delivery"
)

// Config is the node file (docs/contract: node file): what one machine needs to know before it can serve. What may
// change while it runs, and what all nodes agree on, is in policy/settings instead.
//
// Build one with DefaultConfig, ReadConfig or DecodeConfig, then Override, then Validate.
type Config struct {
	Node     Member         `yaml:"node"`
	SMTP     SMTPConfig     `yaml:"smtp"`
	HTTP     HTTPConfig     `yaml:"http"`
	Delivery DeliveryConfig `yaml:"delivery"`
	DNS      DNSConfig      `yaml:"dns"`
	Keys     KeysConfig     `yaml:"keys"`
	Cluster  ClusterConfig  `yaml:"cluster"`
	Settings string         `yaml:"settings"` // path of the settings applied once, when none are stored; "" = the built-in ones
	Log      LogConfig      `yaml:"log"`
	Testing  TestingConfig  `yaml:"testing"`

	file  string         // where it came from, "" = nowhere
	lines map[string]int // line of each key of the file, by its path: "smtp.listeners[0].role"
}

// Member names this node and what it owns.
type Member struct {
	Name      string       `yaml:"name"`       // 1-63 letters, digits, "-", "_", "."; unique in a cluster
	Data      string       `yaml:"data"`       // directory of everything that must survive
	Hostname  string       `yaml:"hostname"`   // what SMTP greets with; default: the system's
	SourceIPs []netip.Addr `yaml:"source_ips"` // addresses mail is sent from; empty = the system chooses
}

// SMTPConfig is how mail comes in.
type SMTPConfig struct {
	Listeners         []ListenerConfig `yaml:"listeners"`
	ProxyProtocolFrom []netip.Prefix   `yaml:"proxy_protocol_from"` // peers whose PROXY header is believed
	TLS               TLSFiles         `yaml:"tls"`                 // empty: a self-signed pair made at first start
}

// ListenerConfig is one SMTP address.
type ListenerConfig struct {
	Address string `yaml:"address"` // host:port, port 0 = any
	Role    string `yaml:"role"`    // relay (default), submission (AUTH required), bounce
	TLS     string `yaml:"tls"`     // none, optional (default), required, implicit

	// Of a submission listener: bare CR, bare LF and NUL in messages are repaired instead of refused
	// (never where who connects has not logged in: he could smuggle mail by it).
	Normalize bool `yaml:"normalize"`

	Sessions int           `yaml:"sessions"` // of a bounce listener (R93): at once, 1-100; 0 = no limit of its own
	Interval time.Duration `yaml:"interval"` // one mail takes at least this long, 10ms-10s; 0 = no longer than it takes
	SizeKB   int           `yaml:"size_kb"`  // largest message; 0 = as the composition whose domain it is
}

// TLSFiles names a certificate chain and its key, both PEM; both or neither.
type TLSFiles struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// HTTPConfig is where operators, metrics and the API are served.
type HTTPConfig struct {
	Address string   `yaml:"address"`
	TLS     TLSFiles `yaml:"tls"` // empty: plain HTTP
}

// DeliveryConfig is how mail goes out.
type DeliveryConfig struct {
	Port         int           `yaml:"port"`          // of the receivers, 1-65535, default 25
	AllowPrivate bool          `yaml:"allow_private"` // may dial loopback, private and link-local addresses
	Routes       []RouteConfig `yaml:"routes"`
	Helo         string        `yaml:"helo"` // default: node.hostname
}

// RouteConfig sends a domain's mail to a fixed place instead of to its MX hosts. An exact domain beats "*.suffix" beats "*".
type RouteConfig struct {
	Domain string `yaml:"domain"`
	To     string `yaml:"to"` // host, host:port, address or [address]:port
}

// DNSConfig is whom to ask.
type DNSConfig struct {
	Servers []netip.AddrPort `yaml:"servers"` // empty = the system's; a bare address means port 53
	Timeout time.Duration    `yaml:"timeout"` // of one query, 100ms-60s, default 5s
}

// KeysConfig is where the root key comes from, in the order to try.
type KeysConfig struct {
	Unseal []UnsealConfig `yaml:"unseal"`
	Exec   string         `yaml:"exec"` // short form of unseal: [{exec: …}]
	File   string         `yaml:"file"` // short form of unseal: [{file: …}]
}

// The kinds of UnsealConfig.
const (
	UnsealKeyring  = "keyring"       // the kernel's keyring: survives a restart of the process
	UnsealPeer     = "peer"          // an unsealed member of the cluster
	UnsealRecovery = "recovery-code" // an operator types it
	UnsealExec     = "exec"          // a command prints the 32 bytes
	UnsealFile     = "file"          // a file holds the 32 bytes: who has the disk has the mail
)

// UnsealConfig is one provider of the root key.
type UnsealConfig struct {
	Kind string
	Arg  string // command of UnsealExec, path of UnsealFile
}

// ClusterConfig joins this node with others. Address "" = alone.
type ClusterConfig struct {
	Address   string          `yaml:"address"`   // host:port of the cluster port, as the others reach it
	Join      []string        `yaml:"join"`      // addresses of other members, at least one that is up
	Expect    int             `yaml:"expect"`    // members that found the cluster together; 0 with join = never found one
	Role      string          `yaml:"role"`      // member (default) or witness: a vote and no queue
	Standbys  int             `yaml:"standbys"`  // members that hold a copy of the queue before a 250; default 1 in a cluster
	Shortfall string          `yaml:"shortfall"` // with fewer: degrade (default: take mail, and say so) or strict (451)
	TLS       ClusterTLSFiles `yaml:"tls"`
}

// Words of ClusterConfig.
const (
	roleMember       = "member"
	roleWitness      = "witness"
	shortfallDegrade = "degrade"
	shortfallStrict  = "strict"
)

// ClusterTLSFiles names the cluster's authority and this member's pair.
type ClusterTLSFiles struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// LogConfig says how much is told on standard error.
type LogConfig struct {
	Level string `yaml:"level"` // debug, info (default), warn, error
}

// TestingConfig opens the testing calls (steered clock, jobs on demand).
type TestingConfig struct {
	Enabled bool `yaml:"enabled"`
	// Bare runs the engine without events, counters and suppression, so that a benchmark can say what these cost. It lies
	// here, where nothing but loopback is served, because mail relayed so is told of nowhere and goes to the suppressed.
	Bare bool `yaml:"bare"`
}

// Defaults of a node without a file.
const (
	DefaultData = "./ekiden-data"
	DefaultSMTP = "127.0.0.1:2525"
	DefaultHTTP = "127.0.0.1:8025"
)

// DefaultConfig is the node that runs when there is no file at all: everything on loopback.
func DefaultConfig() Config {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	name, _, _ := strings.Cut(host, ".")
	if !isName(name) {
		name = "n1"
	}
	return Config{
		Node:     Member{Name: name, Data: DefaultData, Hostname: host},
		SMTP:     SMTPConfig{Listeners: []ListenerConfig{{Address: DefaultSMTP, Role: "relay", TLS: "optional"}}},
		HTTP:     HTTPConfig{Address: DefaultHTTP},
		Delivery: DeliveryConfig{Port: 25},
		DNS:      DNSConfig{Timeout: 5 * time.Second},
		Keys:     KeysConfig{Unseal: []UnsealConfig{{Kind: UnsealKeyring}, {Kind: UnsealRecovery}}},
		Log:      LogConfig{Level: "info"},
	}
}

// Overrides are the flags of "ekiden serve" that win over the file; "" leaves the file's word.
type Overrides struct {
	Data string
	SMTP string // becomes the only listener; it keeps role and TLS of the file's where the file has exactly one
	HTTP string
	Name string
}

// Override returns c with o applied.
func (c Config) Override(o Overrides) Config {
	if o.Data != "" {
		c.Node.Data = o.Data
	}
	if o.Name != "" {
		c.Node.Name = o.Name
	}
	if o.HTTP != "" {
		c.HTTP.Address = o.HTTP
	}
	if o.SMTP != "" {
		l := ListenerConfig{Role: "relay", TLS: "optional"}
		if len(c.SMTP.Listeners) == 1 {
			l = c.SMTP.Listeners[0]
		}
		l.Address = o.SMTP
		c.SMTP.Listeners = []ListenerConfig{l}
	}
	return c
}

// File is the path c was read from, "" where there is none.
func (c Config) File() string { return c.file }

// Helo is the name that outbound sessions greet with.
func (c Config) Helo() string {
	if c.Delivery.Helo != "" {
		return c.Delivery.Helo
	}
	return c.Node.Hostname
}

// OnLoopback tells whether every listener of c is bound to loopback.
func (c Config) OnLoopback() bool {
	for _, l := range c.SMTP.Listeners {
		if !isLoopback(l.Address) {
			return false
		}
	}
	return isLoopback(c.HTTP.Address) && (c.Cluster.Address == "" || isLoopback(c.Cluster.Address))
}

// Warnings says what the operator should know about c although it is valid: one sentence each, for the log at start.
func (c Config) Warnings() []string {
	var w []string
	for _, u := range c.Keys.Unseal {
		switch u.Kind {
		case UnsealFile:
			w = append(w, "keys: the root key is read from the file "+strconv.Quote(u.Arg)+
				": whoever has that file and the data directory can read all mail")
		}
	}
	if c.Cluster.Address != "" && c.Cluster.Standbys == 0 && c.Cluster.Role != roleWitness {
		w = append(w, "cluster: standbys is 0: mail that waits here is lost with this node's disk")
	}
	if c.Delivery.AllowPrivate {
		w = append(w, "delivery: allow_private is on: mail may be sent to loopback, private and link-local addresses")
	}
	if c.Testing.Enabled {
		w = append(w, "testing: enabled: anyone on this machine can move the clock")
	}
	if c.Testing.Bare {
		w = append(w, "testing: bare: no events, no counters, no suppression: a benchmark's engine, not for mail")
	}
	return w
}

// resolvePaths makes the file's own relative paths relative to the directory it lies in, as a reader of it expects.
func (c *Config) resolvePaths() {
	dir := filepath.Dir(c.file)
	paths := []*string{&c.Settings, &c.SMTP.TLS.Cert, &c.SMTP.TLS.Key, &c.HTTP.TLS.Cert, &c.HTTP.TLS.Key,
		&c.Cluster.TLS.CA, &c.Cluster.TLS.Cert, &c.Cluster.TLS.Key}
	if _, set := c.lines["node.data"]; set {
		paths = append(paths, &c.Node.Data)
	}
	for i := range c.Keys.Unseal {
		if c.Keys.Unseal[i].Kind == UnsealFile {
			paths = append(paths, &c.Keys.Unseal[i].Arg)
		}
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// routes is the table of delivery.routes; the error is a delivery.RouteErrors.
func (d *DeliveryConfig) routes() (*delivery.Routes, error) {
	rules := make([]delivery.RouteRule, len(d.Routes))
	for i, r := range d.Routes {
		rules[i] = delivery.RouteRule{Domain: r.Domain, To: r.To}
	}
	return delivery.ParseRoutes(rules, d.Port)
}
