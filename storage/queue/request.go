package queue

import (
	"github.com/dgraph-io/badger/v4"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/events"
)

// request is one thing for the committer to do, made ready by whoever wants it: everything is packed and sealed, so the
// committer only gathers.
type request struct {
	done func(error)
	err  error // what done hears although the commit went well; the request then adds nothing

	buf  []byte         // keys, identities and sealed records of this request
	sets []badger.Entry // records to write
	dels [][]byte       // keys to delete
	size int            // bytes of both

	pack   events.Pack
	events []mail.Event  // the same events, for the counters
	one    [1]mail.Event // room for the single event of a settlement
	adds   []spot        // deliveries that wait from now on
	drops  []spot        // deliveries that no longer do
	booked []booking     // reservations of adds
	freed  []booking     // and of drops
	live   int64         // bytes that become live, negative for dead

	maxSeq    mail.Seq
	message   mail.MessageID // body concerned
	shares    int            // of a Put: recipients that share the body, 0 where they do not
	puts      bool           // brings mail
	settles   bool           // ends or moves one share of message
	final     bool           // ends it
	outcome   bool           // closes an attempt
	sure      bool           // is refused where its delivery is not queued
	adopted   bool           // of a Put: was another store's mail
	flush     bool           // waits until what was committed before is held
	withdraws bool           // takes back what a Put brought
	ifAbsent  bool           // sets only keys that are not there
	present   bool           // is refused where its key is not there
	unmarks   bool           // its dels are marks of exposure
	logs      bool           // its sets are records of the event log
	marks     int64          // marks of exposure set
	hasKey    bool
	alone     func() // called by the committer after the commit, while nothing else is counted
	key       [16]byte
	id        mail.MessageID
	aad       [maxIdentity]byte
	metadata  [256]byte // room for the plaintext of small records
}

// Buffers above this are not kept for the next request.
const keepBuffer = 64 << 10

func (s *Store) newRequest(done func(error)) *request {
	r, ok := s.requests.Get().(*request)
	if !ok {
		r = new(request)
	}
	r.done = done
	return r
}

// free keeps r for a later request. Badger has copied keys and values by the time a commit returns.
func (s *Store) free(r *request) {
	buf, sets, dels, adds, drops, pack := r.buf, r.sets, r.dels, r.adds, r.drops, r.pack
	if cap(buf) > keepBuffer || pack.Size() > keepBuffer || cap(sets) > 64 {
		return
	}
	clear(sets)
	clear(dels)
	pack.Reset()
	*r = request{buf: buf[:0], sets: sets[:0], dels: dels[:0], adds: adds[:0], drops: drops[:0], pack: pack}
	s.requests.Put(r)
}

// cut returns what was appended to buf since from, safe from later appends.
func (r *request) cut(from int) []byte { return r.buf[from:len(r.buf):len(r.buf)] }

func (r *request) set(key, value []byte) {
	r.sets = append(r.sets, badger.Entry{Key: key, Value: value})
	r.size += len(key) + len(value)
}

func (r *request) del(key []byte) {
	r.dels = append(r.dels, key)
	r.size += len(key)
}
