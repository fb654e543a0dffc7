package queue

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
	"github.com/ekiden-mta/ekiden/storage/record"
	"github.com/ekiden-mta/ekiden/storage/seal"
)

// Adoption is the mail of another store that is to wait here from now on.
type Adoption struct {
	// Lineage is the other store's.
	Lineage mail.Lineage
	// Records calls each for every live record as it was shipped, in any order, until each gives an error. It is called
	// twice, or three times where mail is pressing. key and value are valid until each returns.
	Records func(each func(key, value []byte) error) error
	// Note is what the log says of every delivery, at most 200 octets: "taken over from n1".
	Note string
	// Offer is told of deliveries as soon as they are stored and held, many at once, while the rest is still on its
	// way. It may be nil. It is called by the goroutine of Adopt and owns the slice.
	Offer func([]mail.Delivery)
}

// Adopted is what Adopt did.
type Adopted struct {
	Messages   int
	Deliveries int
	Skipped    int // deliveries of messages that an earlier call had adopted
	Keys       int // idempotency keys looked at
	Damaged    int // records that did not open, or lacked their body: they lie in quarantine or are forgotten
}

// arenaSize is the bytes of a block of copied records.
const arenaSize = 1 << 20

// A reservation is pressing when its time comes while a large adoption may still be under way.
const (
	pressingWithin = 10 * time.Minute
	normalPriority = 50 // requirement R35
)

// Adopt stores the mail of another store, sealed anew, under numbers of this one: in the other's order of service, with
// its message ids, attempts and lifetimes. Deliveries that may have been under way are taken like any other. It returns
// when everything is held by standbys; where there are too few of them, mail that was promised already is exposed
// rather than refused. Pressing mail comes first: of a priority above normal, and reservations whose time is near, which
// behind a million others would be minutes late.
//
// Every message comes with a mark in the same commit, so that after a crash, or an error, Adopt is called again and goes
// on where it ended; AdoptDone removes the marks when nobody will. The marks are shipped, and adopted: where a store dies
// while it adopts another, whoever adopts both begins with the store that adopted.
//
// It keeps about 250 B of memory per delivery while it runs.
func (s *Store) Adopt(ctx context.Context, a Adoption) (Adopted, error) {
	if a.Lineage == s.lineage || a.Lineage == 0 {
		return Adopted{}, fmt.Errorf("adopt: %08x is this store", a.Lineage)
	}
	p := &adoption{Adoption: a, s: s, ctx: ctx, ring: s.ring.Beside()}
	err := p.gather()
	if err == nil {
		p.arrange()
		if p.pressing > 0 {
			err = p.move(true)
		}
		if err == nil {
			err = p.move(false)
		}
	}
	if err == nil {
		err = p.leftovers()
	}
	err = errors.Join(err, p.finish())
	if err == nil && p.tooMany {
		err = ErrTooMany
	}
	if err != nil {
		return p.result, fmt.Errorf("adopt %08x: %w", a.Lineage, err)
	}
	return p.result, nil
}

// AdoptDone forgets how far the adoption of a lineage came. It is for when everybody knows that it is complete.
func (s *Store) AdoptDone(ctx context.Context, l mail.Lineage) error {
	var keys [][]byte
	err := s.each(ctx, kindAdopted, func(key, _ []byte) error {
		if len(key) >= 5 && binary.BigEndian.Uint32(key[1:]) == uint32(l) {
			keys = append(keys, slices.Clone(key))
		}
		if len(keys) < purgeBatch {
			return nil
		}
		batch := keys
		keys = nil
		return s.remove(ctx, batch)
	})
	if err == nil && len(keys) > 0 {
		err = s.remove(ctx, keys)
	}
	return err
}

