package ledger

import (
	"fmt"
	"slices"
)

// View is what the machine sees of the book as of the entry before.
type View interface {
	State() *State
	// Find names a suppression for Write, and tells whether it is there. An error is trouble of this member alone, and
	// must end in nothing being applied.
	Find(*Suppressed) (Place, bool, error)
	// Has tells whether a suppression is there that was named ahead. Errors as Find.
	Has(Place) (bool, error)
	// Read returns the suppression at a place that Find has found.
	Read(Place) (Suppression, error)
}

// Place is the opaque name of a suppression in the store.
type Place [24]byte

// Write is one change of the book: a record to put or to drop, a suppression, or a line of the audit trail. Exactly one
// of the fields is set, apart from row, Place, New and Drop.
type Write struct {
	Record      record
	Drop        bool // Record is to go; only its name counts
	Suppression *Suppression
	row         preparedRow // Suppression, where it was prepared
	New         bool        // Suppression was not there before
	Place       Place       // of Suppression; without one, the place is to be emptied
	Audit       *AuditEntry // and the line auditKeep before it goes
}

// Stamp is what agreement adds to a command: its number, the same on all members.
type Stamp struct{ Index, Term uint64 }

// Apply answers one command: what it changes, and what the proposer hears. It is a function of its arguments alone, so
// that all members come to the same book. It changes nothing itself.
func Apply(v View, at Stamp, cmd Command) ([]Write, Result, error) {
	s := v.State()
	var w []Write
	var r Result
	var err error
	switch cmd := cmd.(type) {
	case *PutObjects:
		w, r = s.putObjects(at, cmd)
	case *Suppress:
		w, r, err = suppress(v, cmd, nil)
	case *Prepared:
		w, r, err = suppress(v, cmd.Suppress, cmd.rows)
	case *Unsuppress:
		w, r, err = unsuppress(v, cmd)
	case *Release:
		w, r, err = release(v, cmd)
	case *SetGate:
		w, r = s.setGate(cmd)
	case *Register:
		w, r = s.register(at, cmd)
	case *Renew:
		w, r = s.renew(at, cmd)
	case *Takeover:
		w, r = s.takeover(at, cmd)
	case *Handover:
		w, r = s.handover(at, cmd)
	case *Adopted:
		w, r = s.closeLineage(cmd.LineageEpoch, Taken)
	case *CloseLineage:
		w, r = s.closeLineage(cmd.LineageEpoch, Serving)
	case *SetStandbys:
		w, r = s.setStandbys(cmd)
	case *Admit:
		w, r = s.admit(cmd)
	case *RemoveMember:
		w, r = s.removeMember(cmd)
	case *Seen:
		w, r = s.seen(cmd)
	case *BeginKey:
		w, r = s.beginKey(cmd)
	case *KeyReady:
		w, r = s.keyReady(cmd)
	case *KeyDone:
		w, r = s.keyDone(cmd)
	case *KeyWrapped:
		w, r = s.keyWrapped(cmd)
	case *PutCredential:
		w, r = s.putCredential(at, cmd)
	case *DeleteCredential:
		w, r = s.deleteCredential(cmd)
	case *PutMeta:
		w, r = s.putMeta(at, cmd)
	case *Note:
		r = ok()
	default:
		r = refuse("no such command")
	}
	if err != nil {
		return nil, Result{}, err
	}
	r.Index = at.Index
	return s.audited(w, at, cmd, r), r, nil
}

// audited adds the line of the audit trail that an operator's command leaves, whatever came of it.
func (s *State) audited(w []Write, at Stamp, cmd Command, r Result) []Write {
	by := cmd.signed()
	note, isNote := cmd.(*Note)
	if by.Author == "" && !isNote {
		return w
	}
	_, action := newCommand(cmd.code())
	if objects, yes := cmd.(*PutObjects); yes {
		action = objects.action()
	}
	line := AuditEntry{Seq: s.audit.Seq + 1, Index: at.Index, At: by.At, Author: by.Author, Origin: by.Origin,
		Action: action, Subject: cmd.subject(), Detail: r.String()}
	if isNote {
		line.Action, line.Detail = note.Action, note.Detail
	}
	line.Sum = line.chain(s.audit.Sum)
	return append(w, Write{Audit: &line}, Write{Record: &auditHead{Seq: line.Seq, Sum: line.Sum}})
}

