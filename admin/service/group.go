package service

import (
	"fmt"
	"time"
)

// Words of Group.State and GroupStanding.State.
const (
	GroupOpen     = "open"
	GroupStopping = "stopping" // some node has not confirmed
	GroupStopped  = "stopped"  // no final dot of the group begins any more, anywhere
)

// GroupStop asks for the emergency stop of a delivery group.
type GroupStop struct {
	Tenant       string // "" = the group of every tenant
	Group        string
	RefuseIntake bool // new mail of the group is answered 451 meanwhile
	HoldExpiry   bool // lifetimes do not end meanwhile
	Author       string
}

// GroupStanding is how a group stands after its stop, over all nodes.
type GroupStanding struct {
	State    string
	Nodes    []GroupNode // by name
	Held     int         // queued deliveries
	InFlight int         // final dots sent and not answered
	LastSent time.Time   // when the last one was sent since the nodes started; zero = unknown
}

// GroupNode is what one node says of a stop.
type GroupNode struct {
	Name       string
	Confirmed  bool
	Lapsed     bool          // it did not answer, and sends nothing: its lease has run out, or its process is gone
	MissingFor time.Duration // since it last answered; 0 = it answered
}

// maxGroup is the longest name of a delivery group, in octets (requirement R33).
const maxGroup = 64

// ParseGroup checks the name of a delivery group: printable ASCII, as its header may hold.
func ParseGroup(s string) (string, error) {
	ok := s != "" && len(s) <= maxGroup
	for i := range len(s) {
		ok = ok && s[i] >= ' ' && s[i] <= '~'
	}
	if !ok {
		return "", fmt.Errorf("%w: a delivery group has a name of 1 to %d printable ASCII characters", ErrInvalid, maxGroup)
	}
	return s, nil
}
