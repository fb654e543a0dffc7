package compat

import (
	"context"
	"strings"
	"sync"

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

// Note remembers an event of acceptance.
func (h *Heads) Note(e *mail.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[mail.MessageID]*mail.Event{}
	}
	if h.of[e.Message] != nil {
		return
	}
	delete(h.of, h.ring[h.next])
	// A copy of what is asked for: the texts of an event keep the whole block alive that they were read from.
	h.of[e.Message], h.ring[h.next] = &mail.Event{Kind: e.Kind, Message: e.Message, Composition: strings.Clone(e.Composition),
		User: strings.Clone(e.User), HeaderFrom: strings.Clone(e.HeaderFrom), HeaderID: strings.Clone(e.HeaderID),
		Subject: strings.Clone(e.Subject), APIData: strings.Clone(e.APIData)}, e.Message
	h.next = (h.next + 1) % maxHeads
}

// Head returns the event of acceptance of a message, from memory or from where lookup finds it. Where there is none, as
// of mail taken over from another member, it is empty.
func (h *Heads) Head(ctx context.Context, m mail.MessageID,
	lookup func(context.Context, mail.MessageID) (mail.Event, error)) (*mail.Event, error) {
	h.mu.Lock()
	e := h.of[m]
	h.mu.Unlock()
	if e != nil {
		return e, nil
	}
	found, err := lookup(ctx, m)
	if err != nil {
		return nil, err
	}
	found.Message = m
	h.Note(&found)
	return &found, nil
}
