package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/mail"
)

// protocol ekiden-ledger/1: frames of
//
//	length u32 | what u8 | number u64 | patience u32 ms | payload
//
// in both directions, big-endian. length counts what follows it. The dialler numbers its questions; answers carry the
// question's number and come in any order. patience is how long the dialler waits, 0 in answers.
const (
	frameHead = 1 + 8 + 4
	maxFrame  = frameHead + 4 + maxEntry
)

// what a frame is.
type what byte

const (
	askSubmit what = 1 // payload: an entry of raft's log
	askRenew  what = 2 // payload: lineages and epochs
	askStatus what = 3 // no payload

	sayCommitted what = 0x81 // payload: index u64
	sayNotDone   what = 0x82 // payload: why, for the log
	sayUncertain what = 0x83 // likewise
	sayRenewed   what = 0x84 // payload: those not renewed
	sayStatus    what = 0x85 // payload: status
)

// frame is one message.
type frame struct {
	what     what
	number   uint64
	patience time.Duration
	payload  []byte
}

var errFrame = errors.New("not a frame of ekiden-ledger/1")

func (f *frame) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(frameHead+len(f.payload)))
	b = append(b, byte(f.what))
	b = binary.BigEndian.AppendUint64(b, f.number)
	b = binary.BigEndian.AppendUint32(b, uint32(min(f.patience/time.Millisecond, 1<<32-1)))
	return append(b, f.payload...)
}

// readFrame reads one frame. The payload is allocated as it arrives, so that a length alone costs nothing.
func readFrame(r io.Reader) (frame, error) {
	var head [4 + frameHead]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n < frameHead || n > maxFrame {
		return frame{}, fmt.Errorf("%w: length %d", errFrame, n)
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return frame{}, err
	}
	f := frame{what: what(head[4]), number: binary.BigEndian.Uint64(head[5:]),
		patience: time.Duration(binary.BigEndian.Uint32(head[13:])) * time.Millisecond}
	payload, err := io.ReadAll(io.LimitReader(r, int64(n-frameHead)))
	if err == nil && len(payload) != int(n-frameHead) {
		err = io.ErrUnexpectedEOF
	}
	f.payload = payload
	return f, err
}

// packLineages and unpackLineages carry lists of lineages with epochs: lineage u32, epoch u64 each.
func packLineages(of []ledger.LineageEpoch) []byte {
	b := make([]byte, 0, 12*len(of))
	for _, l := range of {
		b = binary.BigEndian.AppendUint32(b, uint32(l.Lineage))
		b = binary.BigEndian.AppendUint64(b, l.Epoch)
	}
	return b
}

func unpackLineages(b []byte) ([]ledger.LineageEpoch, error) {
	if len(b)%12 != 0 || len(b)/12 > maxRenewals/2 {
		return nil, fmt.Errorf("%w: %d octets of lineages", errFrame, len(b))
	}
	of := make([]ledger.LineageEpoch, len(b)/12)
	for i := range of {
		of[i].Lineage = mail.Lineage(binary.BigEndian.Uint32(b[12*i:]))
		of[i].Epoch = binary.BigEndian.Uint64(b[12*i+4:])
	}
	return of, nil
}

// status is what a member says of itself.
type status struct {
	applied uint64 // index of the last entry in its book
	last    uint64 // index of the last entry in its log
	leads   bool
}

func (s *status) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, s.applied)
	b = binary.BigEndian.AppendUint64(b, s.last)
	if s.leads {
		return append(b, 1)
	}
	return append(b, 0)
}

func unpackStatus(b []byte) (status, error) {
	if len(b) != 17 || b[16] > 1 {
		return status{}, fmt.Errorf("%w: status of %d octets", errFrame, len(b))
	}
	return status{applied: binary.BigEndian.Uint64(b), last: binary.BigEndian.Uint64(b[8:]), leads: b[16] == 1}, nil
}
