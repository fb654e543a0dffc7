package node

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ekiden-mta/ekiden/admin/service"
	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/policy/shaping"
)

// Members judge lists together: who suspects a pair asks the others what they saw of it. Who does not answer in time is
// judged without: it counts again with the next look.

// Figures of judging.
const (
	pathLists    = "/member/lists"
	judgeEvery   = time.Second     // between questions to other members
	suspectEvery = 5 * time.Second // between looks at what is suspected without an unknown user of its own since
	judgeMost    = 100             // pairs of one question
	maxLists     = 1 << 20         // octets of a question or an answer
)

// serveLists tells other members what this one saw of pairs.
func (m *member) serveLists(mux *http.ServeMux) {
	answer(mux, http.MethodPost, pathLists, maxLists, func(_ context.Context, pairs []listed) ([][]shaping.HygieneSpan, error) {
		if len(pairs) > judgeMost {
			return nil, fmt.Errorf("%w: %d pairs, at most %d", service.ErrInvalid, len(pairs), judgeMost)
		}
		if e := m.node.engine.Load(); e != nil {
			return e.lists.spans(pairs), nil
		}
		return make([][]shaping.HygieneSpan, len(pairs)), nil
	})
}

// spans is what was seen here of each pair.
func (x *lists) spans(pairs []listed) [][]shaping.HygieneSpan {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make([][]shaping.HygieneSpan, len(pairs))
	for i, p := range pairs {
		if h := x.pairs[p]; h != nil {
			out[i] = h.Spans()
		}
	}
	return out
}

// mind judges what is in doubt until the engine ends.
func (x *lists) mind(n *Node, e *engine) {
	tick := time.NewTicker(suspectEvery)
	defer tick.Stop()
	for {
		select {
		case <-e.life.Done():
			return
		case <-x.poked:
		case <-tick.C:
			x.suspect(n)
		}
		m := n.member.Load()
		if m == nil {
			continue
		}
		x.judge(e.life, m, e)
		if over := x.over(n.clock.Now()); len(over) > 0 && m.agreed.Leads() {
			m.agrees(e.life, &ledger.PutObjects{Changes: over})
		}
		if m.peers == nil || len(m.peers.List()) == 0 {
			continue
		}
		pause := time.NewTimer(judgeEvery)
		select {
		case <-e.life.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// suspect has pairs judged that others may have seen unknown users of since, and such as are not to be looked at any more.
func (x *lists) suspect(n *Node) {
	members, limits := int(n.senders.Load()), n.book.now.Load().unclean
	x.mu.Lock()
	defer x.mu.Unlock()
	for p := range x.agreed {
		if limits[p.Tenant] == 0 && x.slowed(p) {
			x.doubt(p)
		}
	}
	if members < 2 { // each was judged when it was seen
		return
	}
	for p, h := range x.pairs {
		if limit := limits[p.Tenant]; limit > 0 && !x.slowed(p) && h.Suspect(limit, members) {
			x.doubt(p)
		}
	}
}

// judge looks at what is in doubt with the eyes of all members, and tells the book what follows.
func (x *lists) judge(ctx context.Context, m *member, e *engine) {
	pairs := x.doubtful()
	if len(pairs) > 0 {
		x.verdict(ctx, m, e, pairs, m.seenOf(ctx, e, pairs))
	}
	x.mu.Lock()
	found := slices.Collect(maps.Values(x.found))
	base := make([]uint64, len(found))
	for i := range found {
		base[i] = x.agreed[found[i].listed].version
	}
	x.mu.Unlock()
	for i := range found {
		c := &found[i]
		cmd, err := putCleaning(c, base[i])
		if err == nil && m.agrees(ctx, cmd) {
			m.noteCleaning(ctx, "cleaning began", "", c, shaping.HygieneStanding{Unknown: c.Unknown, Recipients: c.Recipients})
		}
	}
	if len(found) > 0 {
		x.use(m, e)
	}
}

// doubtful takes pairs that are in doubt, some at a time.
func (x *lists) doubtful() (pairs []listed) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for p := range x.doubts {
		if len(pairs) == judgeMost {
			x.poke()
			break
		}
		pairs = append(pairs, p)
		delete(x.doubts, p)
	}
	return pairs
}

// seenOf is what each member saw of pairs, as far as it says so in time.
func (m *member) seenOf(ctx context.Context, e *engine, pairs []listed) (seen [][][]shaping.HygieneSpan) {
	seen = append(seen, e.lists.spans(pairs))
	if m.peers == nil {
		return seen
	}
	ctx, cancel := context.WithTimeout(ctx, judgeEvery)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, p := range m.peers.List() {
		asking.Go(func() {
			var theirs [][]shaping.HygieneSpan
			if err := m.peers.call(ctx, http.MethodPost, p.Name, pathLists, pairs, maxLists, &theirs); err != nil || len(theirs) != len(pairs) {
				m.node.log.Debug("lists are judged without a member", "member", p.Name, "error", err)
				return
			}
			mu.Lock()
			seen = append(seen, theirs)
			mu.Unlock()
		})
	}
	asking.Wait()
	return seen
}

// verdict decides what becomes of pairs. That one is slowed down counts here at once.
func (x *lists) verdict(ctx context.Context, m *member, e *engine, pairs []listed, seen [][][]shaping.HygieneSpan) {
	limits := m.node.book.now.Load().unclean
	for i, p := range pairs {
		var spans [][]shaping.HygieneSpan
		for _, one := range seen {
			spans = append(spans, one[i])
		}
		s, limit := shaping.JudgeHygiene(spans...), limits[p.Tenant]
		x.mu.Lock()
		known, slowed := x.agreed[p], x.slowed(p)
		begins := limit > 0 && !slowed && s.Unclean(limit) && len(x.agreed)+len(x.found) < cleaningMost
		if begins {
			if x.found == nil {
				x.found = map[listed]cleaning{}
			}
			x.found[p] = cleaning{listed: p, Since: m.node.clock.Now(), Unknown: s.Unknown, Recipients: s.Recipients, Node: m.node.cfg.Node.Name}
			x.publish()
		}
		x.mu.Unlock()
		if begins {
			e.actors.Destinations().Resort()
		}
		if slowed && known.version > 0 && (limit == 0 || s.Clean(limit)) {
			cmd := &ledger.PutObjects{Changes: []ledger.ObjectChange{{Kind: ledger.KindCleaning, Name: p.key(), Base: known.version, Delete: true}}}
			if m.agrees(ctx, cmd) {
				m.noteCleaning(ctx, "cleaning ended", "", &known.cleaning, s)
			}
			x.use(m, e)
		}
	}
}

// agrees tells whether the members took a change of objects that no operator waits for; false too where another member
// was faster.
func (m *member) agrees(ctx context.Context, cmd *ledger.PutObjects) bool {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	cmd.Signed = m.stamp()
	r, err := m.propose(ctx, cmd)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		m.node.log.Debug("a change is not agreed on yet", "error", err)
	}
	return err == nil
}
