package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/node"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

type doctorCmd struct {
	serverFlags
	Config   string   `short:"c" help:"Node file, for its data directory, name servers and source addresses." placeholder:"FILE"`
	Domain   []string `help:"Sender domain to check; may be repeated." placeholder:"DOMAIN"`
	Source   []string `help:"Source IP address to check; may be repeated. Default: those of the node file." placeholder:"IP"`
	Selector []string `help:"DKIM selector of the domain; may be repeated. Default: those of the settings." placeholder:"NAME"`
	Key      string   `help:"PEM file of the key that signs, private or public: the DKIM record must hold it." placeholder:"FILE"`
}

func (doctorCmd) Help() string {
	return "Domains and sources come from the settings and the node file where none are given.\n\n" +
		"Example: ekiden doctor --domain shop.example --source 192.0.2.7 --selector s1\n\nExits 1 when a check fails."
}

// The levels of a finding.
const (
	pass = "PASS"
	warn = "WARN"
	fail = "FAIL"
)

// finding is one line of the doctor.
type finding struct {
	Level  string `json:"level"`
	Check  string `json:"check"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"`
}

// doctor gathers findings.
type doctor struct {
	ctx      context.Context
	names    *dns.Resolver
	timeout  time.Duration // of one question
	config   node.Config
	findings []finding

	helloName string // what the node that answers says EHLO with
}

func (d *doctor) say(level, check, advice, format string, args ...any) {
	d.findings = append(d.findings, finding{level, check, fmt.Sprintf(format, args...), advice})
}

// Run checks and prints.
func (c doctorCmd) Run(a *app) error {
	cfg := node.DefaultConfig()
	if c.Config != "" {
		var err error
		if cfg, err = node.ReadConfig(c.Config); err != nil {
			return badUsage(err)
		}
	}
	cfg = cfg.Override(node.Overrides{Data: c.Data})
	if err := cfg.Validate(); err != nil {
		return err
	}
	domains, sources, err := c.subjects()
	if err != nil {
		return err
	}
	key, err := c.key()
	if err != nil {
		return badUsage(err)
	}
	names, err := cfg.Names()
	if err != nil {
		return err
	}
	d := &doctor{ctx: a.ctx, names: names, timeout: cfg.DNS.Timeout, config: cfg, helloName: cfg.Helo()}
	inForce := d.node(c.serverFlags)
	d.clock()
	d.disk()
	d.limits()
	d.memory()
	senders := sendersOf(inForce, cfg, domains, sources, c.Selector)
	own := sources
	if len(own) == 0 {
		own = cfg.Node.SourceIPs
	}
	d.addresses(own, senders)
	for _, s := range senders {
		d.sender(s, key)
	}
	return d.print(a)
}

// subjects are the domains and sources of the command line.
func (c doctorCmd) subjects() ([]mail.Domain, []netip.Addr, error) {
	var domains []mail.Domain
	for _, s := range c.Domain {
		domain, err := mail.ParseDomain(s)
		if err != nil {
			return nil, nil, badUsage(fmt.Errorf("--domain %q: %w", s, err))
		}
		domains = append(domains, domain)
	}
	var sources []netip.Addr
	for _, s := range c.Source {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return nil, nil, badUsage(fmt.Errorf("--source %q is no IP address", s))
		}
		sources = append(sources, ip.Unmap())
	}
	return domains, sources, nil
}

func (d *doctor) print(a *app) error {
	failed := 0
	for _, f := range d.findings {
		if f.Level == fail {
			failed++
		}
	}
	if a.json {
		if err := printJSON(a.out, map[string]any{"ok": failed == 0, "checks": d.findings}); err != nil {
			return err
		}
	} else {
		for _, f := range d.findings {
			fmt.Fprintf(a.out, "%s  %-14s %s\n", f.Level, f.Check, printable(f.Text))
			if f.Advice != "" && f.Level != pass {
				fmt.Fprintf(a.out, "      %-14s -> %s\n", "", printable(f.Advice))
			}
		}
	}
	if failed > 0 {
		return errSilent
	}
	return nil
}

