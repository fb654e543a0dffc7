package wire

import (
	"slices"
	"sync"

	"github.com/ekiden-mta/ekiden/internal/socket"
)

// reactor serves the ordinary transactions of many connections in the clear, from one goroutine. A connection's own goroutine
// sits down at it where it would wait for a command, and is called back for whatever the reactor does not do itself (seat.go).
// So what is read is there already, a message's answer goes out without waking anybody, and no session is switched to.
//
// It must never wait: not for a client, not for the store, and for a policy's lock no longer than a moment.
type reactor struct {
	poll *socket.Poll
	buf  [bigSize]byte // of the turn under way
	fed  []*Conn       // that may have more to read although nobody says so again: buf was filled, or an end has arrived
	at   []*Conn       // of the sockets that are ready

	mu       sync.Mutex
	calls    []call
	done     []call  // room for the next calls
	asleep   bool    // nothing was to do: a call must wake it
	conns    []*Conn // by token
	free     []int32 // tokens of connections that are gone
	seats    int     // connections that sit here
	stopping bool    // nobody sits down any more; it ends with the last one
}

// call is what others tell the reactor.
type call struct {
	c    *Conn
	what calling
}

type calling uint8

const (
	callSit      calling = iota // the connection sits down
	callAnswered                // its message has an answer
	callUp                      // it must see to something itself: it is cut, or closed
)

// newReactor returns a reactor at work.
func newReactor() (*reactor, error) {
	p, err := socket.NewPoll()
	if err != nil {
		return nil, err
	}
	r := &reactor{poll: p}
	go r.run()
	return r, nil
}

// stop lets nobody sit down any more. Who sits there is called up by what ends his connection.
func (r *reactor) stop() {
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	r.poll.Wake()
}

// tell calls the reactor.
func (r *reactor) tell(c *Conn, what calling) {
	r.mu.Lock()
	r.calls = append(r.calls, call{c, what})
	wake := r.asleep
	r.asleep = false
	r.mu.Unlock()
	if wake {
		r.poll.Wake()
	}
}

// busy tells whether there is more to do than to wait for sockets; where there is not, whoever calls must wake the reactor.
func (r *reactor) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asleep = len(r.calls) == 0 && len(r.fed) == 0 && !(r.stopping && r.seats == 0)
	return !r.asleep
}

func (r *reactor) run() {
	defer r.poll.Close()
	busy := r.busy
	for {
		ready := r.poll.Wait(busy)
		r.mu.Lock()
		if r.stopping && r.seats == 0 {
			r.mu.Unlock()
			return
		}
		r.asleep = false
		calls := r.calls
		r.calls = r.done[:0]
		r.at = r.at[:0]
		for i := range ready {
			r.at = append(r.at, r.conns[ready[i].Token])
		}
		r.mu.Unlock()

		for i := range calls {
			r.hear(calls[i])
		}
		clear(calls)
		r.done = calls
		n := len(r.fed)
		for _, c := range r.fed[:n] { // a turn each: who sends much does not keep the others waiting
			r.turn(c)
		}
		r.fed = slices.Delete(r.fed, 0, n)
		for i, c := range r.at {
			if c == nil {
				continue
			}
			c.seat.last = c.seat.last || ready[i].Last
			r.turn(c)
		}
		clear(r.at) // nobody who is gone is kept
	}
}

// hear does what was called for.
func (r *reactor) hear(k call) {
	s := &k.c.seat
	switch k.what {
	case callSit:
		s.taken = true
		r.turn(k.c) // what came before is not told again
	case callAnswered:
		if !s.taken || !s.waiting {
			return
		}
		s.waiting = false
		if !k.c.answered() {
			r.rise(k.c)
		} else if s.more && !s.waiting {
			s.more = false
			r.turn(k.c)
		}
	case callUp:
		if s.taken && !s.waiting { // while the store has its message it may not go: the answer is owed
			r.rise(k.c)
		}
	}
}

// turn lets a connection do what its socket holds.
func (r *reactor) turn(c *Conn) {
	switch s := &c.seat; {
	case !s.taken:
	case s.waiting:
		s.more = true
	case !c.turn(r):
		r.rise(c)
	}
}

// rise gives a connection back to its goroutine.
func (r *reactor) rise(c *Conn) {
	c.keepRest()
	c.seat.taken, c.seat.more = false, false
	r.mu.Lock()
	r.seats--
	r.mu.Unlock()
	c.seat.back <- struct{}{}
}
