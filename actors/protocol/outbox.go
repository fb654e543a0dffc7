package protocol

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Parcel is a delivery in memory. Whoever took it from an outbox owns it until Settle or Return, or until the outbox
// takes it back, which it may while the session has not claimed it.
type Parcel struct {
	Job   mail.Job
	Index int // the outbox's own
	Cost  int // octets of the body that the memory budget was charged with

	Marked bool // its record on disk says that its final dot was about to go

	Fate   atomic.Uint32 // Held, Claimed or Recalled: session and outbox each take it at most once
	Behind atomic.Int64  // since when an earlier final dot keeps its connection busy, Unix ms; 0 = none does
	Dot    atomic.Uint32 // how far its final dot is: NoDot, DotCleared or DotSent
}

// How far a final dot is, for whoever closes a gate and wants to know what is past it.
const (
	NoDot      uint32 = iota // not begun, or answered
	DotCleared               // about to be written
	DotSent                  // out, and not answered
)

// Fates of a parcel that was taken. Who moves it from Held decides: the session that claims it sends, settles or
// returns it; a parcel the outbox recalled is a mere shell, which its session must neither send nor settle.
const (
	Held uint32 = iota
	Claimed
	Recalled
)

// Claim makes the parcel the session's for good; false = it was recalled.
func (p *Parcel) Claim() bool {
	return p.Fate.Load() == Claimed || p.Fate.CompareAndSwap(Held, Claimed)
}

// Waker is a session that waits. Wake never blocks and may be called more often than needed.
type Waker interface{ Wake() }

// Outbox is a destination's work as a session sees it: the shared half of the destination actor. Every method is a
// short critical section; none waits, but Ready for the disk. Methods are called in the order Join, any of the others, Leave.
type Outbox interface {
	Domain() mail.Domain

	// Join answers one session's worth of an Ask; the session works this shelf from now on.
	Join(shelf int)
	// Leave ends what Join began and gives back what was not begun. The destination learns of it only where work stays
	// behind, or where there is news for it.
	Leave(now time.Time, shelf int, back []*Parcel, news any)
	// Withdraw answers n sessions' worth of an Ask with nothing.
	Withdraw(shelf, n int)

	// Take gives the next due parcel, nil where there is none; a moment comes with that where one waits that must not
	// begin before.
	Take(now time.Time, shelf int, source netip.Addr, receiver string) (*Parcel, time.Time)
	// Linger puts w in line for the next arrival; false where work is there already.
	Linger(shelf int, w Waker) bool
	// Unlinger takes w out of the line again.
	Unlinger(shelf int, w Waker)

	// Fetch reads the parcel's body from the store if it is not in memory.
	Fetch(p *Parcel) error
	// Ready puts on disk that p's final dot is about to go, where that decides what becomes of it after a crash. Its owner
	// must have claimed it.
	Ready(p *Parcel) bool
	// Clear tells whether the final dot may be sent now.
	Clear(now time.Time, p *Parcel, source netip.Addr, receiver string) bool
	// Sent tells that a final dot that was cleared is out.
	Sent(now time.Time, p *Parcel)
	// Settle records an outcome; done is called once it is durable, from another goroutine, and must not block.
	Settle(now time.Time, p *Parcel, o mail.Outcome, receiver string, done func(error))
	// Return puts a parcel back that was not begun.
	Return(p *Parcel)

	// Tell sends a message of this dialogue to the destination's actor.
	Tell(msg any)
}
