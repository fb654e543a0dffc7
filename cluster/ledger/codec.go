package ledger

import (
	"encoding/binary"
	"math"
	"strings"
	"time"
)

// codec writes or reads fields: one method per type names its fields in order, and serves both directions. Reading
// foreign bytes never panics, never reads beyond its input and never allocates by a length it has not checked; the first
// mistake makes every later field zero and bad true.
type codec struct {
	out     []byte
	in      string
	reading bool
	bad     bool
	share   bool // strings read share memory with the input, instead of being copied
}

func (c *codec) fail() { c.bad, c.in = true, "" }

// more tells whether fields follow that a record written by an earlier release does not have.
func (c *codec) more() bool { return !c.reading || c.in != "" }

func (c *codec) byte(v *byte) {
	if !c.reading {
		c.out = append(c.out, *v)
		return
	}
	*v = 0
	if c.in == "" {
		c.fail()
		return
	}
	*v, c.in = c.in[0], c.in[1:]
}

func (c *codec) uint(v *uint64) {
	if !c.reading {
		c.out = binary.AppendUvarint(c.out, *v)
		return
	}
	*v = 0
	var got uint64
	for i := 0; i < len(c.in) && i < binary.MaxVarintLen64; i++ {
		b := c.in[i]
		if b >= 0x80 {
			got |= uint64(b&0x7f) << (7 * i)
			continue
		}
		// One spelling per number: no number ends in an empty group, and none is larger than 64 bits.
		if i > 0 && b == 0 || i == binary.MaxVarintLen64-1 && b > 1 {
			break
		}
		*v, c.in = got|uint64(b)<<(7*i), c.in[i+1:]
		return
	}
	c.fail()
}

func (c *codec) uint32(v *uint32) {
	wide := uint64(*v)
	c.uint(&wide)
	if wide > math.MaxUint32 {
		c.fail()
		wide = 0
	}
	*v = uint32(wide)
}

func (c *codec) bool(v *bool) {
	var b byte
	if *v {
		b = 1
	}
	c.byte(&b)
	if b > 1 {
		c.fail()
	}
	*v = b == 1
}

// timeCode is how time writes v.
func timeCode(v time.Time) uint64 {
	if v.IsZero() {
		return 0
	}
	return uint64(v.UnixMilli())<<1 ^ uint64(v.UnixMilli()>>63)
}

// time keeps milliseconds of UTC. The zero time stays the zero time; nothing is dated to 1970-01-01T00:00:00.000.
func (c *codec) time(v *time.Time) {
	n := timeCode(*v)
	c.uint(&n)
	if c.reading {
		*v = time.Time{}
		if n != 0 {
			*v = time.UnixMilli(int64(n>>1) ^ -int64(n&1)).UTC()
		}
	}
}

// take reads n bytes.
func (c *codec) take(n uint64) string {
	if n > uint64(len(c.in)) {
		c.fail()
		return ""
	}
	s := c.in[:n]
	c.in = c.in[n:]
	return s
}

func (c *codec) str(v *string) {
	n := uint64(len(*v))
	c.uint(&n)
	if !c.reading {
		c.out = append(c.out, *v...)
		return
	}
	*v = c.take(n)
	if !c.share {
		*v = strings.Clone(*v)
	}
}

func (c *codec) bytes(v *[]byte) {
	n := uint64(len(*v))
	c.uint(&n)
	if !c.reading {
		c.out = append(c.out, *v...)
		return
	}
	*v = nil
	if s := c.take(n); s != "" {
		*v = []byte(s)
	}
}

func (c *codec) sum(v *[32]byte) {
	if !c.reading {
		c.out = append(c.out, v[:]...)
		return
	}
	*v = [32]byte{}
	copy(v[:], c.take(32))
}

// list reads or writes a list of at most limit elements. What is allocated ahead never exceeds what the bytes that are
// there could fill, since every element takes one byte at least.
func list[T any](c *codec, v *[]T, limit int, each func(*codec, *T)) {
	n := uint64(len(*v))
	c.uint(&n)
	if n > uint64(limit) || c.reading && n > uint64(len(c.in)) {
		c.fail()
	}
	if c.reading {
		*v = nil
		if c.bad || n == 0 {
			return
		}
		*v = make([]T, n)
	}
	for i := range *v {
		if each(c, &(*v)[i]); c.bad {
			return
		}
	}
}
