// Package record is the byte grammar of what the store keeps: append functions and a Reader for variable-length
// numbers, strings, addresses and times. It is pure and must never read beyond the bytes it was given, allocate by a
// length it has not checked, or panic on foreign bytes.
package record

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// ErrDamaged is reported for bytes that do not follow the grammar. They passed authentication, so they were written
// by another version or by a defect of ours.
var ErrDamaged = errors.New("record does not decode")

// AppendString appends the length of s and s.
func AppendString[S ~string](dst []byte, s S) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// AppendTime appends t with millisecond resolution.
func AppendTime(dst []byte, t time.Time) []byte { return binary.AppendVarint(dst, t.UnixMilli()) }

// AppendAddr appends a as 0, 4 or 16 bytes behind their number. A zone is not kept.
func AppendAddr(dst []byte, a netip.Addr) []byte {
	switch {
	case !a.IsValid():
		return append(dst, 0)
	case a.Is4():
		raw := a.As4()
		return append(append(dst, 4), raw[:]...)
	}
	raw := a.As16()
	return append(append(dst, 16), raw[:]...)
}

// Reader takes a record apart. The first mistake makes every later answer zero; Err tells of it once at the end.
// Strings it returns share memory with the string it was made of.
type Reader struct {
	rest string
	bad  bool
}

// NewReader returns a reader of s.
func NewReader(s string) Reader { return Reader{rest: s} }

// Fail marks the record as damaged.
func (r *Reader) Fail() { r.bad, r.rest = true, "" }

// Err returns ErrDamaged if anything was missing or malformed.
func (r *Reader) Err() error {
	if r.bad {
		return ErrDamaged
	}
	return nil
}

// Left returns the number of bytes not read yet.
func (r *Reader) Left() int { return len(r.rest) }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if r.rest == "" {
		r.Fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

// Uint reads what binary.AppendUvarint wrote.
func (r *Reader) Uint() uint64 {
	var v uint64
	for i := 0; i < len(r.rest) && i < binary.MaxVarintLen64; i++ {
		b := r.rest[i]
		if b < 0x80 {
			if i == binary.MaxVarintLen64-1 && b > 1 {
				break
			}
			r.rest = r.rest[i+1:]
			return v | uint64(b)<<(7*i)
		}
		v |= uint64(b&0x7f) << (7 * i)
	}
	r.Fail()
	return 0
}

// UintMax reads a number that may be at most limit.
func (r *Reader) UintMax(limit uint64) uint64 {
	v := r.Uint()
	if v > limit {
		r.Fail()
		return 0
	}
	return v
}

// Int reads what binary.AppendVarint wrote.
func (r *Reader) Int() int64 {
	u := r.Uint()
	v := int64(u >> 1)
	if u&1 != 0 {
		v = ^v
	}
	return v
}

// Bytes reads n bytes.
func (r *Reader) Bytes(n uint64) string {
	if n > uint64(len(r.rest)) {
		r.Fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

// String reads what AppendString wrote.
func (r *Reader) String() string { return r.Bytes(r.Uint()) }

// Time reads what AppendTime wrote, as UTC.
func (r *Reader) Time() time.Time { return time.UnixMilli(r.Int()).UTC() }

// Addr reads what AppendAddr wrote.
func (r *Reader) Addr() netip.Addr {
	switch n := r.Byte(); n {
	case 0:
		return netip.Addr{}
	case 4:
		if raw := r.Bytes(4); len(raw) == 4 {
			return netip.AddrFrom4([4]byte([]byte(raw)))
		}
	case 16:
		if raw := r.Bytes(16); len(raw) == 16 {
			return netip.AddrFrom16([16]byte([]byte(raw)))
		}
	default:
		r.Fail()
	}
	return netip.Addr{}
}
