package queue

import (
	"encoding/binary"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// Kinds of records, the first byte of every key. Package events owns 'e', 'x' and 'y'.
const (
	kindDelivery   = 'q' // destination (16) | 255-priority (1) | due ms (6) | seq (8): the order of the queue
	kindBody       = 'b' // name of the message
	kindShares     = 'r' // name of the message: recipients still queued, where there were several
	kindKey        = 'd' // HMAC of tenant and idempotency key (16)
	kindMeta       = 'm' // HMAC of a name (16): operator state
	kindDataKey    = 'k' // key id (4): wrapped data key, not sealed again
	kindIdentity   = 'i' // lineage; "im": high-water mark of sequence numbers; "if": last frame shipped
	kindSnapshot   = 's' // counters
	kindDay        = 'h' // date (4): statistics of a day
	kindFolded     = 'f' // what was counted of events that are gone: counters; with a date, those of the day
	kindQuarantine = 'z' // the key of a damaged record
	kindProbe      = 't' // self-test at start
	kindExposed    = 'u' // name of the message: no standby may hold it; the frame that shipped it
	kindAdopted    = 'a' // lineage adopted (4) | seq (8) and lineage (4) of a message of it that was taken
	kindUse        = 'g' // day of the event log (2), 0 = none | data key (4): the key sealed something filed under that day
	kindParked     = 'o' // lineage given up (4) | key: a record of it that no standby may hold
)

const deliveryKeySize = 1 + 16 + 1 + 6 + 8

// destination is the opaque name of a mail.Destination in keys. Its tenant is part of it, so that each tenant's mail to a
// domain is a run of keys of its own, in its own order, and is found without a look at the others' (docs/adr/0015).
type destination [16]byte

// place is a position within a destination and priority.
type place struct {
	due uint64 // ms since 1970
	seq uint64
}

var lastPlace = place{math.MaxUint64, math.MaxUint64}

func (p place) less(q place) bool { return p.due < q.due || p.due == q.due && p.seq < q.seq }

// next is the smallest place after p.
func (p place) next() place { return place{p.due, p.seq + 1} }

// spot is where a delivery lies in the queue.
type spot struct {
	dest destination
	inv  uint8 // 255-priority: smaller is served first
	at   place
}

const maxDue = 1<<48 - 1

func dueOf(t time.Time) uint64 { return uint64(min(max(t.UnixMilli(), 0), maxDue)) }

func dueTime(ms uint64) time.Time { return time.UnixMilli(int64(ms)).UTC() }

// appendSpot appends the key of the delivery at s.
func appendSpot(dst []byte, s *spot) []byte {
	dst = appendClass(dst, s.dest, s.inv)
	due := min(s.at.due, maxDue)
	dst = append(dst, byte(due>>40), byte(due>>32), byte(due>>24), byte(due>>16), byte(due>>8), byte(due))
	return binary.BigEndian.AppendUint64(dst, s.at.seq)
}

func appendClass(dst []byte, d destination, inv uint8) []byte {
	dst = append(dst, kindDelivery)
	dst = append(dst, d[:]...)
	return append(dst, inv)
}

func parseSpot(k []byte) (s spot, ok bool) {
	if len(k) != deliveryKeySize || k[0] != kindDelivery {
		return s, false
	}
	copy(s.dest[:], k[1:])
	s.inv = k[17]
	for _, b := range k[18:24] {
		s.at.due = s.at.due<<8 | uint64(b)
	}
	s.at.seq = binary.BigEndian.Uint64(k[24:])
	return s, true
}

// appendMessageKey appends the key of a record that a message has one of: the message's seq (8) and, where it was
// accepted by another store than this one, its lineage (4).
func appendMessageKey(dst []byte, kind byte, own mail.Lineage, m mail.MessageID) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, kind), uint64(m.Seq))
	if m.Lineage != own {
		dst = binary.BigEndian.AppendUint32(dst, uint32(m.Lineage))
	}
	return dst
}

func parseMessageKey(k []byte, own mail.Lineage) (m mail.MessageID, ok bool) {
	switch len(k) {
	case 1 + 8:
		m.Lineage = own
	case 1 + 8 + 4:
		m.Lineage = mail.Lineage(binary.BigEndian.Uint32(k[9:]))
	default:
		return m, false
	}
	m.Seq = mail.Seq(binary.BigEndian.Uint64(k[1:]))
	return m, true
}

// identity appends what a record is bound to: it opens in this store, under this number and as this kind only.
func identity(dst []byte, l mail.Lineage, seq mail.Seq, kind byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(l))
	dst = binary.BigEndian.AppendUint64(dst, uint64(seq))
	return append(dst, kind)
}

// maxIdentity is the longest identity in bytes.
const maxIdentity = 13 + 4

// messageIdentity is the identity of a record that a message has one of.
func messageIdentity(dst []byte, own mail.Lineage, m mail.MessageID, kind byte) []byte {
	dst = identity(dst, own, m.Seq, kind)
	if m.Lineage != own {
		dst = binary.BigEndian.AppendUint32(dst, uint32(m.Lineage))
	}
	return dst
}

// domainNames caches the opaque names of destinations: an HMAC costs as much as sealing a record.
type domainNames struct {
	ring *seal.Ring
	mu   sync.RWMutex
	by   map[mail.Destination]destination
}

// Domains remembered; about 1.5 MB.
const maxDomainNames = 16 << 10

func (n *domainNames) of(d mail.Destination) destination {
	n.mu.RLock()
	dest, ok := n.by[d]
	n.mu.RUnlock()
	if ok {
		return dest
	}
	name := make([]byte, 0, len(d.Domain)+1+len(d.Tenant))
	name = append(name, d.Domain...)
	if d.Tenant != "" { // a domain has no zero octet
		name = append(append(name, 0), d.Tenant...)
	}
	dest = n.ring.Index("destination", name)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.by == nil || len(n.by) >= maxDomainNames {
		n.by = make(map[mail.Destination]destination)
	}
	// d may share memory with a whole record
	n.by[mail.Destination{Domain: mail.Domain(strings.Clone(string(d.Domain))), Tenant: strings.Clone(d.Tenant)}] = dest
	return dest
}
