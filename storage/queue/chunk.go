package queue

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ekiden-mta/ekiden/mail"
)

// Bounds of what an adoption has under way.
const (
	chunkMessages = 128
	chunkBytes    = 1 << 20
	chunksAtOnce  = 6
)

// chunk is some requests whose end is waited for together.
type chunk struct {
	messages, bytes int
	ds              []mail.Delivery
	left            atomic.Int64
	ended           chan struct{}
	mu              sync.Mutex
	err             error
	tooMany         bool
}

func (c *chunk) done(err error) {
	if err != nil {
		c.mu.Lock()
		if errors.Is(err, ErrTooMany) {
			c.tooMany = true // that message alone; the rest goes on
		} else {
			c.err = errors.Join(c.err, err)
		}
		c.mu.Unlock()
	}
	if c.left.Add(-1) == 0 {
		close(c.ended)
	}
}

// next ends the building of a chunk, and waits for the oldest where enough are on their way.
func (p *adoption) next() error {
	p.submit(&p.keys)
	p.submit(&p.marks)
	if p.chunk != nil {
		p.chunk.done(nil)
		p.running = append(p.running, p.chunk)
		p.chunk = nil
	}
	if len(p.running) < chunksAtOnce {
		return nil
	}
	return p.wait()
}

// wait waits for the oldest chunk and offers its deliveries.
func (p *adoption) wait() error {
	c := p.running[0]
	p.running = p.running[1:]
	select {
	case <-c.ended:
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
	if c.tooMany {
		p.tooMany = true
		c.ds = slices.DeleteFunc(c.ds, func(d mail.Delivery) bool {
			stored, err := p.s.present(appendMessageKey(nil, kindBody, p.s.lineage, d.Message))
			return err == nil && !stored
		})
	}
	if c.err == nil && p.Offer != nil && len(c.ds) > 0 {
		p.Offer(c.ds)
	}
	return c.err
}

// finish waits for everything that is on its way.
func (p *adoption) finish() error {
	err := p.next()
	for len(p.running) > 0 && p.ctx.Err() == nil {
		err = errors.Join(err, p.wait())
	}
	return err
}

// request returns a request whose end the running chunk waits for.
func (p *adoption) request() *request {
	if p.chunk == nil {
		p.chunk = &chunk{ended: make(chan struct{})}
		p.chunk.left.Store(1)
	}
	p.chunk.left.Add(1)
	r := p.s.newRequest(p.chunk.done)
	r.puts, r.adopted = true, true
	return r
}

func (p *adoption) submit(r **request) {
	if *r != nil {
		p.s.submit(*r)
		*r = nil
	}
}
