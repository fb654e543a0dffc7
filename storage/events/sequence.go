package events

import (
	"encoding/binary"

	"github.com/ekiden-mta/ekiden/storage/record"
)

// Every tenant's events are numbered 1, 2, 3 … in the order of their commits. A block says per tenant where its numbers
// begin, so that no number is stored with an event and none can be missing; the snapshot of the counters holds where the
// next ones begin, and a start brings that up to the newest block.

// share is a tenant's part of a block: how many events, or the number of the first one.
type share struct {
	tenant string
	n      uint64
}

// raise adds n to the tenant's share. A commit concerns few tenants, mostly one.
func raise(in []share, tenant string, n uint64) []share {
	for i := range in {
		if in[i].tenant == tenant {
			in[i].n += n
			return in
		}
	}
	return append(in, share{tenant, n})
}

// appendShares writes where the numbers of a block begin, tenant by tenant.
func (l *Log) appendShares(dst []byte, tenants []share) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	dst = binary.AppendUvarint(dst, uint64(len(tenants)))
	for _, t := range tenants {
		dst = record.AppendString(dst, t.tenant)
		dst = binary.AppendUvarint(dst, l.sequences[t.tenant]+1)
	}
	return dst
}

// readShares reads version and numbers of a block. Blocks of version 1 have no numbers.
func readShares(r *record.Reader) ([]share, error) {
	switch r.Byte() {
	case 1:
		return nil, r.Err()
	case blockVersion:
	default:
		return nil, record.ErrDamaged
	}
	var shares []share
	for left := r.UintMax(maxBlockSize); left > 0 && r.Err() == nil; left-- {
		shares = append(shares, share{r.String(), r.Uint()})
	}
	return shares, r.Err()
}

// take returns the tenant's next number, 0 where the block gives none.
func take(shares []share, tenant string) uint64 {
	for i := range shares {
		if shares[i].tenant == tenant {
			shares[i].n++
			return shares[i].n - 1
		}
	}
	return 0
}

// counted notes that a block with these numbers of events is durable; under l.mu.
func (l *Log) counted(tenants []share) {
	for _, t := range tenants {
		l.sequences[string([]byte(t.tenant))] += t.n
	}
}

// AppendSequences appends the newest number of every tenant, for a snapshot taken by the committer.
func (l *Log) AppendSequences(dst []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	dst = binary.AppendUvarint(dst, uint64(len(l.sequences)))
	for tenant, n := range l.sequences {
		dst = binary.AppendUvarint(record.AppendString(dst, tenant), n)
	}
	return dst
}

// RestoreSequences reads what AppendSequences wrote. Call it before Replay, which brings the numbers up to the end.
func (l *Log) RestoreSequences(r *record.Reader) error {
	read := map[string]uint64{}
	for left := r.Uint(); left > 0 && r.Err() == nil; left-- {
		tenant := r.String()
		read[string([]byte(tenant))] = r.Uint()
	}
	if err := r.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	l.sequences = read
	l.mu.Unlock()
	return nil
}
