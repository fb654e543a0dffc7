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

// alarms are told in one way, whoever raises them: a line in the log and in the audit trail when one begins,
// ekiden_alarms and ekiden_alarms_total, and a notice of the node's status, which ekiden doctor shows.
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
	begins := s == nil || !now.Before(s.until)
	if begins {
		x.expire(now)
		s = &raised{since: now}
		if x.all == nil {
			x.all = map[[2]string]*raised{}
		}
		if len(x.all) < alarmsMost {
			x.all[key] = s
		}
	}
	s.alarm, s.until = a, now.Add(a.Lasts)
	x.mu.Unlock()
	if begins {
		x.node.metrics.AlarmsRaised.With(a.Name).Inc()
		x.node.log.Error("alarm", "alarm", a.Name, "about", a.About, "text", a.Text)
		x.audit("alarm "+a.Name, a.About, a.Text)
	}
}

// lower ends an alarm; nothing where none of that name stands.
func (x *alarms) lower(name, about string) {
	x.mu.Lock()
	key := [2]string{name, about}
	_, stood := x.all[key]
	delete(x.all, key)
	x.mu.Unlock()
	if stood {
		x.node.log.Warn("alarm ended", "alarm", name, "about", about)
	}
}

// stands tells whether an alarm does.
func (x *alarms) stands(name, about string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.all[[2]string{name, about}]
	return s != nil && x.node.clock.Now().Before(s.until)
}

// expire forgets alarms whose time is over; x is locked.
func (x *alarms) expire(now time.Time) {
	maps.DeleteFunc(x.all, func(_ [2]string, s *raised) bool { return !now.Before(s.until) })
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
	defer x.mu.Unlock()
	x.expire(x.node.clock.Now())
	for _, s := range x.all {
		out = append(out, *s)
	}
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
