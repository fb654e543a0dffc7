package shaping

import (
	"hash/fnv"
	"math"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Memory is what is worth keeping of a machine nobody uses: small, free of pointers, and fit for disk. The zero Memory
// is that of a machine that has learned nothing.
type Memory struct {
	Objected int64 `json:"o,omitempty"` // when the receiver last objected, Unix seconds
	Until    int64 `json:"u,omitempty"` // a block's end, Unix seconds; 0 = none
	Again    int32 `json:"a,omitempty"` // the pause a rule asked for, seconds

	Pace    float32 `json:"p,omitempty"` // messages a second; 0 = as the limits say
	Ceiling float32 `json:"c,omitempty"`
	Sent    int32   `json:"m,omitempty"` // when mail was last sent, Unix minutes; 0 = not known
	Conns   uint16  `json:"n,omitempty"` // connections; 0 = as the limits say
	Pauses  uint8   `json:"b,omitempty"`
	Ramp    bool    `json:"r,omitempty"`

	NamedUntil int64   `json:"lu,omitempty"` // end of a limit that the receiver named, Unix seconds; 0 = none:
	NamedRate  float32 `json:"lr,omitempty"` // messages a second; 0 = of something else, as below
	NamedConns uint16  `json:"lc,omitempty"` // connections
	NamedPer   uint16  `json:"lp,omitempty"` // messages on one connection

	Day    int32 `json:"d,omitempty"`  // of Spent, since 1970 UTC
	Spent  int32 `json:"s,omitempty"`  // of the daily cap
	Hour   int32 `json:"h1,omitempty"` // of InHour, since 1970 …
	InHour int32 `json:"h2,omitempty"` // … of the hourly cap

	Plan     uint32 `json:"w,omitempty"` // the plan's number: see planNumber; 0 = none
	Hurt     bool   `json:"h,omitempty"`
	Step     int16  `json:"ws,omitempty"`
	WarmDay  int32  `json:"wd,omitempty"`
	WarmLast int32  `json:"wl,omitempty"`
	WarmSent int32  `json:"wn,omitempty"`
	Period   int32  `json:"wp,omitempty"`
	InPeriod int32  `json:"wi,omitempty"`
}

// planNumber stands for a plan's name: 1 and 2 for those that were there first, else a hash with the highest bit set.
func planNumber(p *Plan) uint32 {
	switch {
	case p == nil:
		return 0
	case p.Name == PlanSendGrid:
		return 1
	case p.Name == PlanSparkPost:
		return 2
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.Name))
	return h.Sum32() | 1<<31
}

// Remember returns what is worth keeping. Slots that are out are not part of it.
func (m *Machine) Remember(now time.Time) Memory {
	m.advance(now)
	k, w := &m.k, &m.w
	var y Memory
	if k.pace > 0 && (k.ceiling > 0 || k.pace != m.l.Start) {
		y.Pace, y.Ceiling = float32(k.pace), float32(k.ceiling)
		if k.exhausted() {
			y.Pace = hover * y.Ceiling
		}
		if k.ceiling > 0 && k.at != 0 {
			y.Sent = int32(time.Duration(k.at) / time.Minute)
		}
	}
	if k.conns > 0 {
		y.Conns, y.Ramp = uint16(min(k.conns, math.MaxUint16)), k.ramp
	}
	if !k.objected.IsZero() && y != (Memory{}) {
		y.Objected = k.objected.Unix()
	}
	if m.state == Blocked || m.state == Probing {
		y.Until, y.Again, y.Pauses = m.until.Unix(), int32(m.again/time.Second), uint8(min(m.pauses, math.MaxUint8))
		y.Ramp = k.ramp
	}
	if a := k.limit; a != nil {
		y.NamedUntil, y.NamedRate = k.until.Unix(), float32(a.Rate)
		y.NamedConns, y.NamedPer = uint16(min(max(a.Connections, 0), math.MaxUint16)), uint16(min(max(a.PerConnection, 0), math.MaxUint16))
	}
	if m.day.spent > 0 {
		y.Day, y.Spent = int32(m.day.at), small(m.day.spent)
	}
	if m.hour.spent > 0 {
		y.Hour, y.InHour = int32(m.hour.at), small(m.hour.spent)
	}
	w.remember(&y)
	return y
}

func (w *warmth) remember(y *Memory) {
	if n := planNumber(w.plan); n > 0 {
		y.Plan, y.Step, y.Hurt = n, int16(w.step), w.hurt
		y.WarmDay, y.WarmLast, y.WarmSent = int32(w.day), int32(w.last), small(w.sent)
		y.Period, y.InPeriod = int32(w.period), small(w.spent)
	}
}

func (w *warmth) recall(now time.Time, y *Memory) {
	if w.plan == nil || planNumber(w.plan) != y.Plan || y.WarmDay <= 0 || int64(y.WarmDay) > unixDay(now) {
		return
	}
	w.step, w.hurt = int(min(max(y.Step, 0), int16(len(w.plan.Steps)))), y.Hurt
	w.day, w.last, w.sent = int64(y.WarmDay), int64(y.WarmLast), int(max(y.WarmSent, 0))
	w.period, w.spent, w.stale = min(int64(y.Period), w.periodAt(now)), int(max(y.InPeriod, 0)), 0 // its span may be another now
}