func ok() Result { return Result{Code: OK} }

func refuse(format string, args ...any) Result {
	return Result{Code: Refused, Text: fmt.Sprintf(format, args...)}
}

func put(r record) []Write { return []Write{{Record: r}} }

// conflict answers a change whose base is not the present version, which is 0 for what does not exist.
func conflict(id ObjectID, present uint64) Result {
	return Result{Code: Conflict, Object: id, Version: present}
}

func (s *State) putObjects(at Stamp, cmd *PutObjects) ([]Write, Result) {
	if len(cmd.Changes) == 0 {
		return nil, refuse("no objects")
	}
	seen := make(map[ObjectID]bool, len(cmd.Changes))
	var w []Write
	for i := range cmd.Changes {
		o := &cmd.Changes[i]
		if o.Kind == "" || seen[o.id()] {
			return nil, refuse("object %s without a kind, or twice in one change", o.id())
		}
		seen[o.id()] = true
		present, exists := s.Object(o.Kind, o.Name)
		if o.Base != Any && o.Base != present.Version {
			return nil, conflict(o.id(), present.Version)
		}
		switch {
		case !o.Delete:
			w = append(w, Write{Record: &Object{Kind: o.Kind, Name: o.Name, Version: at.Index, Data: o.Data}})
		case exists:
			w = append(w, Write{Record: &Object{Kind: o.Kind, Name: o.Name}, Drop: true})
		}
	}
	return w, Result{Code: OK, Version: at.Index}
}

// suppress answers a command; rows are those of a prepared one, else nil.
func suppress(v View, cmd *Suppress, rows []preparedRow) ([]Write, Result, error) {
	r := ok()
	w := make([]Write, 0, len(cmd.Add)+2)
	at := make(map[Place]int, len(cmd.Add))
	for i := range cmd.Add {
		a := &cmd.Add[i]
		if a.Address == "" || a.List < Blackbox || a.List > Leaving {
			return nil, refuse("suppression %d has no address or no list", i), nil
		}
		if a.Since.IsZero() {
			a = &Suppression{a.Suppressed, a.Reason, a.Evidence, cmd.At, a.Expires}
		}
		var row preparedRow
		var place Place
		var exists bool
		var err error
		if rows == nil {
			place, exists, err = v.Find(&a.Suppressed)
		} else {
			row = rows[i]
			place = row.place()
			exists, err = v.Has(place)
		}
		if err != nil {
			return nil, Result{}, err
		}
		if before, twice := at[place]; twice {
			w[before].Suppression, w[before].row = a, row
			continue
		}
		if !exists {
			r.Added++
		}
		at[place] = len(w)
		w = append(w, Write{Suppression: a, row: row, New: !exists, Place: place})
	}
	return w, r, nil
}

func unsuppress(v View, cmd *Unsuppress) ([]Write, Result, error) {
	r := ok()
	var w []Write
	gone := map[Place]bool{}
	for i := range cmd.Remove {
		place, exists, err := v.Find(&cmd.Remove[i])
		if err != nil {
			return nil, Result{}, err
		}
		if exists && !gone[place] {
			gone[place] = true
			r.Removed++
			w = append(w, Write{Place: place})
		}
	}
	return w, r, nil
}

func release(v View, cmd *Release) ([]Write, Result, error) {
	r := ok()
	var w []Write
	gone := map[Place]bool{}
	for i := range cmd.Remove {
		f := &cmd.Remove[i]
		place, exists, err := v.Find(&f.Suppressed)
		if err != nil {
			return nil, Result{}, err
		}
		if !exists || gone[place] {
			continue
		}
		now, err := v.Read(place)
		if err != nil {
			return nil, Result{}, err
		}
		if now.Since.UnixMilli() == f.Since.UnixMilli() {
			gone[place] = true
			r.Removed++
			w = append(w, Write{Place: place})
		}
	}
	return w, r, nil
}

