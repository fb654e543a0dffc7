// Package shaping decides how many connections and messages a receiver bears from a source, and how fast.
//
// It is rules data (receivers.yaml, extended by settings) and a machine per source and receiver that learns, both pure: time
// comes as an argument. The room must never wait, dial or log, and never let a machine grant more than its limits. Read Limits (what is limited), Rules (which limits
// apply to a destination) and Machine (what of them is left now).
package shaping

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/settings"
)

//go:embed receivers.yaml
var builtin []byte

// defaultRule is the name of the rule that fills what the others leave open and serves everybody else.
const defaultRule = settings.DefaultReceiver

// Rules finds the limits of a destination. It never changes once built.
type Rules struct {
	all      []settings.ReceiverRule
	builtin  int // so many of all are; the operator's come behind them
	edition  uint64
	rest     Limits            // of the default rule
	domains  map[string]Limits // exact domains
	suffixes map[string]Limits // ".ezweb.ne.jp" for "*.ezweb.ne.jp"
	any      *Limits           // "*"
	hosts    map[string]Limits // MX hosts: ".google.com" for everything below, exact names without the dot
}

// NewRules builds rules from the built-in data and extra, whose rules replace built-in ones of the same name and
// whose matches win over those of built-in rules. Rules that only say what answers mean are none of limits. extra must be
// validated.
func NewRules(extra []settings.ReceiverRule) (*Rules, error) {
	base, err := settings.DecodeRules(builtin)
	if err != nil {
		return nil, fmt.Errorf("built-in receivers: %w", err)
	}
	all := make([]settings.ReceiverRule, 0, len(base)+len(extra))
	replaced := make(map[string]bool, len(extra))
	for _, r := range extra {
		replaced[r.Name] = !r.OnlyReplies()
	}
	for _, r := range base {
		if !replaced[r.Name] {
			all = append(all, r)
		}
	}
	own := len(all)
	for _, r := range extra {
		if replaced[r.Name] {
			all = append(all, r)
		}
	}

	r := &Rules{
		all:      all,
		builtin:  own,
		rest:     Limits{Queue: "pc", Connections: 1, TLS: "opportunistic"},
		domains:  map[string]Limits{},
		suffixes: map[string]Limits{},
		hosts:    map[string]Limits{},
	}
	for i := range all {
		if all[i].Name == defaultRule {
			r.rest = r.limits(&all[i])
		}
	}
	for i := range all { // in order, so that extra rules come last and win
		r.add(&all[i])
	}
	return r, nil
}

func (r *Rules) add(rule *settings.ReceiverRule) {
	l := r.limits(rule)
	for _, d := range rule.Domains {
		d = strings.ToLower(d)
		switch {
		case d == "*":
			r.any = &l
		case strings.HasPrefix(d, "*."):
			r.suffixes[d[1:]] = l
		default:
			r.domains[d] = l
		}
	}
	for _, h := range rule.MX {
		r.hosts[strings.ToLower(h)] = l
	}
}

// limits reads a rule, taking from the default rule what it leaves open.
func (r *Rules) limits(rule *settings.ReceiverRule) Limits {
	l := r.rest
	l.Receiver = rule.Name
	pick(&l.Queue, rule.Queue)
	pick(&l.Connections, rule.Connections)
	pick(&l.PerConnection, rule.PerConnection)
	pick(&l.SessionTime, time.Duration(rule.SessionTime))
	pick(&l.Interval, time.Duration(rule.Interval))
	pick(&l.Rate, rule.Rate)
	l.Start, l.Fixed = rule.Start, rule.Fixed // whoever names figures of his own means them: nothing is inherited
	pick(&l.ConnectionRate, rule.ConnectionRate)
	pick(&l.DailyCap, rule.DailyCap)
	pick(&l.HourlyCap, rule.HourlyCap)
	pick(&l.Size, rule.SizeKB<<10)
	pick(&l.TLS, rule.TLS)
	pick(&l.BlockPause, time.Duration(rule.BlockPause))
	pick(&l.TopOfHour, time.Duration(rule.TopOfHour))
	l.PerConnection, l.Rate, l.ConnectionRate = max(l.PerConnection, 0), max(l.Rate, 0), max(l.ConnectionRate, 0)
	return l
}

// pick takes a rule's value unless it is zero, which means "as in the default rule".
func pick[T comparable](p *T, v T) {
	var zero T
	if v != zero {
		*p = v
	}
}

// Succeed numbers the rules after those they take the place of, nil = none, so that limits found in these are not undone by
// limits that somebody found in those before. To be called before anybody else uses them.
func (r *Rules) Succeed(old *Rules) {
	r.edition = 1
	if old != nil {
		r.edition = old.edition + 1
	}
}

// All returns the rules in force. Not to be changed.
func (r *Rules) All() []settings.ReceiverRule { return r.all }

// Capped tells whether any rule bounds the messages of an hour or a day.
func (r *Rules) Capped() bool {
	return slices.ContainsFunc(r.all, func(one settings.ReceiverRule) bool { return one.DailyCap > 0 || one.HourlyCap > 0 })
}

// ByDomain returns the limits of the rule that names d: exactly, by its longest "*.suffix", or by "*".
func (r *Rules) ByDomain(d mail.Domain) (Limits, bool) {
	if l, ok := r.domains[string(d)]; ok {
		return l, true
	}
	if l, ok := longestSuffix(r.suffixes, string(d)); ok {
		return l, true
	}
	if r.any != nil {
		return *r.any, true
	}
	return Limits{}, false
}

// longestSuffix looks for ".b.c", then ".c", in m for the name "a.b.c".
func longestSuffix(m map[string]Limits, name string) (Limits, bool) {
	for {
		i := strings.IndexByte(name, '.')
		if i < 0 {
			return Limits{}, false
		}
		if l, ok := m[name[i:]]; ok {
			return l, true
		}
		name = name[i+1:]
	}
}

// ByHost returns the limits of the rule that names the MX host: exactly, or by its longest ".suffix".
func (r *Rules) ByHost(host string) (Limits, bool) {
	if l, ok := r.hosts[host]; ok {
		return l, true
	}
	return longestSuffix(r.hosts, host)
}

// ByRoute returns the limits of d on its route. A rule that names the domain wins, then one that names the primary MX
// host. A static route without a rule is a relay of the operator's: many connections and no pace. Everybody else has
// the default limits under the name of the primary host, so that domains with the same MX share them.
func (r *Rules) ByRoute(d mail.Domain, route mail.Route) Limits {
	l := r.byRoute(d, route)
	l.Edition = r.edition
	return l
}

func (r *Rules) byRoute(d mail.Domain, route mail.Route) Limits {
	if l, ok := r.ByDomain(d); ok {
		return l
	}
	if len(route.Hosts) == 0 {
		l := r.rest
		l.Receiver = "domain:" + string(d)
		return l
	}
	h := primary(route)
	if l, ok := r.ByHost(h.Name); ok {
		return l
	}
	l := r.rest
	if route.Static {
		relay := Relay(h)
		relay.Queue, relay.TLS = l.Queue, l.TLS
		return relay
	}
	l.Receiver = "mx:" + h.Name
	return l
}

// primary is the most preferred host, the first by name among equals: the order to try them is shuffled, the name of
// the receiver must not be.
func primary(route mail.Route) mail.Host {
	best := route.Hosts[0]
	for _, h := range route.Hosts[1:] {
		if h.Pref < best.Pref || h.Pref == best.Pref && h.Name < best.Name {
			best = h
		}
	}
	return best
}
