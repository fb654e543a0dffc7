package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/bounce"
	"github.com/ekiden-mta/ekiden/policy/settings"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

type settingsRulesCmds struct {
	List   rulesListCmd   `cmd:"" default:"withargs" help:"List the rules in force, with how often each knew an answer or had mail."`
	Lint   rulesLintCmd   `cmd:"" help:"Find rules that can never decide, and figures that can never be reached."`
	Test   rulesTestCmd   `cmd:"" help:"Show what a reply means, and which rule says so."`
	Replay rulesReplayCmd `cmd:"" help:"Show what rules would have made of the recorded replies."`
}

type rulesListCmd struct {
	serverFlags
	Receiver string `help:"Only the rules of this receiver." placeholder:"NAME"`
	Unused   bool   `help:"Only rules that knew no answer, and receivers that had no mail, since the nodes started."`
}

func (rulesListCmd) Help() string { return "Example: ekiden settings rules --receiver docomo" }

// Run prints the rules in the order in which they are asked, and behind them who the receivers are.
func (c rulesListCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.ListReplyRules(a.ctx, &adminpb.ListReplyRulesRequest{})
	if err != nil {
		return err
	}
	r.Rules = slices.DeleteFunc(r.Rules, func(one *adminpb.ReplyRule) bool {
		return c.Unused && one.Hits > 0 || c.Receiver != "" && !slices.Contains(one.Receivers, c.Receiver)
	})
	r.Receivers = slices.DeleteFunc(r.Receivers, func(one *adminpb.ReceiverRow) bool {
		return c.Unused && one.Hits > 0 || c.Receiver != "" && one.Name != c.Receiver
	})
	if a.json {
		return printProto(a.out, r)
	}
	tellMissing(a, r.Missing)
	rows := [][]string{{"RULE", "RECEIVERS", "HITS", "CLASS", "SCOPE", "ACTION", "THEN", "DATE", "SOURCE"}}
	for _, one := range r.Rules {
		receivers := "all"
		if len(one.Receivers) > 0 {
			receivers = strings.Join(one.Receivers, ",")
		}
		rows = append(rows, []string{one.Rule, receivers, strconv.FormatUint(one.Hits, 10), classWords(mail.Status(one.Class)), one.Scope,
			actionWords(one.Action, one.For.AsDuration()), cmp.Or(one.Then, "-"), one.Date, one.Source})
	}
	if err := table(a.out, rows); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	rows = [][]string{{"RECEIVER", "HITS", "MATCHES", "LIMITS", "DATE", "SOURCE"}}
	for _, one := range r.Receivers {
		matches := one.Matches
		if len(matches) > matchesShown {
			matches = append(slices.Clone(matches[:matchesShown]), "…")
		}
		rows = append(rows, []string{one.Name, strconv.FormatUint(one.Hits, 10), cmp.Or(strings.Join(matches, ", "), "the rest"), one.Limits, one.Date, one.Source})
	}
	return table(a.out, rows)
}

// matchesShown is how many domains and hosts of a receiver a line shows; --json has all.
const matchesShown = 3

// classWords is an error status as number and word; "-" for none.
func classWords(s mail.Status) string {
	if s == mail.StatusNone {
		return "-"
	}
	return fmt.Sprintf("%d %s", s, bounce.WordsOf(s).Name)
}

func actionWords(action string, d time.Duration) string {
	if d > 0 {
		return action + " " + mail.Span(d)
	}
	return action
}

// rulesFlags say which rules are meant.
type rulesFlags struct {
	serverFlags
	File    string `short:"f" help:"Rules data, or settings or receivers with rules of their own; without it, the built-in ones." placeholder:"FILE"`
	InForce bool   `help:"The rules in force at the server: built-in ones and those of its settings."`
}

// rules reads them.
func (c rulesFlags) rules(a *app) (rulesData, error) {
	if !c.InForce {
		return rulesOf(c.File)
	}
	if c.File != "" {
		return rulesData{}, badUsage(errors.New("--file and --in-force exclude each other"))
	}
	cl, err := c.client()
	if err != nil {
		return rulesData{}, err
	}
	return rulesInForce(a, cl)
}

// rulesData are rules about receivers: what their answers mean, who they are and what they bear.
type rulesData struct {
	*bounce.Rules
	receivers *shaping.Rules
}

// rulesWith are the built-in ones and an operator's.
func rulesWith(own []settings.ReceiverRule) (d rulesData, err error) {
	if d.receivers, err = shaping.NewRules(own); err != nil {
		return d, err
	}
	d.Rules, err = bounce.New(settings.Receivers{Rules: own}.Replies()...)
	return d, err
}

func rulesInForce(a *app, cl adminpb.AdminServiceClient) (rulesData, error) {
	r, err := cl.GetSettings(a.ctx, &adminpb.GetSettingsRequest{})
	if err != nil {
		return rulesData{}, err
	}
	s, err := settings.Decode([]byte(r.Yaml), nil)
	if err != nil {
		return rulesData{}, fmt.Errorf("the settings in force cannot be read by this version: %w", err)
	}
	return rulesWith(s.Receivers.Rules)
}

