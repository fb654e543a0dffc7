package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/delivery"
)

// Problem is one thing wrong with a node file.
type Problem struct {
	File string `json:"file,omitempty"` // "" where the value came from a flag or a default
	Line int    `json:"line,omitempty"` // 1 = first; 0 = unknown
	Key  string `json:"key,omitempty"`  // path of the key: smtp.listeners[0].role
	Text string `json:"text"`           // what is wrong and which values are allowed
}

func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
		if p.Line > 0 {
			b.WriteString(strconv.Itoa(p.Line) + ":")
		}
		b.WriteByte(' ')
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// ConfigError is a node file that cannot be used, with everything wrong with it in the order of its lines.
type ConfigError struct{ Problems []Problem }

func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func newConfigError(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	return &ConfigError{Problems: problems}
}

// checker gathers the problems of one Config.
type checker struct {
	c        *Config
	problems []Problem
}

// bad reports a problem at key. A key that the file does not hold is told without a line.
func (k *checker) bad(key, format string, args ...any) {
	p := Problem{Key: key, Text: fmt.Sprintf(format, args...)}
	if line, ok := k.c.lines[key]; ok {
		p.File, p.Line = k.c.file, line
	}
	k.problems = append(k.problems, p)
}

// lacks reports a key that is missing in a section, at the line of the section where the file holds no such key.
func (k *checker) lacks(section, key, text string) {
	k.bad(key, "%s", text)
	if p := &k.problems[len(k.problems)-1]; p.Line == 0 {
		if line, ok := k.c.lines[section]; ok {
			p.File, p.Line = k.c.file, line
		}
	}
}

func (k *checker) word(key, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		k.bad(key, "%q is not allowed; allowed: %s", got, strings.Join(allowed, ", "))
	}
}

func (k *checker) address(key, addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		k.bad(key, "%q must be host:port", addr)
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		k.bad(key, "%q: the port must be a number from 0 to 65535", addr)
	}
	if _, err := netip.ParseAddr(host); host != "" && err != nil && !isHostname(host) {
		k.bad(key, "%q: the host must be an IP address or a host name", addr)
	}
}

func (k *checker) pair(key, cert, keyFile string) {
	if (cert == "") != (keyFile == "") {
		k.bad(key, "cert and key must be given together")
	}
	for _, f := range []struct{ sub, path string }{{"cert", cert}, {"key", keyFile}} {
		k.readable(key+"."+f.sub, f.path)
	}
}

func (k *checker) readable(key, path string) {
	if path == "" {
		return
	}
	if st, err := os.Stat(path); err != nil {
		k.bad(key, "cannot use %q: %v", path, err)
	} else if st.IsDir() {
		k.bad(key, "%q is a directory", path)
	}
}

// Validate reports everything wrong with c as a *ConfigError, or nil. It looks at named files but changes nothing.
func (c Config) Validate() error {
	k := &checker{c: &c}
	k.node()
	k.smtp()
	k.address("http.address", c.HTTP.Address)
	k.pair("http.tls", c.HTTP.TLS.Cert, c.HTTP.TLS.Key)
	k.delivery()
	if c.DNS.Timeout < 100*time.Millisecond || c.DNS.Timeout > time.Minute {
		k.bad("dns.timeout", "%v is out of range; allowed: 100ms to 60s", c.DNS.Timeout)
	}
	for i, s := range c.DNS.Servers {
		if !s.IsValid() || s.Port() == 0 {
			k.bad(fmt.Sprintf("dns.servers[%d]", i), "must be address:port")
		}
	}
	k.keys()
	k.cluster()
	k.readable("settings", c.Settings)
	k.word("log.level", c.Log.Level, "debug", "info", "warn", "error")
	if c.Testing.Enabled && !c.OnLoopback() {
		k.bad("testing.enabled", "refused: testing is allowed only while every listener (smtp, http, cluster) is on loopback")
	}
	if c.Testing.Bare && (!c.Testing.Enabled || c.Cluster.Address != "") {
		k.bad("testing.bare", "refused: an engine without events, counters and suppression is for benchmarks of one node with testing.enabled")
	}
	return newConfigError(k.problems)
}

func (k *checker) node() {
	n := k.c.Node
	if !isName(n.Name) {
		k.bad("node.name", "%q must be 1-63 letters, digits, \"-\", \"_\" or \".\"", n.Name)
	}
	if n.Data == "" {
		k.bad("node.data", "must name a directory")
	}
	if !isHostname(n.Hostname) {
		k.bad("node.hostname", "%q is no host name", n.Hostname)
	}
	seen := map[netip.Addr]bool{}
	for i, ip := range n.SourceIPs {
		key := fmt.Sprintf("node.source_ips[%d]", i)
		switch {
		case !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast():
			k.bad(key, "%v cannot be a source address", ip)
		case seen[ip]:
			k.bad(key, "%v stands twice", ip)
		}
		seen[ip] = true
	}
}

