package settings

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

func (c *checker) composition(k *Composition, path string) {
	for i, n := range k.Networks {
		if _, err := ParseNetwork(n); err != nil {
			c.fail(at(path+".networks", i), err.Error())
		}
	}
	for i, d := range k.FromDomains {
		c.domain(d, at(path+".from_domains", i))
	}
	for i := range k.Users {
		c.user(&k.Users[i], at(path+".users", i))
	}
	c.oneOf(k.Access, path+".access", "either", "network", "both")
	c.between(k.Intake.Sessions, path+".intake.sessions", 1, 100)
	if k.Intake.Interval != 0 {
		c.duration(k.Intake.Interval, path+".intake.interval", 10*time.Millisecond, 10*time.Second)
	}
	c.between(k.Intake.SizeKB, path+".intake.size_kb", 1, 1<<20)
	c.steering(k, path+".headers")
	c.duration(k.Retry.Interval, path+".retry.interval", time.Second, 24*time.Hour)
	c.duration(k.Retry.Lifetime, path+".retry.lifetime", time.Second, 120*time.Hour)
	c.oneOf(k.Received, path+".received", "short", "normal", "keep", "strip")
	if k.EnvelopeFrom.Rewrite || k.EnvelopeFrom.Domain != "" {
		c.domain(k.EnvelopeFrom.Domain, path+".envelope_from.domain")
	}
	c.filters(k, path)
	if s := k.DeliveryStop; s != nil {
		c.deliveryStop(s, path+".delivery_stop")
	}
	if !c.pools[k.Pool] {
		c.fail(path+".pool", fmt.Sprintf("no pool is named %q", k.Pool))
	}
	for i, d := range k.DKIM {
		c.domain(d.Domain, at(path+".dkim", i)+".domain")
		c.domain(d.Selector, at(path+".dkim", i)+".selector")
	}
	c.speedCap(&k.SpeedCap, path+".speed_cap")
}

// steering checks the names of the steering headers: header names, and no two alike, or one would hide the other.
func (c *checker) steering(k *Composition, path string) {
	seen := map[string]bool{}
	for _, h := range [...]struct{ name, key string }{
		{k.Headers.Group, ".group"}, {k.Headers.Cleaning, ".cleaning"}, {k.Headers.Appoint, ".appoint"},
	} {
		if !isHeaderName(h.name) {
			c.fail(path+h.key, fmt.Sprintf("%q is no header name", h.name))
		}
		if slices.ContainsFunc(unsteerable[:], func(n string) bool { return strings.EqualFold(n, h.name) }) {
			c.fail(path+h.key, fmt.Sprintf("%s must stay in the message; a steering header is removed on delivery", h.name))
		}
		if seen[strings.ToLower(h.name)] {
			c.fail(path+h.key, fmt.Sprintf("%q is used twice", h.name))
		}
		seen[strings.ToLower(h.name)] = true
	}
}

// Fields that a message cannot do without, or that others sign: they never steer.
var unsteerable = [...]string{"From", "To", "Cc", "Bcc", "Sender", "Reply-To", "Date", "Subject", "Message-ID", "Received",
	"Return-Path", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "DKIM-Signature", "X-Api-Data"}

// isHeaderName accepts the field names of RFC 5322 §2.2, at most 100 characters.
func isHeaderName(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return true
}

func (c *checker) user(u *User, path string) {
	unique{c, map[string]bool{}}.add(u.Name, path+".name")
	if first, ok := c.users[u.Name]; ok {
		c.fail(path+".name", fmt.Sprintf("the user %q exists already at %s; a user's name identifies its tenant", u.Name, first))
	}
	c.users[u.Name] = path
	if err := checkSecretHash(u.SecretHash); err != nil {
		c.fail(path+".secret_hash", err.Error())
	}
	if len(u.Permissions) == 0 {
		c.fail(path+".permissions", "at least one of smtp, http is needed")
	}
	for i, p := range u.Permissions {
		c.oneOf(p, at(path+".permissions", i), PermissionSMTP, PermissionHTTP)
	}
	if u.ReportMail {
		c.address(u.Name, path+".name")
	}
	c.oneOf(u.Role, path+".role", RoleAdministrator, RoleUser)
	if _, err := time.LoadLocation(u.Zone); err != nil {
		c.fail(path+".zone", fmt.Sprintf("%q is no time zone", u.Zone))
	}
}

// checkSecretHash wants "argon2id:" and the PHC string (contract 11), with costs that a login can bear.
func checkSecretHash(s string) error {
	phc, ok := strings.CutPrefix(s, "argon2id:")
	parts := strings.Split(phc, "$")
	if !ok || len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return fmt.Errorf("must be argon2id: followed by $argon2id$v=19$m=…,t=…,p=…$salt$hash")
	}
	costs := strings.Split(parts[3], ",")
	for i, want := range [...]struct {
		key    string
		lo, hi uint64
	}{{"m=", 8, 1 << 20}, {"t=", 1, 64}, {"p=", 1, 64}} {
		if len(costs) != 3 {
			return fmt.Errorf("the costs must be m=…,t=…,p=…")
		}
		v, ok := strings.CutPrefix(costs[i], want.key)
		n, err := strconv.ParseUint(v, 10, 32)
		if !ok || err != nil || n < want.lo || n > want.hi {
			return fmt.Errorf("%s must be a number from %d to %d", want.key, want.lo, want.hi)
		}
	}
	for i, name := range [...]string{"salt", "hash"} {
		b, err := base64.RawStdEncoding.DecodeString(parts[4+i])
		if err != nil || len(b) < 8 || len(b) > 128 {
			return fmt.Errorf("the %s must be 8 to 128 octets in base64 without padding", name)
		}
	}
	return nil
}

