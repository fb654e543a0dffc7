package events

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/record"
)

// An event is its kind, a set of field bits, and every field whose bit is set, in the order of the bits. Fields that
// are zero take no room, so one form serves all kinds.
const (
	hasMessage = 1 << iota
	hasDelivery
	hasTenant
	hasGroup
	hasFrom
	hasTo
	hasDomain // where it is not the domain of To
	hasAttempt
	hasComposition
	hasClient
	hasUser
	hasHeaderFrom
	hasHeaderID
	hasSubject
	hasAPIData
	hasSize
	hasCleaning
	hasDue
	hasReceiver
	hasStage
	hasStatus
	hasInDoubt
	hasReply
	hasEnhanced
	hasDetail
	hasSource
	hasRemote
	hasMX
	hasTLS
	hasNext
	isOwn
	noSuppress
	hasTaken
	hasScope
	hasRule // with what it said to do
	hasServed
	hasMail

	allFields = hasMail<<1 - 1
)

// Append appends the packed form of e to dst. Times keep their milliseconds, IPv6 zones are dropped.
func Append(dst []byte, e *mail.Event) []byte {
	domain := e.Domain
	if domain == e.To.Domain() {
		domain = ""
	}
	bits := fieldsOf(e, domain)
	dst = append(dst, byte(e.Kind))
	dst = binary.AppendUvarint(dst, bits)
	dst = record.AppendTime(dst, e.At)
	if bits&hasMessage != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Message.Lineage))
		dst = binary.AppendUvarint(dst, uint64(e.Message.Seq))
	}
	if bits&hasDelivery != 0 { // nearly always a small distance from the message
		dst = binary.AppendVarint(dst, int64(e.Delivery-e.Message.Seq))
	}
	dst = appendText(dst, bits&hasTenant, e.Tenant)
	dst = appendText(dst, bits&hasGroup, e.Group)
	dst = appendText(dst, bits&hasFrom, string(e.From))
	dst = appendText(dst, bits&hasTo, string(e.To))
	dst = appendText(dst, bits&hasDomain, string(domain))
	dst = appendNumber(dst, uint64(e.Attempt))
	dst = appendText(dst, bits&hasComposition, e.Composition)
	if bits&hasClient != 0 {
		dst = record.AppendAddr(dst, e.Client)
	}
	dst = appendText(dst, bits&hasUser, e.User)
	dst = appendText(dst, bits&hasHeaderFrom, e.HeaderFrom)
	dst = appendText(dst, bits&hasHeaderID, e.HeaderID)
	dst = appendText(dst, bits&hasSubject, e.Subject)
	dst = appendText(dst, bits&hasAPIData, e.APIData)
	dst = appendNumber(dst, uint64(max(e.Size, 0)))
	if bits&hasDue != 0 {
		dst = record.AppendTime(dst, e.Due)
	}
	return appendOutcome(dst, bits, e)
}

// appendOutcome appends the fields that EventAccepted does not have.
func appendOutcome(dst []byte, bits uint64, e *mail.Event) []byte {
	dst = appendText(dst, bits&hasReceiver, e.Receiver)
	dst = appendNumber(dst, uint64(e.Stage))
	dst = appendNumber(dst, uint64(e.Status))
	if bits&hasReply != 0 {
		dst = binary.AppendUvarint(dst, uint64(max(e.Reply.Code, 0)))
		dst = record.AppendString(dst, e.Reply.Text)
	}
	if bits&hasEnhanced != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Reply.Enhanced.Class))
		dst = binary.AppendUvarint(dst, uint64(e.Reply.Enhanced.Subject))
		dst = binary.AppendUvarint(dst, uint64(e.Reply.Enhanced.Detail))
	}
	dst = appendText(dst, bits&hasDetail, e.Detail)
	if bits&hasSource != 0 {
		dst = record.AppendAddr(dst, e.Source)
	}
	if bits&hasRemote != 0 {
		dst = record.AppendAddr(dst, e.Remote.Addr())
		dst = binary.AppendUvarint(dst, uint64(e.Remote.Port()))
	}
	dst = appendText(dst, bits&hasMX, e.MX)
	if bits&hasNext != 0 {
		dst = record.AppendTime(dst, e.Next)
	}
	if bits&hasTaken != 0 { // a small distance
		dst = binary.AppendVarint(dst, e.At.UnixMilli()-e.Taken.UnixMilli())
	}
	dst = appendNumber(dst, uint64(e.Scope))
	if bits&hasRule != 0 {
		dst = record.AppendString(dst, e.Rule)
		dst = append(dst, byte(e.Action))
		dst = binary.AppendUvarint(dst, uint64(max(e.For, 0)/time.Millisecond))
	}
	if bits&hasServed != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Served.Delivered))
		dst = binary.AppendUvarint(dst, uint64(e.Served.Deferred))
		dst = binary.AppendUvarint(dst, uint64(e.Served.Failed))
	}
	return appendText(dst, bits&hasMail, e.Mail)
}

func appendText(dst []byte, present uint64, s string) []byte {
	if present == 0 {
		return dst
	}
	return record.AppendString(dst, s)
}

// appendNumber appends n unless it is zero, in which case its bit is not set either.
func appendNumber(dst []byte, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return binary.AppendUvarint(dst, n)
}

