package mail

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"time"
)

// Lineage names the queue of one node incarnation (see docs/architecture.md). Random, never zero in a stored queue.
type Lineage uint32

// Seq numbers deliveries within a lineage in the order of acceptance: microseconds since 1970, raised by one where
// two fall together, so it never repeats and tells the time of acceptance. A message with n recipients takes n
// consecutive numbers; the first is the message's own.
type Seq uint64

// Time returns the moment s was allotted, good to the microsecond unless many were allotted at once.
func (s Seq) Time() time.Time { return time.UnixMicro(int64(s)) }

// MessageID names a message: lineage and the Seq of its first delivery. Its text form is 24 lower-case hex digits.
type MessageID struct {
	Lineage Lineage
	Seq     Seq
}

// ErrDamaged is reported for what was stored and is not as it was written. It must never be delivered.
var ErrDamaged = errors.New("damaged on disk")

// ErrMessageID is reported for a text that is not 24 hex digits.
var ErrMessageID = errors.New("message id must be 24 hexadecimal digits")

// String returns the 24 hex digits that logs, replies and commands show.
func (m MessageID) String() string {
	var raw [12]byte
	var out [24]byte
	binary.BigEndian.PutUint32(raw[:4], uint32(m.Lineage))
	binary.BigEndian.PutUint64(raw[4:], uint64(m.Seq))
	hex.Encode(out[:], raw[:])
	return string(out[:])
}

// IsZero tells whether m names no message.
func (m MessageID) IsZero() bool { return m == MessageID{} }

// ParseMessageID reads the form String writes.
func ParseMessageID(s string) (MessageID, error) {
	var raw [12]byte
	if len(s) != 24 {
		return MessageID{}, ErrMessageID
	}
	if _, err := hex.Decode(raw[:], []byte(s)); err != nil {
		return MessageID{}, ErrMessageID
	}
	return MessageID{
		Lineage: Lineage(binary.BigEndian.Uint32(raw[:4])),
		Seq:     Seq(binary.BigEndian.Uint64(raw[4:])),
	}, nil
}

// Submission is a message as a client handed it over, before intake made work of it.
type Submission struct {
	Tenant      string
	Composition string     // server composition of the tenant; its settings decide everything below
	User        string     // AUTH identity, "" without AUTH
	Client      netip.Addr // the peer, after PROXY
	Local       netip.Addr // our end of the connection, invalid where there is none
	Helo        string     // what the peer called itself
	Protocol    string     // RFC 3848 word for the Received header: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, HTTP
	From        Address
	To          []Address
	EightBit    bool   // Data holds octets above 127, whatever BODY= said
	UTF8        bool   // SMTPUTF8 (RFC 6531)
	Inbound     bool   // came to a bounce listener: it is read, and goes nowhere
	Data        []byte // CRLF line ends, dots unstuffed; read only, valid until Submit returns
	At          time.Time
}

// Delivery is one recipient of a message: the unit of queueing, outcome, log and statistics.
type Delivery struct {
	Seq         Seq
	Message     MessageID
	Tenant      string
	Composition string
	User        string // who handed it over with AUTH or a key, "" = nobody in particular (requirement R132)
	APIData     string // X-Api-Data (requirement R22)
	Group       string // delivery group, "" = none (requirement R33)
	Pool        string // source IP pool
	List        string // whoever left this list of the tenant does not get it, "" = none (requirement R104)
	Quiet       string // when it must not be sent, as policy/schedule writes it; "" = always may be (requirement R36)
	Signers     string // d= of its DKIM signatures, comma separated, normal form, each once; "" = unsigned
	From        Address
	To          Address
	Domain      Domain        // of To, normal form; "" where To is malformed
	Due         time.Time     // not attempted before; millisecond resolution
	Expires     time.Time     // lifetime ends; second resolution
	Taken       time.Time     // product time of its acceptance; millisecond resolution
	RetryEvery  time.Duration // distance of attempts, at least one second
	Size        int           // octets of the body
	Priority    uint8         // 1-99, larger first, 50 = normal (requirement R35)
	Attempts    uint16        // transactions tried so far
	Source      netip.Addr    // where to try again from, while that may send: greylisted from here, or refused another source for what that is; the zero Addr = any
	Cleaning    bool          // slowed-down delivery (requirement R24)
	Reserved    bool          // waits for a reservation made by a steering header (requirement R26)
	EightBit    bool          // body holds octets above 127
	UTF8        bool          // message needs SMTPUTF8
	InDoubt     bool          // an earlier attempt was cut after the final dot: the receiver may hold a copy
	Dotted      bool          // its final dot was about to be sent, and no outcome of that is known: see Doubt
	Excused     bool          // the last attempt's end said nothing about the address: nor does the end of its lifetime
	Own         bool          // made by the engine itself (a bounce): no customer's mail, not counted as such
	Apart       bool          // waits in its tenant's own part of the queue; set by the store in Put, never changed
	Shared      bool          // other recipients of the message were queued with it; set by the store in Put, never changed
}

// Accepted is when the message was taken from the client.
func (d *Delivery) Accepted() time.Time { return d.Message.Seq.Time() }
