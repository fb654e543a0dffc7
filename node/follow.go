package node

import (
	"context"
	"fmt"
	"slices"

	"github.com/ekiden-mta/ekiden/cluster/ledger"
	"github.com/ekiden-mta/ekiden/cluster/replica"
	"github.com/ekiden-mta/ekiden/mail"
)

// A member may lose its own queue A while it takes another one, V, into it: it was cut off, drained, or died. Then some of
// V waits in A, or went out from there, and only the copies of A tell what. So V goes where A goes and is taken in after A:
// whoever took all of V again would send a part of it twice. The book knows for that into which queue V is taken.

// metaInto is the name in the book of the queue that another one is taken into.
func metaInto(l mail.Lineage) string { return fmt.Sprintf("into/%08x", uint32(l)) }

// into is the queue that l is, or was, taken into; 0: none.
func (m *member) into(l mail.Lineage) mail.Lineage { return mail.Lineage(m.marked(metaInto(l))) }

// goesInto has the book know that l is taken into another queue from now on; 0: into none.
func (m *member) goesInto(ctx context.Context, l, to mail.Lineage) error {
	if m.into(l) == to {
		return nil
	}
	return m.mark(ctx, metaInto(l), uint64(to))
}

// wentTo is the queue that has what was taken of l by now: the first that is not closed along the way. False where nothing was
// taken.
func wentTo(l mail.Lineage, into func(mail.Lineage) mail.Lineage, lineage func(mail.Lineage) (ledger.Lineage, bool)) (ledger.Lineage, bool) {
	seen := map[mail.Lineage]bool{}
	for !seen[l] {
		seen[l] = true
		x, ok := lineage(into(l))
		if !ok || x.Phase != ledger.Closed {
			return x, ok
		}
		l = x.Lineage
	}
	return ledger.Lineage{}, false
}

// wentTo is the queue that has what was taken of l by now, by the book.
func (m *member) wentTo(l mail.Lineage) (ledger.Lineage, bool) {
	return wentTo(l, m.into, m.book.State().Lineage)
}

// waits tells that the queue v is to be taken in after another one, which is this node's as well.
func (e *engine) waits(m *member, v ledger.Lineage) bool {
	x, ok := m.wentTo(v.Lineage)
	return ok && x.Owner == v.Owner && x.Phase == ledger.Taken
}

// goesTo is the member that the queue v, which is this one's, has to go to; "" = it is taken in here.
func (e *engine) goesTo(m *member, v ledger.Lineage) string {
	x, ok := m.wentTo(v.Lineage)
	if !ok {
		return ""
	}
	return follows(v, x, m.sees)
}

// follows is goesTo, where what was taken of v lies in x: a queue that has neither an owner nor a standby that lives is not
// waited for, or v would come back and go there again for as long as they are away.
func follows(v, x ledger.Lineage, alive func(string) bool) string {
	if x.Owner != v.Owner && (alive(x.Owner) || slices.ContainsFunc(x.Standbys, func(s ledger.Standby) bool { return s.Full && alive(s.Node) })) {
		return x.Owner
	}
	return ""
}

// handOn gives a queue that is being taken in to another member.
func (m *member) handOn(ctx context.Context, v ledger.Lineage, to string) error {
	address, _ := m.addressOf(to)
	_, err := m.command(ctx, &ledger.Handover{Signed: m.stamp(), LineageEpoch: v.LineageEpoch, NewOwner: to, Address: address})
	return err
}

// keeps tells whether the queue v, of which a takeover failed, has to stay with this node: some of it is here. Else the book
// is told that none is.
func (e *engine) keeps(ctx context.Context, m *member, v ledger.Lineage) bool {
	begun, err := e.store.Adopting(v.Lineage)
	if begun || err != nil {
		return true
	}
	if m.into(v.Lineage) != e.store.Lineage() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, markWait)
	defer cancel()
	return m.goesInto(ctx, v.Lineage, 0) != nil
}

// heirOf is who gets the queue l, whose owner is gone, because of where some of it went: "" = whoever has most of it. Nobody
// gets it yet where the queue that this lies in has the same owner, and a standby that is to take it over first.
func heirOf(l ledger.Lineage, into func(mail.Lineage) mail.Lineage, lineage func(mail.Lineage) (ledger.Lineage, bool),
	alive func(string) bool) (to string, later bool,
) {
	if l.Phase != ledger.Taken {
		return "", false
	}
	x, ok := wentTo(l.Lineage, into, lineage)
	switch {
	case !ok:
		return "", false
	case x.Owner != l.Owner:
		return x.Owner, false
	}
	for _, s := range x.Standbys {
		if s.Full && s.Node != x.Owner && alive(s.Node) {
			return "", true
		}
	}
	to, later = heirOf(x, into, lineage, alive)
	return "", later || to != ""
}

// lacking names a member that must be waited for before the queue v is taken in from these copies; "" = none must. Whoever is
// given a queue has a copy of it, or it follows another and the members that the book names have one; from a copy that is
// out of date mail would be lost, and settled mail come back. A member that was removed is not waited for.
func lacking(v ledger.Lineage, copies map[string]replica.State, removed func(string) bool) (silent string) {
	has := func(name string) bool { return copies[name].Run != 0 }
	for _, s := range v.Standbys {
		switch {
		case !s.Full || removed(s.Node):
		case has(s.Node):
			return ""
		default:
			silent = s.Node
		}
	}
	if v.Epoch <= 2 && has(v.Owner) { // the first takeover, by an operator perhaps, to whoever has most
		return ""
	}
	return silent
}