func fieldsOf(e *mail.Event, domain mail.Domain) uint64 {
	return bit(!e.Message.IsZero(), hasMessage) | bit(e.Delivery != 0, hasDelivery) |
		bit(e.Tenant != "", hasTenant) | bit(e.Group != "", hasGroup) | bit(e.From != "", hasFrom) |
		bit(e.To != "", hasTo) | bit(domain != "", hasDomain) | bit(e.Attempt != 0, hasAttempt) |
		bit(e.Composition != "", hasComposition) | bit(e.Client.IsValid(), hasClient) | bit(e.User != "", hasUser) |
		bit(e.HeaderFrom != "", hasHeaderFrom) | bit(e.HeaderID != "", hasHeaderID) |
		bit(e.Subject != "", hasSubject) | bit(e.APIData != "", hasAPIData) | bit(e.Size > 0, hasSize) |
		bit(e.Cleaning, hasCleaning) | bit(!e.Due.IsZero(), hasDue) | bit(e.Receiver != "", hasReceiver) |
		bit(e.Stage != 0, hasStage) | bit(e.Status != 0, hasStatus) | bit(e.InDoubt, hasInDoubt) |
		bit(e.Reply.Code > 0 || e.Reply.Text != "", hasReply) | bit(!e.Reply.Enhanced.IsZero(), hasEnhanced) |
		bit(e.Detail != "", hasDetail) | bit(e.Source.IsValid(), hasSource) | bit(e.Remote.IsValid(), hasRemote) |
		bit(e.MX != "", hasMX) | bit(e.TLS, hasTLS) | bit(!e.Next.IsZero(), hasNext) | bit(e.Own, isOwn) |
		bit(e.NoSuppress, noSuppress) | bit(!e.Taken.IsZero(), hasTaken) | bit(e.Scope != 0, hasScope) | bit(e.Rule != "", hasRule) |
		bit(e.Served != mail.Served{}, hasServed) | bit(e.Mail != "", hasMail)
}

func bit(on bool, b uint64) uint64 {
	if on {
		return b
	}
	return 0
}

// decode reads one event. Its strings share memory with the block it was read from.
func decode(r *record.Reader, e *mail.Event) {
	*e = mail.Event{Kind: mail.EventKind(r.Byte())}
	bits := r.UintMax(allFields)
	e.At = r.Time()
	if bits&hasMessage != 0 {
		e.Message.Lineage = mail.Lineage(r.UintMax(1<<32 - 1))
		e.Message.Seq = mail.Seq(r.Uint())
	}
	if bits&hasDelivery != 0 {
		e.Delivery = e.Message.Seq + mail.Seq(r.Int())
	}
	e.Tenant = text(r, bits&hasTenant)
	e.Group = text(r, bits&hasGroup)
	e.From = mail.Address(text(r, bits&hasFrom))
	e.To = mail.Address(text(r, bits&hasTo))
	if e.Domain = mail.Domain(text(r, bits&hasDomain)); bits&hasDomain == 0 {
		e.Domain = e.To.Domain()
	}
	e.Attempt = uint16(number(r, bits&hasAttempt, 1<<16-1))
	e.Composition = text(r, bits&hasComposition)
	if bits&hasClient != 0 {
		e.Client = r.Addr()
	}
	e.User = text(r, bits&hasUser)
	e.HeaderFrom = text(r, bits&hasHeaderFrom)
	e.HeaderID = text(r, bits&hasHeaderID)
	e.Subject = text(r, bits&hasSubject)
	e.APIData = text(r, bits&hasAPIData)
	e.Size = int(number(r, bits&hasSize, 1<<40))
	e.Cleaning, e.Own = bits&hasCleaning != 0, bits&isOwn != 0
	e.Due = moment(r, bits&hasDue)
	decodeOutcome(r, bits, e)
}

func decodeOutcome(r *record.Reader, bits uint64, e *mail.Event) {
	e.Receiver = text(r, bits&hasReceiver)
	e.Stage = mail.Stage(number(r, bits&hasStage, 255))
	e.Status = mail.Status(number(r, bits&hasStatus, 255))
	e.InDoubt = bits&hasInDoubt != 0
	if bits&hasReply != 0 {
		e.Reply.Code = int(r.UintMax(999))
		e.Reply.Text = r.String()
	}
	if bits&hasEnhanced != 0 {
		e.Reply.Enhanced.Class = uint16(r.UintMax(1<<16 - 1))
		e.Reply.Enhanced.Subject = uint16(r.UintMax(1<<16 - 1))
		e.Reply.Enhanced.Detail = uint16(r.UintMax(1<<16 - 1))
	}
	e.Detail = text(r, bits&hasDetail)
	if bits&hasSource != 0 {
		e.Source = r.Addr()
	}
	if bits&hasRemote != 0 {
		addr := r.Addr()
		e.Remote = netip.AddrPortFrom(addr, uint16(r.UintMax(1<<16-1)))
	}
	e.MX = text(r, bits&hasMX)
	e.TLS = bits&hasTLS != 0
	e.NoSuppress = bits&noSuppress != 0
	e.Next = moment(r, bits&hasNext)
	if bits&hasTaken != 0 {
		e.Taken = time.UnixMilli(e.At.UnixMilli() - r.Int()).UTC()
	}
	e.Scope = mail.Scope(number(r, bits&hasScope, 255))
	if bits&hasRule != 0 {
		e.Rule, e.Action = r.String(), mail.Action(r.Byte())
		e.For = time.Duration(r.UintMax(1<<40)) * time.Millisecond
	}
	if bits&hasServed != 0 {
		for _, n := range [...]*uint32{&e.Served.Delivered, &e.Served.Deferred, &e.Served.Failed} {
			*n = uint32(r.UintMax(1<<32 - 1))
		}
	}
	e.Mail = text(r, bits&hasMail)
}

func text(r *record.Reader, present uint64) string {
	if present == 0 {
		return ""
	}
	return r.String()
}

func number(r *record.Reader, present, limit uint64) uint64 {
	if present == 0 {
		return 0
	}
	return r.UintMax(limit)
}

func moment(r *record.Reader, present uint64) time.Time {
	if present == 0 {
		return time.Time{}
	}
	return r.Time()
}
