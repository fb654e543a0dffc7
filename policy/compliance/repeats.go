package compliance

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/ekiden-mta/ekiden/mail/smtp"
)

// Figures of repetition.
const (
	repeatMost = 20          // messages with one Message-ID in a minute that are no burst: copies to several recipients
	repeatSpan = time.Minute // what is counted together
	repeatKept = 1 << 16     // Message-IDs of one span; beyond them counting begins anew
)

// Repeats counts how often tenants used a Message-ID lately. A generator that forgets to make new ones is refused by the
// large receivers for days. Its memory is bounded; it is not safe for concurrent use.
type Repeats struct {
	seed  maphash.Seed
	began time.Time
	count map[uint64]int
}

// NewRepeats knows of none yet. Hashes of one seed are the same.
func NewRepeats(seed maphash.Seed) *Repeats { return &Repeats{seed: seed} }

// Count takes a tenant's message with that Message-ID into account and tells what is wrong with it, if anything is.
func (r *Repeats) Count(now time.Time, tenant string, id []byte) (Finding, bool) {
	if id = bytes.TrimSpace(id); len(id) == 0 {
		return Finding{}, false
	}
	if r.count == nil || now.Sub(r.began) >= repeatSpan || now.Before(r.began) || len(r.count) >= repeatKept {
		r.began, r.count = now, map[uint64]int{}
	}
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(tenant)
	_ = h.WriteByte(0)
	_, _ = h.Write(id)
	k := h.Sum64()
	if r.count[k]++; r.count[k] <= repeatMost {
		return Finding{}, false
	}
	return Finding{Repeated, fmt.Sprintf("more than %d messages had this Message-ID within a minute: give each message one of its own", repeatMost),
		smtp.EnhancedCode{Class: 5, Subject: 7, Detail: 1}}, true
}
