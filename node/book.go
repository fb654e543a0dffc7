package node

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/bounce"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/policy/shaping"
	"github.com/ekiden-mta/ekiden/smtpd"
)

// edition is one state of the settings with everything derived from it; immutable.
type edition struct {
	index  *settings.Index
	rules  *shaping.Rules
	grants map[*settings.Member]smtpd.Grant
	pools  map[string][]netip.Addr // sources that the pools' mail may leave by
	nets   []netip.Addr            // sources of the node, for pools that name none
	number uint64                  // of the newest object, as the members number them; 0 = the file's, not agreed on
	parts  int                     // objects it was made of

	bounces     map[string]settings.Bounce       // how tenants are told of failures
	inbound     map[mail.Domain]*settings.Member // whose return addresses a domain holds
	replies     *bounce.Rules
	suppression map[string]suppressionRules // by tenant
	doubts      map[string]settings.InDoubt // what becomes of mail in doubt, by tenant, where that is not to be sent again
	unclean     map[string]int              // percent of unknown users above which a tenant's bulk mail is slowed down
}

// book holds the edition in force. The rooms ask it at every use, so a new edition counts from the next message on.
type book struct {
	now    atomic.Pointer[edition]
	shared bool // other members have the same settings, and sources of their own
}

// load reads the settings file (or the built-in settings where path is empty) and puts it in force.
func (b *book) load(path string, sources []netip.Addr) error {
	s := settings.Default()
	if path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("node: read settings: %w", err)
		}
		if s, err = settings.Decode(raw, func(name string) ([]byte, error) {
			if !filepath.IsAbs(name) {
				name = filepath.Join(filepath.Dir(path), name)
			}
			return os.ReadFile(name)
		}); err != nil {
			return fmt.Errorf("node: %s: %w", path, err)
		}
	}
	return b.use(s, sources)
}

func (b *book) use(s *settings.Settings, sources []netip.Addr) error {
	return b.useAgreed(s, sources, 0, 0)
}

// outdated tells whether the edition in force is not the one of these objects: the newest version, and how many.
func (b *book) outdated(newest uint64, parts int) bool {
	e := b.now.Load()
	return e.number != newest || e.parts != parts
}

// useAgreed puts the settings in force that the members agreed on.
func (b *book) useAgreed(s *settings.Settings, sources []netip.Addr, number uint64, parts int) error {
	index, err := settings.NewIndex(s)
	if err != nil {
		return fmt.Errorf("node: settings: %w", err)
	}
	rules, err := shaping.NewRules(s.Receivers.Rules)
	if err != nil {
		return fmt.Errorf("node: receivers: %w", err)
	}
	var before *shaping.Rules
	if e := b.now.Load(); e != nil {
		before = e.rules
	}
	rules.Succeed(before)
	replies, err := bounce.New(s.Receivers.Replies()...)
	if err != nil {
		return fmt.Errorf("node: rules of replies: %w", err)
	}
	e := &edition{index: index, rules: rules, pools: poolsOf(s, index, sources, b.shared), grants: map[*settings.Member]smtpd.Grant{}, nets: sources,
		number: number, parts: parts, suppression: map[string]suppressionRules{}, bounces: map[string]settings.Bounce{},
		unclean: map[string]int{}, doubts: map[string]settings.InDoubt{},
		inbound: map[mail.Domain]*settings.Member{}, replies: replies}
	for i := range s.Tenants {
		e.suppression[s.Tenants[i].Name] = rulesOf(&s.Tenants[i])
		if d := s.Tenants[i].InDoubt; d.Policy != mail.DoubtRetry.String() || len(d.Groups) > 0 {
			e.doubts[s.Tenants[i].Name] = d
		}
		e.unclean[s.Tenants[i].Name] = max(0, s.Tenants[i].CleaningAbove)
		e.bounces[s.Tenants[i].Name] = s.Tenants[i].Bounce
	}
	for _, m := range index.Members() {
		if d, err := mail.ParseDomain(m.Composition.EnvelopeFrom.Domain); err == nil && e.inbound[d] == nil {
			e.inbound[d] = m
		}
		e.grants[m] = smtpd.Grant{
			Tenant: m.Tenant.Name, Composition: m.Composition.Name, FromDomains: m.FromDomains,
			Access:   m.Composition.Access,
			Sessions: m.Composition.Intake.Sessions, Interval: time.Duration(m.Composition.Intake.Interval),
			SizeKB: m.Composition.Intake.SizeKB,
		}
	}
	b.now.Store(e)
	return nil
}

