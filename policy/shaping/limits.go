package shaping

import (
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Limits is what one receiver bears from one source. In every field 0 means no limit, except Connections, which is at
// least 1.
type Limits struct {
	Receiver       string        // policy group: "docomo", "mx:mx.example.net", "route:127.0.0.1:2526"
	Lane           string        // kind of mail that is counted apart from the receiver's other: "cleaning", "" = all other
	Queue          string        // classic queue name (R63)
	Connections    int           // at once
	Total          int           // at once over all sources of the node, which share it; 0 = no such bound
	PerConnection  int           // messages on one connection
	SessionTime    time.Duration // how long after its beginning a connection begins messages
	Interval       time.Duration // from one message's begin to the next on one connection
	Rate           float64       // messages a second; the bucket holds one second's worth, at least one message
	Start          float64       // messages a second to begin with, until the receiver has shown what it bears; 0 = Rate
	ConnectionRate float64       // new connections a second; the bucket holds a minute's worth, at most Connections
	DailyCap       int           // messages a UTC day
	HourlyCap      int           // messages an hour, by the clock
	TLS            string        // "opportunistic", "required", "none"
	BlockPause     time.Duration // how long to leave the receiver alone once it blocks; doubles while probes fail …
	BlockPauseMax  time.Duration // … up to this; 0 = four times BlockPause, so that a lifetime of half an hour survives
	Fixed          bool          // nothing is learned: these are the figures, whatever the receiver says (R41)
	TopOfHour      time.Duration // new connections keep off a random part of that long after every full hour
}

// cleaningShare is the part of a receiver's limits that cleaning mail gets (requirement R49).
const cleaningShare = 10

// Cleaning is what cleaning mail may use: a tenth of everything, on connections of its own. Where that leaves a whole
// connection more than a tenth, the distance of messages makes up for it.
func (l Limits) Cleaning() Limits {
	if l.Lane == "" {
		l.Lane = "cleaning"
	} else {
		l.Lane = "cleaning " + l.Lane
	}
	if l.Total > 0 {
		l.Total = max(1, l.Total/cleaningShare)
	}
	connections := max(1, l.Connections/cleaningShare)
	l.Interval = max(l.Interval*time.Duration(cleaningShare*connections)/time.Duration(max(1, l.Connections)), cleaningInterval)
	l.Connections = connections
	l.Rate, l.ConnectionRate = l.Rate/cleaningShare, l.ConnectionRate/cleaningShare
	if l.DailyCap > 0 {
		l.DailyCap = max(1, l.DailyCap/cleaningShare)
	}
	if l.HourlyCap > 0 {
		l.HourlyCap = max(1, l.HourlyCap/cleaningShare)
	}
	return l
}

// cleaningInterval keeps cleaning mail slow also where a receiver has no limits.
const cleaningInterval = 100 * time.Millisecond

// Filtered is what mail may use that a speed filter matches (requirements R40-R42), on connections of its own. Figures
// the filter leaves open stay the receiver's. What the filter says of connections and interval stands in place of a rate;
// its connections are all sources' together.
func (l Limits) Filtered(name string, connections int, interval time.Duration, fixed bool) Limits {
	l.Lane = "speed " + name
	if connections > 0 {
		l.Connections, l.Total = connections, connections
	}
	if interval > 0 {
		l.Interval = interval
	}
	if interval > 0 || fixed {
		l.Rate, l.Start = 0, 0
	}
	if l.Fixed = fixed; fixed { // whoever does not want to be slowed down does not want to be stopped for long either
		l.BlockPause = min(l.BlockPause, fixedBlockPause)
		l.BlockPauseMax = l.BlockPause
	}
	return l
}

// fixedBlockPause is how long a receiver that turns fixed mail away is left alone.
const fixedBlockPause = 10 * time.Second

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
