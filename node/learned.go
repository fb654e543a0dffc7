package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// What sources learned about receivers is kept over restarts, and told to other members. A crash forgets what was learned in the
// last minute; what was sent in it is counted anew from the log, so that caps and warm-up are kept to (see recount).
const (
	metaLearned  = "learned/"       // + source + "/" + number of the part
	metaCounted  = "learned-cursor" // how far the log is part of them
	learnedEvery = time.Minute      // between writes of what has changed
	tellEvery    = 30 * time.Second // between rumours
	learnedPart  = 48 << 10         // octets of one part, at most
	rumourMost   = 200              // receivers in one rumour; the rest comes with the next ones
	nameMost     = 300              // octets of a receiver's name
)

// lesson is what one source learned about one receiver.
type lesson struct {
	Receiver string `json:"x"`
	shaping.Memory
}

// plans tells which sources are warmed up. A source of two pools follows the first that has a plan.
func (n *Node) plans() map[netip.Addr]*shaping.Plan {
	var out map[netip.Addr]*shaping.Plan
	s := n.book.now.Load().index.Settings
	known := shaping.Plans(s.Warmups)
	for _, p := range s.Pools {
		plan := known[p.Warmup]
		if plan == nil {
			continue
		}
		if out == nil {
			out = map[netip.Addr]*shaping.Plan{}
		}
		for _, a := range n.book.sources(p.Name) {
			if out[a] == nil {
				out[a] = plan
			}
		}
	}
	return out
}

// notebook writes down what sources learned.
type notebook struct {
	engine  *engine
	written map[string][]byte // parts, and the cursor, as they are on disk
	told    map[string][]byte // places in plans, as the members' book has them
}

// newNotebook reminds the sources of what they knew when the node was stopped, or killed.
func newNotebook(n *Node, e *engine) (*notebook, error) {
	b := &notebook{engine: e, written: map[string][]byte{}, told: map[string][]byte{}}
	sources := n.allSources()
	all := map[netip.Addr]map[string]shaping.Memory{}
	for _, a := range sources {
		for i := 0; ; i++ {
			name := partName(a, i)
			raw, err := e.store.Meta(name)
			if err != nil {
				return nil, fmt.Errorf("node: read what was learned: %w", err)
			}
			if raw == nil {
				break
			}
			var part []lesson
			b.written[name] = raw
			if json.Unmarshal(raw, &part) != nil {
				continue // of another release: it is learned again
			}
			for _, l := range part {
				if all[a] == nil {
					all[a] = map[string]shaping.Memory{}
				}
				all[a][l.Receiver] = l.Memory
			}
		}
	}
	if m := n.member.Load(); m != nil {
		b.adopt(m, all)
	}
	if err := b.recount(n, all); err != nil {
		return nil, err
	}
	e.actors.Sources().Remind(all)
	return b, nil
}

func partName(a netip.Addr, i int) string { return metaLearned + sourceName(a) + "/" + strconv.Itoa(i) }

func sourceName(a netip.Addr) string {
	if a.IsValid() {
		return a.String()
	}
	return systemSource
}

// write puts on disk what has changed. The cursor is taken before and written last: what was sent in between counts twice
// after a crash, rather than not at all.
func (b *notebook) write(ctx context.Context) error {
	cursor := []byte(b.engine.store.Events().End().Next().String())
	for a, all := range b.engine.actors.Sources().Memories() {
		parts, err := split(all)
		if err != nil {
			return err
		}
		for i, raw := range append(parts, nil) { // nil ends them
			name := partName(a, i)
			if bytes.Equal(b.written[name], raw) {
				continue
			}
			if err := b.engine.keep(ctx, name, raw); err != nil {
				return err
			}
			b.written[name] = raw
		}
	}
	if bytes.Equal(b.written[metaCounted], cursor) {
		return nil
	}
	if err := b.engine.keep(ctx, metaCounted, cursor); err != nil {
		return err
	}
	b.written[metaCounted] = cursor
	return nil
}