func (s *State) setGate(cmd *SetGate) ([]Write, Result) {
	g := cmd.Gate
	if g.Group == "" {
		return nil, refuse("a gate needs a group")
	}
	present := s.Gate(g.GateID)
	if g.Version == 0 {
		g.Version = present.Version + 1
	}
	if g.Author == "" {
		g.Author = cmd.Author
	}
	if g.At.IsZero() {
		g.At = cmd.At
	}
	merged := present.Merge(g)
	r := Result{Code: OK, Version: merged.Version}
	if merged.Version != g.Version || merged.Closed != g.Closed {
		r.Code = Stale
		r.Text = "a later gate holds"
	}
	if merged == present {
		return nil, r
	}
	return put(&merged), r
}

func (s *State) admit(cmd *Admit) ([]Write, Result) {
	if cmd.Name == "" {
		return nil, refuse("a member needs a name")
	}
	m, _ := s.Member(cmd.Name)
	if m.Removed && cmd.Author == "" {
		return nil, refuse("%s was removed; an operator must admit it again", cmd.Name)
	}
	if m.Since.IsZero() || m.Removed {
		m.Since = cmd.At
	}
	m.Name, m.Address, m.Role, m.Voter, m.Removed = cmd.Name, cmd.Address, cmd.Role, cmd.Voter, false
	m.Seen = cmd.At
	return put(&m), ok()
}

func (s *State) removeMember(cmd *RemoveMember) ([]Write, Result) {
	m, found := s.Member(cmd.Name)
	if !found {
		return nil, Result{Code: NotFound, Text: "no member " + cmd.Name}
	}
	m.Removed, m.Voter = true, false
	return put(&m), ok()
}

func (s *State) seen(cmd *Seen) ([]Write, Result) {
	var w []Write
	for _, name := range slices.Compact(slices.Sorted(slices.Values(cmd.Names))) {
		m, found := s.Member(name)
		if found && !m.Removed && cmd.At.After(m.Seen) {
			m.Seen = cmd.At
			w = append(w, Write{Record: &m})
		}
	}
	return w, ok()
}

func (s *State) putCredential(at Stamp, cmd *PutCredential) ([]Write, Result) {
	d := cmd.Credential
	if d.Name == "" || d.Kind != Token && d.Kind != Account {
		return nil, refuse("a credential needs a kind and a name")
	}
	present, _ := s.Credential(d.Kind, d.Name)
	if cmd.Base != Any && cmd.Base != present.Version {
		return nil, conflict(ObjectID{"credential", d.Name}, present.Version)
	}
	d.Version = at.Index
	return put(&d), Result{Code: OK, Version: at.Index}
}

func (s *State) deleteCredential(cmd *DeleteCredential) ([]Write, Result) {
	if _, found := s.Credential(cmd.Kind, cmd.Name); !found {
		return nil, Result{Code: NotFound, Text: "no " + cmd.subject()}
	}
	return []Write{{Record: &Credential{CredentialID: cmd.CredentialID}, Drop: true}}, ok()
}

func (s *State) putMeta(at Stamp, cmd *PutMeta) ([]Write, Result) {
	present, found := s.Meta(cmd.Name)
	if cmd.Base != Any && cmd.Base != present.Version {
		return nil, conflict(ObjectID{"meta", cmd.Name}, present.Version)
	}
	if len(cmd.Data) > 0 {
		return put(&Meta{Name: cmd.Name, Version: at.Index, Data: cmd.Data}), Result{Code: OK, Version: at.Index}
	}
	if !found {
		return nil, ok()
	}
	return []Write{{Record: &Meta{Name: cmd.Name}, Drop: true}}, ok()
}
