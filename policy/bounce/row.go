package bounce

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Row is a rule as it is written; rules.yaml says what each key means.
type Row struct {
	Name          string   `yaml:"name" json:"name"`
	Stages        []string `yaml:"stages,omitempty" json:"stages,omitempty"`
	Codes         []int    `yaml:"codes,omitempty" json:"codes,omitempty"`
	Enhanced      []string `yaml:"enhanced,omitempty" json:"enhanced,omitempty"`
	Text          []string `yaml:"text,omitempty" json:"text,omitempty"`
	Silence       []string `yaml:"silence,omitempty" json:"silence,omitempty"`
	Address       string   `yaml:"address,omitempty" json:"address,omitempty"`
	Status        string   `yaml:"status,omitempty" json:"status,omitempty"`
	Scope         string   `yaml:"scope,omitempty" json:"scope,omitempty"`
	Also          []string `yaml:"also,omitempty" json:"also,omitempty"`
	Retry         bool     `yaml:"retry,omitempty" json:"retry,omitempty"`
	Act           string   `yaml:"act,omitempty" json:"act,omitempty"`
	For           string   `yaml:"for,omitempty" json:"for,omitempty"`
	After         int      `yaml:"after,omitempty" json:"after,omitempty"`
	Within        string   `yaml:"within,omitempty" json:"within,omitempty"`
	Connections   int      `yaml:"connections,omitempty" json:"connections,omitempty"`
	PerConnection int      `yaml:"per_connection,omitempty" json:"per_connection,omitempty"`
	Rate          float64  `yaml:"rate,omitempty" json:"rate,omitempty"`
	NoSuppress    bool     `yaml:"no_suppress,omitempty" json:"no_suppress,omitempty"`
	Release       string   `yaml:"release,omitempty" json:"release,omitempty"`
	Alert         bool     `yaml:"alert,omitempty" json:"alert,omitempty"`
	Then          *ThenRow `yaml:"then,omitempty" json:"then,omitempty"`
	Jump          *JumpRow `yaml:"jump,omitempty" json:"jump,omitempty"`
	Source        string   `yaml:"source,omitempty" json:"source,omitempty"`
	Date          string   `yaml:"date,omitempty" json:"date,omitempty"`
	Example       string   `yaml:"example,omitempty" json:"example,omitempty"`
	At            string   `yaml:"at,omitempty" json:"at,omitempty"`
}

// ThenRow is what several answers ask for, as it is written.
type ThenRow struct {
	Scope      string `yaml:"scope" json:"scope"`
	For        string `yaml:"for" json:"for"`
	After      int    `yaml:"after,omitempty" json:"after,omitempty"`
	Sources    int    `yaml:"sources,omitempty" json:"sources,omitempty"`
	Within     string `yaml:"within,omitempty" json:"within,omitempty"`
	Everywhere bool   `yaml:"everywhere,omitempty" json:"everywhere,omitempty"`
}

// JumpRow is what a sudden share of answers means, as it is written.
type JumpRow struct {
	Share int    `yaml:"share" json:"share"`
	For   string `yaml:"for" json:"for"`
}

// read is the block that w asks for.
func (w *JumpRow) read(c *rowCheck) *mail.Jump {
	if w == nil {
		return nil
	}
	j := &mail.Jump{Share: w.Share}
	if w.Share < 1 || w.Share > 100 {
		c.fail("jump.share", fmt.Sprintf("%d is no percentage; allowed: 1 to 100", w.Share))
	}
	j.For = c.span("jump.for", w.For)
	return j
}

// span reads a time, which must be above zero.
func (c *rowCheck) span(key, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		c.fail(key, fmt.Sprintf("%q is no time above zero, such as 90m", text))
	}
	return d
}

// read is the suspension that w asks for.
func (w *ThenRow) read(c *rowCheck) *mail.Then {
	if w == nil {
		return nil
	}
	t := &mail.Then{Scope: oneOf(c, "then.scope", w.Scope, scopeNames()), After: w.After, Sources: w.Sources, Everywhere: w.Everywhere}
	for key, d := range map[string]struct {
		text string
		into *time.Duration
	}{"then.for": {w.For, &t.For}, "then.within": {w.Within, &t.Within}} {
		if d.text == "" {
			continue
		}
		*d.into = c.span(key, d.text)
	}
	switch {
	case t.For == 0:
		c.fail("then.for", "is missing")
	case t.After < 0 || t.Sources < 0 || (t.After+t.Sources > 0) != (t.Within > 0):
		c.fail("then.within", "goes with after or sources above zero")
	case t.Everywhere && t.Scope != mail.ScopeSource:
		c.fail("then.everywhere", "goes with scope source alone")
	case t.Scope == mail.ScopeRecipient || t.Scope == mail.ScopeMessage || t.Scope == mail.ScopeConnection || t.Scope == mail.ScopeReceiver:
		c.fail("then.scope", fmt.Sprintf("%q cannot be suspended; allowed: source, tenant, netblock, dkim, spf, group", w.Scope))
	}
	return t
}

