package compat_test

import (
	"context"
	"testing"

	"github.com/ekiden-mta/ekiden/admin/compat"
	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/mail"
)

// TestHeads: that there is no acceptance is remembered only where every member said so, and no longer than until one comes.
func TestHeads(t *testing.T) {
	m := mail.MessageID{Lineage: 1, Seq: 7}
	real := mail.Event{Kind: mail.EventAccepted, Message: m, Subject: "hello"}
	var asked int
	look := func(e mail.Event, err error) func(context.Context, mail.MessageID) (mail.Event, error) {
		return func(context.Context, mail.MessageID) (mail.Event, error) { asked++; return e, err }
	}
	missing := &service.Partial{Missing: []service.Absent{{Name: "n2"}}}
	var h compat.Heads
	for _, row := range []struct {
		name    string
		note    *mail.Event
		found   mail.Event
		err     error
		subject string
		asked   int // times by now
	}{
		{"a member is missing", nil, mail.Event{}, missing, "", 1},
		{"nobody has it", nil, mail.Event{}, nil, "", 2},
		{"that is known", nil, real, nil, "", 2},
		{"it passes by", &real, mail.Event{}, nil, "hello", 2},
		{"another one is none", &mail.Event{Message: m}, mail.Event{}, nil, "hello", 2},
	} {
		if row.note != nil {
			h.Note(row.note)
		}
		e, err := h.Head(t.Context(), m, look(row.found, row.err))
		if err != nil || e.Message != m || e.Subject != row.subject || asked != row.asked {
			t.Errorf("%s: %+v, %v; asked %d times", row.name, e, err, asked)
		}
	}
}
