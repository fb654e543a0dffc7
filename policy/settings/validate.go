package settings

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ekiden-mta/ekiden/mail"
)

// Validate reports everything in s that is out of range, ambiguous or impossible, as an Errors without lines. It
// expects the defaults to be filled in.
func (s *Settings) Validate() error { return s.check(nil).orNil() }

func (s *Settings) check(lines Lines) Errors {
	c := &checker{lines: lines, users: map[string]string{}, pools: map[string]bool{}}
	if len(s.Tenants) == 0 {
		c.fail("tenants", "at least one tenant is needed")
	}
	plans := WarmupNames()
	for i := range s.Warmups {
		c.warmup(&s.Warmups[i], at("warmups", i), plans)
		plans = append(plans, s.Warmups[i].Name)
	}
	for i := range s.Pools {
		c.oneOf(s.Pools[i].Warmup, at("pools", i)+".warmup", plans...)
		c.pool(&s.Pools[i], at("pools", i))
	}
	names := unique{c: c, seen: map[string]bool{}}
	for i := range s.Tenants {
		names.add(s.Tenants[i].Name, at("tenants", i)+".name")
		c.tenant(&s.Tenants[i], at("tenants", i))
	}
	if s.Receivers.File == "" || s.Receivers.Rules == nil { // those of a file were checked with the file's own lines
		c.rules(s.Receivers.Rules, "receivers")
	}
	for i, h := range s.SendingHours {
		p := at("sending_hours", i)
		c.domainPattern(h.Domain, p+".domain")
		c.window(h.From, h.To, p, true)
	}
	for i, a := range s.Allow {
		if _, err := ParseNetwork(a.Address); err != nil {
			c.fail(at("allow", i)+".address", err.Error())
		}
	}
	c.speedCap(&s.SpeedCap, "speed_cap")
	if s.Alarms.LateBounces != -1 {
		c.between(s.Alarms.LateBounces, "alarms.late_bounces", 1, 99)
	}
	c.between(s.Alarms.LateBouncesLeast, "alarms.late_bounces_least", 1, 1_000_000)
	c.webhooks(s.Alarms.Webhooks, "alarms.webhooks", alarmEvents())
	accounts := unique{c: c, seen: map[string]bool{}}
	for i, a := range s.Accounts {
		accounts.add(a.Name, at("accounts", i)+".name")
		c.oneOf(a.Role, at("accounts", i)+".role", "administrator", "viewer", "accountant", "group")
	}
	return c.errs
}

// checker gathers what is wrong; paths are those of Lines.
type checker struct {
	lines Lines
	errs  Errors
	users map[string]string // AUTH names are unique over all tenants: they identify the tenant
	pools map[string]bool
}

func at(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

func (c *checker) fail(path, text string) {
	c.errs = append(c.errs, &Error{Line: c.lines.Of(path), Key: path, Text: text})
}

func (c *checker) oneOf(v, path string, allowed ...string) {
	if !slices.Contains(allowed, v) {
		c.fail(path, fmt.Sprintf("%q is not allowed; allowed: %s", v, strings.Join(allowed, ", ")))
	}
}

func (c *checker) between(v int, path string, lo, hi int) {
	if v < lo || v > hi {
		c.fail(path, fmt.Sprintf("%d is out of range; allowed: %d to %d", v, lo, hi))
	}
}

func (c *checker) duration(v Duration, path string, lo, hi time.Duration) {
	if time.Duration(v) < lo || time.Duration(v) > hi {
		c.fail(path, fmt.Sprintf("%s is out of range; allowed: %s to %s", v, lo, hi))
	}
}

// unique refuses empty, overlong and repeated names.
type unique struct {
	c    *checker
	seen map[string]bool
}

func (u unique) add(name, path string) {
	switch {
	case name == "" || utf8.RuneCountInString(name) > 100 || len(name) > 200:
		u.c.fail(path, "a name of 1 to 100 characters and at most 200 octets is needed")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		u.c.fail(path, "a name must not hold control characters")
	case u.seen[name]:
		u.c.fail(path, fmt.Sprintf("the name %q is used twice", name))
	}
	u.seen[name] = true
}

func (c *checker) pool(p *Pool, path string) {
	unique{c, c.pools}.add(p.Name, path+".name")
	for i, s := range p.Sources {
		if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" {
			c.fail(at(path+".sources", i), fmt.Sprintf("%q is no IP address", s))
		}
		if slices.Index(p.Sources, s) < i {
			c.fail(at(path+".sources", i), fmt.Sprintf("%s is listed twice", s))
		}
	}
}

// Bounds of a warm-up plan.
const (
	warmupDays = 366
	warmupMost = 1_000_000_000 // messages in one span
)