func (c *checker) filters(k *Composition, path string) {
	names := unique{c: c, seen: map[string]bool{}}
	for i, f := range k.Priority {
		p := at(path+".priority", i)
		names.add(f.Name, p+".name")
		c.filter(f.Filter, p)
		c.between(f.Priority, p+".priority", 1, 99)
	}
	names.seen = map[string]bool{}
	for i, q := range k.QuietHours {
		p := at(path+".quiet_hours", i)
		names.add(q.Name, p+".name")
		if len(q.Apply) == 0 {
			c.fail(p+".apply", "at least one condition is needed")
		}
		for j, f := range q.Apply {
			c.filter(f, at(p+".apply", j))
		}
		for j, f := range q.Except {
			c.filter(f, at(p+".except", j))
		}
		c.window(q.From, q.To, p, false)
		if _, err := time.LoadLocation(q.Zone); err != nil {
			c.fail(p+".zone", fmt.Sprintf("%q is no time zone", q.Zone))
		}
	}
	names.seen = map[string]bool{}
	for i, f := range k.Forward {
		p := at(path+".forward", i)
		names.add(f.Name, p+".name")
		c.filter(f.Filter, p)
		c.address(f.To, p+".to")
		c.oneOf(f.Mode, p+".mode", "copy", "rewrite")
	}
	names.seen = map[string]bool{}
	for i, f := range k.Unsubscribe {
		p := at(path+".unsubscribe", i)
		names.add(f.Name, p+".name")
		if utf8.RuneCountInString(f.Name) > 50 {
			c.fail(p+".name", "at most 50 characters")
		}
		if utf8.RuneCountInString(f.Pattern) > 100 {
			c.fail(p+".pattern", "at most 100 characters")
		}
		c.filter(f.Filter, p)
		c.linkBase(f.URL, p+".url")
	}
}

// linkBase checks where links to leave a list lead (R105): a line of a header must hold them.
func (c *checker) linkBase(base, path string) {
	if base == "" {
		return
	}
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		c.fail(path, "must be the address of a host, https://news.example.com, perhaps with a path")
	case len(base) > 100 || strings.ContainsFunc(base, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"`, r) }):
		c.fail(path, "at most 100 ASCII characters, without spaces, quotes and angle brackets")
	}
}

// filter refuses conditions that can never be evaluated (contract 4, R113-R115).
func (c *checker) filter(f Filter, path string) {
	switch {
	case !isHeaderName(f.Header):
		c.fail(path+".header", fmt.Sprintf("%q is no header name", f.Header))
	case strings.EqualFold(f.Header, "Received"):
		c.fail(path+".header", "Received occurs more than once in a mail and cannot be a condition")
	}
	if _, err := CompilePattern(f.Pattern); err != nil {
		c.fail(path+".pattern", err.Error())
	}
}

func (c *checker) deliveryStop(s *DeliveryStop, path string) {
	if _, err := ParseTimeOfDay(s.RunAt); err != nil && s.RunAt != "immediate" {
		c.fail(path+".run_at", err.Error()+", or immediate")
	}
	if s.ReleaseAfterDays < 0 {
		c.fail(path+".release_after_days", "must be 0 (never) or more")
	}
	for status, n := range s.Reasons {
		p := path + ".reasons." + strconv.Itoa(status)
		if (status < 1 || status > 9) && status != 99 { // 10 and 11 are suppression itself
			c.fail(p, "the reason must be an error status: 1 to 9, or 99")
		}
		c.between(n, p, 1, 99)
	}
}

func (c *checker) speedCap(s *SpeedCap, path string) {
	if s.Messages < 0 || s.Messages > 1_000_000 {
		c.fail(path+".messages", "must be 0 (none) or 1 to 1000000")
	}
	if s.Messages > 0 {
		c.duration(s.Per, path+".per", time.Second, 24*time.Hour)
	}
}

func (c *checker) speed(s *Speed, path string) {
	if len(s.Patterns) == 0 {
		c.fail(path+".patterns", "at least one pattern is needed")
	}
	for i, p := range s.Patterns {
		if _, err := CompilePattern(p); err != nil {
			c.fail(at(path+".patterns", i), err.Error())
		}
	}
	if s.Connections != 0 {
		c.between(s.Connections, path+".connections", 1, 100)
	}
	if s.Interval != 0 {
		c.duration(s.Interval, path+".interval", 10*time.Millisecond, 10*time.Second)
	}
	if s.SourceIPs < 0 {
		c.fail(path+".source_ips", "must be 0 (all) or more")
	}
	if s.Route != "" {
		if _, err := parseHost(s.Route); err != nil {
			c.fail(path+".route", err.Error())
		}
	}
}
