package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Figures of alerts.
const (
	alarmAnswer = "receiver_answer"
	answerLasts = time.Hour // after the last answer of its kind
	alertsMost  = 1000      // rules and receivers whose answers are counted
)

// alerts counts answers whose rule wants somebody to look (requirement N14: alert), where the rule acts only on several:
// one that means nothing yet is no alarm.
type alerts struct {
	mu  sync.Mutex
	all map[[2]string]*alerted // by rule and receiver
}

type alerted struct {
	n     int
	since time.Time
}

// answered takes an answer into account. Its words are in the log of deliveries: they may name a recipient.
func (x *alerts) answered(n *Node, receiver string, o *mail.Outcome) {
	a := o.Advice
	if a.After > 1 && !x.often(n.clock.Now(), receiver, a) {
		return
	}
	what := "falls silent in a way"
	if !o.Reply.IsZero() {
		what = fmt.Sprintf("answers %d", o.Reply.Code)
		if o.Reply.Enhanced.Class != 0 {
			what += " " + o.Reply.Enhanced.String()
		}
	}
	does := ""
	if a.Action != mail.ActNone {
		does = fmt.Sprintf(", which asks for %s of the %s", a.Action, o.Scope)
	}
	from := ""
	if o.Source.IsValid() {
		from = " to " + o.Source.String()
	}
	n.alarms.raise(alarm{Name: alarmAnswer, About: receiver + " " + a.Rule, Lasts: answerLasts,
		Text: fmt.Sprintf("%s %s%s that rule %s wants looked at%s", receiver, what, from, a.Rule, does)})
}

// often counts an answer and tells whether its rule acts from now on.
func (x *alerts) often(now time.Time, receiver string, a *mail.Advice) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := [2]string{a.Rule, receiver}
	c := x.all[key]
	if c == nil || now.Sub(c.since) > a.Within {
		if x.all == nil || len(x.all) >= alertsMost {
			x.all = map[[2]string]*alerted{}
		}
		c = &alerted{since: now}
		x.all[key] = c
	}
	c.n++
	return c.n >= a.After
}
