package ledger

import (
	"fmt"

	"github.com/ekiden-mta/ekiden/mail"
)

// sameLineage returns a lineage, and OK where it is in the epoch that the command builds on.
func sameLineage(l LineageEpoch, s *State) (Lineage, Result) {
	v, found := s.Lineage(l.Lineage)
	switch {
	case !found:
		return v, Result{Code: NotFound, Text: fmt.Sprintf("no lineage %08x", uint32(l.Lineage))}
	case v.Epoch != l.Epoch:
		return v, Result{Code: Stale, Epoch: v.Epoch, Text: fmt.Sprintf("lineage %08x is in epoch %d of %s", uint32(l.Lineage), v.Epoch, v.Owner)}
	}
	return v, Result{Code: OK, Epoch: v.Epoch}
}

func (s *State) register(at Stamp, cmd *Register) ([]Write, Result) {
	if m, found := s.Member(cmd.Node); cmd.Lineage == 0 || cmd.Node == "" || found && m.Removed {
		return nil, refuse("a lineage needs a number and a member that makes it")
	}
	if v, found := s.Lineage(cmd.Lineage); found {
		if v.Owner == cmd.Node && v.Epoch == 1 && v.Phase == Serving {
			v.Address, v.Renewed = cmd.Address, at.Index
			return put(&v), Result{Code: OK, Epoch: 1}
		}
		return nil, Result{Code: Refused, Epoch: v.Epoch,
			Text: fmt.Sprintf("lineage %08x is %s, owned by %s in epoch %d", uint32(cmd.Lineage), v.Phase, v.Owner, v.Epoch)}
	}
	return put(&Lineage{LineageEpoch: LineageEpoch{Lineage: cmd.Lineage, Epoch: 1}, Born: cmd.Node, Owner: cmd.Node,
		Address: cmd.Address, Phase: Serving, Renewed: at.Index}), Result{Code: OK, Epoch: 1}
}

func (s *State) renew(at Stamp, cmd *Renew) ([]Write, Result) {
	r := ok()
	w := make([]Write, 0, len(cmd.Lineages))
	for _, l := range cmd.Lineages {
		v, same := sameLineage(l, s)
		if m, found := s.Member(v.Owner); same.Code != OK || v.Phase == Closed || found && m.Removed {
			r.Stale = append(r.Stale, l)
			continue
		}
		v.Renewed = at.Index
		w = append(w, Write{Record: &v})
	}
	return w, r
}

func (s *State) takeover(at Stamp, cmd *Takeover) ([]Write, Result) {
	v, r := sameLineage(LineageEpoch{cmd.Lineage, cmd.FromEpoch}, s)
	if r.Code == OK && !cmd.Force && v.Renewed > cmd.IfRenewed {
		r.Code, r.Text = Stale, "its lease was renewed meanwhile"
	}
	return s.pass(at, v, r, cmd.NewOwner, cmd.Address)
}

func (s *State) handover(at Stamp, cmd *Handover) ([]Write, Result) {
	v, r := sameLineage(cmd.LineageEpoch, s)
	return s.pass(at, v, r, cmd.NewOwner, cmd.Address)
}

// pass gives a lineage to another owner in the next epoch.
func (s *State) pass(at Stamp, v Lineage, r Result, owner, address string) ([]Write, Result) {
	if r.Code != OK {
		return nil, r
	}
	if m, found := s.Member(owner); owner == "" || found && m.Removed {
		return nil, refuse("%q is no member that could own a lineage", owner)
	}
	if owner == v.Owner || v.Phase == Closed {
		return nil, Result{Code: Refused, Epoch: v.Epoch,
			Text: fmt.Sprintf("lineage %08x is %s, owned by %s", uint32(v.Lineage), v.Phase, v.Owner)}
	}
	v.Former, v.Owner, v.Address = v.Owner, owner, address
	v.Epoch, v.Phase, v.Renewed = v.Epoch+1, Taken, at.Index
	return put(&v), Result{Code: OK, Epoch: v.Epoch}
}

func (s *State) closeLineage(l LineageEpoch, from Phase) ([]Write, Result) {
	v, r := sameLineage(l, s)
	if r.Code != OK || v.Phase == Closed {
		return nil, r
	}
	if v.Phase != from {
		return nil, Result{Code: Refused, Epoch: v.Epoch, Text: fmt.Sprintf("lineage %08x is %s", uint32(v.Lineage), v.Phase)}
	}
	v.Phase, v.Standbys = Closed, nil
	return put(&v), r
}

func (s *State) setStandbys(cmd *SetStandbys) ([]Write, Result) {
	v, r := sameLineage(cmd.LineageEpoch, s)
	if r.Code != OK {
		return nil, r
	}
	v.Standbys = cmd.Standbys
	return put(&v), r
}

// number orders lineages in keys.
func number(l mail.Lineage) string {
	return string([]byte{byte(l >> 24), byte(l >> 16), byte(l >> 8), byte(l)})
}
