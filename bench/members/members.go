// Package members runs several engines as one cluster on this machine: certificates, node files, start, crash, loss of a
// disk, return. It drives them from outside only, as an operator would, and must never look into their memory or files.
package members

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/bench/engine"
	"github.com/ekiden-mta/ekiden/internal/clock"
)

// Config says what cluster to run.
type Config struct {
	Engine    string            // binary
	Dir       string            // certificates and one directory per member
	Count     int               // members, default 3
	Standbys  int               // queue copies on other members before the 250, default 1
	Shortfall string            // degrade (default) or strict
	Routes    map[string]string // domain pattern to host:port
	Settings  string            // the settings file's text; "" = the embedded default
	Hosts     []string          // the members' addresses; default 127.0.0.1 for all
	Within    [][]string        // by member: command in front, see engine.Config
	At        [][3]string       // by member: addresses of the cluster port, SMTP and HTTP; default: free ports of Hosts
	Sources   [][]string        // by member: source IPs; default: 127.0.(10+i).1 and .2
	OneKey    bool              // all members are unsealed by one key from outside, each by itself, else by one another
	Testing   bool
}

// Member is one engine; Engine is nil while it is down.
type Member struct {
	*engine.Engine
	Name    string
	Address string // of its cluster port
	config  engine.Config
}

// Cluster is the members together.
type Cluster struct {
	Members []*Member
	dir     string
}

// Form makes the certificates, starts all members together and returns once every one takes mail.
func Form(ctx context.Context, cfg Config) (*Cluster, error) {
	c, err := prepare(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("members: %w", err)
	}
	var wait sync.WaitGroup
	errs := make([]error, len(c.Members))
	for i, m := range c.Members {
		wait.Go(func() { errs[i] = m.Start(ctx) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		c.Crash()
		return nil, fmt.Errorf("members: start: %w", err)
	}
	for _, m := range c.Members {
		if err := m.Ready(ctx, 40*time.Second); err != nil {
			c.Crash()
			return nil, err
		}
	}
	return c, nil
}

func prepare(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Count == 0 {
		cfg.Count = 3
	}
	if cfg.Standbys == 0 {
		cfg.Standbys = 1
	}
	c := &Cluster{dir: cfg.Dir}
	args := []string{"cluster", "init", "--out", filepath.Join(cfg.Dir, "pki")}
	for i := range cfg.Count {
		m := &Member{Name: fmt.Sprintf("n%d", i+1)}
		host := "127.0.0.1"
		if len(cfg.Hosts) > i {
			host = cfg.Hosts[i]
		}
		// Ports stay the same over restarts, so that clients and members find their way back.
		var at [3]string
		if len(cfg.At) > i {
			at = cfg.At[i]
		}
		for j := range at {
			if at[j] != "" {
				continue
			}
			var err error
			if at[j], err = freeAddr(host, j); err != nil {
				return nil, err
			}
		}
		m.Address = at[0]
		m.config = engine.Config{Path: cfg.Engine, Dir: filepath.Join(cfg.Dir, m.Name), Name: m.Name, Routes: cfg.Routes,
			Settings: cfg.Settings, Testing: cfg.Testing, SMTP: at[1], HTTP: at[2],
			Sources: []string{fmt.Sprintf("127.0.%d.1", 10+i), fmt.Sprintf("127.0.%d.2", 10+i)}}
		if cfg.OneKey {
			m.config.Key = filepath.Join(cfg.Dir, "key")
			if err := engine.MakeKey(m.config.Key); err != nil { // before the members start, all at once
				return nil, err
			}
		}
		if len(cfg.Sources) > i {
			m.config.Sources = cfg.Sources[i]
		}
		if len(cfg.Within) > i {
			m.config.Within = cfg.Within[i]
		}
		c.Members = append(c.Members, m)
		args = append(args, "--name", m.Name)
	}
	var join []string
	for _, m := range c.Members {
		join = append(join, fmt.Sprintf("%q", m.Address))
	}
	for _, m := range c.Members {
		pki := filepath.Join(cfg.Dir, "pki")
		m.config.Cluster = fmt.Sprintf("{address: %q, join: [%s], expect: %d, standbys: %d, shortfall: %s, tls: {ca: %q, cert: %q, key: %q}}",
			m.Address, strings.Join(join, ", "), cfg.Count, cfg.Standbys, cmp.Or(cfg.Shortfall, "degrade"),
			filepath.Join(pki, "ca.crt"), filepath.Join(pki, m.Name+".crt"), filepath.Join(pki, m.Name+".key"))
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "pki", "ca.crt")); err == nil {
		return c, nil // the directory is continued
	}
	if out, err := exec.CommandContext(ctx, cfg.Engine, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("certificates: %w: %s", err, out)
	}
	return c, nil
}

// freeAddr finds an address that is free at the moment; with a foreign host (in another network namespace) a fixed one.
func freeAddr(host string, i int) (string, error) {
	if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() {
		return net.JoinHostPort(host, []string{"7950", "2525", "8025"}[i]), nil
	}
	return engine.FreeAddr(host, rand.IntN)
}

// Start runs the member, which is down.
func (m *Member) Start(ctx context.Context) error {
	e, err := engine.Start(ctx, m.config)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	m.Engine = e
	return nil
}

// Ready waits until the member takes mail.
func (m *Member) Ready(ctx context.Context, patience time.Duration) error {
	begun := clock.Wall()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := m.Get(ctx, "/readyz")
		if err == nil {
			return nil
		}
		if clock.Since(begun) > patience {
			return fmt.Errorf("members: %s takes no mail after %s: %w", m.Name, patience, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.Ended():
			return fmt.Errorf("members: %s ended", m.Name)
		case <-tick.C:
		}
	}
}

// Crash kills the member with SIGKILL.
func (m *Member) Crash() {
	if m.Engine != nil {
		m.Engine.Crash()
		m.Engine = nil
	}
}

// Destroy kills the member and takes its disk away.
func (m *Member) Destroy() error {
	m.Crash()
	return os.RemoveAll(filepath.Join(m.config.Dir, "data"))
}

// Stop ends the member in peace.
func (m *Member) Stop() error {
	if m.Engine == nil {
		return nil
	}
	err := m.Engine.Stop()
	m.Engine = nil
	return err
}

// Log is the file that the member's log goes to.
func (m *Member) Log() string { return filepath.Join(m.config.Dir, "engine.log") }

// Up lists the members that run.
func (c *Cluster) Up() []*Member {
	var up []*Member
	for _, m := range c.Members {
		if m.Engine != nil {
			up = append(up, m)
		}
	}
	return up
}

// Stop ends all members in peace, together.
func (c *Cluster) Stop() error {
	var wait sync.WaitGroup
	errs := make([]error, len(c.Members))
	for i, m := range c.Members {
		wait.Go(func() { errs[i] = m.Stop() })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Crash kills all members.
func (c *Cluster) Crash() {
	for _, m := range c.Members {
		m.Crash()
	}
}