// split encodes memories in parts that the store takes, by name of the receiver.
func split(all map[string]shaping.Memory) (parts [][]byte, err error) {
	var part []byte
	for _, receiver := range slices.Sorted(maps.Keys(all)) {
		raw, err := json.Marshal(lesson{receiver, all[receiver]})
		if err != nil {
			return nil, fmt.Errorf("node: encode what was learned: %w", err)
		}
		if len(part)+len(raw)+2 > learnedPart {
			parts, part = append(parts, append(part, ']')), nil
		}
		part = append(append(part, "[,"[min(len(part), 1)]), raw...)
	}
	if part != nil {
		parts = append(parts, append(part, ']'))
	}
	return parts, nil
}

// remember writes down and tells what is learned until the engine is closed.
func (e *engine) remember(n *Node, b *notebook) {
	write, tell := time.NewTicker(learnedEvery), time.NewTicker(tellEvery)
	defer write.Stop()
	defer tell.Stop()
	told := map[string]shaping.Memory{}
	for {
		var err error
		select {
		case <-e.life.Done():
			return
		case <-tell.C:
			n.tellLearned(e, told)
		case <-write.C:
			ctx, cancel := context.WithTimeout(e.life, 10*time.Second)
			err = b.write(ctx)
			b.tell(ctx, n)
			cancel()
		}
		if err != nil && e.life.Err() == nil {
			n.log.Warn("what was learned about receivers is not on disk", "error", err)
		}
	}
}

// tellLearned lets the other sources, here and at other members, know what one learned lately.
func (n *Node) tellLearned(e *engine, told map[string]shaping.Memory) {
	news := lessons(e.actors.Sources().Memories(), told)
	for _, l := range news {
		e.actors.Sources().Hints().Learn(n.clock.Now(), l.Receiver, l.Memory)
	}
	m := n.member.Load()
	if m == nil || m.gossip == nil || len(news) == 0 {
		return
	}
	raw, err := json.Marshal(rumour{Learned: news})
	if err == nil {
		err = m.gossip.Broadcast(raw)
	}
	if err != nil {
		n.log.Debug("others do not hear what was learned", "error", err)
	}
}

// lessons are what changed since it was told, newest objection first: for each receiver what the source says that was
// told to slow down last.
func lessons(all map[netip.Addr]map[string]shaping.Memory, told map[string]shaping.Memory) []lesson {
	last := map[string]shaping.Memory{}
	for _, a := range slices.SortedFunc(maps.Keys(all), netip.Addr.Compare) {
		for r, y := range all[a] {
			if y.Ceiling > 0 && len(r) <= nameMost && y.Objected > last[r].Objected {
				last[r] = shaping.Memory{Pace: y.Pace, Ceiling: y.Ceiling, Conns: y.Conns, Objected: y.Objected}
			}
		}
	}
	var out []lesson
	for r, y := range last {
		if old := told[r]; old.Objected != y.Objected || y.Ceiling > old.Ceiling*1.1 {
			out = append(out, lesson{r, y})
		}
	}
	slices.SortFunc(out, func(a, b lesson) int {
		return cmp.Or(cmp.Compare(b.Objected, a.Objected), cmp.Compare(a.Receiver, b.Receiver))
	})
	out = out[:min(len(out), fits(out))]
	for _, l := range out {
		told[l.Receiver] = l.Memory
	}
	for r := range told {
		if _, ok := last[r]; !ok {
			delete(told, r)
		}
	}
	return out
}

// fits is how many lessons one rumour takes.
func fits(all []lesson) int {
	size := 0
	for i := range all {
		if size += len(all[i].Receiver) + 100; size > 15<<10 {
			return i
		}
	}
	return rumourMost
}

// rumour is what members tell one another by gossip. Unknown fields are for members of another release.
type rumour struct {
	Learned []lesson `json:"learned"`
}

// readRumour reads what came by gossip; nothing where it makes no sense.
func readRumour(raw []byte) (r rumour) {
	if json.Unmarshal(raw, &r) != nil || len(r.Learned) > rumourMost {
		return rumour{}
	}
	r.Learned = slices.DeleteFunc(r.Learned, func(l lesson) bool { return l.Receiver == "" || len(l.Receiver) > nameMost })
	return r
}

// heard takes up what another member told.
func (n *Node) heard(raw []byte) {
	e := n.engine.Load()
	if e == nil {
		return
	}
	for _, l := range readRumour(raw).Learned {
		e.actors.Sources().Hints().Learn(n.clock.Now(), l.Receiver, l.Memory)
	}
}
