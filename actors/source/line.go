package source

import (
	"time"

	"github.com/ekiden-mta/ekiden/actors/protocol"
)

// line is asks that wait: the tenants in turn, and of each those that go ahead, then the others, in the order they came.
type line struct {
	n       int
	tenants []*queue // with asks, the next one first
	by      map[string]*queue
	spare   *queue // without asks, for the next tenant: most lines are empty again and again
}

// queue is the asks of one tenant. What goes ahead costs its own tenant a turn, and nobody else.
type queue struct {
	tenant      string
	ahead, rest fifo
}

// next is the part of q whose turn it is; q has asks.
func (q *queue) next() *fifo {
	if q.ahead.len() > 0 {
		return &q.ahead
	}
	return &q.rest
}

// fifo is asks in the order they came.
type fifo struct {
	asks []protocol.Ask
	head int
}

func (f *fifo) len() int { return len(f.asks) - f.head }

func (f *fifo) push(a protocol.Ask) {
	if f.head > 32 && f.head*2 > len(f.asks) {
		n := copy(f.asks, f.asks[f.head:])
		clear(f.asks[n:])
		f.asks, f.head = f.asks[:n], 0
	}
	f.asks = append(f.asks, a)
}

func (f *fifo) pop() protocol.Ask {
	a := f.asks[f.head]
	f.asks[f.head] = protocol.Ask{}
	f.head++
	return a
}

func (l *line) len() int { return l.n }

// first is the ask whose turn it is; there must be one.
func (l *line) first() *protocol.Ask {
	f := l.tenants[0].next()
	return &f.asks[f.head]
}

func (l *line) push(a protocol.Ask) {
	q := l.by[a.Tenant]
	if q == nil {
		if q = l.spare; q == nil {
			q = &queue{}
		}
		q.tenant, l.spare = a.Tenant, nil
		if l.by == nil {
			l.by = map[string]*queue{}
		}
		l.by[a.Tenant] = q
		l.tenants = append(l.tenants, q)
	}
	if a.Ahead {
		q.ahead.push(a)
	} else {
		q.rest.push(a)
	}
	l.n++
}

// shed drops the asks of the next tenant whose time is over, until one is left: true where one is. What goes ahead must not keep the
// others from being dropped.
func (l *line) shed(now time.Time, drop func(*protocol.Ask)) bool {
	for len(l.tenants) > 0 {
		q := l.tenants[0]
		for _, f := range [...]*fifo{&q.ahead, &q.rest} {
			for f.len() > 0 && !now.Before(f.asks[f.head].Deadline) {
				drop(&f.asks[f.head])
				f.pop()
				l.n--
			}
		}
		if q.ahead.len()+q.rest.len() > 0 {
			return true
		}
		l.tenants = append(l.tenants[:0], l.tenants[1:]...)
		l.retire(q)
	}
	return false
}

// retire forgets a tenant that has no asks any more.
func (l *line) retire(q *queue) {
	delete(l.by, q.tenant)
	if cap(q.ahead.asks)+cap(q.rest.asks) <= spareMost {
		q.ahead, q.rest = fifo{asks: q.ahead.asks[:0]}, fifo{asks: q.rest.asks[:0]}
		l.spare = q
	}
}

// spareMost is for how many asks memory is kept that is not needed now.
const spareMost = 16

// pop takes the ask whose turn it is; the turn goes on to the next tenant.
func (l *line) pop() protocol.Ask {
	q := l.tenants[0]
	a := q.next().pop()
	l.n--
	l.tenants = append(l.tenants[:0], l.tenants[1:]...)
	if q.ahead.len()+q.rest.len() == 0 {
		l.retire(q)
	} else {
		l.tenants = append(l.tenants, q)
	}
	return a
}
