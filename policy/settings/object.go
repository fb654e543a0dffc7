package settings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// Kinds of Object. Those that bear names may stand for any number of objects, the others for one.
const (
	KindTenant       = "tenant"
	KindPool         = "pool"
	KindAccount      = "account"
	KindReceivers    = "receivers"
	KindSendingHours = "sending_hours"
	KindWarmups      = "warmups"
	KindAllow        = "allow"
	KindSpeedCap     = "speed_cap"
	KindAlarms       = "alarms"
	KindOrder        = "order" // its names are the kinds whose objects are not in the order of their names
)

// Object is the part of the settings that changes as a whole and has a version of its own where settings are
// replicated: whoever changes tenant a does not disturb who changes tenant b.
type Object struct {
	Kind string // one of the kinds above
	Name string // "" where there is only one of the kind
	Data []byte // canonical: equal values have equal octets
}

// part is an Object that is not encoded yet.
type part struct {
	kind, name string
	value      any
}

// parts lists what s is made of, in the order of kinds and of the file.
func parts(s *Settings) []part {
	var out []part
	for i := range s.Tenants {
		out = append(out, part{KindTenant, s.Tenants[i].Name, &s.Tenants[i]})
	}
	for i := range s.Pools {
		out = append(out, part{KindPool, s.Pools[i].Name, &s.Pools[i]})
	}
	for i := range s.Accounts {
		out = append(out, part{KindAccount, s.Accounts[i].Name, &s.Accounts[i]})
	}
	if len(s.Receivers.Rules) > 0 {
		out = append(out, part{KindReceivers, "", &s.Receivers.Rules})
	}
	if len(s.SendingHours) > 0 {
		out = append(out, part{KindSendingHours, "", &s.SendingHours})
	}
	if len(s.Warmups) > 0 {
		out = append(out, part{KindWarmups, "", &s.Warmups})
	}
	if len(s.Allow) > 0 {
		out = append(out, part{KindAllow, "", &s.Allow})
	}
	if s.SpeedCap.Messages > 0 {
		out = append(out, part{KindSpeedCap, "", &s.SpeedCap})
	}
	var usual Alarms
	if usual.fill(); !reflect.DeepEqual(s.Alarms, usual) {
		out = append(out, part{KindAlarms, "", &s.Alarms})
	}
	for _, kind := range [...]string{KindTenant, KindPool, KindAccount} {
		var names []string
		for _, p := range out {
			if p.kind == kind {
				names = append(names, p.name)
			}
		}
		if !slices.IsSorted(names) {
			out = append(out, part{KindOrder, kind, &names})
		}
	}
	return out
}

// Split takes s apart. s must be validated, with its defaults filled in and its rules read from their file.
func Split(s *Settings) ([]Object, error) {
	var out []Object
	for _, p := range parts(s) {
		data, err := json.Marshal(p.value)
		if err != nil {
			return nil, fmt.Errorf("settings: encode %s %q: %w", p.kind, p.name, err)
		}
		out = append(out, Object{Kind: p.kind, Name: p.name, Data: data})
	}
	return out, nil
}

// Join puts together what Split took apart, in whatever order the objects come. Kinds and keys that this version does
// not know are passed over: a member of a newer version may have written them. The defaults are filled in; the result
// is to be validated, for objects that were changed apart need not fit together.
func Join(objects []Object) (*Settings, error) {
	s := &Settings{}
	order := map[string][]string{}
	for _, o := range slices.SortedFunc(slices.Values(objects), byName) {
		var err error
		switch o.Kind {
		case KindTenant:
			s.Tenants, err = appended(s.Tenants, o)
		case KindPool:
			s.Pools, err = appended(s.Pools, o)
		case KindAccount:
			s.Accounts, err = appended(s.Accounts, o)
		case KindReceivers:
			err = json.Unmarshal(o.Data, &s.Receivers.Rules)
		case KindSendingHours:
			err = json.Unmarshal(o.Data, &s.SendingHours)
		case KindWarmups:
			err = json.Unmarshal(o.Data, &s.Warmups)
		case KindAllow:
			err = json.Unmarshal(o.Data, &s.Allow)
		case KindSpeedCap:
			err = json.Unmarshal(o.Data, &s.SpeedCap)
		case KindAlarms:
			err = json.Unmarshal(o.Data, &s.Alarms)
		case KindOrder:
			var names []string
			err = json.Unmarshal(o.Data, &names)
			order[o.Name] = names
		}
		if err != nil {
			return nil, fmt.Errorf("settings: object %s %q cannot be read: %w", o.Kind, o.Name, err)
		}
	}
	arrange(s.Tenants, order[KindTenant], func(t *Tenant) string { return t.Name })
	arrange(s.Pools, order[KindPool], func(p *Pool) string { return p.Name })
	arrange(s.Accounts, order[KindAccount], func(a *Account) string { return a.Name })
	s.Fill()
	return s, nil
}

func byName(a, b Object) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) }

func appended[T any](list []T, o Object) ([]T, error) {
	var v T
	err := json.Unmarshal(o.Data, &v)
	return append(list, v), err
}

// arrange sorts list as names tells; what is not named comes behind, in the order it has.
func arrange[T any](list []T, names []string, name func(*T) string) {
	if len(names) == 0 {
		return
	}
	place := make(map[string]int, len(names))
	for i, n := range names {
		place[n] = i
	}
	at := func(v *T) int {
		if i, ok := place[name(v)]; ok {
			return i
		}
		return len(names)
	}
	slices.SortStableFunc(list, func(a, b T) int { return at(&a) - at(&b) })
}

// Edits compares what is with what is to be: the objects to write, and those to delete.
func Edits(have, want []Object) (put, remove []Object) {
	type key struct{ kind, name string }
	old := make(map[key][]byte, len(have))
	for _, o := range have {
		old[key{o.Kind, o.Name}] = o.Data
	}
	for _, o := range want {
		k := key{o.Kind, o.Name}
		if data, ok := old[k]; !ok || !bytes.Equal(data, o.Data) {
			put = append(put, o)
		}
		delete(old, k)
	}
	for _, o := range have {
		if _, ok := old[key{o.Kind, o.Name}]; ok {
			remove = append(remove, o)
		}
	}
	return put, remove
}
