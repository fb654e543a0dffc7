package shaping

import "time"

// Limits is what one receiver bears from one source. In every field 0 means no limit, except Connections, which is at
// least 1.
type Limits struct {
	Receiver       string        // policy group: "docomo", "mx:mx.example.net", "route:127.0.0.1:2526"
	Lane           string        // kind of mail that is counted apart from the receiver's other: "cleaning", "" = all other
	Queue          string        // classic queue name (R63)
	Connections    int           // at once
	PerConnection  int           // messages on one connection
	Interval       time.Duration // from one message's begin to the next on one connection
	Rate           float64       // messages a second; the bucket holds one second's worth, at least one message
	Start          float64       // messages a second to begin with, until the receiver has shown what it bears; 0 = Rate
	ConnectionRate float64       // new connections a second; the bucket holds a minute's worth, at most Connections
	DailyCap       int           // messages a UTC day
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
	l.Lane = "cleaning"
	connections := max(1, l.Connections/cleaningShare)
	l.Interval = max(l.Interval*time.Duration(cleaningShare*connections)/time.Duration(max(1, l.Connections)), cleaningInterval)
	l.Connections = connections
	l.Rate, l.ConnectionRate = l.Rate/cleaningShare, l.ConnectionRate/cleaningShare
	if l.DailyCap > 0 {
		l.DailyCap = max(1, l.DailyCap/cleaningShare)
	}
	return l
}

// cleaningInterval keeps cleaning mail slow also where a receiver has no limits.
const cleaningInterval = 100 * time.Millisecond

// RouteConnections is how many connections a static route may use at once: it names a relay the operator owns.
const RouteConnections = 64

// routeBlockPause is short and stays so: a relay of one's own that refuses is down, not offended.
const routeBlockPause = 2 * time.Second
