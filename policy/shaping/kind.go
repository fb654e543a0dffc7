package shaping

import (
	"cmp"
	"time"
)

// Kind is mail for which an operator set limits of its own below what the receiver bears: cleaning mail, or that of a speed
// filter. What the receiver sees is all kinds together, so a grant needs both: see Lane. The zero Kind is all other mail. In
// every field 0 means: as the receiver bears.
type Kind struct {
	Name        string        // "cleaning", "speed t/f", "cleaning speed t/f"; "" = all other mail
	Connections int           // at once from one source
	Total       int           // at once over all sources of the node, which share it
	Interval    time.Duration // from one message's begin to the next on one connection, in place of the receiver's
	Part        int           // of the pace, the new connections and the caps it has this part: 10 = a tenth
	Fixed       bool          // its pace is the operator's, not what was learned (R41)
}

// cleaningPart is the part of a receiver's limits that cleaning mail gets (requirement R49).
const cleaningPart = 10

// cleaningInterval keeps cleaning mail slow also where a receiver has no limits.
const cleaningInterval = 100 * time.Millisecond

// Cleaning is what cleaning mail may use: a tenth of everything, on connections of its own. Where that leaves a whole
// connection more than a tenth, the distance of messages makes up for it.
func (l Limits) Cleaning() Limits {
	k := &l.Kind
	if k.Name == "" {
		k.Name = "cleaning"
	} else {
		k.Name = "cleaning " + k.Name
	}
	if k.Total > 0 {
		k.Total = max(1, k.Total/cleaningPart)
	}
	all, every := l.Most(), l.Every()
	k.Connections, k.Part = max(1, all/cleaningPart), cleaningPart
	k.Interval = max(every*time.Duration(cleaningPart*k.Connections)/time.Duration(max(1, all)), cleaningInterval)
	return l
}

// Filtered is what mail may use that a speed filter matches (requirements R40-R42), on connections of its own. Figures
// the filter leaves open stay the receiver's; its connections are all sources' together.
func (l Limits) Filtered(name string, connections int, interval time.Duration, fixed bool) Limits {
	l.Kind = Kind{Name: "speed " + name, Connections: connections, Total: connections, Interval: interval, Fixed: fixed}
	return l
}

// Most is how many connections the kind of mail may have at once from one source.
func (l *Limits) Most() int {
	if l.Kind.Connections > 0 {
		return min(l.Connections, l.Kind.Connections)
	}
	return l.Connections
}

// Every is the time from one message's begin to the next on one connection.
func (l *Limits) Every() time.Duration { return cmp.Or(l.Kind.Interval, l.Interval) }

// Lane names the receiver's kind of mail: the receiver alone for all other mail.
func (l *Limits) Lane() string {
	if l.Kind.Name == "" {
		return l.Receiver
	}
	return l.Receiver + " " + l.Kind.Name
}

// SameReceiver tells whether l and o say the same of what the receiver bears of all kinds of mail.
func (l *Limits) SameReceiver(o *Limits) bool {
	x, y := *l, *o
	x.Kind, x.Queue, x.TLS, x.Edition = y.Kind, y.Queue, y.TLS, y.Edition
	return x == y
}

// Same tells whether l and o say the same, whichever edition of the rules they come from.
func (l *Limits) Same(o *Limits) bool {
	x := *l
	x.Edition = o.Edition
	return x == *o
}
