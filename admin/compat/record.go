// Package compat holds the records that users of comparable services know: deliveries and bounces with the field names
// of requirements B3 and B4, made from the engine's own events.
//
// It must never decide what happened or search for it: it translates what the log says. Read DeliveryOf first.
package compat

import (
	"cmp"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// timeForm is how moments are written (requirement B1): in the reader's time zone, without naming it.
const timeForm = "2006-01-02 15:04:05"

// The statuses of a delivery (requirement B3).
const (
	Queued    = "queued"
	Succeeded = "succeeded"
	Failed    = "failed"
	Deferred  = "deferred"
)

// Delivery is one record of deliveries/list (requirement B3).
type Delivery struct {
	Created    string `json:"created"`
	ReturnPath string `json:"returnPath"`
	From       string `json:"from"`
	To         string `json:"to"`
	MessageID  string `json:"messageId"`
	Reason     string `json:"reason"`   // the receiver's words, or ours, of failed and deferred
	SenderIP   string `json:"senderIp"` // source address towards the receiver; empty for queued
	SourceIP   string `json:"sourceIp"` // the relaying server, of queued
	Status     string `json:"status"`
	Subject    string `json:"subject"`
	APIData    string `json:"apiData"`
}

// Bounce is one record of bounces/list (requirement B4).
type Bounce struct {
	Created    string `json:"created"`
	Status     string `json:"status"` // 1-11, 99
	From       string `json:"from"`
	To         string `json:"to"`
	MessageID  string `json:"messageId"`
	ReturnPath string `json:"returnPath"`
	Subject    string `json:"subject"`
	APIData    string `json:"apiData"`
	Reason     string `json:"reason"`
}

// StatusOf is the delivery status that an event tells of, "" where it tells of none. A late bounce is none: the
// delivery did succeed (requirement R65).
func StatusOf(k mail.EventKind) string {
	switch k {
	case mail.EventAccepted:
		return Queued
	case mail.EventDelivered:
		return Succeeded
	case mail.EventDeferred:
		return Deferred
	case mail.EventFailed, mail.EventSuppressed, mail.EventDiscarded:
		return Failed
	}
	return ""
}

// IsBounce tells whether an event is a record of bounces/list: a failure with a reason in the receiver, the address or
// a list. What the stop function ended is none: B4 has no status for it.
func IsBounce(k mail.EventKind) bool {
	return k == mail.EventFailed || k == mail.EventSuppressed || k == mail.EventBounced
}

// DeliveryOf is the record of ev; accepted is the event of acceptance of the same message, which knows its header.
func DeliveryOf(ev, accepted *mail.Event, zone *time.Location) Delivery {
	d := Delivery{Created: ev.At.In(zone).Format(timeForm), ReturnPath: string(ev.From), From: headerFrom(ev, accepted),
		To: string(ev.To), MessageID: accepted.HeaderID, Status: StatusOf(ev.Kind), Subject: accepted.Subject,
		APIData: accepted.APIData}
	switch {
	case ev.Kind == mail.EventAccepted:
		if ev.Client.IsValid() {
			d.SourceIP = ev.Client.String()
		}
	case ev.Source.IsValid():
		d.SenderIP = ev.Source.String()
	}
	if d.Status == Failed || d.Status == Deferred {
		d.Reason = reason(ev)
	}
	return d
}

// BounceOf is the record of ev; accepted is as in DeliveryOf.
func BounceOf(ev, accepted *mail.Event, zone *time.Location) Bounce {
	status := ev.Status
	if status == mail.StatusNone || status == mail.StatusInterrupted {
		status = mail.StatusOther
	}
	return Bounce{Created: ev.At.In(zone).Format(timeForm), Status: strconv.Itoa(int(status)), From: headerFrom(ev, accepted),
		To: string(ev.To), MessageID: accepted.HeaderID, ReturnPath: string(ev.From), Subject: accepted.Subject,
		APIData: accepted.APIData, Reason: reason(ev)}
}

func headerFrom(ev, accepted *mail.Event) string { return cmp.Or(accepted.HeaderFrom, string(ev.From)) }

func reason(ev *mail.Event) string {
	if ev.Reply.Code != 0 {
		return ev.Reply.String()
	}
	return ev.Detail
}
