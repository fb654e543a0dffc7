package unseal

import (
	"bytes"
	"slices"
	"time"
)

// Turn is what a member knows of the root key's versions, counted from 0 as the book does. A rotation is driven by nobody:
// each member looks at its turn and does the next thing, whenever it can, so that it may stop and go on anywhere.
//
//	starter: Begin ─▶ takes the key ─▶ ready        others: ask who is ready ─▶ take it ─▶ ready
//	leader:  all are ready ─▶ in force              all:    enforce ─▶ wrap data keys anew ─▶ tell ─▶ drop what only opened the former
type Turn struct {
	Name    string
	Leads   bool     // may speak for the cluster
	Members []string // that are not removed; a node alone lists itself

	Current, Next uint64 // of the book: in force; being handed out, or 0
	Print         []byte // fingerprint of Next, else of Current
	Ready         []string
	Wrapped       []string

	Held      uint64 // version of the root key that this member holds
	HeldPrint []byte
	Staged    bool // it does not seal under it yet
	Older     bool // it keeps what opens data keys wrapped under former root keys
	Hears     bool // it understands gossip under the former root key
	Needed    bool // there are queues whose data keys may be wrapped under a former root key
}

// Step is what a member does next in a rotation.
type Step uint8

// The steps.
const (
	Rest      Step = iota
	Restart        // begin with the key held: a node alone lost its answer on the way
	Fetch          // ask a member of Turn.From for the key
	TellReady      // that this member holds the key
	Finish         // all hold it: put it in force
	Enforce        // seal under it from now on
	Wrap           // wrap the data keys anew, and tell
	Part           // understand no gossip under the former root key any more
	Drop           // drop what only opens data keys wrapped under former root keys
)

var stepNames = [...]string{"rest", "restart", "fetch", "tell ready", "finish", "enforce", "wrap", "part", "drop"}

func (s Step) String() string { return stepNames[s] }

// Step tells what to do next. What failed is done again.
func (t *Turn) Step() Step {
	switch {
	case t.Staged && t.Current > 0 && t.Held == t.Current:
		return Enforce
	case t.Next != 0 && !t.Holds():
		switch {
		case len(t.From()) > 0:
			return Fetch
		case t.Held == t.Next && t.alone():
			return Restart
		}
	case t.Held < t.Current && !t.alone():
		return Fetch
	case t.Next != 0 && t.member() && !slices.Contains(t.Ready, t.Name):
		return TellReady
	case t.Next != 0 && t.Leads && all(t.Members, t.Ready):
		return Finish
	case t.Next != 0 || t.Current == 0 || t.Held != t.Current:
	case t.member() && !slices.Contains(t.Wrapped, t.Name):
		return Wrap
	case t.Hears && t.Settled():
		return Part
	case t.Older && t.Settled() && !t.Needed:
		return Drop
	}
	return Rest
}

// From lists the members that can give this one the key that it lacks.
func (t *Turn) From() (names []string) {
	list := t.Members
	if t.Next != 0 {
		list = t.Ready
	}
	for _, name := range list {
		if name != t.Name && slices.Contains(t.Members, name) {
			names = append(names, name)
		}
	}
	return names
}

// Settled tells whether every member wrapped its data keys under the key in force.
func (t *Turn) Settled() bool { return all(t.Members, t.Wrapped) }

// Holds tells whether this member holds the key being handed out.
func (t *Turn) Holds() bool { return t.Held == t.Next && bytes.Equal(t.HeldPrint, t.Print) }

// member tells whether this node is one yet.
func (t *Turn) member() bool { return slices.Contains(t.Members, t.Name) }

func (t *Turn) alone() bool { return len(t.Members) == 1 && t.member() }

func all(names, in []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(in, name) })
}

// Pause is how long a member waits after a step that failed for the nth time in a row, n from 1 on: from a second up to a
// minute. The member that hands the key over writes so into the audit trail each time, and that is a change of the book,
// which every member looks at: without a pause a member that cannot keep the key would turn the trail over in minutes.
func Pause(n int) time.Duration {
	return min(time.Second<<min(max(n, 1)-1, 6), time.Minute)
}
