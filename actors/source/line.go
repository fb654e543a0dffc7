package source

import "github.com/ekiden-mta/ekiden/actors/protocol"

// line is asks that wait: the tenants in turn, and of each the asks in the order they came.
type line struct {
	n       int
	tenants []*queue // with asks, the next one first
	by      map[string]*queue
}

// queue is the asks of one tenant.
type queue struct {
	tenant string
	asks   []protocol.Ask
	head   int
}

func (l *line) len() int { return l.n }

// first is the ask whose turn it is; there must be one.
func (l *line) first() *protocol.Ask {
	q := l.tenants[0]
	return &q.asks[q.head]
}

func (l *line) push(a protocol.Ask) {
	q := l.by[a.Tenant]
	if q == nil {
		q = &queue{tenant: a.Tenant}
		if l.by == nil {
			l.by = map[string]*queue{}
		}
		l.by[a.Tenant] = q
		l.tenants = append(l.tenants, q)
	}
	if q.head > 32 && q.head*2 > len(q.asks) {
		n := copy(q.asks, q.asks[q.head:])
		clear(q.asks[n:])
		q.asks, q.head = q.asks[:n], 0
	}
	q.asks = append(q.asks, a)
	l.n++
}

// pop takes the ask whose turn it is; the turn goes on to the next tenant.
func (l *line) pop() protocol.Ask {
	q := l.tenants[0]
	a := q.asks[q.head]
	q.asks[q.head] = protocol.Ask{}
	q.head++
	l.n--
	l.tenants = append(l.tenants[:0], l.tenants[1:]...)
	if q.head == len(q.asks) {
		delete(l.by, q.tenant)
	} else {
		l.tenants = append(l.tenants, q)
	}
	return a
}
