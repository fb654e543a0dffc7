package bounce

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

//go:embed rules.yaml
var builtin []byte

// Rules is the table that Classify reads. It never changes once built.
type Rules struct {
	byReceiver map[string][]*rule // in order; those of everybody under ""
}

// rule is one row, ready to match.
type rule struct {
	stages   []mail.Stage
	codes    []int
	enhanced []enhancedRange
	text     []string // lower case
	address  int8     // 1 present, -1 absent, 0 either
	status   mail.Status
	scope    mail.Scope
	row      *row
}

// enhancedRange is class.subject.lo-hi; class 0 is any.
type enhancedRange struct{ class, subject, lo, hi uint16 }

// group and row are the shapes of rules.yaml.
type group struct {
	Receivers []string `yaml:"receivers"`
	Source    string   `yaml:"source"`
	Date      string   `yaml:"date"`
	Rules     []row    `yaml:"rules"`
}

type row struct {
	Stages   []string `yaml:"stages"`
	Codes    []int    `yaml:"codes"`
	Enhanced []string `yaml:"enhanced"`
	Text     []string `yaml:"text"`
	Address  string   `yaml:"address"`
	Status   string   `yaml:"status"`
	Scope    string   `yaml:"scope"`
	Source   string   `yaml:"source"`
	Date     string   `yaml:"date"`
	Example  string   `yaml:"example"`
	At       string   `yaml:"at"`
}

// New builds the rules from the built-in data.
func New() (*Rules, error) { return parse(builtin) }

func parse(src []byte) (*Rules, error) {
	var groups []group
	if err := yaml.UnmarshalWithOptions(src, &groups, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("bounce rules: %w", err)
	}
	r := &Rules{byReceiver: map[string][]*rule{}}
	for i := range groups {
		g := &groups[i]
		names := g.Receivers
		if len(names) == 0 {
			names = []string{""}
		}
		for j := range g.Rules {
			one, err := compile(&g.Rules[j], g)
			if err != nil {
				return nil, fmt.Errorf("bounce rules: group %d, row %d: %w", i, j, err)
			}
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
	r := &rule{codes: w.Codes, row: w}
	var err error
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
	var known bool
	if r.address, known = map[string]int8{"": 0, "present": 1, "absent": -1}[w.Address]; !known {
		err = errors.Join(err, fmt.Errorf("address %q", w.Address))
	}
	if r.status, known = statusNames()[w.Status]; !known {
		err = errors.Join(err, fmt.Errorf("status %q", w.Status))
	}
	for sc := mail.ScopeRecipient; sc <= mail.ScopeGroup; sc++ {
		if sc.String() == w.Scope {
			r.scope = sc
			return r, err
		}
	}
	return nil, errors.Join(err, fmt.Errorf("scope %q", w.Scope))
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
	reply   smtp.Reply
	text    string // lower case
	address bool   // the text holds the recipient
}

func (r *rule) matches(f *facts) bool {
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
