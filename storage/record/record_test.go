package record

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	raw := AppendString([]byte{9}, "こ")
	raw = AppendTime(raw, at)
	for _, a := range []netip.Addr{v4, v6, {}} {
		raw = AppendAddr(raw, a)
	}
	for _, n := range []uint64{0, 127, 128, math.MaxUint64} {
		raw = binary.AppendUvarint(raw, n)
	}
	for _, n := range []int64{0, -1, math.MinInt64, math.MaxInt64} {
		raw = binary.AppendVarint(raw, n)
	}
	r := NewReader(string(raw))
	if r.Byte() != 9 || r.String() != "こ" || !r.Time().Equal(at) || r.Addr() != v4 || r.Addr() != v6 || r.Addr().IsValid() {
		t.Error("first half differs")
	}
	if r.Uint() != 0 || r.Uint() != 127 || r.Uint() != 128 || r.Uint() != math.MaxUint64 {
		t.Error("numbers differ")
	}
	if r.Int() != 0 || r.Int() != -1 || r.Int() != math.MinInt64 || r.Int() != math.MaxInt64 || r.Left() != 0 || r.Err() != nil {
		t.Error("signed numbers differ")
	}
}

func TestDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		raw  string
		read func(r *Reader)
	}{
		"no byte":               {"", func(r *Reader) { r.Byte() }},
		"number without end":    {"\x80", func(r *Reader) { r.Uint() }},
		"number too long":       {strings.Repeat("\x80", 10) + "\x01", func(r *Reader) { r.Uint() }},
		"number over 64 bits":   {strings.Repeat("\xff", 9) + "\x02", func(r *Reader) { r.Uint() }},
		"number over its limit": {"\x05", func(r *Reader) { r.UintMax(4) }},
		"string too short":      {"\x05abc", func(r *Reader) { _ = r.String() }},
		"string of 2^63":        {strings.Repeat("\xff", 9) + "\x01abc", func(r *Reader) { _ = r.String() }},
		"address of 5 bytes":    {"\x0512345", func(r *Reader) { r.Addr() }},
		"address cut":           {"\x10123", func(r *Reader) { r.Addr() }},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(c.raw)
			c.read(&r)
			if r.Err() == nil {
				t.Error("taken")
			}
			if r.Byte() != 0 || r.Uint() != 0 || r.String() != "" || r.Err() == nil {
				t.Error("a damaged record goes on")
			}
		})
	}
}