// rulesOf reads a file of one of three forms: settings, a list of receivers, rules data about answers in place of the
// built-in ones. Without a file the built-in ones.
func rulesOf(file string) (rulesData, error) {
	if file == "" {
		return rulesWith(nil)
	}
	src, err := readBounded(file)
	if err != nil {
		return rulesData{}, badUsage(err)
	}
	var shape any
	if err := yaml.Unmarshal(src, &shape); err != nil {
		shape = nil // said better below
	}
	list, isList := shape.([]any)
	_, isSettings := shape.(map[string]any)
	data, err := rulesWith(nil)
	if err != nil {
		return data, err
	}
	switch {
	case isSettings:
		var s *settings.Settings
		if s, err = settings.Decode(src, beside(file)); err == nil {
			return rulesWith(s.Receivers.Rules)
		}
	case isList && !slices.ContainsFunc(list, hasRules):
		var rows []settings.ReceiverRule
		if rows, err = settings.DecodeRules(src); err == nil {
			return rulesWith(rows)
		}
	default:
		data.Rules, err = bounce.Parse(src)
	}
	if err != nil {
		return rulesData{}, badFile(file, err)
	}
	return data, nil
}

// hasRules tells groups of rules about answers from receivers.
func hasRules(one any) bool {
	m, _ := one.(map[string]any)
	return m["rules"] != nil
}

// badFile tells what is wrong with a file, in as many lines as there are faults.
func badFile(file string, err error) error {
	return badUsage(errors.New(file + ": " + strings.Join(lines(err.Error()), "\n"+file+": ")))
}

type rulesLintCmd struct{ rulesFlags }

func (rulesLintCmd) Help() string {
	return "Example: ekiden settings rules lint -f settings.yaml\n\n" +
		"Rules about answers, and rows of receivers: what stands behind another, names nobody, or is never reached.\n" +
		"A built-in rule that stands behind one of your own is told, and is no failure."
}

// Run prints what is wrong; it fails where something is.
func (c rulesLintCmd) Run(a *app) error {
	rules, err := c.rules(a)
	if err != nil {
		return err
	}
	found := rules.lint()
	if a.json {
		if err := printJSON(a.out, append([]bounce.Finding{}, found...)); err != nil {
			return err
		}
	}
	wrong := false
	for _, f := range found {
		wrong = wrong || !f.Meant
		if a.json {
			continue
		}
		level := "wrong"
		if f.Meant {
			level = "note"
		}
		fmt.Fprintf(a.out, "%s\t%s\t%s\t%s\n", level, cmp.Or(f.Receiver, "all"), f.Rule, f.Text)
	}
	if wrong {
		return errSilent
	}
	return nil
}

// lint finds what does not do what its writer meant: rules about answers, rows of receivers, and rules that no row's mail comes to.
func (d rulesData) lint() []bounce.Finding {
	found := d.Rules.Lint()
	for _, f := range d.receivers.Lint() {
		found = append(found, bounce.Finding(f))
	}
	for _, e := range d.Entries() {
		for _, name := range e.Receivers {
			if !d.receivers.Names(name) {
				found = append(found, bounce.Finding{Receiver: name, Rule: e.Rule, Text: "never matches: no receiver has that name"})
			}
		}
	}
	return found
}

type rulesTestCmd struct {
	Reply    string `arg:"" help:"What the receiver answered: code and text."`
	Receiver string `help:"Receiver that answered: docomo, google …" placeholder:"NAME"`
	Stage    string `help:"Stage it answered at." enum:"greeting,ehlo,tls,mail,rcpt,data,dot" default:"rcpt"`
	To       string `help:"Recipient, as the customer wrote it." placeholder:"ADDRESS"`
	rulesFlags
}

func (rulesTestCmd) Help() string {
	return `Example: ekiden settings rules test "550 Unknown user x@docomo.ne.jp" --receiver docomo --stage dot --to x@docomo.ne.jp`
}

// Run prints what the reply means.
func (c rulesTestCmd) Run(a *app) error {
	rules, err := c.rules(a)
	if err != nil {
		return err
	}
	reply, _, err := smtp.ParseReply([]byte(c.Reply + "\r\n"))
	if err != nil || reply.Positive() {
		return badUsage(fmt.Errorf("%q is no refusal; write its code and text, such as \"550 user unknown\"", c.Reply))
	}
	o := mail.Outcome{Result: mail.Failed, Reply: reply}
	if reply.Transient() {
		o.Result = mail.Deferred
	}
	for st := mail.StageGreeting; st <= mail.StageDot; st++ {
		if st.String() == c.Stage {
			o.Stage = st
		}
	}
	o = rules.Classify(c.Receiver, o, mail.Address(c.To))
	advice := cmp.Or(o.Advice, &mail.Advice{Rule: "none"})
	words := bounce.WordsOf(o.Status)
	show := []struct{ Key, Value string }{{"result", o.Result.String()}, {"status", fmt.Sprintf("%d %s", o.Status, words.Name)},
		{"scope", o.Scope.String()}, {"action", advice.Action.String()}, {"suppress", suppresses(&o)}, {"rule", advice.Rule}}
	if a.json {
		out := map[string]string{}
		for _, s := range show {
			out[s.Key] = s.Value
		}
		return printJSON(a.out, out)
	}
	for _, s := range show {
		fmt.Fprintf(a.out, "%-9s%s\n", s.Key, s.Value)
	}
	return nil
}

// suppresses tells whether the address may suffer for an outcome.
func suppresses(o *mail.Outcome) string {
	if o.Result == mail.Failed && o.Scope == mail.ScopeRecipient && (o.Advice == nil || !o.Advice.NoSuppress) {
		return "counts"
	}
	return "no"
}
