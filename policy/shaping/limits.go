package shaping

import (
	"hash/fnv"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Limits is what one receiver bears from one source. In every field 0 means no limit, except Connections, which is at
// least 1.
type Limits struct {
	Receiver       string        // policy group: "docomo", "mx:mx.example.net", "route:127.0.0.1:2526"
	Kind           Kind          // of mail that the operator allows less
	Edition        uint64        // of the rules it comes from: newer limits replace older ones, never the other way; 0 = of no rules
	Queue          string        // classic queue name (R63)
	Connections    int           // at once
	PerConnection  int           // messages on one connection
	SessionTime    time.Duration // how long after its beginning a connection begins messages
	Interval       time.Duration // from one message's begin to the next on one connection
	Rate           float64       // messages a second; the bucket holds one second's worth, at least one message
	Start          float64       // messages a second to begin with, until the receiver has shown what it bears; 0 = Rate
	ConnectionRate float64       // new connections a second; the bucket holds a minute's worth, at most Connections
	DailyCap       int           // messages a UTC day
	HourlyCap      int           // messages an hour, by the clock
	Size           int           // octets of a message: larger ones are not sent; 0 = not known
	TLS            string        // "opportunistic", "required", "none"
	BlockPause     time.Duration // how long to leave the receiver alone once it blocks; doubles while probes fail …
	BlockPauseMax  time.Duration // … up to this; 0 = four times BlockPause, so that a lifetime of half an hour survives
	Fixed          bool          // nothing is learned: these are the figures, whatever the receiver says (R41)
	TopOfHour      time.Duration // no mail for a random part of that long after every full hour
}

// Relay is what a host bears that the operator sends mail to himself: many connections and no pace.
func Relay(h mail.Host) Limits {
	return Limits{
		Receiver:    "route:" + h.Name + ":" + strconv.Itoa(int(h.Port)),
		Queue:       "pc",
		Connections: RouteConnections,
		Fixed:       true,
		TLS:         "opportunistic",
		BlockPause:  routeBlockPause, BlockPauseMax: routeBlockPause,
	}
}

// RouteConnections is how many connections a static route may use at once: it names a relay the operator owns.
const RouteConnections = 64

// routeBlockPause is short and stays so: a relay of one's own that refuses is down, not offended.
const routeBlockPause = 2 * time.Second

// Relimit puts other limits of the receiver in force. What is out, used up and learned stays, and so does what the receiver said:
// only where nothing is to be learned any more is what was forgotten.
func (m *Machine) Relimit(now time.Time, l Limits) {
	m.advance(now)
	l.Connections = max(l.Connections, 1)
	switch k := &m.k; {
	case l.Fixed:
		m.k = learned{limit: k.limit, until: k.until, level: k.level, at: k.at}
	case m.l.Fixed || k.ceiling == 0 && k.pace == m.l.Start:
		k.pace, k.grown = l.Start, momentOf(now)
	case k.pace == 0 && l.Start > 0: // it bore what the limits said
		k.pace, k.grown = max(l.Start, m.l.Rate), momentOf(now)
	}
	s := beginnings(l.ConnectionRate, l.Connections)
	if m.sessions.size > 0 {
		s.level, s.at = min(s.level, m.sessions.level), m.sessions.at
	}
	m.l, m.sessions, m.day.most, m.hour.most = l, s, l.DailyCap, l.HourlyCap
	m.all.fit(momentOf(now), l.Rate)
	m.advance(now)
}

// Spared is when the pause ends that is kept after the full hour before now.
func (l *Limits) Spared(now time.Time) time.Time {
	start := now.Truncate(time.Hour)
	if now.Sub(start) >= l.TopOfHour {
		return start
	}
	h := fnv.New32a()
	var b [8]byte
	for i := range b {
		b[i] = byte(start.Unix() >> (8 * i))
	}
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(l.Receiver))
	return start.Add(time.Duration(float64(l.TopOfHour) * float64(h.Sum32()) / (1 << 32)))
}
