package replica

import (
	"encoding/binary"
	"fmt"

	"github.com/ekiden-mta/ekiden/mail"
)

// Protocol is the ALPN name under which all of this runs.
const Protocol = "ekiden-ship/1"

const (
	helloVersion = 1
	maxCluster   = 128     // octets of a cluster's name
	maxAnswer    = 4 << 10 // octets of what a standby says to its owner
)

// purpose is what a connection is for.
type purpose uint8

const (
	forShipping purpose = 1
	forState    purpose = 2 // what do you have
	forFetching purpose = 3 // refuse epochs below mine and give me a generation: live records, then deleted keys
	forFencing  purpose = 4 // refuse epochs below mine
)

// hello opens a connection.
type hello struct {
	purpose purpose
	cluster string
	lineage mail.Lineage
	epoch   uint64
	run     uint64 // first frame of this numbering
	next    uint64 // the frame to be shipped next; the generation to be fetched, 0 for the current one
}

func (h *hello) encode(dst []byte) []byte {
	b := beginBlock(dst)
	b = append(b, helloVersion, byte(h.purpose))
	b = binary.BigEndian.AppendUint32(b, uint32(h.lineage))
	b = binary.BigEndian.AppendUint64(b, h.run)
	b = append(b, byte(len(h.cluster)))
	b = append(b, h.cluster...)
	return endBlock(b, kindHello, h.epoch, h.next)
}

func parseHello(b *block) (h hello, err error) {
	p := b.payload
	if b.kind != kindHello || len(p) < 15 {
		return h, fmt.Errorf("%w: no greeting", ErrMalformed)
	}
	if p[0] != helloVersion {
		return h, fmt.Errorf("%w: greeting of version %d", ErrMalformed, p[0])
	}
	h = hello{purpose: purpose(p[1]), lineage: mail.Lineage(binary.BigEndian.Uint32(p[2:])), epoch: b.epoch,
		run: binary.BigEndian.Uint64(p[6:]), next: b.number}
	if h.purpose < forShipping || h.purpose > forFencing || int(p[14]) != len(p)-15 || p[14] > maxCluster {
		return h, fmt.Errorf("%w: greeting", ErrMalformed)
	}
	h.cluster = string(p[15:])
	return h, nil
}

// State is what a store has of a lineage.
type State struct {
	Epoch   uint64 // the fence: frames below it are refused
	Run     uint64 // first frame of the owner's numbering; 0: nothing was shipped
	High    uint64 // every frame from the begin of the fill up to this one is on disk
	Full    bool   // and everything that lived before
	Damaged bool   // something on disk cannot be read, so Full is false
	// Older are earlier generations that still count, because the current one is not full; the latest first, at most 8.
	Older []Generation
}

// Generation is how far an earlier fill, and what was shipped after it, came.
type Generation struct {
	High uint64
	Full bool
}

const maxOlder = 8

const (
	flagFull    = 1
	flagDamaged = 2
)

func flagsOf(full, damaged bool) (f byte) {
	if full {
		f |= flagFull
	}
	if damaged {
		f |= flagDamaged
	}
	return f
}

func (s *State) encode(dst []byte) []byte {
	b := beginBlock(dst)
	b = binary.BigEndian.AppendUint64(b, s.Run)
	b = append(b, flagsOf(s.Full, s.Damaged))
	for _, g := range s.Older {
		b = append(binary.BigEndian.AppendUint64(b, g.High), flagsOf(g.Full, false))
	}
	return endBlock(b, kindState, s.Epoch, s.High)
}

func parseState(b *block) (s State, err error) {
	p := b.payload
	if b.kind != kindState || len(p) < 9 || len(p)%9 != 0 || len(p)/9 > 1+maxOlder || p[8] > flagFull|flagDamaged {
		return s, fmt.Errorf("%w: no state", ErrMalformed)
	}
	s = State{Epoch: b.epoch, Run: binary.BigEndian.Uint64(p), High: b.number, Full: p[8]&flagFull != 0,
		Damaged: p[8]&flagDamaged != 0}
	for p = p[9:]; len(p) > 0; p = p[9:] {
		if p[8] > flagFull {
			return State{}, fmt.Errorf("%w: no state", ErrMalformed)
		}
		s.Older = append(s.Older, Generation{High: binary.BigEndian.Uint64(p), Full: p[8] == flagFull})
	}
	return s, nil
}

// ack tells an owner what is on disk.
type ack struct {
	high uint64
	fill uint64 // chunks of the fill
	full bool
}

func (a *ack) encode(dst []byte, epoch uint64) []byte {
	b := beginBlock(dst)
	b = binary.BigEndian.AppendUint64(b, a.fill)
	b = append(b, flagsOf(a.full, false))
	return endBlock(b, kindAck, epoch, a.high)
}

func parseAck(b *block) (a ack, err error) {
	if b.kind != kindAck || len(b.payload) != 9 || b.payload[8] > flagFull {
		return a, fmt.Errorf("%w: no acknowledgement", ErrMalformed)
	}
	return ack{high: b.number, fill: binary.BigEndian.Uint64(b.payload), full: b.payload[8] == flagFull}, nil
}

// encodeRefused says that a connection ends, and why.
func encodeRefused(dst []byte, epoch uint64, why string) []byte {
	b := beginBlock(dst)
	return endBlock(append(b, why[:min(len(why), 256)]...), kindRefused, epoch, 0)
}

// RefusedError is a standby's refusal. Where Epoch is above the owner's, the lineage has another owner.
type RefusedError struct {
	Epoch uint64
	Why   string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused at epoch %d: %s", e.Epoch, e.Why) }
