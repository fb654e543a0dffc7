package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ekiden-mta/ekiden/admin/adminpb"
	"github.com/ekiden-mta/ekiden/admin/rpc"
	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

type rulesReplayCmd struct {
	serverFlags
	File     string `short:"f" help:"Settings, receivers or rules data to ask; without it, the rules in force." placeholder:"FILE"`
	Receiver string `help:"Only what this receiver answered." placeholder:"NAME"`
	Domain   string `help:"Only what was answered for this destination domain." placeholder:"DOMAIN"`
	Since    string `help:"Replies from this time on: RFC 3339, or a duration back from now." default:"24h" placeholder:"TIME"`
	Until    string `help:"Before this time." placeholder:"TIME"`
	All      bool   `help:"Show also replies of which the rules make what was made of them."`
}

func (rulesReplayCmd) Help() string {
	return "Example: ekiden settings rules replay -f settings.yaml --since 168h --receiver docomo\n\n" +
		"Nothing is changed or sent. With --json, one object per reply and the summary as the last."
}

// replayed is one recorded answer: what was made of it, and what the rules would make of it.
type replayed struct {
	At       string `json:"at"`
	To       string `json:"to"`
	Receiver string `json:"receiver"`
	Stage    string `json:"stage"`
	Reply    string `json:"reply"`
	Same     bool   `json:"same"`
	Did      made   `json:"did"`
	Would    made   `json:"would"`
}

// made is what rules make of an answer.
type made struct {
	Result string `json:"result"`
	Class  string `json:"class"`
	Scope  string `json:"scope"`
	Action string `json:"action"`
	For    string `json:"for,omitempty"`
	Rule   string `json:"rule"` // "none" where no rule knew it
}

func madeOf(o *mail.Outcome) made {
	a := cmp.Or(o.Advice, &mail.Advice{})
	m := made{Result: o.Result.String(), Class: classWords(o.Status), Scope: o.Scope.String(), Action: a.Action.String(), Rule: cmp.Or(a.Rule, "none")}
	if a.For > 0 {
		m.For = mail.Span(a.For)
	}
	return m
}

func (m made) String() string {
	s := m.Result + " " + m.Class + ", " + m.Scope + ": " + m.Action
	if m.For != "" {
		s += " " + m.For
	}
	return s + " (" + m.Rule + ")"
}

// replaySummary counts a replay.
type replaySummary struct {
	Replies    int            `json:"replies"`
	Same       int            `json:"same"`
	Different  int            `json:"different"`
	Unknown    int            `json:"unknown"`    // no rule knows them
	Rules      map[string]int `json:"rules"`      // by the rule that would decide
	Difference map[string]int `json:"difference"` // "rule then -> rule now"
}

// Run reads the recorded answers page by page and asks the rules about each.
func (c rulesReplayCmd) Run(a *app) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var rules rulesData
	if c.File != "" {
		rules, err = rulesOf(c.File)
	} else {
		rules, err = rulesInForce(a, cl)
	}
	if err != nil {
		return err
	}
	sum := replaySummary{Rules: map[string]int{}, Difference: map[string]int{}}
	for _, status := range [...]mail.EventKind{mail.EventDeferred, mail.EventFailed, mail.EventBounced} {
		req, err := logCmd{Domain: c.Domain, Since: c.Since, Until: c.Until, Status: status.String()}.request(a, cl)
		if err != nil {
			return err
		}
		for more := true; more; {
			r, err := cl.SearchEvents(a.ctx, req)
			if err != nil {
				return err
			}
			tellMissing(a, r.Missing)
			if err := c.page(a, rules.Rules, r.Events, &sum); err != nil {
				return err
			}
			req.Cursor, more = r.NextCursor, r.More
		}
	}
	return sum.print(a)
}

// page replays the answers of one page.
func (c rulesReplayCmd) page(a *app, rules *bounce.Rules, events []*adminpb.Event, sum *replaySummary) error {
	for _, p := range events {
		e := rpc.EventOf(p)
		if c.Receiver != "" && e.Receiver != c.Receiver {
			continue
		}
		would, did, ok := rules.Replay(&e)
		if !ok {
			continue
		}
		line := replayed{At: instant(timestamppb.New(e.At)), To: string(e.To), Receiver: e.Receiver, Stage: e.Stage.String(), Reply: detailOf(p),
			Same: bounce.SameDoing(&did, &would), Did: madeOf(&did), Would: madeOf(&would)}
		sum.count(&line)
		if line.Same && !c.All {
			continue
		}
		if a.json {
			if err := printJSON(a.out, line); err != nil {
				return err
			}
			continue
		}
		if err := line.print(a); err != nil {
			return err
		}
	}
	return nil
}

func (l *replayed) print(a *app) error {
	_, err := fmt.Fprintf(a.out, "%s  %s  %s  %s  %s\n", l.At, printable(l.Receiver), l.Stage, printable(l.To), printable(l.Reply))
	if err != nil {
		return err
	}
	if l.Same {
		_, err = fmt.Fprintf(a.out, "    same   %s\n", printable(l.Would.String()))
		return err
	}
	_, err = fmt.Fprintf(a.out, "    was    %s\n    would  %s\n", printable(l.Did.String()), printable(l.Would.String()))
	return err
}

func (s *replaySummary) count(l *replayed) {
	s.Replies++
	s.Rules[l.Would.Rule]++
	if l.Would.Rule == "none" {
		s.Unknown++
	}
	if l.Same {
		s.Same++
		return
	}
	s.Different++
	s.Difference[l.Did.Rule+" -> "+l.Would.Rule]++
}

func (s *replaySummary) print(a *app) error {
	if a.json {
		return printJSON(a.out, map[string]any{"summary": s})
	}
	if _, err := fmt.Fprintf(a.out, "%s replies: %s as they were, %s otherwise, %s that no rule knows\n",
		number(int64(s.Replies)), number(int64(s.Same)), number(int64(s.Different)), number(int64(s.Unknown))); err != nil {
		return err
	}
	rows := [][]string{{"OTHERWISE", "REPLIES"}}
	for _, k := range byCount(s.Difference) {
		rows = append(rows, []string{k, number(int64(s.Difference[k]))})
	}
	if len(rows) > 1 {
		if err := table(a.out, rows); err != nil {
			return err
		}
	}
	rows = [][]string{{"RULE", "REPLIES"}}
	for _, k := range byCount(s.Rules) {
		rows = append(rows, []string{k, number(int64(s.Rules[k]))})
	}
	return table(a.out, rows)
}

// byCount lists the keys of m, those that count most first.
func byCount(m map[string]int) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(m[b]-m[a], cmp.Compare(a, b)) })
}
