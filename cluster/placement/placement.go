// Package placement tells which member of a cluster owns what, and shares out what no two of them may have at once.
//
// It is pure: Order is a function of members and key that every member computes alike, Pot and Purse are machines with
// time as an argument. It must never hold an address, open a connection or read a clock. Read Order, then Pot for how a
// limit of the whole cluster is kept without a store that all of them ask for every message (requirement N6).
package placement

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// Order lists members in the order in which they are to own key: highest random weight first (rendezvous hashing), so
// that a member that comes or goes moves only what it owns itself. Every member computes the same order from the same
// names, in whatever order they are given.
func Order(members []string, key string) []string {
	type weighted struct {
		name   string
		weight uint64
	}
	list := make([]weighted, len(members))
	for i, m := range members {
		h := fnv.New64a()
		h.Write([]byte(m))
		h.Write([]byte{0})
		h.Write([]byte(key))
		list[i] = weighted{m, mix(h.Sum64())}
	}
	slices.SortFunc(list, func(a, b weighted) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.name, b.name))
	})
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = w.name
	}
	return out
}

// Owner is the first of Order, "" without members.
func Owner(members []string, key string) string {
	if len(members) == 0 {
		return ""
	}
	return Order(members, key)[0]
}

// mix spreads the last bytes of FNV over the whole word (the finalizer of SplitMix64): keys that differ at their end
// only would else all go to the same member.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
