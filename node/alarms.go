package node

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
)

// alarmsMost bounds the alarms that stand at once; one more is told by log and audit trail only.
const alarmsMost = 500

// alarm is something at one member that somebody should look at: a condition that lasts, or an answer that asks for it.
type alarm struct {
	Name  string        // of its kind, as metrics and status tell it: "late_bounces"
	About string        // which receiver, "" = the node
	Text  string        // one sentence for people; no addresses of mail
	Lasts time.Duration // how long it stands if nobody raises it again
}

// raised is an alarm that stands.
type raised struct {
	alarm
	since, until time.Time
}

// alarms are told in one way, whoever raises them: a line in the log and in the audit trail when one begins, an event when
// it begins and when it ends, which webhooks post, ekiden_alarms and ekiden_alarms_total, and a notice of the node's status,
// which ekiden doctor shows.
type alarms struct {
	node *Node

	mu  sync.Mutex
	all map[[2]string]*raised // by name and about
}

// raise has a stand from now on; where it stands already it lasts longer, and is told by its new text.
func (x *alarms) raise(a alarm) {
	now := x.node.clock.Now()
	x.mu.Lock()
	key := [2]string{a.Name, a.About}
	s := x.all[key]
	begins, room := s == nil || !now.Before(s.until), false
	var over []raised
	if begins {
		over = x.expire(now)
		s = &raised{since: now}
		if x.all == nil {
			x.all = map[[2]string]*raised{}
		}
		if room = len(x.all) < alarmsMost; room {
			x.all[key] = s
		}
	}
	s.alarm, s.until = a, now.Add(a.Lasts)
	told := *s
	x.mu.Unlock()
	x.ended(over)
	if begins {
		x.node.metrics.AlarmsRaised.With(a.Name).Inc()
		x.node.log.Error("alarm", "alarm", a.Name, "about", a.About, "text", a.Text)
		x.audit("alarm "+a.Name, a.About, a.Text)
		if room {
			x.note(told, told.until)
		}
	}
}

// lower ends an alarm; nothing where none of that name stands.
func (x *alarms) lower(name, about string) {
	x.mu.Lock()
	key := [2]string{name, about}
	s := x.all[key]
	delete(x.all, key)
	x.mu.Unlock()
	if s != nil {
		x.ended([]raised{*s})
	}
}

// ended tells of alarms that stand no more.
func (x *alarms) ended(list []raised) {
	for i := range list {
		x.node.log.Warn("alarm ended", "alarm", list[i].Name, "about", list[i].About)
		x.note(list[i], time.Time{})
	}
}

// sweep tells of alarms whose time is over. Whoever looks at them does so, too.
func (x *alarms) sweep() { x.list() }

// stands tells whether an alarm does.
func (x *alarms) stands(name, about string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.all[[2]string{name, about}]
	return s != nil && x.node.clock.Now().Before(s.until)
}

// expire forgets alarms whose time is over, and returns them; x is locked.
func (x *alarms) expire(now time.Time) (over []raised) {
	maps.DeleteFunc(x.all, func(_ [2]string, s *raised) bool {
		if now.Before(s.until) {
			return false
		}
		over = append(over, *s)
		return true
	})
	return over
}

// note has the event of an alarm written, beside everything else: whoever raises one may be settling mail. until is when it
// ends by itself; zero = it has ended.
func (x *alarms) note(a raised, until time.Time) {
	e := x.node.engine.Load()
	if e == nil {
		return
	}
	now := x.node.clock.Now().Truncate(time.Millisecond)
	ev := mail.Event{At: now, Kind: mail.EventAlarm, Rule: a.Name, Receiver: a.About, Detail: a.Text}
	if !until.IsZero() {
		ev.Due = until.Truncate(time.Millisecond)
	}
	e.network.note(ev)
}

// audit notes an alarm in the book, beside everything else: there may be no majority for a while.
func (x *alarms) audit(action, subject, detail string) {
	m := x.node.member.Load()
	if m == nil {
		return
	}
	x.node.watchers.Go(func() {
		ctx, cancel := context.WithTimeout(x.node.life, publishWait)
		defer cancel()
		if _, err := m.propose(ctx, &ledger.Note{Signed: m.by(""), Action: action, Subject: subject, Detail: detail}); err != nil {
			x.node.log.Debug("the audit trail does not tell of an alarm", "error", err)
		}
	})
}

// list tells what stands, the oldest first.
func (x *alarms) list() (out []raised) {
	x.mu.Lock()
	over := x.expire(x.node.clock.Now())
	for _, s := range x.all {
		out = append(out, *s)
	}
	x.mu.Unlock()
	x.ended(over)
	slices.SortFunc(out, func(a, b raised) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.Name, b.Name), cmp.Compare(a.About, b.About))
	})
	return out
}

// notices tells status of what stands.
func (x *alarms) notices() (out []service.Reason) {
	for _, s := range x.list() {
		out = append(out, service.Reason{Code: s.Name, Detail: s.Text + " (since " + s.since.Format(time.DateTime) + ")"})
	}
	return out
}

// report tells the metrics how many stand, by name.
func (x *alarms) report(tell func(name string, n float64)) {
	for _, s := range x.list() {
		tell(s.Name, 1)
	}
}
