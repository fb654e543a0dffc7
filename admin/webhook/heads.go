package webhook

import (
	"context"
	"sync"

	"github.com/ekiden-mta/ekiden/mail"
)

// maxHeads bounds how many messages are remembered; an older one is looked up in the log.
const maxHeads = 8192

// heads remembers what the event of acceptance says of a message, for the events that follow it. The zero value is
// ready. Safe for concurrent use.
type heads struct {
	mu   sync.Mutex
	of   map[mail.MessageID]*mail.Event
	ring [maxHeads]mail.MessageID
	next int
}

// note remembers an event of acceptance.
func (h *heads) note(e *mail.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[mail.MessageID]*mail.Event{}
	}
	if h.of[e.Message] != nil {
		return
	}
	delete(h.of, h.ring[h.next])
	c := *e
	h.of[e.Message], h.ring[h.next] = &c, e.Message
	h.next = (h.next + 1) % maxHeads
}

// head returns the event of acceptance of a message. Where the log has none, as of mail taken over from another
// member, it is empty.
func (h *heads) head(ctx context.Context, l Log, m mail.MessageID) (*mail.Event, error) {
	h.mu.Lock()
	e := h.of[m]
	h.mu.Unlock()
	if e != nil {
		return e, nil
	}
	found, err := l.Acceptance(ctx, m)
	if err != nil {
		return nil, err
	}
	found.Message = m
	h.note(&found)
	return &found, nil
}