// node asks the running node how it is, and for the settings in force; nil where they cannot be had.
func (d *doctor) node(f serverFlags) *settings.Settings {
	cl, err := f.client()
	if err != nil {
		d.say(warn, "node", "", "%v", err)
		return nil
	}
	ctx, cancel := context.WithTimeout(d.ctx, d.timeout)
	defer cancel()
	st, err := cl.GetStatus(ctx, &adminpb.GetStatusRequest{})
	if err != nil {
		d.say(warn, "node", "start it with: ekiden serve", "%s: %s", f.Server, explain(err))
		return nil
	}
	for _, r := range st.Reasons {
		d.say(fail, "node", "", "%s takes no mail: %s: %s", st.Name, r.Code, r.Detail)
	}
	if len(st.Reasons) == 0 {
		d.say(pass, "node", "", "%s is %s and takes mail on %s", st.Name, st.State, strings.Join(st.Smtp, ", "))
	}
	for _, told := range st.Notices {
		d.say(warn, "node", "", "%s: %s: %s", st.Name, told.Code, told.Detail)
	}
	if st.Helo != "" {
		d.helloName = st.Helo
	}
	d.books(cl, st)
	r, err := within(d, func(ctx context.Context) (*adminpb.GetSettingsResponse, error) {
		return cl.GetSettings(ctx, &adminpb.GetSettingsRequest{})
	})
	if err != nil {
		return nil // a sealed node has none to show, and said so
	}
	inForce, err := settings.Decode([]byte(r.Yaml), nil)
	if err != nil {
		d.say(warn, "settings", "use the ekiden command of the node's own version", "cannot be read here: %v", err)
		return nil
	}
	return inForce
}

// Looks at the books of a node that is at work: between two it may come to rest.
const (
	bookLooks = 5
	bookPause = 300 * time.Millisecond
)

// books checks that everything taken is accounted for (requirement N7).
func (d *doctor) books(cl adminpb.AdminServiceClient, st *adminpb.GetStatusResponse) {
	c := st.Conservation
	if !c.GetBooks() {
		d.noBooks(st)
		return
	}
	gap, logGap := c.Gap, c.LogGap
	for range bookLooks { // each must be 0 once
		if gap == 0 && logGap == 0 {
			break
		}
		select {
		case <-d.ctx.Done():
			return
		case <-time.After(bookPause):
		}
		st, err := within(d, func(ctx context.Context) (*adminpb.GetStatusResponse, error) {
			return cl.GetStatus(ctx, &adminpb.GetStatusRequest{})
		})
		if err != nil {
			d.say(warn, "conservation", "", "%s", explain(err))
			return
		}
		if !st.Conservation.GetBooks() { // it was closed meanwhile
			d.noBooks(st)
			return
		}
		gap, logGap = closest(gap, st.Conservation.GetGap()), closest(logGap, st.Conservation.GetLogGap())
	}
	if gap == 0 && logGap == 0 {
		d.say(pass, "conservation", "", "accepted = delivered + failed + discarded + suppressed + queued")
	} else {
		d.say(fail, "conservation", "count anew with: ekiden stats rebuild; if it stays, keep the data directory and report it",
			"the books do not balance: %d since the start, %d by the event log (under load look again at rest)", gap, logGap)
	}
	if c.Overdue > 0 {
		d.say(fail, "progress", "look with: ekiden trace ID; a restart takes the mail up again",
			"%d deliveries wait although their lifetime has ended: %s", c.Overdue, strings.Join(c.Messages, ", "))
	} else {
		d.say(pass, "progress", "", "no delivery waits beyond the end of its lifetime")
	}
}

// noBooks says that nobody knows whether everything taken is accounted for: the node is sealed, is being opened, gave its
// queue away, or is a witness and never has one.
func (d *doctor) noBooks(st *adminpb.GetStatusResponse) {
	why := "it has no queue"
	if len(st.Reasons) > 0 {
		why = st.Reasons[0].Detail
	}
	d.say(warn, "conservation", "look again where there is a queue", "not looked at, %s has no books open: %s", st.Name, why)
}

// closest returns the one nearer to 0.
func closest(a, b int64) int64 {
	if max(a, -a) < max(b, -b) {
		return a
	}
	return b
}

// clock compares the machine's time with what the kernel says of it, and with this binary's age.
func (d *doctor) clock() {
	const advice = "run chrony or systemd-timesyncd: signatures, schedules and leases need the right time"
	now := clock.Wall()
	if exe, err := os.Executable(); err == nil {
		if st, err := os.Stat(exe); err == nil && now.Before(st.ModTime().Add(-time.Hour)) {
			d.say(fail, "clock", advice, "the clock (%s) is behind the time this program was built", now.Format(time.RFC3339))
			return
		}
	}
	synced, known := clockSynced()
	switch {
	case !known:
		d.say(warn, "clock", advice, "%s; whether it is synchronised cannot be told here", now.Format(time.RFC3339))
	case !synced:
		d.say(warn, "clock", advice, "%s; the kernel says it is not synchronised", now.Format(time.RFC3339))
	default:
		d.say(pass, "clock", "", "%s, synchronised", now.Format(time.RFC3339))
	}
}

// within runs one question with the time-out of a question.
func within[T any](d *doctor, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.timeout)
	defer cancel()
	return ask(ctx)
}