func (k *checker) smtp() {
	if len(k.c.SMTP.Listeners) == 0 {
		k.bad("smtp.listeners", "at least one listener is needed")
	}
	seen := map[string]bool{}
	for i, l := range k.c.SMTP.Listeners {
		key := fmt.Sprintf("smtp.listeners[%d]", i)
		k.address(key+".address", l.Address)
		k.word(key+".role", l.Role, "relay", "submission", "bounce")
		k.word(key+".tls", l.TLS, "none", "optional", "required", "implicit")
		if l.Role != "bounce" && (l.Sessions != 0 || l.Interval != 0 || l.SizeKB != 0) {
			k.bad(key+".role", "sessions, interval and size_kb stand here for a bounce listener only; other mail has those of its composition (intake)")
		}
		if l.Normalize && l.Role != "submission" {
			k.bad(key+".normalize", "stands at a submission listener only; who has not logged in could smuggle mail by it")
		}
		if l.Sessions < 0 || l.Sessions > 100 {
			k.bad(key+".sessions", "%d is out of range; allowed: 1 to 100", l.Sessions)
		}
		if l.Interval != 0 && (l.Interval < 10*time.Millisecond || l.Interval > 10*time.Second) {
			k.bad(key+".interval", "%v is out of range; allowed: 10ms to 10s", l.Interval)
		}
		if l.SizeKB < 0 {
			k.bad(key+".size_kb", "must be 1 or more")
		}
		if seen[l.Address] && !strings.HasSuffix(l.Address, ":0") {
			k.bad(key+".address", "%q stands twice", l.Address)
		}
		seen[l.Address] = true
	}
	k.pair("smtp.tls", k.c.SMTP.TLS.Cert, k.c.SMTP.TLS.Key)
}

func (k *checker) delivery() {
	d := k.c.Delivery
	if d.Port < 1 || d.Port > 65535 {
		k.bad("delivery.port", "%d is out of range; allowed: 1 to 65535", d.Port)
		return
	}
	if d.Helo != "" && !isHostname(d.Helo) {
		k.bad("delivery.helo", "%q is no host name", d.Helo)
	}
	var wrong delivery.RouteErrors
	if _, err := d.routes(); errors.As(err, &wrong) {
		for _, w := range wrong {
			entry := fmt.Sprintf("delivery.routes[%d]", w.Index)
			if _, there := k.c.lines[entry+"."+w.Key]; !there {
				k.bad(entry, "%s: %s", w.Key, w.Text) // not written at all: the entry's line must do
				continue
			}
			k.bad(entry+"."+w.Key, "%s", w.Text)
		}
	}
}

func (k *checker) keys() {
	if len(k.c.Keys.Unseal) == 0 {
		k.bad("keys.unseal", "at least one provider is needed; allowed: %s", unsealForms)
	}
	for i, u := range k.c.Keys.Unseal {
		key := fmt.Sprintf("keys.unseal[%d]", i)
		switch u.Kind {
		case UnsealKeyring, UnsealPeer, UnsealRecovery:
		case UnsealExec:
			if u.Arg == "" {
				k.bad(key, "exec needs a command")
			}
		case UnsealFile:
			// The key file is not looked at here: it may lie on a medium that is present only at start.
			if u.Arg == "" {
				k.bad(key, "file needs a path")
			}
		default:
			k.bad(key, "%q is not allowed; allowed: %s", u.Kind, unsealForms)
		}
	}
}

// badKey is the *ConfigError for entry i of keys.unseal whose key is not usable. It is found at the first start only,
// see keys.
func (c Config) badKey(i int, err error) error {
	k := &checker{c: &c}
	key := fmt.Sprintf("keys.unseal[%d]", i)
	if _, listed := c.lines[key]; !listed {
		key = "keys." + c.Keys.Unseal[i].Kind // the short form
	}
	k.bad(key, "%v", err)
	return newConfigError(k.problems)
}

func (k *checker) cluster() {
	c := k.c.Cluster
	if c.Address == "" {
		if len(c.Join) > 0 || c.Expect > 1 {
			k.bad("cluster.address", "is needed where cluster.join or cluster.expect is given")
		}
		return
	}
	k.address("cluster.address", c.Address)
	for _, file := range [...]struct{ key, path string }{{"ca", c.TLS.CA}, {"cert", c.TLS.Cert}, {"key", c.TLS.Key}} {
		if file.path == "" {
			k.lacks("cluster", "cluster.tls."+file.key, `is needed where cluster.address is given: "ekiden cluster init" makes ca, cert and key`)
		}
		k.readable("cluster.tls."+file.key, file.path)
	}
	for i, j := range c.Join {
		k.address(fmt.Sprintf("cluster.join[%d]", i), j)
	}
	if c.Expect < 0 || c.Expect > 99 {
		k.bad("cluster.expect", "%d is out of range; allowed: 0 to 99", c.Expect)
	}
	if c.Standbys < 0 || c.Standbys > 9 {
		k.bad("cluster.standbys", "%d is out of range; allowed: 0 to 9", c.Standbys)
	}
	if c.Role != "" && c.Role != roleMember && c.Role != roleWitness {
		k.bad("cluster.role", "%q is no role; allowed: %s, %s", c.Role, roleMember, roleWitness)
	}
	if c.Shortfall != "" && c.Shortfall != shortfallDegrade && c.Shortfall != shortfallStrict {
		k.bad("cluster.shortfall", "%q is not allowed; allowed: %s, %s", c.Shortfall, shortfallDegrade, shortfallStrict)
	}
}

func isName(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for _, c := range []byte(s) {
		if !isAlnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// isHostname accepts what may stand in EHLO and greetings: letters, digits, hyphens and dots, or an address literal.
func isHostname(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
		_, err := netip.ParseAddr(strings.TrimPrefix(strings.TrimSuffix(inner, "]"), "IPv6:"))
		return err == nil
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if !isAlnum(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}
