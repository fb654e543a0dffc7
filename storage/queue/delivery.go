package queue

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/record"
)

const deliveryVersion = 1

// Flags of a delivery record.
const (
	flagCleaning = 1 << iota
	flagReserved
	flagEightBit
	flagUTF8
	flagInDoubt
	flagShared
	flagForeign // the message was accepted by another lineage
	flagDomain  // the domain is not that of To
	flagOwn     // made by the engine itself
	flagQuiet   // it keeps quiet hours
	flagTaken   // when it was accepted by product time
	flagUser
	flagAPIData
	flagApart // it waits in its tenant's part of the queue
	flagList  // its recipient can leave a list
	flagSource
	flagSigned // it has a DKIM signature
	flagDotted
	flagExcused

	allFlags = flagExcused<<1 - 1
)

// appendDelivery appends the record of d, as plaintext. Seq, Priority and Due are repeated from the key: a record that
// was moved to another key must not be taken for what the key says.
func appendDelivery(dst []byte, d *mail.Delivery, own mail.Lineage) []byte {
	flags := uint64(0)
	for _, f := range [...]struct {
		on  bool
		bit uint64
	}{
		{d.Cleaning, flagCleaning}, {d.Reserved, flagReserved}, {d.EightBit, flagEightBit}, {d.UTF8, flagUTF8},
		{d.InDoubt, flagInDoubt}, {d.Shared, flagShared}, {d.Message.Lineage != own, flagForeign},
		{d.Domain != d.To.Domain(), flagDomain}, {d.Own, flagOwn}, {d.Quiet != "", flagQuiet},
		{!d.Taken.IsZero(), flagTaken}, {d.User != "", flagUser}, {d.APIData != "", flagAPIData}, {d.Apart, flagApart},
		{d.List != "", flagList}, {d.Source.IsValid(), flagSource},
		{d.Signers != "", flagSigned}, {d.Dotted, flagDotted}, {d.Excused, flagExcused},
	} {
		if f.on {
			flags |= f.bit
		}
	}
	dst = append(dst, deliveryVersion)
	dst = binary.AppendUvarint(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(d.Seq))
	dst = binary.AppendVarint(dst, int64(d.Message.Seq-d.Seq))
	if flags&flagForeign != 0 {
		dst = binary.AppendUvarint(dst, uint64(d.Message.Lineage))
	}
	dst = append(dst, d.Priority)
	dst = binary.AppendUvarint(dst, dueOf(d.Due))
	dst = binary.AppendVarint(dst, d.Expires.Unix())
	dst = binary.AppendUvarint(dst, uint64(max(d.RetryEvery/time.Millisecond, 0)))
	dst = binary.AppendUvarint(dst, uint64(max(d.Size, 0)))
	dst = binary.AppendUvarint(dst, uint64(d.Attempts))
	dst = record.AppendString(dst, d.Tenant)
	dst = record.AppendString(dst, d.Composition)
	dst = record.AppendString(dst, d.Group)
	dst = record.AppendString(dst, d.Pool)
	dst = record.AppendString(dst, d.From)
	dst = record.AppendString(dst, d.To)
	if flags&flagDomain != 0 {
		dst = record.AppendString(dst, d.Domain)
	}
	if flags&flagQuiet != 0 {
		dst = record.AppendString(dst, d.Quiet)
	}
	if flags&flagTaken != 0 { // as a distance from what the number tells: the machine's time
		dst = binary.AppendVarint(dst, d.Taken.UnixMilli()-d.Message.Seq.Time().UnixMilli())
	}
	if flags&flagUser != 0 {
		dst = record.AppendString(dst, d.User)
	}
	if flags&flagAPIData != 0 {
		dst = record.AppendString(dst, d.APIData)
	}
	if flags&flagList != 0 {
		dst = record.AppendString(dst, d.List)
	}
	if flags&flagSource != 0 {
		dst = record.AppendString(dst, string(d.Source.AsSlice()))
	}
	if flags&flagSigned != 0 { // empty where the sender signed, as most do
		signers := d.Signers
		if signers == string(d.From.Domain()) {
			signers = ""
		}
		dst = record.AppendString(dst, signers)
	}
	return dst
}

// parseDelivery reads what appendDelivery wrote. Its strings share the memory of s.
func parseDelivery(s string, own mail.Lineage) (d mail.Delivery, err error) {
	r := record.NewReader(s)
	if r.Byte() != deliveryVersion {
		return d, record.ErrDamaged
	}
	flags := r.UintMax(allFlags)
	d.Seq = mail.Seq(r.Uint())
	d.Message = mail.MessageID{Lineage: own, Seq: d.Seq + mail.Seq(r.Int())}
	if flags&flagForeign != 0 {
		d.Message.Lineage = mail.Lineage(r.UintMax(1<<32 - 1))
	}
	d.Priority = r.Byte()
	d.Due = dueTime(r.UintMax(maxDue))
	d.Expires = time.Unix(r.Int(), 0).UTC()
	d.RetryEvery = time.Duration(r.UintMax(1<<42)) * time.Millisecond
	d.Size = int(r.UintMax(1 << 40))
	d.Attempts = uint16(r.UintMax(1<<16 - 1))
	d.Tenant, d.Composition, d.Group, d.Pool = r.String(), r.String(), r.String(), r.String()
	d.From, d.To = mail.Address(r.String()), mail.Address(r.String())
	if flags&flagDomain != 0 {
		d.Domain = mail.Domain(r.String())
	} else {
		d.Domain = d.To.Domain()
	}
	if flags&flagQuiet != 0 {
		d.Quiet = r.String()
	}
	if flags&flagTaken != 0 {
		d.Taken = time.UnixMilli(d.Message.Seq.Time().UnixMilli() + r.Int()).UTC()
	}
	if flags&flagUser != 0 {
		d.User = r.String()
	}
	if flags&flagAPIData != 0 {
		d.APIData = r.String()
	}
	if flags&flagList != 0 {
		d.List = r.String()
	}
	if flags&flagSource != 0 {
		var ok bool
		if d.Source, ok = netip.AddrFromSlice([]byte(r.String())); !ok {
			r.Fail()
		}
	}
	if flags&flagSigned != 0 {
		if d.Signers = r.String(); d.Signers == "" {
			d.Signers = string(d.From.Domain())
		}
	}
	d.Cleaning, d.Reserved = flags&flagCleaning != 0, flags&flagReserved != 0
	d.EightBit, d.UTF8 = flags&flagEightBit != 0, flags&flagUTF8 != 0
	d.InDoubt, d.Shared, d.Own = flags&flagInDoubt != 0, flags&flagShared != 0, flags&flagOwn != 0
	d.Apart, d.Dotted, d.Excused = flags&flagApart != 0, flags&flagDotted != 0, flags&flagExcused != 0
	if r.Left() > 0 {
		r.Fail()
	}
	return d, r.Err()
}
