package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/ekiden-mta/ekiden/mail"
)

// Caps on what an answer may make us do (threat T16).
const (
	MaxMX    = 30      // hosts of a domain; the ones preferred most are kept
	MaxAddrs = 20      // addresses of a host, per family
	MaxCNAME = 8       // aliases followed for one question
	MaxTexts = 30      // TXT records of a name, names of an address
	MaxText  = 8 << 10 // octets of a TXT record as the library writes it; longer ones are passed over
)

// What a question can end with besides an answer. ErrTemporary is in everything that may be different tomorrow:
// time-outs, SERVFAIL, REFUSED, answers that make no sense, aliases that lead nowhere. The other errors are the DNS's
// last word.
var (
	ErrTemporary = errors.New("no DNS answer at the moment")
	ErrNoName    = errors.New("domain does not exist")          // NXDOMAIN
	ErrNoData    = errors.New("domain has no such record")      // the name exists
	ErrNullMX    = errors.New("domain takes no mail (null MX)") // RFC 7505

	// ErrAliases is a loop of CNAMEs, mostly. It is temporary: RFC 5321 §5.1 ends a delivery for a domain that does not
	// exist or has no host, and a loop says neither (RFC 1034 §3.6.2 calls it an error). A resolver that follows the
	// aliases itself answers SERVFAIL, which is temporary too, so the verdict does not depend on who follows them.
	ErrAliases = fmt.Errorf("%w: an alias of too many names", ErrTemporary)
)

// MX is a host that takes mail for a domain.
type MX struct {
	Host string // lower case, no trailing dot
	Pref uint16
}

// Lookup is one question that was put to the DNS, for the domain log (requirement R69).
type Lookup struct {
	Name   string
	Type   string // MX, A, AAAA, TXT, PTR
	Status string // NOERROR, NODATA, NXDOMAIN, SERVFAIL, TIMEOUT …
	Detail string // the answer, or the error
	Server string
	Took   time.Duration
}

// Config is what a Resolver needs. Zero fields take the default.
type Config struct {
	Servers []string        // "ip:port", asked in this order; empty = those of /etc/resolv.conf
	Timeout time.Duration   // for one question to one server: 5 s
	Retries int             // rounds through the servers after the first: 1; negative = none
	Entries int             // answers remembered at most: 50,000
	Rand    func(n int) int // uniform in [0, n), to order hosts of equal preference; safe for concurrent use
	Log     *slog.Logger
	Notify  func(Lookup) // called after each question put to a server's answer, never for a remembered one; must not block
}

// Resolver asks the DNS. It is safe for concurrent use.
type Resolver struct {
	cfg    Config
	cache  *cache
	flight chan struct{} // one token per question on its way
}

// maxFlight bounds the questions on their way at once, and with them the sockets.
const maxFlight = 256

// New returns a Resolver. It reads /etc/resolv.conf where no servers are given.
func New(cfg Config) (*Resolver, error) {
	if len(cfg.Servers) == 0 {
		cfg.Servers = systemServers()
	}
	for _, s := range cfg.Servers {
		if _, err := netip.ParseAddrPort(s); err != nil {
			return nil, fmt.Errorf("dns: server %q must be an address and a port", s)
		}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Retries == 0 {
		cfg.Retries = 1
	}
	cfg.Retries = max(cfg.Retries, 0)
	if cfg.Entries <= 0 {
		cfg.Entries = 50_000
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.IntN
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Resolver{cfg: cfg, cache: newCache(cfg.Entries), flight: make(chan struct{}, maxFlight)}, nil
}

// systemServers returns the resolvers of /etc/resolv.conf, or the local one (resolv.conf(5)).
func systemServers() (servers []string) {
	if sys, err := dns.ClientConfigFromFile("/etc/resolv.conf"); err == nil {
		for _, s := range sys.Servers {
			if a, err := netip.ParseAddr(s); err == nil {
				servers = append(servers, net.JoinHostPort(a.String(), sys.Port))
			}
		}
	}
	if len(servers) == 0 {
		servers = []string{"127.0.0.1:53"}
	}
	return servers
}

// MX returns the hosts that take mail for d, the preferred ones first, those of equal preference in random order. A
// domain without MX that has an address is its own host (RFC 5321 §5.1). until is when the answer is to be asked for
// again. Besides the errors above it returns that of ctx.
func (r *Resolver) MX(ctx context.Context, d mail.Domain) (hosts []MX, until time.Time, err error) {
	a, err := r.ask(ctx, string(d), dns.TypeMX)
	if errors.Is(err, ErrNoData) {
		_, until, err := r.addrs(ctx, string(d), true, true)
		if err != nil {
			return nil, until, err
		}
		return []MX{{Host: string(d)}}, until, nil
	}
	if err != nil {
		return nil, a.until, err
	}
	hosts = slices.Clone(a.mx)
	for i := range hosts { // Fisher-Yates, then a stable sort by preference
		j := i + r.cfg.Rand(len(hosts)-i)
		hosts[i], hosts[j] = hosts[j], hosts[i]
	}
	slices.SortStableFunc(hosts, func(a, b MX) int { return int(a.Pref) - int(b.Pref) })
	return hosts, a.until, nil
}

// Addrs returns the addresses of host of the families wanted, IPv4 first.
func (r *Resolver) Addrs(ctx context.Context, host string, v4, v6 bool) ([]netip.Addr, error) {
	addrs, _, err := r.addrs(ctx, host, v4, v6)
	return addrs, err
}

func (r *Resolver) addrs(ctx context.Context, host string, v4, v6 bool) ([]netip.Addr, time.Time, error) {
	type half struct {
		answer
		err error
	}
	six := make(chan half, 1)
	if v6 {
		go func() {
			a, err := r.ask(ctx, host, dns.TypeAAAA)
			six <- half{a, err}
		}()
	}
	var a, b half
	if a.err = ErrNoData; v4 {
		a.answer, a.err = r.ask(ctx, host, dns.TypeA)
	}
	if b.err = ErrNoData; v6 {
		b = <-six
	}
	until := a.until
	if until.IsZero() || !b.until.IsZero() && b.until.Before(until) {
		until = b.until
	}
	addrs := append(slices.Clip(a.addrs), b.addrs...)
	switch {
	case len(addrs) > 0:
		return addrs, until, nil
	case a.err != nil && !final(a.err):
		return nil, until, a.err
	case b.err != nil && !final(b.err):
		return nil, until, b.err
	case a.err != nil && !errors.Is(a.err, ErrNoData):
		return nil, until, a.err
	}
	return nil, until, b.err
}

// final tells whether err is the DNS's last word.
func final(err error) bool {
	return errors.Is(err, ErrNoName) || errors.Is(err, ErrNoData) || errors.Is(err, ErrNullMX)
}

// Final tells whether err, which a Resolver returned, will not change by asking again soon.
func Final(err error) bool { return final(err) }
