package ledger

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// filter tells of most addresses that they are on no list, without reading the disk. It may be wrong the other way
// only: an address once added is always found. Nothing is ever taken out; a start builds it anew.
//
// It is a row of blocked Bloom filters, each four times as large as the one before, so that it grows without knowing ahead
// how many will come, and a look-up has few of them to ask: each is a cache miss. An address is already an HMAC, so its bytes serve as the hashes. Readers take no locks.
type filter struct {
	writing sync.Mutex
	layers  atomic.Pointer[[]*layer]
	ready   atomic.Bool // everything that lies in the store was added
}

const (
	blockWords  = 8 // of 64 bits: one cache line, one miss per look-up
	probes      = blockWords
	bitsPerName = 16 // 0.1 % of addresses that are on no list look as if they were
	firstLayer  = 1 << 16
)

// layer is a filter for a fixed number of addresses.
type layer struct {
	words []atomic.Uint64
	left  int // additions until the next layer; under filter.writing
}

// newFilter returns an empty filter whose first layer holds n addresses.
func newFilter(n uint64) *filter {
	f := &filter{}
	f.layers.Store(&[]*layer{newLayer(max(n, firstLayer))})
	return f
}

func newLayer(n uint64) *layer {
	blocks := (n*bitsPerName + blockWords*64 - 1) / (blockWords * 64)
	return &layer{words: make([]atomic.Uint64, blocks*blockWords), left: int(n)}
}

// block returns the place of the name's block, and the bits that choose within it.
func (l *layer) block(name *[16]byte) ([]atomic.Uint64, uint64) {
	n := uint64(len(l.words) / blockWords)
	// The upper half of the product spreads 32 bits over any number of blocks without a division.
	at := uint64(binary.LittleEndian.Uint32(name[:])) * n >> 32
	return l.words[at*blockWords:][:blockWords], binary.LittleEndian.Uint64(name[8:])
}

func (l *layer) add(name *[16]byte) {
	block, bits := l.block(name)
	for i := range probes {
		// One bit in each word of the block, chosen by six bits of the name.
		block[i].Or(1 << (bits >> (8 * i) & 63))
	}
}

func (l *layer) has(name *[16]byte) bool {
	block, bits := l.block(name)
	for i := range probes {
		if block[i].Load()&(1<<(bits>>(8*i)&63)) == 0 {
			return false
		}
	}
	return true
}

// add puts a name in.
func (f *filter) add(name *[16]byte) {
	f.writing.Lock()
	defer f.writing.Unlock()
	layers := *f.layers.Load()
	last := layers[len(layers)-1]
	if last.left == 0 {
		last = newLayer(4 * uint64(len(last.words)) * 64 / bitsPerName)
		grown := append(layers[:len(layers):len(layers)], last)
		f.layers.Store(&grown)
	}
	last.left--
	last.add(name)
}

// absent tells that a name was never added. While the filter is being built it knows of none.
func (f *filter) absent(name *[16]byte) bool {
	if !f.ready.Load() {
		return false
	}
	for _, l := range *f.layers.Load() {
		if l.has(name) {
			return false
		}
	}
	return true
}
