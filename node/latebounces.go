package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/policy/bounce"
)

// Figures of late bounces.
const (
	alarmLate    = "late_bounces"
	metaLate     = "late-bounces" // counts, in the store
	lateMost     = 5_000          // receivers that are looked at; beyond them those without reports make place
	lateKept     = 40             // of which so many outlive a restart: those with reports, then the largest
	lateEvery    = 10 * time.Second
	lateKeptEach = 360              // looks: a crash forgets an hour, of mail and of reports alike
	lateLasts    = 10 * time.Minute // an alarm that is not raised again ends
	lateTry      = 2 * time.Second  // one question to another member
	lateDay      = 24 * time.Hour
	pathLates    = "/member/late-bounces"
	maxLates     = 4 << 20 // octets of an answer: lateMost receivers with long names
)

// lates watches which receivers report failures of what they had taken (requirement N17). Each member counts what it sent
// and heard itself; the one that keeps house judges by what all of them counted, for a report may come to a member that did
// not send the mail.
type lates struct {
	mu     sync.Mutex
	all    map[string]*bounce.Late
	seen   map[string]int64 // of the node's numbers: how many a receiver had taken at the last look
	others map[string]lateSums
	look   int
}

// lateSums is what another member counted within a day, by receiver, when it said so last.
type lateSums struct {
	at   time.Time
	sums map[string]bounce.LateHour
}

// reported counts a failure that was told after the mail had been taken, and judges the receiver at once where there are no other members.
func (x *lates) reported(n *Node, receiver string) {
	x.mu.Lock()
	x.sample(n, receiver, n.numbers.tally(receiver)[mail.EventDelivered].Load())
	l := x.of(receiver)
	l.Count(n.clock.Now(), 0, 1)
	sum := l.Sum(n.clock.Now())
	x.mu.Unlock()
	if m := n.member.Load(); m != nil && m.agreed.Alone() { // others are asked at the next look
		alarmLates(n, receiver, sum)
	}
}

// sample counts what a receiver has taken since the last look; x is locked.
func (x *lates) sample(n *Node, receiver string, taken int64) {
	if more := taken - x.seen[receiver]; more > 0 {
		x.of(receiver).Count(n.clock.Now(), more, 0)
		x.seen[strings.Clone(receiver)] = taken
	}
}

// alarmLates raises or lowers the alarm of a receiver.
func alarmLates(n *Node, receiver string, s bounce.LateHour) {
	limits := n.book.now.Load().index.Settings.Alarms
	if limits.LateBounces < 0 || !s.Alarms(limits.LateBounces, limits.LateBouncesLeast, n.alarms.stands(alarmLate, receiver)) {
		n.alarms.lower(alarmLate, receiver)
		return
	}
	n.alarms.raise(alarm{Name: alarmLate, About: receiver, Lasts: lateLasts, Text: fmt.Sprintf(
		"%s reported %d failures within a day after it had taken the mail (%d taken): its 250 means little", receiver, s.Reported, s.Taken)})
}

// of finds or makes the counts of a receiver; x is locked.
func (x *lates) of(receiver string) *bounce.Late {
	if l := x.all[receiver]; l != nil {
		return l
	}
	if x.all == nil {
		x.all = map[string]*bounce.Late{}
	}
	if len(x.all) >= lateMost {
		maps.DeleteFunc(x.all, func(_ string, l *bounce.Late) bool {
			for _, h := range l.Hours {
				if h.Reported > 0 {
					return false
				}
			}
			return true
		})
	}
	l := &bounce.Late{}
	x.all[strings.Clone(receiver)] = l
	return l
}

// judge counts what was taken since the last look; the member that keeps house raises or lowers the alarm of each receiver,
// the others have none.
func (x *lates) judge(n *Node, e *engine) {
	x.sampleAll(n)
	sums := x.sums(n)
	x.mu.Lock()
	x.look++
	keep := x.look%lateKeptEach == 0
	x.mu.Unlock()
	m := n.member.Load()
	keeper := m != nil && m.keepsHouse()
	if keeper {
		x.ask(n, m, e)
		sums = x.withOthers(sums)
	}
	for receiver, s := range sums {
		if keeper {
			alarmLates(n, receiver, s)
		} else {
			n.alarms.lower(alarmLate, receiver)
		}
	}
	n.alarms.sweep()
	if keep {
		x.keep(e.life, n, e)
	}
}