// Own is what an operator says of one receiver's answers.
type Own struct {
	Receiver string // "" = everybody
	Rows     []Row
}

// OwnPrefix begins the names of an operator's rules: "own/docomo/full".
const OwnPrefix = "own/"

// everybody stands for the receiver in the name of a rule that is for all of them.
const everybody = "default"

// group is own rows in the form of rules data. They are copied: the settings they stand in do not change.
func (o *Own) group() group {
	g := group{Name: OwnPrefix + everybody, Source: "settings", Rules: slices.Clone(o.Rows), own: true}
	if o.Receiver != "" {
		g.Name, g.Receivers = OwnPrefix+o.Receiver, []string{o.Receiver}
	}
	return g
}

// RowError is what is wrong with one key of a row.
type RowError struct {
	Key  string
	Text string // what is wrong, and what would be right
}

func (e *RowError) Error() string { return e.Key + " " + e.Text }

// rowCheck collects what is wrong with a row.
type rowCheck struct{ wrong []*RowError }

func (c *rowCheck) fail(key, text string) { c.wrong = append(c.wrong, &RowError{key, text}) }

func joined(wrong []*RowError) error {
	errs := make([]error, len(wrong))
	for i, e := range wrong {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// oneOf reads a word; where it is none of those allowed, c hears which are.
func oneOf[T any](c *rowCheck, key, word string, words map[string]T) T {
	v, ok := words[word]
	if !ok {
		c.fail(key, fmt.Sprintf("%q; allowed: %s", word, strings.Trim(strings.Join(slices.Sorted(maps.Keys(words)), ", "), ", ")))
	}
	return v
}

// Bounds of an operator's row.
const (
	rowName = 60  // octets of its name
	rowText = 200 // octets of one text that is looked for
	rowList = 100 // entries of one list
)

// CheckRow tells everything that is wrong with an operator's row.
func CheckRow(w Row) []*RowError {
	var c rowCheck
	_, c.wrong = compile(&w, &group{Name: OwnPrefix + everybody, own: true})
	if len(w.Name) > rowName || strings.ContainsFunc(w.Name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }) {
		c.fail("name", fmt.Sprintf("%q must be at most %d printable ASCII characters without blank and slash", w.Name, rowName))
	}
	for _, code := range w.Codes {
		if code != 4 && code != 5 && (code < 400 || code > 599) {
			c.fail("codes", fmt.Sprintf("%d is no refusal; allowed: 400 to 599, 4, 5", code))
		}
	}
	for _, t := range w.Text {
		if t == "" || len(t) > rowText {
			c.fail("text", fmt.Sprintf("%q must have 1 to %d octets", t, rowText))
		}
	}
	for key, n := range map[string]int{"stages": len(w.Stages), "codes": len(w.Codes), "enhanced": len(w.Enhanced), "text": len(w.Text),
		"silence": len(w.Silence), "also": len(w.Also)} {
		if n > rowList {
			c.fail(key, fmt.Sprintf("has %d entries; allowed: at most %d", n, rowList))
		}
	}
	if len(w.Codes)+len(w.Enhanced)+len(w.Text)+len(w.Silence) == 0 {
		c.fail("codes", "are missing: a row without codes, enhanced, text and silence would match every answer")
	}
	if _, ok := stage(w.At); w.At != "" && !ok {
		c.fail("at", fmt.Sprintf("%q is no stage; allowed: %s", w.At, strings.Join(stageWords(), ", ")))
	}
	if w.Example != "" {
		if reply, _, err := smtp.ParseReply([]byte(w.Example + "\r\n")); err != nil || reply.Positive() {
			c.fail("example", fmt.Sprintf("%q is no refusal; write its code and text, such as \"550 user unknown\"", w.Example))
		}
	}
	slices.SortFunc(c.wrong, func(a, b *RowError) int { return strings.Compare(a.Key, b.Key) })
	return c.wrong
}

// Entry is a rule as a list shows it.
type Entry struct {
	Rule      string   // "group/name", as in logs and metrics
	Receivers []string // who it is asked about; none = everybody
	Own       bool     // an operator's
	Row       Row      // with source and date of its group where it has none
	Status    mail.Status
	Scope     mail.Scope
	Advice    *mail.Advice
}

// Entries lists the rules, an operator's first, those of everybody last.
func (r *Rules) Entries() []Entry {
	var out []Entry
	at := map[*rule]int{}
	for _, name := range append(slices.DeleteFunc(slices.Sorted(maps.Keys(r.byReceiver)), func(n string) bool { return n == "" }), "") {
		for _, one := range r.byReceiver[name] {
			i, known := at[one]
			if !known {
				i = len(out)
				at[one] = i
				out = append(out, Entry{Rule: one.advice.Rule, Own: one.own, Row: *one.row, Status: one.status, Scope: one.scope, Advice: one.advice})
			}
			if name != "" {
				out[i].Receivers = append(out[i].Receivers, name)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int {
		switch {
		case a.Own == b.Own:
			return 0
		case a.Own:
			return -1
		}
		return 1
	})
	return out
}
