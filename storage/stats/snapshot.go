package stats

import (
	"encoding/binary"
	"strings"

	"github.com/ekiden-mta/ekiden/storage/record"
)

const snapshotVersion = 3

// Changed tells whether anything was counted since the last Snapshot.
func (t *Table) Changed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dirty
}

// Snapshot appends all counters to dst, without the days: see Days. Empty windows take no room: about 100 bytes per name
// under a steady load.
func (t *Table) Snapshot(dst []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dirty = false
	dst = append(dst, snapshotVersion, byte(Counters))
	dst = appendSeries(dst, &t.all)
	for _, n := range t.own {
		dst = binary.AppendUvarint(dst, n)
	}
	for _, n := range t.breakdowns() {
		dst = appendSeries(dst, &n.other)
		dst = binary.AppendUvarint(dst, uint64(len(n.by)))
		for of, s := range n.by {
			dst = record.AppendString(record.AppendString(dst, of.tenant), of.name)
			dst = appendSeries(dst, s)
		}
	}
	return dst
}

func appendSeries(dst []byte, s *series) []byte {
	for _, n := range s.total {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = binary.AppendUvarint(dst, uint64(s.last))
	dst = appendRing(dst, s.hours[:])
	return appendRing(dst, s.fives[:])
}

func appendRing(dst []byte, ring []window) []byte {
	used := 0
	for i := range ring {
		if ring[i].start != 0 {
			used++
		}
	}
	dst = binary.AppendUvarint(dst, uint64(used))
	for i := range ring {
		if ring[i].start == 0 {
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(ring[i].start))
		for _, n := range ring[i].counts {
			dst = binary.AppendUvarint(dst, uint64(n))
		}
	}
	return dst
}

// Restore replaces all counters by those of a snapshot. One that was written before the last counters existed has none
// of them. A snapshot of another version is ErrDamaged: the counters are then empty and the caller rebuilds them from
// events.
func (t *Table) Restore(snapshot []byte) error {
	r := record.NewReader(string(snapshot))
	if r.Byte() != snapshotVersion {
		r.Fail()
	}
	counters := int(r.Byte())
	if counters > int(Counters) {
		r.Fail()
		counters = 0
	}
	fresh := New(t.days.Config)
	readSeries(&r, &fresh.all, counters)
	for i := range fresh.own[:counters] {
		fresh.own[i] = r.Uint()
	}
	for _, n := range fresh.breakdowns() {
		readSeries(&r, &n.other, counters)
		for left := r.Uint(); left > 0 && r.Err() == nil; left-- {
			of, s := name{strings.Clone(r.String()), strings.Clone(r.String())}, &series{}
			readSeries(&r, s, counters)
			if len(n.by) < n.max { // the bound may be smaller than it was
				n.by[of] = s
			} else {
				n.other.merge(s)
			}
		}
	}
	if r.Left() > 0 {
		r.Fail()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := r.Err(); err != nil {
		t.clear()
		return err
	}
	t.take(fresh)
	return nil
}

// take gives t what other counted.
func (t *Table) take(other *Table) {
	t.all, t.own, t.days.kept = other.all, other.own, other.days.kept
	t.tenants, t.groups, t.domains = other.tenants, other.groups, other.domains
}

func readSeries(r *record.Reader, s *series, counters int) {
	for i := range s.total[:counters] {
		s.total[i] = r.Uint()
	}
	s.last = int64(r.UintMax(1 << 40))
	readRing(r, s.hours[:], counters)
	readRing(r, s.fives[:], counters)
}

func readRing(r *record.Reader, ring []window, counters int) {
	for used := r.UintMax(uint64(len(ring))); used > 0; used-- {
		start := int64(r.UintMax(1 << 40))
		w := &ring[int(start%int64(len(ring)))]
		w.start = start
		for i := range w.counts[:counters] {
			w.counts[i] = uint32(r.UintMax(1<<32 - 1))
		}
	}
}