// sampleAll counts what every receiver has taken since the last look.
func (x *lates) sampleAll(n *Node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n.numbers.receivers.Range(func(name, count any) bool {
		if receiver := name.(string); receiver != "" {
			x.sample(n, receiver, count.(*tally)[mail.EventDelivered].Load())
		}
		return true
	})
}

// sums is what this member counted within a day, by receiver.
func (x *lates) sums(n *Node) map[string]bounce.LateHour {
	now := n.clock.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	sums := make(map[string]bounce.LateHour, len(x.all))
	for receiver, l := range x.all {
		sums[receiver] = l.Sum(now)
		if len(l.Hours) == 0 {
			delete(x.all, receiver)
		}
	}
	return sums
}

// withOthers adds what the other members counted.
func (x *lates) withOthers(sums map[string]bounce.LateHour) map[string]bounce.LateHour {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, o := range x.others {
		for receiver, s := range o.sums {
			sums[receiver] = sums[receiver].And(s)
		}
	}
	return sums
}

// ask has the other members say what they counted. What one that does not answer said within the last day still counts: its
// mail is reported to the others.
func (x *lates) ask(n *Node, m *member, e *engine) {
	if m.peers == nil {
		return
	}
	now, heard := n.clock.Now(), map[string]lateSums{}
	x.mu.Lock()
	known := maps.Clone(x.others)
	x.mu.Unlock()
	for _, p := range m.peers.List() {
		ctx, cancel := context.WithTimeout(e.life, lateTry)
		var sums map[string]bounce.LateHour
		err := m.peers.call(ctx, http.MethodGet, p.Name, pathLates, nil, maxLates, &sums)
		cancel()
		if err == nil {
			heard[p.Name] = lateSums{now, sums}
		} else if o, ok := known[p.Name]; ok && now.Sub(o.at) < lateDay {
			heard[p.Name] = o
		}
	}
	x.mu.Lock()
	x.others = heard
	x.mu.Unlock()
}

// serveLates answers the member that keeps house.
func (n *Node) serveLates(mux *http.ServeMux) {
	answer(mux, http.MethodGet, pathLates, 0, func(context.Context, struct{}) (map[string]bounce.LateHour, error) {
		e, err := n.running()
		if err != nil {
			return nil, err
		}
		e.lates.sampleAll(n)
		return e.lates.sums(n), nil
	})
}

// keep writes the counts to the store.
func (x *lates) keep(ctx context.Context, n *Node, e *engine) {
	type row struct {
		receiver string
		sum      bounce.LateHour
	}
	x.mu.Lock()
	var rows []row
	for receiver, l := range x.all {
		rows = append(rows, row{receiver, l.Sum(n.clock.Now())})
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.sum.Reported, a.sum.Reported), cmp.Compare(b.sum.Taken, a.sum.Taken), cmp.Compare(a.receiver, b.receiver))
	})
	kept := map[string]*bounce.Late{}
	for _, r := range rows[:min(len(rows), lateKept)] {
		kept[r.receiver] = x.all[r.receiver]
	}
	raw, err := json.Marshal(kept)
	x.mu.Unlock()
	if err == nil {
		err = e.keep(ctx, metaLate, raw)
	}
	if err != nil && e.life.Err() == nil {
		n.log.Warn("counts of late bounces are not on disk", "error", err)
	}
}

// begin takes the node's numbers, which outlive an engine, for seen: the engine before this one has counted them.
func (x *lates) begin(n *Node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen = map[string]int64{}
	n.numbers.receivers.Range(func(name, count any) bool {
		x.seen[name.(string)] = count.(*tally)[mail.EventDelivered].Load()
		return true
	})
}

// restore reads the counts of before a restart.
func (x *lates) restore(n *Node, e *engine) error {
	x.begin(n)
	raw, err := e.store.Meta(metaLate)
	if err != nil {
		return fmt.Errorf("node: read late bounces: %w", err)
	}
	all := map[string]*bounce.Late{}
	if raw == nil || json.Unmarshal(raw, &all) != nil { // of another release: it is counted anew
		return nil
	}
	maps.DeleteFunc(all, func(_ string, l *bounce.Late) bool { return l == nil })
	x.mu.Lock()
	x.all = all
	x.mu.Unlock()
	return nil
}
