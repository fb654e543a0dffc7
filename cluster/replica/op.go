package replica

import (
	"encoding/binary"
	"fmt"
)

// Op is one change of a record: Key is set to Value, or deleted. Keys are 1 to MaxKey octets, values are what the owner
// sealed; neither means anything here.
type Op struct {
	Delete     bool
	Key, Value []byte
}

// In a payload a change is
//
//	what (1) | size of the key (1) | size of the value (4) | key | value
const (
	opHeader = 6
	opSet    = 0
	opDelete = 1
)

// size of op in a payload.
func (op *Op) size() int { return opHeader + len(op.Key) + len(op.Value) }

// appendOp appends op to a payload.
func appendOp(dst []byte, op *Op) []byte {
	what, value := byte(opSet), op.Value
	if op.Delete {
		what, value = opDelete, nil
	}
	dst = append(dst, what, byte(len(op.Key)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	dst = append(dst, op.Key...)
	return append(dst, value...)
}

// cutOp takes the first change off a payload; op shares its memory.
func cutOp(b []byte) (op Op, rest []byte, err error) {
	if len(b) < opHeader {
		return op, nil, fmt.Errorf("%w: %d octets where a change begins", ErrMalformed, len(b))
	}
	key, value := int(b[1]), int(binary.BigEndian.Uint32(b[2:]))
	if b[0] > opDelete || b[0] == opDelete && value != 0 || key == 0 || key > MaxKey || value > len(b)-opHeader-key {
		return op, nil, fmt.Errorf("%w: a change with a key of %d and a value of %d octets", ErrMalformed, key, value)
	}
	end := opHeader + key + value
	return Op{Delete: b[0] == opDelete, Key: b[opHeader : opHeader+key], Value: b[opHeader+key : end]}, b[end:], nil
}

// checkOps tells whether a payload is a list of changes.
func checkOps(b []byte) error {
	for len(b) > 0 {
		var err error
		if _, b, err = cutOp(b); err != nil {
			return err
		}
	}
	return nil
}

// fillChunk is how much goes into one block where records are streamed, octets; one record may exceed it.
const fillChunk = 256 << 10
