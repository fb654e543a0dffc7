package unseal

import (
	"slices"
	"time"
)

// States of a member's keys.
const (
	StateNew      = "new"      // no keys: first start
	StateSealed   = "sealed"   // keys on disk, not in memory
	StateUnsealed = "unsealed" // keys in memory
)

// Status is what a member tells everybody with a certificate of the cluster about its keys.
type Status struct {
	Name    string   `json:"name"`
	Address string   `json:"address"` // of its cluster port
	State   string   `json:"state"`
	Store   string   `json:"store"` // identity of the keys, "" while new
	Known   []string `json:"known"` // addresses of members it knows
	// Version of the root key that it holds, and InUse the one that it seals under, from 1 on; 0 without a key in memory.
	Version uint8 `json:"version,omitempty"`
	InUse   uint8 `json:"in_use,omitempty"`
}

// Action is what a node without its root key does next.
type Action uint8

// The actions.
const (
	Wait  Action = iota // for more members, or for an operator
	Found               // draw the root key: this node is the first of a new cluster
	Ask                 // ask Choice.Members for the key, in this order
)

// Choice is what Decide says.
type Choice struct {
	Action  Action
	Members []Status // of Ask
}

// Decide tells a node that has not its root key what to do, from what it and the members it reached say of themselves.
// A cluster is founded only while every one of the expected members is reached and none has keys, and then by the one
// with the first name: so no partition can found two. expect below 1 counts as 1.
func Decide(own Status, peers []Status, expect int) Choice {
	var ask []Status
	fresh := 1
	first := own.Name
	for _, p := range peers {
		switch {
		case p.Name == own.Name:
			continue
		case p.State == StateNew:
			fresh++
			first = min(first, p.Name)
		case p.State == StateUnsealed && (own.Store == "" || own.Store == p.Store):
			ask = append(ask, p)
		}
	}
	switch {
	case own.State == StateUnsealed:
		return Choice{}
	case len(ask) > 0:
		slices.SortFunc(ask, func(a, b Status) int {
			if a.Name < b.Name {
				return -1
			}
			return 1
		})
		return Choice{Action: Ask, Members: ask}
	case own.State != StateNew, slices.ContainsFunc(peers, func(p Status) bool { return p.Store != "" }):
		return Choice{} // there are keys somewhere: an operator opens the first
	case fresh >= max(expect, 1) && first == own.Name:
		return Choice{Action: Found}
	}
	return Choice{}
}

// Window is how long after its last renewal a member is given the key without an operator, and how long an
// admission or the founding of a cluster stays open to members that were never seen.
const Window = 15 * time.Minute

// Facts are what an unsealed member knows of the one that asks. The certificate has been verified already.
type Facts struct {
	Member  bool          // the ledger lists it
	Removed bool          // it was removed: locked out for good
	Alive   bool          // its last session is not known to be dead
	Renewed time.Duration // since its last renewal
	Given   bool          // the key was given since that renewal already, to another session than the one that asks

	Forming  time.Duration // since the cluster was founded
	Missing  int           // members still expected of the first ones
	Admitted time.Duration // since an operator admitted it; negative = never
}

// Release decides whether the one that asks is given the key (unseal provider U2). why is for the audit log and for the
// operator of the node that is refused. A stolen disk holds the certificate as well, so that alone opens nothing: the
// member must have died within the window, is given the key once, and everything else waits for a person.
func Release(f Facts) (ok bool, why string) {
	admitted := f.Admitted >= 0 && f.Admitted <= Window
	switch {
	case f.Removed:
		return false, "the member was removed from the cluster"
	case admitted:
		return true, "admitted by an operator"
	case !f.Member && f.Missing > 0 && f.Forming <= Window:
		return true, "one of the first members of a new cluster"
	case !f.Member:
		return false, "not a member: an operator must admit it, or unseal it with the recovery code"
	case f.Alive:
		return false, "its last session is not over yet"
	case f.Given:
		return false, "the key was given since its last renewal already: unseal it with the recovery code, or admit it"
	case f.Renewed > Window:
		return false, "gone for more than 15 minutes: unseal it with the recovery code, or admit it"
	}
	return true, "restarted within 15 minutes of its last renewal"
}

// HandOver decides whether the one that asks is given the root key that follows the one it holds. It can be opened with
// that one only, so the member proves by taking it that it was let in before.
func HandOver(f Facts) (ok bool, why string) {
	switch {
	case f.Removed:
		return false, "the member was removed from the cluster"
	case !f.Member && (f.Admitted < 0 || f.Admitted > Window) && (f.Missing == 0 || f.Forming > Window):
		return false, "not a member: an operator must admit it"
	}
	return true, "a member that holds the former key"
}