// Spend counts a message in y that was sent at a moment and that y does not know of: whoever kept y was killed before it
// could remember anew. p is the plan the source is warmed up by, nil = none. Messages come in the order of their moments.
func (y *Memory) Spend(at time.Time, p *Plan) {
	spend := func(span int64, in, spent *int32) {
		switch now := int32(at.Unix() / span); {
		case now > *in:
			*in, *spent = now, 1
		case now == *in:
			*spent = small(int(*spent) + 1)
		}
	}
	spend(86400, &y.Day, &y.Spent)
	spend(3600, &y.Hour, &y.InHour)
	if p == nil {
		return
	}
	w := warmth{plan: p}
	if w.recall(at, y); w.periodAt(at) >= w.period {
		w.advance(at, 0)
		w.debit(1)
		w.remember(y)
	}
}

// Place is where a source stands in a plan, and nothing of what it sent: what others have to know of it. ok is false where
// it is in none.
func (y *Memory) Place() (place Memory, ok bool) {
	return Memory{Plan: y.Plan, Step: y.Step, Hurt: y.Hurt, WarmDay: y.WarmDay, WarmLast: y.WarmLast}, y.Plan != 0 && y.WarmDay > 0
}

// Adopt takes up a place that another member knew of the source, where y knows of none or of an older one. What was sent since
// nobody can tell: the present span counts as used up.
func (y *Memory) Adopt(place Memory) {
	if y.Plan != 0 && place.WarmDay <= y.WarmDay { // also where it is of another plan: that one was in force before
		return
	}
	y.Plan, y.Step, y.Hurt, y.WarmDay, y.WarmLast, y.WarmSent = place.Plan, place.Step, place.Hurt, place.WarmDay, place.WarmLast, 0
	y.Period, y.InPeriod = math.MaxInt32, math.MaxInt32
}

func small(n int) int32 { return int32(min(n, math.MaxInt32)) }

// Recall takes up what Remember returned, on a machine that is new. What does not make sense is left out: it may come
// from a file. A plan that is not in force any more is forgotten; call Warm first.
func (m *Machine) Recall(now time.Time, y Memory) {
	if !m.l.Fixed {
		m.recallPace(now, &y)
	}
	most := now.Add(24 * time.Hour)
	if end := time.Unix(y.NamedUntil, 0); end.After(now) && y.NamedRate >= 0 {
		m.k.limit = &mail.Advice{Action: mail.ActLimit, Rate: float64(y.NamedRate), Connections: int(y.NamedConns), PerConnection: int(y.NamedPer)}
		m.k.until = earlier(end, most)
	}
	if y.Until > 0 {
		end := earlier(time.Unix(y.Until, 0), most)
		m.state, m.until, m.k.ramp = Blocked, end, y.Ramp
		m.again, m.pauses = time.Duration(max(y.Again, 0))*time.Second, int(min(y.Pauses, 8))
	}
	if y.Day > 0 {
		m.day.at, m.day.spent = int64(y.Day), int(max(y.Spent, 0))
	}
	if y.Hour > 0 {
		m.hour.at, m.hour.spent = int64(y.Hour), int(max(y.InHour, 0))
	}
	m.w.recall(now, &y)
	m.advance(now)
	m.repace(momentOf(now))
}

func (m *Machine) recallPace(now time.Time, y *Memory) {
	k := &m.k
	if p := float64(y.Pace); p >= leastPace && p < 1e6 {
		k.pace, k.ceiling = p, max(0, float64(y.Ceiling))
		if k.ceiling > 0 && !(k.ceiling >= p/2 && k.ceiling < 1e6) {
			k.ceiling = p
		}
		k.met = k.ceiling
		if y.Sent > 0 && int64(y.Sent) <= now.Unix()/60 {
			k.at = moment(time.Duration(y.Sent) * time.Minute)
		}
		k.grown, k.objected = momentOf(now), time.Unix(min(max(y.Objected, 0), now.Unix()), 0)
	}
	if n := int(y.Conns); n > 0 && n < m.l.Connections {
		k.conns, k.added, k.ramp = n, now, y.Ramp
	}
}

// Hint takes up what another source learned about the receiver: a new source begins a little below what that one was
// refused at, instead of finding out anew. It changes nothing on a machine that has learned something itself.
func (m *Machine) Hint(now time.Time, y Memory) {
	if m.l.Fixed || !m.k.objected.IsZero() || y.Ceiling <= 0 {
		return
	}
	m.recallPace(now, &Memory{Pace: max(leastPace, min(y.Pace, y.Ceiling)*cut), Ceiling: y.Ceiling, Conns: y.Conns, Objected: y.Objected})
	m.advance(now)
	m.repace(momentOf(now))
}
