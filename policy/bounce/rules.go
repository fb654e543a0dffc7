package bounce

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
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
	row      *row
}

// enhancedRange is class.subject.lo-hi; class 0 is any.
type enhancedRange struct{ class, subject, lo, hi uint16 }

// group and row are the shapes of rules.yaml, which says what each key means.
type group struct {
	Name       string   `yaml:"name"`
	Receivers  []string `yaml:"receivers"`
	Unverified bool     `yaml:"unverified"`
	Source     string   `yaml:"source"`
	Date       string   `yaml:"date"`
	Rules      []row    `yaml:"rules"`
}

type row struct {
	Name          string   `yaml:"name"`
	Stages        []string `yaml:"stages"`
	Codes         []int    `yaml:"codes"`
	Enhanced      []string `yaml:"enhanced"`
	Text          []string `yaml:"text"`
	Silence       []string `yaml:"silence"`
	Address       string   `yaml:"address"`
	Status        string   `yaml:"status"`
	Scope         string   `yaml:"scope"`
	Also          []string `yaml:"also"`
	Retry         bool     `yaml:"retry"`
	Act           string   `yaml:"act"`
	For           string   `yaml:"for"`
	After         int      `yaml:"after"`
	Within        string   `yaml:"within"`
	Connections   int      `yaml:"connections"`
	PerConnection int      `yaml:"per_connection"`
	Rate          float64  `yaml:"rate"`
	NoSuppress    bool     `yaml:"no_suppress"`
	Release       string   `yaml:"release"`
	Alert         bool     `yaml:"alert"`
	Source        string   `yaml:"source"`
	Date          string   `yaml:"date"`
	Example       string   `yaml:"example"`
	At            string   `yaml:"at"`
}

// New builds the rules from the built-in data.
func New() (*Rules, error) { return parse(builtin) }

func parse(src []byte) (*Rules, error) {
	var groups []group
	if err := yaml.UnmarshalWithOptions(src, &groups, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("bounce rules: %w", err)
	}
	r := &Rules{byReceiver: map[string][]*rule{}, unverified: map[string]bool{}}
	seen := map[string]bool{}
	for i := range groups {
		g := &groups[i]
		names := g.Receivers
		if len(names) == 0 {
			names = []string{""}
		}
		for _, n := range names {
			r.unverified[n] = g.Unverified
		}
		for j := range g.Rules {
			one, err := compile(&g.Rules[j], g)
			if err != nil {
				return nil, fmt.Errorf("bounce rules: group %q, row %d: %w", g.Name, j+1, err)
			}
			if seen[one.advice.Rule] {
				return nil, fmt.Errorf("bounce rules: group %q, row %d: name %q is used twice", g.Name, j+1, one.row.Name)
			}
			seen[one.advice.Rule] = true
			for _, n := range names {
				r.byReceiver[n] = append(r.byReceiver[n], one)
			}
		}
	}
	return r, nil
}

func compile(w *row, g *group) (*rule, error) {
	if w.Source == "" {
		w.Source = g.Source
	}
	if w.Date == "" {
		w.Date = g.Date
	}
	r := &rule{codes: w.Codes, retry: w.Retry, row: w}
	var err error
	if g.Name == "" || w.Name == "" {
		err = errors.New("name is missing")
	}
	for _, s := range w.Stages {
		st, e := stage(s)
		err = errors.Join(err, e)
		r.stages = append(r.stages, st)
	}
	for _, s := range w.Enhanced {
		er, e := parseEnhanced(s)
		err = errors.Join(err, e)
		r.enhanced = append(r.enhanced, er)
	}
	for _, t := range w.Text {
		r.text = append(r.text, strings.ToLower(t))
	}
	for _, s := range w.Silence {
		one, e := oneOf("silence", s, silenceNames())
		err = errors.Join(err, e)
		r.silence = append(r.silence, one)
	}
	r.address, err = picked(err, "address", w.Address, map[string]int8{"": 0, "present": 1, "absent": -1})
	if len(w.Silence) == 0 {
		r.status, err = picked(err, "status", w.Status, statusNames())
	} else if w.Status != "" || len(w.Codes)+len(w.Enhanced)+len(w.Text) > 0 {
		err = errors.Join(err, errors.New("silence goes with neither status, codes, enhanced nor text"))
	}
	r.scope, err = picked(err, "scope", w.Scope, scopeNames())
	var e error
	r.advice, e = advise(w, g, r.scope)
	return r, errors.Join(err, e)
}

// advise reads what the row says to do.
func advise(w *row, g *group, scope mail.Scope) (*mail.Advice, error) {
	a := &mail.Advice{Rule: g.Name + "/" + w.Name, After: w.After, Connections: w.Connections, PerConnection: w.PerConnection,
		Rate: w.Rate, NoSuppress: w.NoSuppress || scope != mail.ScopeRecipient, Alert: w.Alert}
	var err error
	a.Action, err = picked(nil, "act", w.Act, actionNames())
	if len(w.Also) > 0 {
		a.Scopes = append(a.Scopes, scope)
	}
	for _, s := range w.Also {
		one, e := oneOf("also", s, scopeNames())
		err = errors.Join(err, e)
		a.Scopes = append(a.Scopes, one)
	}
	for _, d := range [...]struct {
		key, text string
		into      *time.Duration
	}{{"for", w.For, &a.For}, {"within", w.Within, &a.Within}, {"release", w.Release, &a.Release}} {
		if d.text == "" {
			continue
		}
		v, e := time.ParseDuration(d.text)
		if e != nil || v <= 0 {
			err = errors.Join(err, fmt.Errorf("%s %q is no time above zero, such as 90m", d.key, d.text))
		}
		*d.into = v
	}
	switch {
	case (a.After == 0) != (a.Within == 0):
		err = errors.Join(err, errors.New("after and within go together"))
	case a.Action == mail.ActLimit && a.Connections == 0 && a.PerConnection == 0 && a.Rate == 0:
		err = errors.Join(err, errors.New("act limit names neither connections, per_connection nor rate"))
	case a.Action != mail.ActLimit && (a.Connections != 0 || a.PerConnection != 0 || a.Rate != 0):
		err = errors.Join(err, errors.New("connections, per_connection and rate are of act limit only"))
	case a.After < 0 || a.Connections < 0 || a.PerConnection < -1 || a.Rate < 0:
		err = errors.Join(err, errors.New("a figure is below zero"))
	}
	return a, err
}

// oneOf reads a word; the error names those allowed.
func oneOf[T any](key, word string, words map[string]T) (T, error) {
	v, ok := words[word]
	if ok {
		return v, nil
	}
	return v, fmt.Errorf("%s %q; allowed: %s", key, word, strings.Join(slices.Sorted(maps.Keys(words)), ", "))
}

// picked is oneOf behind an earlier error.
func picked[T any](before error, key, word string, words map[string]T) (T, error) {
	v, err := oneOf(key, word, words)
	return v, errors.Join(before, err)
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

func stage(s string) (mail.Stage, error) {
	for st := mail.StageDNS; st <= mail.StageDot; st++ {
		if st.String() == s {
			return st, nil
		}
	}
	return 0, fmt.Errorf("stage %q", s)
}

// parseEnhanced reads "x.7.26" and "5.7.606-649".
func parseEnhanced(s string) (enhancedRange, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return enhancedRange{}, fmt.Errorf("enhanced code %q", s)
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
			return enhancedRange{}, fmt.Errorf("enhanced code %q", s)
		}
		v[i] = uint16(n)
	}
	return enhancedRange{v[0], v[1], v[2], v[3]}, nil
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
