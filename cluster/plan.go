package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// stableFor is how long a member must have been seen before it is given a vote.
const stableFor = 10 * time.Second

// seat is a member of raft's configuration.
type seat struct {
	name, address string
	voter         bool
}

// sighting is what the leader knows of a member by gossip.
type sighting struct {
	Live
	alive bool
	since time.Duration // clock.Boot when it came, or went; at the earliest when this member became leader
}

// change is one change of raft's configuration.
type change struct {
	do   changeKind
	seat seat
	why  string
}

type changeKind int

const (
	addSeat    changeKind = iota + 1 // without a vote
	moveSeat                         // to another address
	giveVote                         //
	removeSeat                       //
)

// planner decides the next change of the configuration. It is pure: what is known goes in, at most one change comes out,
// since raft takes one at a time and each may change what is right next.
type planner struct {
	self      string
	deadAfter time.Duration // below 0: never
	minQuorum int
	stable    time.Duration
}

// next returns the most urgent change, if any: who was removed goes first, then newcomers get a seat, then those who
// moved, then the long dead give theirs up, then votes are given.
func (p *planner) next(now time.Duration, seats []seat, seen map[string]sighting, removed func(string) bool) (change, bool) {
	seats = slices.SortedFunc(slices.Values(seats), func(a, b seat) int { return cmp.Compare(a.name, b.name) })
	seated := map[string]seat{}
	voters, voting := 0, 0 // voters, and those of them that are alive
	for _, s := range seats {
		seated[s.name] = s
		if s.voter {
			voters++
			if s.name == p.self || seen[s.name].alive {
				voting++
			}
		}
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)

	for _, s := range seats {
		// The last voter cannot leave: there would be nobody to agree on it.
		if removed(s.name) && !(s.voter && voters == 1) {
			return change{removeSeat, s, "removed by an operator"}, true
		}
	}
	for _, name := range names {
		v := seen[name]
		s, has := seated[name]
		switch {
		case !v.alive || removed(name) || v.Address == "":
		case !has:
			return change{addSeat, seat{name: name, address: v.Address}, "new member"}, true
		case s.address != v.Address && name != p.self:
			return change{moveSeat, seat{name, v.Address, s.voter}, "moved from " + s.address}, true
		}
	}
	for _, s := range seats {
		v, known := seen[s.name]
		if s.name == p.self || !known || v.alive || p.deadAfter < 0 || now-v.since < p.deadAfter {
			continue
		}
		// Fewer voters make a smaller majority, so those that remain must be a majority of both.
		if s.voter && (voters-1 < p.minQuorum || voting < (voters-1)/2+1) {
			continue
		}
		return change{removeSeat, s, fmt.Sprintf("not seen for %v", p.deadAfter)}, true
	}
	return p.vote(now, seats, seen, removed, voters)
}

// vote gives a vote to a member that has been here for a while, as long as there are too few voters. An even number of
// voters bears no more losses than one less, so there are one, two, three or five.
func (p *planner) vote(now time.Duration, seats []seat, seen map[string]sighting, removed func(string) bool, voters int) (change, bool) {
	var ready []seat
	for _, s := range seats {
		v := seen[s.name]
		if !s.voter && v.alive && now-v.since >= p.stable && !removed(s.name) {
			ready = append(ready, s)
		}
	}
	want := voters + len(ready)
	switch {
	case want >= maxVoters:
		want = maxVoters
	case want == 4:
		want = 3
	}
	if len(ready) == 0 || voters >= want {
		return change{}, false
	}
	// A witness is there for nothing but its vote.
	slices.SortStableFunc(ready, func(a, b seat) int {
		return cmp.Compare(witnessFirst(seen[a.name]), witnessFirst(seen[b.name]))
	})
	s := ready[0]
	s.voter = true
	return change{giveVote, s, fmt.Sprintf("%d of %d voters", voters, want)}, true
}

func witnessFirst(v sighting) int {
	if v.Role == RoleWitness {
		return 0
	}
	return 1
}
