package queue

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/ekiden-mta/ekiden/mail"
)

// Renewal is what Renew did.
type Renewal struct {
	Lineage    mail.Lineage // of the queue that was given up
	Deliveries int          // that waited in it
	Parked     int          // of them: those that no standby may hold
	Damaged    int          // records that did not open; they lie in quarantine
}

// Renew gives up the queue of the closed store in cfg.Dir, because it has another owner, and begins one of a new lineage
// in its place. What the queue left behind stays: the event log, whose last word on every delivery that waited is that
// it was handed over, as note tells (at most 200 octets), the counters, and operator state. What no standby may hold is
// parked: it is served again when it was brought home (see Parked).
//
// It may be killed anywhere and called again. The lineage changes last, so that whoever asks who owns the queue hears
// until then that it is another. cfg.Ship is not used: the standbys belong to the queue that was given up.
func Renew(ctx context.Context, cfg Config, note string) (Renewal, error) {
	if err := cfg.Validate(); err != nil {
		return Renewal{}, err
	}
	cfg.Ship, cfg.OnFail, cfg.OnCommit = nil, nil, nil
	s, err := openStore(cfg)
	if err != nil {
		return Renewal{}, err
	}
	g := givingUp{s: s, ctx: ctx, note: note, done: Renewal{Lineage: s.lineage}}
	err = g.run()
	if e := s.closeFiles(); err == nil {
		err = e
	}
	if err != nil {
		return g.done, fmt.Errorf("give up the queue %08x: %w", uint32(g.done.Lineage), err)
	}
	return g.done, nil
}

// givingUp is one run of Renew. It does the committer's work itself.
type givingUp struct {
	s    *Store
	ctx  context.Context
	note string
	done Renewal
	r    *request // the next commit
	err  error    // of the commit done last
}

// run moves or deletes every record of the queue. Marks of exposure go last: they tell what is to be parked.
func (g *givingUp) run() error {
	if err := g.deliveries(); err != nil {
		return err
	}
	for _, kind := range []byte{kindKey, kindShares, kindBody} {
		if err := g.keys(kind, g.move); err != nil {
			return err
		}
	}
	if err := g.marks(); err != nil {
		return err
	}
	g.request().set([]byte(keyIdentity), g.s.sealIdentity(g.successor()))
	g.s.c.snapped = time.Time{} // the counters go with it
	return g.commit()
}

// move parks a record whose message no standby may hold, and deletes any other.
func (g *givingUp) move(key []byte) (err error) {
	if g.s.exposed.Load() == 0 {
		return g.drop(key)
	}
	var value []byte
	if key[0] == kindKey { // the others name their message in the key
		if value, err = g.s.value(key); err != nil {
			return err
		}
	}
	m, ok := g.s.messageOf(key, value)
	if !ok {
		return g.drop(key)
	}
	exposed, err := g.s.isExposed(m)
	if err == nil && exposed && value == nil {
		value, err = g.s.value(key)
	}
	switch {
	case err != nil:
		return err
	case exposed && value != nil:
		return g.park(key, value)
	}
	return g.drop(key)
}

// successor is a lineage that this store never had.
func (g *givingUp) successor() mail.Lineage {
	for {
		if l := newLineage(); l != g.s.lineage && l != g.s.home {
			return l
		}
	}
}

// deliveries writes down that what waits was handed over.
func (g *givingUp) deliveries() error {
	now := g.s.cfg.Clock.Now()
	err := g.s.each(g.ctx, kindDelivery, func(key, sealed []byte) error {
		return g.delivery(slices.Clone(key), slices.Clone(sealed), now)
	})
	if err != nil {
		return err
	}
	return g.commit()
}

func (g *givingUp) delivery(key, sealed []byte, now time.Time) error {
	s := g.s
	at, ok := parseSpot(key)
	d, err := mail.Delivery{}, ErrTampered
	if ok {
		d, err = s.delivery(sealed, &at)
	}
	if err != nil {
		s.damaged.Add(1)
		s.log.Error("delivery damaged: moved to quarantine", "lineage", fmt.Sprintf("%08x", uint32(s.lineage)), "err", err)
		g.done.Damaged++
		g.request().set(append(binary.BigEndian.AppendUint32([]byte{kindQuarantine}, uint32(s.lineage)), key...), sealed)
		return g.drop(key)
	}
	exposed, err := s.isExposed(d.Message)
	if err != nil {
		return err
	}
	g.done.Deliveries++
	r := g.request()
	r.events = append(r.events, movedOn(mail.EventHandedOver, &d, g.note, now))
	s.events.Pack(&r.pack, &r.events[len(r.events)-1])
	r.drops = append(r.drops, at)
	if exposed {
		g.done.Parked++
		return g.park(key, sealed)
	}
	return g.drop(key)
}

// keys calls f for every key of a kind; f may delete it.
func (g *givingUp) keys(kind byte, f func(key []byte) error) error {
	from := []byte{kind}
	for from != nil {
		if err := g.ctx.Err(); err != nil {
			return err
		}
		keys, next, err := g.s.keysFrom(kind, from, pieceRecords)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := f(k); err != nil {
				return err
			}
		}
		from = next
	}
	return g.commit()
}

// marks deletes the marks of exposure, and those of adoption but for lineages that are still parked here: what was taken
// out of them must not be taken once more. It is not this store's any longer, though.
func (g *givingUp) marks() error {
	if err := g.keys(kindExposed, g.drop); err != nil {
		return err
	}
	parked := g.s.Parked().Lineages
	return g.keys(kindAdopted, func(key []byte) error {
		if len(key) >= 5 && slices.Contains(parked, mail.Lineage(binary.BigEndian.Uint32(key[1:]))) {
			g.request().set(key, []byte{markThere})
			return g.bounded()
		}
		return g.drop(key)
	})
}

// drop deletes a record with the next commit.
func (g *givingUp) drop(key []byte) error {
	g.request().del(key)
	return g.bounded()
}

// park moves a record out of the queue with the next commit.
func (g *givingUp) park(key, value []byte) error {
	g.request().set(append(parkedPrefix(g.s.lineage), key...), value)
	return g.drop(key)
}

func (g *givingUp) request() *request {
	if g.r == nil {
		g.r = g.s.newRequest(func(err error) { g.err = err })
	}
	return g.r
}

// bounded commits what is enough for a commit.
func (g *givingUp) bounded() error {
	if len(g.r.dels)+len(g.r.sets) < purgeBatch && g.r.size < maxBatchBytes/2 {
		return nil
	}
	return g.commit()
}

// commit commits what was gathered, when the disk has room.
func (g *givingUp) commit() error {
	if g.r == nil {
		return nil
	}
	for !g.s.room() {
		select {
		case <-time.After(roomEvery):
		case <-g.ctx.Done():
			return g.ctx.Err()
		}
	}
	r := g.r
	g.r = nil
	g.s.commit([]*request{r})
	return g.err
}
