package ledger

import (
	"bytes"
	"slices"
)

// The root key of a cluster changes in two rounds, so that nobody ever meets what it cannot open:
//
//	BeginKey ─▶ KeyReady of each ─▶ KeyDone: all seal under it ─▶ KeyWrapped of each: what only opened the former is dropped

// Holders returns the members that hold the key being handed out and are not removed.
func (s *State) Holders() []string { return s.present(s.keys.Ready) }

// Behind returns the members that are not removed and not in list, which is sorted.
func (s *State) Behind(list []string) (names []string) {
	for _, m := range s.Members() {
		if _, found := slices.BinarySearch(list, m.Name); !found && !m.Removed {
			names = append(names, m.Name)
		}
	}
	return names
}

func (s *State) present(list []string) (names []string) {
	for _, name := range list {
		if m, found := s.Member(name); found && !m.Removed {
			names = append(names, name)
		}
	}
	return names
}

// with returns a sorted list with name in it.
func with(list []string, name string) []string {
	at, found := slices.BinarySearch(list, name)
	if found {
		return list
	}
	return slices.Insert(slices.Clone(list), at, name)
}

func (s *State) beginKey(cmd *BeginKey) ([]Write, Result) {
	k := s.keys
	same := k.Next == cmd.Version && cmd.Version != 0
	switch {
	case same && bytes.Equal(k.Print, cmd.Print):
		return nil, Result{Code: OK, Version: k.Next}
	case same && len(s.Holders()) == 0: // nobody has the key begun with: it is lost
	case k.Next != 0 || cmd.Version != k.Current+1:
		return nil, Result{Code: Stale, Version: max(k.Next, k.Current), Text: "another version of the key is current or under way"}
	}
	k.Next, k.Ready, k.Print = cmd.Version, nil, cmd.Print
	return put(&k), Result{Code: OK, Version: k.Next}
}

func (s *State) keyReady(cmd *KeyReady) ([]Write, Result) {
	k := s.keys
	if k.Next == 0 || k.Next != cmd.Version || !bytes.Equal(k.Print, cmd.Print) {
		return nil, Result{Code: Stale, Version: k.Current, Text: "this key is not under way"}
	}
	if m, found := s.Member(cmd.Node); !found || m.Removed {
		return nil, refuse("%s is no member", cmd.Node)
	}
	k.Ready = with(k.Ready, cmd.Node)
	return put(&k), Result{Code: OK, Version: k.Next}
}

func (s *State) keyDone(cmd *KeyDone) ([]Write, Result) {
	k := s.keys
	if k.Current == cmd.Version && cmd.Version != 0 {
		return nil, Result{Code: OK, Version: k.Current}
	}
	if k.Next == 0 || k.Next != cmd.Version {
		return nil, Result{Code: Stale, Version: k.Current, Text: "this version of the key is not under way"}
	}
	if behind := s.Behind(k.Ready); len(behind) > 0 {
		return nil, refuse("%s does not hold version %d of the key", behind[0], cmd.Version)
	}
	return put(&Keys{Current: cmd.Version, Print: k.Print}), Result{Code: OK, Version: cmd.Version}
}

func (s *State) keyWrapped(cmd *KeyWrapped) ([]Write, Result) {
	k := s.keys
	if k.Current != cmd.Version || cmd.Version == 0 {
		return nil, Result{Code: Stale, Version: k.Current, Text: "this version of the key is not in force"}
	}
	if m, found := s.Member(cmd.Node); !found || m.Removed {
		return nil, refuse("%s is no member", cmd.Node)
	}
	k.Wrapped = with(k.Wrapped, cmd.Node)
	return put(&k), Result{Code: OK, Version: k.Current}
}
