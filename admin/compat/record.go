// Package compat speaks as comparable services do, for programs that were written for them: the transaction API
// (requirements B1, B3-B6), the log API (B8) and the TSV API (B9), with the field names, errors and codes that they know.
//
// It must never decide what happened, nor keep anything: it translates what the services say. Read API.transaction for
// a call's way, DeliveryOf for a record's, and reader for the calls by GET.
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
	Created    string `json:"created" xml:"created"`
	ReturnPath string `json:"returnPath" xml:"returnPath"`
	From       string `json:"from" xml:"from"`
	To         string `json:"to" xml:"to"`
	MessageID  string `json:"messageId" xml:"messageId"`
	Reason     string `json:"reason" xml:"reason"`     // the receiver's words, or ours, of failed and deferred
	SenderIP   string `json:"senderIp" xml:"senderIp"` // source address towards the receiver; empty for queued
	SourceIP   string `json:"sourceIp" xml:"sourceIp"` // the relaying server, of queued
	Status     string `json:"status" xml:"status"`
	Subject    string `json:"subject" xml:"subject"`
	APIData    string `json:"apiData" xml:"apiData"`
}

// First is the record as version 1 of the API had it: without From, Return-Path and reference data.
func (d *Delivery) First() any {
	return struct {
		Created      string `json:"created" xml:"created"`
		EnvelopeFrom string `json:"envelopeFrom" xml:"envelopeFrom"`
		EnvelopeTo   string `json:"envelopeTo" xml:"envelopeTo"`
		MessageID    string `json:"messageId" xml:"messageId"`
		Reason       string `json:"reason" xml:"reason"`
		SenderIP     string `json:"senderIp" xml:"senderIp"`
		SourceIP     string `json:"sourceIp" xml:"sourceIp"`
		Status       string `json:"status" xml:"status"`
		Subject      string `json:"subject" xml:"subject"`
	}{d.Created, d.ReturnPath, d.To, d.MessageID, d.Reason, d.SenderIP, d.SourceIP, d.Status, d.Subject}
}

// Bounce is one record of bounces/list (requirement B4).
type Bounce struct {
	Created    string `json:"created" xml:"created"`
	Status     string `json:"status" xml:"status"` // 1-11, 99
	From       string `json:"from" xml:"from"`
	To         string `json:"to" xml:"to"`
	MessageID  string `json:"messageId" xml:"messageId"`
	ReturnPath string `json:"returnPath" xml:"returnPath"`
	Subject    string `json:"subject" xml:"subject"`
	APIData    string `json:"apiData" xml:"apiData"`
	Reason     string `json:"reason" xml:"reason"`
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
		APIData: cmp.Or(ev.APIData, accepted.APIData)}
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
	return Bounce{Created: ev.At.In(zone).Format(timeForm), Status: strconv.Itoa(int(bounceStatus(ev))), From: headerFrom(ev, accepted),
		To: string(ev.To), MessageID: accepted.HeaderID, ReturnPath: string(ev.From), Subject: accepted.Subject,
		APIData: cmp.Or(ev.APIData, accepted.APIData), Reason: reason(ev)}
}

// bounceStatus is the status that a bounce is listed under (requirement B4: 1 to 11, 99).
func bounceStatus(ev *mail.Event) mail.Status {
	if ev.Status == mail.StatusNone || ev.Status == mail.StatusInterrupted {
		return mail.StatusOther
	}
	return ev.Status
}

func headerFrom(ev, accepted *mail.Event) string { return cmp.Or(accepted.HeaderFrom, string(ev.From)) }

func reason(ev *mail.Event) string {
	if ev.Reply.Code != 0 {
		return ev.Reply.String()
	}
	return ev.Detail
}
