package main

import (
	"cmp"
	"fmt"
	"os"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/mail/smtp"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

type settingsRulesCmds struct {
	Lint rulesLintCmd `cmd:"" help:"Find rules of replies that can never decide."`
	Test rulesTestCmd `cmd:"" help:"Show what a reply means, and which rule says so."`
}

type rulesLintCmd struct {
	File string `short:"f" help:"Rules data to look at; without it, the built-in ones." placeholder:"FILE"`
}

func (rulesLintCmd) Help() string { return "Example: ekiden settings rules lint -f rules.yaml" }

// Run prints what is wrong; it fails where something is.
func (c rulesLintCmd) Run(a *app) error {
	rules, err := rulesOf(c.File)
	if err != nil {
		return err
	}
	found := rules.Lint()
	if a.json {
		if err := printJSON(a.out, found); err != nil {
			return err
		}
	}
	for _, f := range found {
		if !a.json {
			fmt.Fprintf(a.out, "%s\t%s\t%s\n", f.Receiver, f.Rule, f.Text)
		}
	}
	if len(found) > 0 {
		return errSilent
	}
	return nil
}

// rulesOf reads rules data; without a file the built-in ones.
func rulesOf(file string) (*bounce.Rules, error) {
	if file == "" {
		return bounce.New()
	}
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, badUsage(err)
	}
	rules, err := bounce.Parse(src)
	if err != nil {
		return nil, badUsage(fmt.Errorf("%s: %w", file, err))
	}
	return rules, nil
}

type rulesTestCmd struct {
	Reply    string `arg:"" help:"What the receiver answered: code and text."`
	Receiver string `help:"Receiver that answered: docomo, google …" placeholder:"NAME"`
	Stage    string `help:"Stage it answered at." enum:"greeting,ehlo,tls,mail,rcpt,data,dot" default:"rcpt"`
	To       string `help:"Recipient, as the customer wrote it." placeholder:"ADDRESS"`
	File     string `short:"f" help:"Rules data to ask; without it, the built-in ones." placeholder:"FILE"`
}

func (rulesTestCmd) Help() string {
	return `Example: ekiden settings rules test "550 Unknown user x@docomo.ne.jp" --receiver docomo --stage dot --to x@docomo.ne.jp`
}

// Run prints what the reply means.
func (c rulesTestCmd) Run(a *app) error {
	rules, err := rulesOf(c.File)
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
