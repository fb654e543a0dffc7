package bounce

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

//go:embed rules.yaml
var builtin []byte

// Rules is the table that Classify reads. It never changes once built.
type Rules struct {
	byReceiver map[string][]*rule // in order; those of everybody under ""
	unverified map[string]bool    // receivers that take mail and drop it in silence
}

// Unverified tells whether a receiver's 250 may be followed by nothing (requirement N17).
func (r *Rules) Unverified(receiver string) bool { return r.unverified[receiver] }

// rule is one row, ready to match.
type rule struct {
	stages   []mail.Stage
	codes    []int
	enhanced []enhancedRange
	text     []string // lower case
	silence  []mail.Silence
	address  int8 // 1 present, -1 absent, 0 either
	status   mail.Status
	scope    mail.Scope
	retry    bool
	advice   *mail.Advice
	row      *Row
	own      bool
}

// enhancedRange is class.subject.lo-hi; class 0 is any.
type enhancedRange struct{ class, subject, lo, hi uint16 }

// group is the shape of rules.yaml, which says what each key means.
type group struct {
	Name       string   `yaml:"name"`
	Receivers  []string `yaml:"receivers"`
	Unverified bool     `yaml:"unverified"`
	Source     string   `yaml:"source"`
	Date       string   `yaml:"date"`
	Rules      []Row    `yaml:"rules"`

	own bool // an operator's
}

// New builds the rules from the built-in data and the operator's own rows, which come before those of the same receiver.
// Own rows must be checked. The error names group, row and key.
func New(own ...Own) (*Rules, error) { return parse(builtin, own) }

