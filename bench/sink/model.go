package sink

import (
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

//go:embed receivers.yaml
var builtinReceivers string

// Model is the pretend internet as data: who receives, and how they answer.
type Model struct {
	Receivers []Receiver `yaml:"receivers"`
}

// Receiver is one mail operator. It is chosen by the listener a connection comes to where one is named in Listen,
// and by the recipient's domain otherwise.
type Receiver struct {
	Name          string   `yaml:"name"`
	Base          string   `yaml:"base"`           // a built-in receiver to start from; fields set here win
	Domains       []string `yaml:"domains"`        // "docomo.ne.jp", "*.ezweb.ne.jp", "*" = any
	Listen        []string `yaml:"listen"`         // listeners that are this receiver's alone
	MaxSize       int64    `yaml:"max_size"`       // octets announced with SIZE and enforced; 0 = 50 MiB
	MaxRecipients int      `yaml:"max_recipients"` // per transaction; 0 = 1000
	Plain         bool     `yaml:"plain"`          // offers no extension but SIZE and 8BITMIME
	Chunking      bool     `yaml:"chunking"`       // offers CHUNKING (RFC 3030)
	StartTLS      string   `yaml:"starttls"`       // "" or none, offer, require
	Latency       Duration `yaml:"latency"`        // before every burst of replies
	Tarpit        Tarpit   `yaml:"tarpit"`
	Unknown       string   `yaml:"unknown"`  // reply to RCPT for unknown-…@
	Full          string   `yaml:"full"`     // reply to RCPT for full-…@
	Filtered      string   `yaml:"filtered"` // reply to the dot for filtered-…@; "" = accepted and dropped
	Deferred      string   `yaml:"deferred"` // reply to RCPT for deferN-…@, N times
	Rules         []Rule   `yaml:"rules"`
	Quotas        []Quota  `yaml:"quotas"`
}

// Tarpit slows a sender down.
type Tarpit struct {
	Command Duration `yaml:"command"` // before each command is looked at
	Byte    Duration `yaml:"byte"`    // per octet of a message
}

// Rule says how a stage is answered. All conditions given must hold.
type Rule struct {
	Stage       string   `yaml:"stage"`       // connect greeting ehlo mail rcpt data dot
	Source      string   `yaml:"source"`      // the client's address or a network it is in, "" = any
	Local       string   `yaml:"local"`       // start of the recipient's local part (rcpt, data, dot), "" = any
	Probability float64  `yaml:"probability"` // 0 and 1 = always
	Times       int      `yaml:"times"`       // only the first n times per recipient; 0 = always
	Do          string   `yaml:"do"`          // reply (default) reset close hang delay
	Reply       string   `yaml:"reply"`       // "451 4.7.1 text"; {rcpt} {domain} {ip} are filled in
	Delay       Duration `yaml:"delay"`       // before what Do says
}

// from is the network that Source names, the invalid one for any.
func (r Rule) from() (netip.Prefix, error) {
	if r.Source == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(r.Source); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(r.Source)
}

// Quota is a hidden limit per source IP and what follows when it is passed.
type Quota struct {
	Of    string   `yaml:"of"`    // connections per_minute per_connection unknown_ratio
	Limit float64  `yaml:"limit"` // largest value that is still fine
	After int      `yaml:"after"` // unknown_ratio: recipients seen before it is judged, default 100
	Then  string   `yaml:"then"`  // reply (default) reset close
	Reply string   `yaml:"reply"` // for then: reply
	For   Duration `yaml:"for"`   // the source is met with the same at connect for so long (a block); 0 = this once
}

// Duration is a time.Duration written as Go writes it ("1m30s", "50ms").
type Duration time.Duration

// UnmarshalYAML reads the text form.
func (d *Duration) UnmarshalYAML(raw []byte) error {
	v, err := time.ParseDuration(strings.Trim(strings.TrimSpace(string(raw)), `"'`))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// ErrModel is reported for a model that cannot be acted on.
var ErrModel = errors.New("bad receiver model")

// Builtin returns the built-in model: the carriers of requirements D2 and the providers of receivers.md 3.
func Builtin() (Model, error) { return parse([]byte(builtinReceivers)) }

// Load reads a model file. Receivers that name a base start from that built-in one.
func Load(path string) (Model, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Model{}, fmt.Errorf("sink: read model: %w", err)
	}
	m, err := Parse(raw)
	if err != nil {
		return Model{}, fmt.Errorf("sink: %s: %w", path, err)
	}
	return m, nil
}

// Parse reads a model and lays its receivers over the built-in ones they are based on.
func Parse(raw []byte) (Model, error) {
	m, err := parse(raw)
	if err != nil {
		return Model{}, err
	}
	base, err := Builtin()
	if err != nil {
		return Model{}, err
	}
	for i := range m.Receivers {
		if m.Receivers[i].Base == "" {
			continue
		}
		b, ok := base.find(m.Receivers[i].Base)
		if !ok {
			return Model{}, fmt.Errorf("%w: receiver %s: base %q is not built in", ErrModel, m.Receivers[i].Name, m.Receivers[i].Base)
		}
		m.Receivers[i] = overlay(b, m.Receivers[i])
	}
	return m, m.Validate()
}

func parse(raw []byte) (Model, error) {
	var m Model
	if err := yaml.UnmarshalWithOptions(raw, &m, yaml.Strict()); err != nil {
		return Model{}, fmt.Errorf("%w: %w", ErrModel, err)
	}
	return m, m.Validate()
}

func (m Model) find(name string) (Receiver, bool) {
	for _, r := range m.Receivers {
		if r.Name == name {
			return r, true
		}
	}
	return Receiver{}, false
}

// Named returns a model of the named receivers only, for a sink that plays a part of the built-in world.
func (m Model) Named(names ...string) (Model, error) {
	var out Model
	for _, n := range names {
		r, ok := m.find(n)
		if !ok {
			return Model{}, fmt.Errorf("%w: no receiver %q", ErrModel, n)
		}
		out.Receivers = append(out.Receivers, r)
	}
	return out, nil
}

func pick[T comparable](over, base T) T {
	var zero T
	if over != zero {
		return over
	}
	return base
}

func overlay(b, o Receiver) Receiver {
	r := b
	r.Name, r.Base, r.Listen = o.Name, o.Base, o.Listen
	if len(o.Domains) > 0 {
		r.Domains = o.Domains
	}
	r.MaxSize, r.MaxRecipients = pick(o.MaxSize, b.MaxSize), pick(o.MaxRecipients, b.MaxRecipients)
	r.Plain, r.Chunking = o.Plain || b.Plain, o.Chunking || b.Chunking
	r.StartTLS, r.Latency, r.Tarpit = pick(o.StartTLS, b.StartTLS), pick(o.Latency, b.Latency), pick(o.Tarpit, b.Tarpit)
	r.Unknown, r.Full = pick(o.Unknown, b.Unknown), pick(o.Full, b.Full)
	r.Filtered, r.Deferred = pick(o.Filtered, b.Filtered), pick(o.Deferred, b.Deferred)
	r.Rules = append(append([]Rule(nil), o.Rules...), b.Rules...)
	if len(o.Quotas) > 0 {
		r.Quotas = o.Quotas
	}
	return r
}

// Validate tells the first thing in m that cannot be acted on.
func (m Model) Validate() error {
	seen := map[string]bool{}
	for _, r := range m.Receivers {
		if r.Name == "" || seen[r.Name] {
			return fmt.Errorf("%w: receiver name %q is empty or used twice", ErrModel, r.Name)
		}
		seen[r.Name] = true
		if err := r.validate(); err != nil {
			return fmt.Errorf("%w: receiver %s: %w", ErrModel, r.Name, err)
		}
	}
	return nil
}

func (r Receiver) validate() error {
	if !oneOf(r.StartTLS, "", "none", "offer", "require") {
		return fmt.Errorf("starttls %q: want none, offer or require", r.StartTLS)
	}
	for _, l := range r.Listen {
		if _, err := netip.ParseAddrPort(l); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	for _, text := range []string{r.Unknown, r.Full, r.Filtered, r.Deferred} {
		if text != "" && !isReply(text) {
			return fmt.Errorf("reply %q: want three digits 4xx or 5xx and a text", text)
		}
	}
	for i, rule := range r.Rules {
		if !oneOf(rule.Stage, "connect", "greeting", "ehlo", "mail", "rcpt", "data", "dot") {
			return fmt.Errorf("rules[%d].stage %q: want connect greeting ehlo mail rcpt data dot", i, rule.Stage)
		}
		if !oneOf(rule.Do, "", "reply", "reset", "close", "hang", "delay") {
			return fmt.Errorf("rules[%d].do %q: want reply reset close hang delay", i, rule.Do)
		}
		if oneOf(rule.Do, "", "reply") && !isReply(rule.Reply) {
			return fmt.Errorf("rules[%d].reply %q: want three digits 4xx or 5xx and a text", i, rule.Reply)
		}
		if _, err := rule.from(); err != nil {
			return fmt.Errorf("rules[%d].source %q: want an address or a network", i, rule.Source)
		}
		if rule.Probability < 0 || rule.Probability > 1 {
			return fmt.Errorf("rules[%d].probability %v: want 0 to 1", i, rule.Probability)
		}
	}
	for i, q := range r.Quotas {
		if !oneOf(q.Of, "connections", "per_minute", "per_connection", "unknown_ratio") {
			return fmt.Errorf("quotas[%d].of %q: want connections per_minute per_connection unknown_ratio", i, q.Of)
		}
		if !oneOf(q.Then, "", "reply", "reset", "close") {
			return fmt.Errorf("quotas[%d].then %q: want reply reset close", i, q.Then)
		}
		if oneOf(q.Then, "", "reply") && !isReply(q.Reply) {
			return fmt.Errorf("quotas[%d].reply %q: want three digits 4xx or 5xx and a text", i, q.Reply)
		}
	}
	return nil
}

func oneOf(s string, words ...string) bool {
	for _, w := range words {
		if s == w {
			return true
		}
	}
	return false
}

// isReply tells whether text is a refusal that can stand on one line of the wire.
func isReply(text string) bool {
	if len(text) < 3 || len(text) > 480 || strings.ContainsAny(text, "\r\n\x00") {
		return false
	}
	code, err := strconv.Atoi(text[:3])
	return err == nil && code >= 400 && code < 600
}