// Adopting tells whether anything of a lineage that AdoptDone was not called for was adopted here, or by a store that this
// one adopted.
func (s *Store) Adopting(l mail.Lineage) (begun bool, err error) {
	err = s.each(context.Background(), kindAdopted, func(key, _ []byte) error {
		if len(key) >= 5 && binary.BigEndian.Uint32(key[1:]) == uint32(l) {
			begun = true
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return begun, err
}

// A mark of adoption tells who took the message out of the lineage: this store, or one that this store adopted. Only
// what this store took itself may lie here already when it comes once more by way of another store.
const (
	markHere  = 1
	markThere = 2
)

func adoptedKey(l mail.Lineage, m mail.MessageID) []byte {
	k := binary.BigEndian.AppendUint32([]byte{kindAdopted}, uint32(l))
	k = binary.BigEndian.AppendUint64(k, uint64(m.Seq))
	return binary.BigEndian.AppendUint32(k, uint32(m.Lineage))
}

// adoption is one run of Adopt.
type adoption struct {
	Adoption
	s       *Store
	ctx     context.Context
	ring    *seal.Ring // with the other store's data keys
	began   bool       // an earlier call left marks
	tooMany bool       // a message did not fit into one commit
	result  Adopted

	pressing int                     // messages that press and have not come yet
	spoiled  map[mail.MessageID]bool // their bodies did not open
	only     bool                    // this pass is for pressing ones

	arena   [][]byte // keys and sealed records of deliveries
	entries []entry  // from arrange on by message and number
	marks   *request // marks of adoptions that the other store had begun
	keys    *request // idempotency keys
	chunk   *chunk
	running []*chunk
}

// entry is a delivery to be adopted.
type entry struct {
	message mail.MessageID
	seq     mail.Seq // in the other store
	own     mail.Seq // in this one; 0 = dealt with
	rank    uint64   // attempts and due time: of two records of one delivery the greater is the newer
	at      uint32   // in the arena: block
	from    uint32   // offset in it
	size    uint32   // of the sealed record, behind the key
	press   bool     // it comes before the others
}

// gather is the first pass: data keys, marks and deliveries.
func (p *adoption) gather() error {
	var err error
	if p.began, err = p.s.Adopting(p.Lineage); err != nil {
		return err
	}
	return p.Records(func(key, value []byte) error {
		if len(key) == 0 {
			return p.ctx.Err()
		}
		switch key[0] {
		case kindDataKey:
			if len(key) != 5 || p.ring.Restore(seal.WrappedKey{ID: binary.BigEndian.Uint32(key[1:]), Blob: slices.Clone(value)}) != nil {
				p.damaged("data key", nil)
			}
		case kindAdopted:
			p.mark(key)
		case kindDelivery:
			if len(key) != deliveryKeySize {
				p.damaged("delivery", nil)
				break
			}
			p.keep(key, value)
		}
		return p.ctx.Err()
	})
}

// keep copies a delivery, to be opened when all data keys are known.
func (p *adoption) keep(key, value []byte) {
	last := len(p.arena) - 1
	if last < 0 || cap(p.arena[last])-len(p.arena[last]) < len(key)+len(value) {
		p.arena = append(p.arena, make([]byte, 0, max(arenaSize, len(key)+len(value))))
		last++
	}
	from := len(p.arena[last])
	p.arena[last] = append(append(p.arena[last], key...), value...)
	p.entries = append(p.entries, entry{at: uint32(last), from: uint32(from), size: uint32(len(value))})
}

// mark carries over that the other store had adopted a message of a third.
func (p *adoption) mark(key []byte) {
	if p.marks == nil {
		p.marks = p.request()
	}
	p.marks.ifAbsent = true
	p.marks.set(slices.Clone(key), []byte{markThere})
	if len(p.marks.sets) >= purgeBatch {
		p.submit(&p.marks)
	}
}

// record returns the key and the sealed record of e.
func (p *adoption) record(e *entry) (key, value []byte) {
	b := p.arena[e.at][e.from:]
	return b[:deliveryKeySize], b[deliveryKeySize : deliveryKeySize+e.size]
}

func (p *adoption) open(e *entry) (mail.Delivery, error) {
	key, sealed := p.record(e)
	at, _ := parseSpot(key)
	d, err := openDelivery(p.ring, p.Lineage, sealed, mail.Seq(at.at.seq))
	if err == nil && (uint64(d.Seq) != at.at.seq || 255-d.Priority != at.inv || dueOf(d.Due) != at.at.due) {
		err = ErrTampered
	}
	return d, err
}

// arrange finds out whose deliveries were gathered, leaves out what was adopted before, and gives numbers in the order
// of the old ones, so that deliveries of one priority and due time keep their order.
func (p *adoption) arrange() {
	kept, now := p.entries[:0], p.s.cfg.Clock.Now()
	for i := range p.entries {
		e := &p.entries[i]
		d, err := p.open(e)
		if err != nil {
			key, sealed := p.record(e)
			p.quarantine(key, sealed, "delivery", err)
			continue
		}
		e.message, e.seq, e.own = d.Message, d.Seq, 1
		e.rank = uint64(d.Attempts)<<48 | dueOf(d.Due)
		e.press = d.Priority > normalPriority || d.Attempts == 0 && d.Due.After(now) && d.Due.Sub(now) < pressingWithin
		kept = append(kept, *e)
	}
	slices.SortFunc(kept, func(a, b entry) int { return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(b.rank, a.rank)) })
	// A standby that was not up to date may know a deferred delivery at two places.
	p.entries = slices.CompactFunc(kept, func(a, b entry) bool { return a.seq == b.seq })
	next := p.s.Allot(len(p.entries))
	for i := range p.entries {
		p.entries[i].own = next + mail.Seq(i)
	}
	slices.SortFunc(p.entries, compareEntries)
	var last mail.MessageID
	for i := range p.entries {
		if e := &p.entries[i]; e.press && e.message != last {
			last = e.message
			p.pressing++
		}
	}
}

func compareEntries(a, b entry) int {
	return cmp.Or(cmp.Compare(a.message.Lineage, b.message.Lineage), cmp.Compare(a.message.Seq, b.message.Seq),
		cmp.Compare(a.seq, b.seq))
}

// of returns the deliveries of a message.
func (p *adoption) of(m mail.MessageID) []entry {
	from := sort.Search(len(p.entries), func(i int) bool { return compareEntries(p.entries[i], entry{message: m}) >= 0 })
	to := from
	for to < len(p.entries) && p.entries[to].message == m {
		to++
	}
	return p.entries[from:to]
}

// move is the second pass, or with only the one before it: each body brings its message.
func (p *adoption) move(only bool) error {
	p.only = only
	err := p.Records(func(key, value []byte) error {
		if len(key) == 0 {
			return p.ctx.Err()
		}
		switch key[0] {
		case kindKey:
			if !only {
				p.takeKey(key, value)
			}
		case kindBody:
			if err := p.take(key, value); err != nil {
				return err
			}
			if only && p.pressing == 0 {
				return errEnough // behind it lies what does not press
			}
		}
		return p.ctx.Err()
	})
	if only && errors.Is(err, errEnough) {
		err = nil
	}
	p.submit(&p.keys)
	p.submit(&p.marks)
	if err == nil && only {
		err = p.finish()
	}
	return err
}

// take adopts the message of a body.
func (p *adoption) take(key, value []byte) error {
	m, ok := parseMessageKey(key, p.Lineage)
	if !ok {
		p.damaged("body", nil)
		return nil
	}
	of := p.of(m)
	if len(of) == 0 || of[0].own == 0 || p.only && !pressing(of) || p.spoiled[m] {
		return nil
	}
	if p.only {
		p.pressing--
	}
	known, err := p.known(m)
	if err != nil {
		return err
	}
	if known {
		p.result.Skipped += len(of)
		p.dealtWith(of)
		return nil
	}
	if p.s.space.low.Load() {
		return ErrDiskFull
	}
	var aad [maxIdentity]byte
	body, err := p.ring.Open(nil, value, messageIdentity(aad[:0], p.Lineage, m, kindBody))
	if err != nil {
		p.quarantine(key, value, "body", err)
		if p.spoiled == nil {
			p.spoiled = map[mail.MessageID]bool{}
		}
		p.spoiled[m] = true // not once more by a second pass
		return nil          // its deliveries are left over
	}
	return p.store(m, of, body)
}

// known tells whether a message was adopted before: from this lineage by an earlier call, or from the store that
// accepted it.
func (p *adoption) known(m mail.MessageID) (bool, error) {
	// A message that lives here must not be stored over, whatever became of its mark.
	if known, err := p.s.present(appendMessageKey(nil, kindBody, p.s.lineage, m)); known || err != nil {
		return known, err
	}
	if p.began {
		if known, err := p.s.present(adoptedKey(p.Lineage, m)); known || err != nil {
			return known, err
		}
	}
	if m.Lineage == p.Lineage {
		return false, nil
	}
	by, err := p.s.value(adoptedKey(m.Lineage, m))
	return err == nil && len(by) == 1 && by[0] == markHere, err
}

// pressing tells whether a delivery of a message presses: its others come with it.
func pressing(of []entry) bool { return slices.ContainsFunc(of, func(e entry) bool { return e.press }) }

func (p *adoption) dealtWith(of []entry) {
	for i := range of {
		of[i].own = 0
	}
}

// store hands one message to the committer: what Put does, with events that say where it comes from.
func (p *adoption) store(m mail.MessageID, of []entry, body []byte) error {
	s, now := p.s, p.s.cfg.Clock.Now()
	r := p.request()
	r.message = m
	if len(of) > 1 {
		r.shares = len(of)
	}
	r.events = make([]mail.Event, 0, len(of))
	for i := range of {
		d, err := p.open(&of[i])
		if err != nil {
			panic("queue: a record that opened does not open") // it lies in memory
		}
		d.Seq, d.Shared, d.Apart = of[i].own, len(of) > 1, true
		s.addDelivery(r, &d)
		r.events = append(r.events, movedOn(mail.EventTakenOver, &d, p.Note, now))
		s.events.Pack(&r.pack, &r.events[i])
		p.chunk.ds = append(p.chunk.ds, d)
	}
	s.addBody(r, m, body)
	r.set(adoptedKey(p.Lineage, m), []byte{markHere})
	p.dealtWith(of)
	p.result.Messages++
	p.result.Deliveries += len(of)
	p.chunk.messages++
	p.chunk.bytes += r.size
	s.submit(r)
	if p.chunk.messages >= chunkMessages || p.chunk.bytes >= chunkBytes {
		return p.next()
	}
	return nil
}

// movedOn is the event of a delivery that waits in another queue from now on.
func movedOn(kind mail.EventKind, d *mail.Delivery, note string, now time.Time) mail.Event {
	e := mail.Event{At: now, Kind: kind, Message: d.Message, Delivery: d.Seq, Tenant: d.Tenant,
		Group: d.Group, From: d.From, To: d.To, Domain: d.Domain, Attempt: d.Attempts, Composition: d.Composition,
		User: d.User, APIData: d.APIData, Taken: d.Taken, Size: d.Size, Cleaning: d.Cleaning, Own: d.Own, InDoubt: d.InDoubt, Detail: note}
	if d.Due.After(now) {
		e.Due = d.Due
	}
	return e
}

// takeKey adopts the memory of an idempotency key, unless this store has one of that name.
func (p *adoption) takeKey(key, value []byte) {
	if len(key) != 1+16 {
		p.damaged("idempotency key", nil)
		return
	}
	name := [16]byte(key[1:])
	plain, err := p.ring.Open(nil, value, namedIdentity(p.Lineage, kindKey, name))
	if err == nil && len(plain) != keyRecordSize {
		err = record.ErrDamaged
	}
	if err != nil {
		p.damaged("idempotency key", err)
		return
	}
	p.result.Keys++
	if p.keys == nil {
		p.keys = p.request()
		p.keys.ifAbsent = true
	}
	p.keys.set(slices.Clone(key), p.s.sealNamed(kindKey, name, plain))
	if len(p.keys.sets) >= purgeBatch {
		p.submit(&p.keys)
	}
}

// leftovers are deliveries whose body did not come.
func (p *adoption) leftovers() error {
	for i := range p.entries {
		e := &p.entries[i]
		if e.own == 0 {
			continue
		}
		if known, err := p.known(e.message); err != nil {
			return err
		} else if known {
			p.result.Skipped++
			continue
		}
		key, sealed := p.record(e)
		p.quarantine(key, sealed, "delivery", ErrNoBody)
	}
	return nil
}

// quarantine keeps a damaged record of the other store for whoever wants to know what happened.
func (p *adoption) quarantine(key, value []byte, what string, reason error) {
	p.damaged(what, reason)
	r := p.request()
	r.puts = false
	r.set(append(binary.BigEndian.AppendUint32([]byte{kindQuarantine}, uint32(p.Lineage)), key...), slices.Clone(value))
	p.s.submit(r)
}

func (p *adoption) damaged(what string, reason error) {
	p.result.Damaged++
	p.s.damaged.Add(1)
	p.s.log.Error("record of another store damaged: not taken over", "lineage", fmt.Sprintf("%08x", p.Lineage),
		"record", what, "err", reason)
}
