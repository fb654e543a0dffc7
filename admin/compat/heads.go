package compat

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// maxHeads bounds how many messages are remembered; an older one is looked up in the log.
const maxHeads = 8192

// Heads remembers what the event of acceptance says of a message, for the events that follow it. The zero value is
// ready. Safe for concurrent use.
type Heads struct {
	mu   sync.Mutex
	of   map[mail.MessageID]*mail.Event
	ring [maxHeads]mail.MessageID
	next int
}

// Note remembers an event of acceptance, or an empty one where there is none.
func (h *Heads) Note(e *mail.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[mail.MessageID]*mail.Event{}
	}
	known := h.of[e.Message]
	if known != nil && known.Kind != 0 {
		return
	}
	if known == nil {
		delete(h.of, h.ring[h.next])
		h.ring[h.next] = e.Message
		h.next = (h.next + 1) % maxHeads
	}
	// A copy of what is asked for: the texts of an event keep the whole block alive that they were read from.
	h.of[e.Message] = &mail.Event{Kind: e.Kind, Message: e.Message, Composition: strings.Clone(e.Composition),
		User: strings.Clone(e.User), HeaderFrom: strings.Clone(e.HeaderFrom), HeaderID: strings.Clone(e.HeaderID),
		Subject: strings.Clone(e.Subject), APIData: strings.Clone(e.APIData)}
}

// Head returns the event of acceptance of a message, from memory or from where lookup finds it. Where there is none, as
// of mail taken over from another member, it is empty; so it is where lookup says that members are missing.
func (h *Heads) Head(ctx context.Context, m mail.MessageID,
	lookup func(context.Context, mail.MessageID) (mail.Event, error)) (*mail.Event, error) {
	h.mu.Lock()
	e := h.of[m]
	h.mu.Unlock()
	if e != nil {
		return e, nil
	}
	found, err := lookup(ctx, m)
	found.Message = m
	if partial := (*service.Partial)(nil); errors.As(err, &partial) {
		return &found, nil // a member that is missing may have it: nothing to remember
	}
	if err != nil {
		return nil, err
	}
	h.Note(&found)
	return &found, nil
}
