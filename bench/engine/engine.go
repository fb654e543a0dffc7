package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/bench/process"
)

const (
	readyWait  = 60 * time.Second // a start with a million waiting is part of what is measured
	answerWait = 20 * time.Second // an emergency stop may wait for a lease to end
)

// ErrNotReady is reported for an engine that does not come to serve.
var ErrNotReady = errors.New("engine is not ready")

// Config says how the engine is to run.
type Config struct {
	Path     string            // of the binary
	Dir      string            // node file, settings, key, data and log live here; an existing one is continued
	Routes   map[string]string // domain pattern to host:port
	Sources  []string          // source IPs, all of loopback; empty: the system chooses
	Settings string            // the settings file's text; "" = the embedded default
	SMTP     string            // default 127.0.0.1:0
	HTTP     string            // default 127.0.0.1:0
	Testing  bool              // contract 8
	Bare     bool              // without events, counters and suppression; only with Testing
	Name     string            // of the node, default bench
	Cluster  string            // the node file's cluster section as YAML flow text; "" = alone
	Key      string            // file of 32 octets that opens the store; default: one in Dir, made where it is missing
	Within   []string          // command that runs the engine elsewhere: ip netns exec NAME
}

// Engine is a running one.
type Engine struct {
	*process.Process
	Dir   string
	SMTP  string // first listener, host:port
	HTTP  string
	State string // unsealed or sealed
	log   *os.File
}

// Find returns the engine's binary: path where given, else the ekiden beside self, else the one in PATH.
func Find(path, self string) (string, error) {
	if path == "" {
		path = filepath.Join(filepath.Dir(self), "ekiden")
		if _, err := os.Stat(path); err != nil {
			return exec.LookPath("ekiden")
		}
	}
	_, err := os.Stat(path)
	return path, err
}

// Start runs `ekiden serve` and returns once it says that it is ready.
func Start(ctx context.Context, cfg Config) (*Engine, error) {
	file, err := prepare(cfg)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(cfg.Dir, "engine.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	command := append(append([]string(nil), cfg.Within...), cfg.Path, "serve", "-c", file)
	p, err := process.Start("ekiden", command[0], command[1:], log)
	if err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("engine: %w", err)
	}
	e := &Engine{Process: p, Dir: cfg.Dir, log: log}
	line, err := p.Line(ctx, "ekiden ready ", readyWait)
	if err == nil {
		err = e.ready(line)
	}
	if err == nil && e.State == "sealed" && cfg.Cluster == "" { // a member may get its keys from another, later
		err = fmt.Errorf("ready line %q: it is sealed", line)
	}
	if err != nil {
		p.Kill()
		_ = log.Close()
		return nil, fmt.Errorf("%w: %w\n%s", ErrNotReady, err, tail(log.Name()))
	}
	return e, nil
}

// ready reads the ready line of contract 2.
func (e *Engine) ready(line string) error {
	words := process.Words(line)
	e.SMTP, _, _ = strings.Cut(words["smtp"], ",")
	e.HTTP, e.State = words["http"], words["state"]
	if e.SMTP == "" || e.HTTP == "" {
		return fmt.Errorf("ready line %q names no addresses", line)
	}
	return nil
}

// Stop ends the engine in peace.
func (e *Engine) Stop() error {
	defer func() { _ = e.log.Close() }()
	return e.Process.Stop()
}

// Crash ends it with SIGKILL.
func (e *Engine) Crash() {
	e.Kill()
	_ = e.log.Close()
}

// tail returns the end of a log, for the words of an error.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(raw[max(0, len(raw)-2000):])
}

// FreeAddr returns an address of host that is free, below the ports that the kernel hands out to clients, so that nothing
// takes it while its owner is down. intn draws a number below its argument.
func FreeAddr(host string, intn func(int) int) (string, error) {
	var err error
	for range 100 {
		addr := net.JoinHostPort(host, strconv.Itoa(10000+intn(20000)))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("engine: no free port: %w", err)
}

// MakeKey writes the file that opens a store, if it is not there. A key in a file: a benchmark and a kill -9 must not
// wait for a person, and its mail is no secret.
func MakeKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	return os.WriteFile(path, raw, 0o600)
}

// prepare writes what the engine reads at its start.
func prepare(cfg Config) (file string, err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return "", err
	}
	if err := MakeKey(cfg.key()); err != nil {
		return "", err
	}
	if cfg.Settings != "" {
		if err := os.WriteFile(filepath.Join(cfg.Dir, "settings.yaml"), []byte(cfg.Settings), 0o600); err != nil {
			return "", err
		}
	}
	file = filepath.Join(cfg.Dir, "node.yaml")
	return file, os.WriteFile(file, []byte(cfg.nodeFile()), 0o600)
}

func (c Config) key() string { return cmp.Or(c.Key, filepath.Join(c.Dir, "key")) }

func (c Config) nodeFile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "node: {name: %s, data: %q, hostname: relay.example, source_ips: [%s]}\n", cmp.Or(c.Name, "bench"),
		filepath.Join(c.Dir, "data"), strings.Join(c.Sources, ", "))
	fmt.Fprintf(&b, "smtp:\n  listeners:\n    - {address: %q, role: relay, tls: optional}\n", cmp.Or(c.SMTP, "127.0.0.1:0"))
	fmt.Fprintf(&b, "http: {address: %q}\n", cmp.Or(c.HTTP, "127.0.0.1:0"))
	b.WriteString("delivery:\n  allow_private: true\n  routes:\n")
	for domain, to := range c.Routes {
		fmt.Fprintf(&b, "    - {domain: %q, to: %q}\n", domain, to)
	}
	key := c.key()
	if len(c.Within) > 0 {
		// In a network of its own it listens off loopback, where the engine takes no key from a file, and rightly: there it
		// asks a command, as a node in earnest may.
		fmt.Fprintf(&b, "keys: {unseal: [{exec: %q}]}\n", "cat "+key)
	} else {
		fmt.Fprintf(&b, "keys: {unseal: [{file: %q}]}\n", key)
	}
	if c.Settings != "" {
		fmt.Fprintf(&b, "settings: %q\n", filepath.Join(c.Dir, "settings.yaml"))
	}
	if c.Cluster != "" {
		fmt.Fprintf(&b, "cluster: %s\n", c.Cluster)
	}
	fmt.Fprintf(&b, "log: {level: warn}\ntesting: {enabled: %t, bare: %t}\n", c.Testing, c.Bare)
	return b.String()
}

// Token returns the node's admin token (contract 2), "" while there is none.
func (e *Engine) Token() string {
	token, err := os.ReadFile(filepath.Join(e.Dir, "data", "admin.token"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(token))
}

// Get fetches a path of the engine's HTTP address, at most 64 MiB.
func (e *Engine) Get(ctx context.Context, path string) ([]byte, error) {
	return e.do(ctx, http.MethodGet, path, "")
}

// Post sends JSON to a path with the node's admin token.
func (e *Engine) Post(ctx context.Context, path, body string) ([]byte, error) {
	return e.do(ctx, http.MethodPost, path, body)
}

func (e *Engine) do(ctx context.Context, method, path, body string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+e.HTTP+path, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if token := e.Token(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("engine: %s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("engine: %s answered %s: %.200s", path, resp.Status, raw)
	}
	return raw, nil
}