// doubt is what becomes of mail of a tenant's delivery group whose final dot was never answered (N3).
func (b *book) doubt(tenant, group string) mail.Doubt {
	s, ok := b.now.Load().doubts[tenant]
	if !ok { // asked for every message
		return mail.DoubtRetry
	}
	policy := s.Policy
	for _, g := range s.Groups {
		if g.Name == group {
			policy = g.Policy
		}
	}
	way, _ := mail.ParseDoubt(policy)
	return way
}

// ByNetwork implements smtpd.Directory.
func (b *book) ByNetwork(ip netip.Addr) []smtpd.Grant {
	e := b.now.Load()
	members := e.index.ByNetwork(ip)
	grants := make([]smtpd.Grant, len(members))
	for i, m := range members {
		grants[i] = e.grants[m]
	}
	return grants
}

// ByUser implements smtpd.Directory: users who may use SMTP.
func (b *book) ByUser(name string) (smtpd.Grant, string, bool) {
	e := b.now.Load()
	m, u := e.index.ByUser(name)
	if m == nil || !slices.Contains(u.Permissions, settings.PermissionSMTP) {
		return smtpd.Grant{}, "", false
	}
	return e.grants[m], u.SecretHash, true
}

// sources lists the source IPs a pool may use; one invalid address stands for "the system chooses".
func (b *book) sources(pool string) []netip.Addr {
	e := b.now.Load()
	if ips := e.pools[pool]; len(ips) > 0 {
		return ips
	}
	if len(e.nets) > 0 {
		return e.nets
	}
	return systemChooses
}

// poolsOf is what each pool has of the sources of this node, own. The settings are all members', and name the sources of all.
// Where a pool names none of this node's, its mail leaves by those that no pool names, if there are any; else it is the
// pool's that it waits for.
func poolsOf(s *settings.Settings, index *settings.Index, own []netip.Addr, shared bool) map[string][]netip.Addr {
	pools := map[string][]netip.Addr{}
	free := slices.Clone(own)
	for _, p := range s.Pools {
		pools[p.Name], _ = index.Pool(p.Name)
		free = slices.DeleteFunc(free, func(a netip.Addr) bool { return slices.Contains(pools[p.Name], a) })
	}
	if !shared || len(own) == 0 {
		return pools
	}
	for name, named := range pools {
		mine := slices.DeleteFunc(slices.Clone(named), func(a netip.Addr) bool { return !slices.Contains(own, a) })
		if len(mine) == 0 {
			mine = free
		}
		if len(mine) > 0 && len(named) > 0 {
			pools[name] = mine
		}
	}
	return pools
}

var systemChooses = []netip.Addr{{}}

// queueOf names the classic queue of a domain (requirement R63).
func (b *book) queueOf(d mail.Domain) string {
	if l, ok := b.now.Load().rules.ByDomain(d); ok && l.Queue != "" {
		return l.Queue
	}
	return "pc"
}

// extraQueues names the queues beyond the classic ones that receivers' rules count by themselves (D1), in their order.
func (b *book) extraQueues() (extra []string) {
	for _, r := range b.now.Load().rules.All() {
		if q := r.Queue; q != "" && !slices.Contains(classicQueues[:], q) && !slices.Contains(extra, q) {
			extra = append(extra, q)
		}
	}
	return extra
}
