package service

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Absent is a node that did not answer.
type Absent struct {
	Name   string
	For    time.Duration // since it last answered; negative = it never has
	Reason string
}

// Partial is the error of an answer that stands, but lacks what some nodes know. A caller that does not know it takes
// the answer for failed, and is never misled.
type Partial struct {
	Missing []Absent // never empty
}

func (p *Partial) Error() string {
	names := make([]string, len(p.Missing))
	for i, a := range p.Missing {
		names[i] = a.Name
	}
	return "not every node answered; missing: " + strings.Join(names, ", ")
}

// Roles of Member.
const (
	RoleMember   = "member"
	RoleNonvoter = "nonvoter"
	RoleWitness  = "witness"
)

// StateRemoved is the state of a member that is locked out (see the other words of Status.State).
const StateRemoved = "removed"

// Member is one node of the cluster.
type Member struct {
	Name     string
	Address  string // of the wire between members
	State    string // as Status.State, or StateRemoved; "" = it did not answer
	Role     string // one of the roles above
	Voter    bool
	Leader   bool
	Alive    bool      // the others hear from it
	Seen     time.Time // when they last did; zero = never
	Applied  uint64    // index of the last entry of the ledger it has applied
	Lineages []Lineage // queues it owns
	Waiting  int64     // deliveries without a final outcome in its queues
	Version  string
}

// Lineage is a queue and who holds copies of it.
type Lineage struct {
	ID       mail.Lineage
	Epoch    uint64
	Owner    string
	Phase    string // owned, adopting
	Standbys []Standby
	Degraded bool   // fewer standbys answer than asked for
	Exposed  uint64 // accepted messages that no standby has acknowledged
}

// Standby holds a copy of a queue.
type Standby struct {
	Name          string
	Acknowledging bool
	Behind        uint64 // frames sent and not acknowledged
}

// Roster is the cluster as one node sees it. What only a member itself knows of it (State, Applied, Waiting, Version,
// Degraded, Exposed, Standby.Acknowledging and Behind) may be missing of the others.
type Roster struct {
	Cluster string // its id
	Quorum  bool
	Members []Member // in the order of their names
}

// Members are the nodes that agree with one another. Changes return once they are agreed on, else ErrNoQuorum.
type Members interface {
	List(ctx context.Context) (Roster, error)
	// Drain lets the node take no more mail and hand its queues over; how far it is stands in List. "" = this node.
	Drain(ctx context.Context, node string) error
	// Takeover gives the queues of a node that is gone to their standbys, and returns them as they are then. Without
	// force it waits until the node's lease has ended, ErrRefused where the node still renews it.
	Takeover(ctx context.Context, node string, force bool, author string) ([]Lineage, error)
	// Remove locks a node out until it is admitted again; "" = this node. ErrRefused where it still owns a queue, unless
	// force says that its mail is given up.
	Remove(ctx context.Context, node string, force bool, author string) error
	// Admit lets a node that was removed, or that the cluster does not expect, join.
	Admit(ctx context.Context, node, author string) error
}

// KeyState is how far the members are with the root key they share.
type KeyState struct {
	Version uint32    // what is sealed from now on is sealed with
	Since   time.Time // zero = unknown
	Next    uint32    // being handed out, 0 = none
	Waiting []Absent  // members that do not hold Next yet
	Members []KeyHolder
}

// KeyHolder is how far one member is with a rotation.
type KeyHolder struct {
	Name    string
	Alive   bool
	Holds   bool // KeyState.Next, where it is being handed out
	Wrapped bool // its data keys are wrapped under Version
}

// Keys are the root keys that the members share.
type Keys interface {
	Status(ctx context.Context) (KeyState, error)
	// Rotate makes the next version and returns its recovery code, which nobody can be told again, as soon as this node has
	// taken the key: show it at once, for the former one opens nothing here any more. The rest goes on by itself, and Status
	// tells how far it is. ErrRefused while a rotation is under way.
	Rotate(ctx context.Context, author string) (k KeyState, code string, err error)
}

// PoweredOff is the statement that has to be typed where force passes by a lease: it is the one thing that no program
// can find out.
func PoweredOff(node string) string { return node + " is powered off" }

// CheckStatement returns ErrInvalid unless statement is that of PoweredOff.
func CheckStatement(node, statement string) error {
	if strings.Join(strings.Fields(statement), " ") == PoweredOff(node) {
		return nil
	}
	return fmt.Errorf("%w: force needs the statement %q, word for word: two nodes that send the same queue send every mail twice",
		ErrInvalid, PoweredOff(node))
}