func parse(src []byte, own []Own) (*Rules, error) {
	var groups []group
	if err := yaml.UnmarshalWithOptions(src, &groups, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("bounce rules: %w", err)
	}
	r := &Rules{byReceiver: map[string][]*rule{}, unverified: map[string]bool{}}
	seen := map[string]bool{}
	for i := range own {
		g := own[i].group()
		if err := r.add(&g, seen); err != nil {
			return nil, err
		}
	}
	for i := range groups {
		if err := r.add(&groups[i], seen); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// add puts the rows of g behind those that are there.
func (r *Rules) add(g *group, seen map[string]bool) error {
	names := g.Receivers
	if len(names) == 0 {
		names = []string{""}
	}
	for _, n := range names {
		r.unverified[n] = r.unverified[n] || g.Unverified
	}
	for j := range g.Rules {
		one, wrong := compile(&g.Rules[j], g)
		if len(wrong) > 0 {
			return fmt.Errorf("bounce rules: group %q, row %d: %w", g.Name, j+1, joined(wrong))
		}
		if seen[one.advice.Rule] {
			return fmt.Errorf("bounce rules: group %q, row %d: name %q is used twice", g.Name, j+1, one.row.Name)
		}
		seen[one.advice.Rule] = true
		for _, n := range names {
			r.byReceiver[n] = append(r.byReceiver[n], one)
		}
	}
	return nil
}

func compile(w *Row, g *group) (*rule, []*RowError) {
	if w.Source == "" {
		w.Source = g.Source
	}
	if w.Date == "" {
		w.Date = g.Date
	}
	r := &rule{codes: w.Codes, retry: w.Retry, row: w, own: g.own}
	var c rowCheck
	if g.Name == "" || w.Name == "" {
		c.fail("name", "is missing")
	}
	for _, s := range w.Stages {
		st, ok := stage(s)
		if !ok {
			c.fail("stages", fmt.Sprintf("%q is none; allowed: %s", s, strings.Join(stageWords(), ", ")))
		}
		r.stages = append(r.stages, st)
	}
	for _, s := range w.Enhanced {
		er, ok := parseEnhanced(s)
		if !ok {
			c.fail("enhanced", fmt.Sprintf("%q is no code; write 5.1.1, x.7.26 or 5.7.606-649", s))
		}
		r.enhanced = append(r.enhanced, er)
	}
	for _, t := range w.Text {
		r.text = append(r.text, strings.ToLower(t))
	}
	for _, s := range w.Silence {
		r.silence = append(r.silence, oneOf(&c, "silence", s, silenceNames()))
	}
	r.address = oneOf(&c, "address", w.Address, map[string]int8{"": 0, "present": 1, "absent": -1})
	if len(w.Silence) == 0 {
		r.status = oneOf(&c, "status", w.Status, statusNames())
	} else if w.Status != "" || len(w.Codes)+len(w.Enhanced)+len(w.Text) > 0 {
		c.fail("silence", "goes with neither status, codes, enhanced nor text")
	}
	r.scope = oneOf(&c, "scope", w.Scope, scopeNames())
	r.advice = advise(&c, w, g, r.scope)
	return r, c.wrong
}

// advise reads what the row says to do.
func advise(c *rowCheck, w *Row, g *group, scope mail.Scope) *mail.Advice {
	a := &mail.Advice{Rule: g.Name + "/" + w.Name, After: w.After, Connections: w.Connections, PerConnection: w.PerConnection,
		Rate: w.Rate, NoSuppress: w.NoSuppress || scope != mail.ScopeRecipient, Alert: w.Alert}
	a.Action, a.Then, a.Jump = oneOf(c, "act", w.Act, actionNames()), w.Then.read(c), w.Jump.read(c)
	if a.Jump != nil && a.Action != mail.ActNone {
		c.fail("jump", "goes with no act: each such answer acts already")
	}
	a.Elsewhere = w.Retry && scope == mail.ScopeSource && a.Action == mail.ActSuspend
	if len(w.Also) > 0 {
		a.Scopes = append(a.Scopes, scope)
	}
	for _, s := range w.Also {
		a.Scopes = append(a.Scopes, oneOf(c, "also", s, scopeNames()))
	}
	for _, d := range [...]struct {
		key, text string
		into      *time.Duration
	}{{"for", w.For, &a.For}, {"within", w.Within, &a.Within}, {"release", w.Release, &a.Release}} {
		if d.text == "" {
			continue
		}
		*d.into = c.span(d.key, d.text)
	}
	if (a.After == 0) != (a.Within == 0) {
		c.fail("after", "and within go together")
	}
	limits := a.Connections != 0 || a.PerConnection != 0 || a.Rate != 0
	if a.Action == mail.ActLimit && !limits {
		c.fail("act", "limit names neither connections, per_connection nor rate")
	}
	if a.Action != mail.ActLimit && limits {
		c.fail("act", "must be limit where connections, per_connection or rate is given")
	}
	for key, bad := range map[string]bool{"after": a.After < 0, "connections": a.Connections < 0, "per_connection": a.PerConnection < -1,
		"rate": a.Rate < 0} {
		if bad {
			c.fail(key, "is below zero")
		}
	}
	return a
}

func scopeNames() map[string]mail.Scope {
	names := map[string]mail.Scope{}
	for sc := mail.ScopeRecipient; sc <= mail.ScopeGroup; sc++ {
		names[sc.String()] = sc
	}
	return names
}

func actionNames() map[string]mail.Action {
	names := map[string]mail.Action{"": mail.ActNone}
	for a := mail.ActNone; a <= mail.ActSameSource; a++ {
		names[a.String()] = a
	}
	return names
}

func silenceNames() map[string]mail.Silence {
	return map[string]mail.Silence{"refused": mail.Refused, "reset": mail.Reset, "closed": mail.Closed, "stalled": mail.Stalled,
		"unreachable": mail.Unreachable}
}

func statusNames() map[string]mail.Status {
	return map[string]mail.Status{
		"host": mail.StatusHostUnknown, "user": mail.StatusUserUnknown, "timeout": mail.StatusTimeout,
		"refused": mail.StatusRefused, "capacity": mail.StatusOverCapacity, "forward": mail.StatusForward,
		"server": mail.StatusServer, "size": mail.StatusSize, "format": mail.StatusFormat, "other": mail.StatusOther,
	}
}

func stage(s string) (mail.Stage, bool) {
	for st := mail.StageDNS; st <= mail.StageDot; st++ {
		if st.String() == s {
			return st, true
		}
	}
	return 0, false
}

func stageWords() (words []string) {
	for st := mail.StageDNS; st <= mail.StageDot; st++ {
		words = append(words, st.String())
	}
	return words
}

// parseEnhanced reads "x.7.26" and "5.7.606-649".
func parseEnhanced(s string) (enhancedRange, bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return enhancedRange{}, false
	}
	if parts[0] == "x" {
		parts[0] = "0"
	}
	lo, hi, ok := strings.Cut(parts[2], "-")
	if !ok {
		hi = lo
	}
	var v [4]uint16
	for i, p := range [...]string{parts[0], parts[1], lo, hi} {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return enhancedRange{}, false
		}
		v[i] = uint16(n)
	}
	return enhancedRange{v[0], v[1], v[2], v[3]}, v[2] <= v[3]
}

// facts is an answer as rules look at it.
type facts struct {
	stage   mail.Stage
	silence mail.Silence
	reply   smtp.Reply
	text    string // lower case
	address bool   // the text holds the recipient
}

func (r *rule) matches(f *facts) bool {
	if (f.silence != mail.NotSilent) != (len(r.silence) > 0) || len(r.silence) > 0 && !slices.Contains(r.silence, f.silence) {
		return false
	}
	if len(r.stages) > 0 && !slices.Contains(r.stages, f.stage) {
		return false
	}
	if len(r.codes) > 0 && !slices.ContainsFunc(r.codes, func(c int) bool { return c == f.reply.Code || c == f.reply.Code/100 }) {
		return false
	}
	if len(r.enhanced) > 0 && !slices.ContainsFunc(r.enhanced, func(e enhancedRange) bool { return e.holds(f.reply.Enhanced) }) {
		return false
	}
	if r.address != 0 && (r.address > 0) != f.address {
		return false
	}
	return len(r.text) == 0 || slices.ContainsFunc(r.text, func(t string) bool { return strings.Contains(f.text, t) })
}

func (e enhancedRange) holds(c smtp.EnhancedCode) bool {
	return (e.class == 0 && c.Class != 0 || e.class == c.Class) && e.subject == c.Subject && e.lo <= c.Detail && c.Detail <= e.hi
}