// warmup looks at a plan; those of others are taken.
func (c *checker) warmup(w *Warmup, path string, taken []string) {
	switch {
	case slices.Contains(taken, w.Name):
		c.fail(path+".name", fmt.Sprintf("there is a plan %q already; taken: %s", w.Name, strings.Join(taken, ", ")))
	default:
		unique{c, map[string]bool{}}.add(w.Name, path+".name")
	}
	c.oneOf(w.Per, path+".per", "hour", "day")
	if n := len(w.Steps); n < 1 || n > warmupDays {
		c.fail(path+".steps", fmt.Sprintf("has %d days; allowed: 1 to %d", n, warmupDays))
	}
	for i, n := range w.Steps {
		if n < 1 || n > warmupMost {
			c.fail(at(path+".steps", i), fmt.Sprintf("%d is out of range; allowed: 1 to %d messages", n, warmupMost))
		} else if i > 0 && n < w.Steps[i-1] {
			c.fail(at(path+".steps", i), fmt.Sprintf("%d is fewer than the day before has; a plan goes up", n))
		}
	}
}

func (c *checker) tenant(t *Tenant, path string) {
	c.oneOf(t.Bounce.Format, path+".bounce.format", "classic", "dsn", "none")
	if t.Bounce.To != "" {
		c.address(t.Bounce.To, path+".bounce.to")
	}
	c.between(t.Exclusion.Threshold, path+".exclusion.threshold", 1, 99)
	c.between(t.RetentionDays, path+".retention_days", 1, 90)
	c.oneOf(t.Compliance, path+".compliance", "off", "warn", "refuse")
	c.inDoubt(&t.InDoubt, path+".in_doubt")
	c.oneOf(t.Alignment, path+".alignment", "off", "warn", "refuse")
	if t.CleaningAbove != -1 {
		c.between(t.CleaningAbove, path+".cleaning_above", 1, 99)
	}
	if t.SourceIPQuota < 0 {
		c.fail(path+".source_ip_quota", "must be 0 (no limit) or more")
	}
	if len(t.Compositions) == 0 {
		c.fail(path+".compositions", "at least one composition is needed")
	}
	names := unique{c: c, seen: map[string]bool{}}
	networks := 0
	for i := range t.Compositions {
		names.add(t.Compositions[i].Name, at(path+".compositions", i)+".name")
		c.composition(&t.Compositions[i], at(path+".compositions", i))
		networks += len(t.Compositions[i].Networks)
	}
	if t.SourceIPQuota > 0 && networks > t.SourceIPQuota {
		c.fail(path+".source_ip_quota", fmt.Sprintf("%d networks are registered, the quota is %d", networks, t.SourceIPQuota))
	}
	speeds := unique{c: c, seen: map[string]bool{}}
	for i := range t.Speed {
		speeds.add(t.Speed[i].Name, at(path+".speed", i)+".name")
		c.speed(&t.Speed[i], at(path+".speed", i))
	}
	c.speedCap(&t.SpeedCap, path+".speed_cap")
	c.webhooks(t.Webhooks, path+".webhooks", tenantEvents())
}

func (c *checker) address(a, path string) {
	if err := mail.Address(a).Check(); err != nil {
		c.fail(path, fmt.Sprintf("%q is no mail address: %v", a, err))
	}
}

func (c *checker) domain(d, path string) {
	if _, err := mail.ParseDomain(d); err != nil {
		c.fail(path, fmt.Sprintf("%q is no domain", d))
	}
}

// domainPattern accepts a domain, "*.suffix" and "*".
func (c *checker) domainPattern(d, path string) {
	if d != "*" {
		c.domain(strings.TrimPrefix(d, "*."), path)
	}
}

// window checks two times of day. From = To is refused (R38), except that an inside window may span the whole day.
func (c *checker) window(from, to, path string, fullDay bool) {
	f, err := ParseTimeOfDay(from)
	if err != nil {
		c.fail(path+".from", err.Error())
		return
	}
	t, err := ParseTimeOfDay(to)
	if err != nil {
		c.fail(path+".to", err.Error())
		return
	}
	if f%(24*time.Hour) == t%(24*time.Hour) && !(fullDay && f == 0 && t == 24*time.Hour) {
		c.fail(path+".to", "from and to must differ")
	}
}

// ParseTimeOfDay reads HH:MM, 00:00 to 24:00, as the time since midnight.
func ParseTimeOfDay(s string) (time.Duration, error) {
	if len(s) == 5 && s[2] == ':' {
		h, err1 := strconv.ParseUint(s[:2], 10, 8)
		m, err2 := strconv.ParseUint(s[3:], 10, 8)
		if err1 == nil && err2 == nil && m < 60 && (h < 24 || h == 24 && m == 0) {
			return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute, nil
		}
	}
	return 0, fmt.Errorf("%q is no time of day; write it HH:MM, 00:00 to 24:00", s)
}

// ParseNetwork reads an address or a CIDR, IPv4 or IPv6, into its masked prefix.
func ParseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a network such as 192.0.2.0/24", s)
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q maps IPv4 into IPv6; write the IPv4 network", s)
	}
	return p.Masked(), nil
}

func (c *checker) inDoubt(d *InDoubt, path string) {
	c.oneOf(d.Policy, path+".policy", "retry", "hold", "give_up")
	seen := map[string]bool{}
	for i, g := range d.Groups {
		p := at(path+".groups", i)
		if g.Name == "" || seen[g.Name] {
			c.fail(p+".name", "must name a delivery group, each once")
		}
		seen[g.Name] = true
		c.oneOf(g.Policy, p+".policy", "retry", "hold", "give_up")
	}
}
