// Package standing knows how senders stand in the DNS before receivers look: for each identity that mail is handed over
// with, what package alignment holds against it.
//
// Answers come from memory only. What is not known is asked for in the background, within bounds, and until it is here
// nobody is judged. It must never make the message wait that asked, and never take trouble with the DNS for a fault. Read
// Judge first.
package standing

import (
	"context"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/delivery/dns"
	"github.com/ekiden-mta/ekiden/internal/clock"
	"github.com/ekiden-mta/ekiden/policy/alignment"
)

// Bounds. Ages are of the machine's clock, as TTLs are.
const (
	maxKept   = 4096             // identities
	maxUnder  = 32               // identities looked up at once; the next message with one asks again
	freshGood = time.Hour        // how long a good standing counts at most, and
	freshBad  = time.Minute      // a bad one, so that whoever mended a record is soon believed
	freshLeft = 30 * time.Second // and one that is not known whole
	stale     = 10 * time.Minute // how long what has run out counts while it is looked up anew
)

// Book keeps what is known. It is safe for concurrent use.
type Book struct {
	dns  *dns.Resolver
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu    sync.Mutex
	kept  map[string]*entry
	under int
}

// entry is one identity. Until the first look-up has ended its until is zero.
type entry struct {
	found  []alignment.Finding
	until  time.Time
	asking bool
}

// New returns a book that knows nothing yet. Whoever closes it ends its questions.
func New(names *dns.Resolver) *Book {
	b := &Book{dns: names, kept: map[string]*entry{}}
	b.life, b.end = context.WithCancel(context.Background())
	return b
}

// Close ends what goes on in the background.
func (b *Book) Close() {
	b.mu.Lock()
	b.end() // under the lock: nothing begins behind it
	b.mu.Unlock()
	b.work.Wait()
}

// Judge tells what is wrong with id as far as it is known now. It does not block. The caller must not change what it gets.
func (b *Book) Judge(id alignment.Identity) []alignment.Finding {
	var buf [256]byte
	key := appendKey(buf[:0], &id)
	now := clock.Wall()
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.kept[string(key)]
	if e != nil && now.Before(e.until) {
		return e.found
	}
	if (e == nil || !e.asking) && b.under < maxUnder && b.life.Err() == nil {
		if e == nil {
			b.makeRoom(now)
			e = &entry{}
			b.kept[string(key)] = e
		}
		e.asking = true
		b.under++
		asked := id // so that id itself stays off the heap where nothing is asked
		b.work.Go(func() { b.look(e, asked) })
	}
	if e == nil || !now.Before(e.until.Add(stale)) {
		return nil
	}
	return e.found
}

// makeRoom drops what ran out among a few entries, which a map hands out in random order, or one of them.
func (b *Book) makeRoom(now time.Time) {
	if len(b.kept) < maxKept {
		return
	}
	looked := 0
	for k, e := range b.kept {
		if looked++; !e.asking && (looked > 8 || !now.Before(e.until)) {
			delete(b.kept, k)
			return
		}
	}
}

// look finds out how id stands.
func (b *Book) look(e *entry, id alignment.Identity) {
	found, fresh := b.Look(b.life, id)
	b.mu.Lock()
	defer b.mu.Unlock()
	e.found, e.until, e.asking = found, clock.Wall().Add(fresh), false
	b.under--
}

// appendKey appends all that a standing depends on.
func appendKey(dst []byte, id *alignment.Identity) []byte {
	for _, s := range [...]string{string(id.From), string(id.Envelope), id.Helo} {
		dst = append(append(dst, s...), 0)
	}
	for _, s := range id.Signatures {
		dst = append(append(append(append(dst, s.Domain...), 0), s.Selector...), 0)
	}
	for _, a := range id.Sources[:min(len(id.Sources), alignment.MaxSources)] {
		raw := a.As16()
		dst = append(dst, raw[:]...)
	}
	return dst
}

// Look asks the DNS for all that judging id needs. fresh is how long the answer may be remembered.
func (b *Book) Look(ctx context.Context, id alignment.Identity) (found []alignment.Finding, fresh time.Duration) {
	a := NewAnswers(b.dns)
	a.Complete(ctx, func(r alignment.Records) { found = alignment.Check(r, id) })
	most := freshGood
	switch {
	case a.left:
		most = freshLeft
	case len(found) > 0:
		most = freshBad
	}
	return found, min(max(-clock.Since(a.until), freshLeft), most)
}
